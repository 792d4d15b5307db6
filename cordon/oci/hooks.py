"""Runs a container's hooks: programs of the host that get the container's state on standard input.

prestart, createRuntime   during create, when the namespaces exist, in the runtime's namespaces
createContainer           during create, in the container process's namespaces, before it changes its root
startContainer            during start, in the container: the sandbox runs it as a guest program, never the host
poststart                 after the user's program was started; a failure is a warning
poststop                  after delete; a failure is a warning
"""

from __future__ import annotations

import os
import select
import signal
import time

from cordon.oci.errors import RuntimeFailure, log, why

# `typing` itself would be a tenth of a management command's time
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

#: Bytes of a failed hook's stderr that the error shows.
SHOWN = 2048


def run_all(moment: str, hooks: list[dict[str, Any]], state: bytes) -> None:
    """Runs hooks (Hook.to_plain) one after the other. RuntimeFailure names the first that fails."""
    for hook in hooks:
        run(moment, hook, state)


def run_lenient(moment: str, hooks: list[dict[str, Any]], state: bytes) -> None:
    """The same where a failure is only logged, and the next hooks run all the same."""
    for hook in hooks:
        try:
            run(moment, hook, state)
        except RuntimeFailure as e:
            log.write("warning", str(e))


def run(moment: str, hook: dict[str, Any], state: bytes) -> None:
    """Runs one hook to its end."""
    path = str(hook["path"])
    env = dict(pair.partition("=")[::2] for pair in hook.get("env", []))
    limit = float(hook.get("timeout", 0))
    stdin = os.memfd_create("cordon-state")
    os.write(stdin, state)
    os.lseek(stdin, 0, os.SEEK_SET)
    said, said_in = os.pipe()
    null = os.open("/dev/null", os.O_WRONLY | os.O_CLOEXEC)
    actions = [
        (os.POSIX_SPAWN_DUP2, stdin, 0),
        (os.POSIX_SPAWN_DUP2, null, 1),
        (os.POSIX_SPAWN_DUP2, said_in, 2),
    ]
    defaults = [s for s in range(1, 32) if s not in (signal.SIGKILL, signal.SIGSTOP)]
    try:
        pid = os.posix_spawn(
            path,
            hook.get("args") or [path],
            env,
            file_actions=actions,
            setpgroup=0,
            setsigmask=[],
            setsigdef=defaults,
        )
    except OSError as e:
        os.close(said)
        raise RuntimeFailure(f"{moment} hook {path}: {why(e)}") from None
    finally:
        for fd in (stdin, said_in, null):
            os.close(fd)
    words, status = follow(pid, said, limit)
    os.close(said)
    if status is None:
        raise RuntimeFailure(f"{moment} hook {path}: no end after its time limit of {limit:g} s")
    if status:
        tail = f": {words}" if words else ""
        how = f"was killed by signal {-status}" if status < 0 else f"ended with status {status}"
        raise RuntimeFailure(f"{moment} hook {path}: {how}{tail}")


def follow(pid: int, said: int, limit: float) -> tuple[str, int | None]:
    """Waits for a hook; the end of what it wrote to stderr, and its exit code (-N: signal; None: out of time, it was killed)."""
    deadline = time.monotonic() + limit if limit else None
    done = os.pidfd_open(pid)
    poll = select.poll()
    poll.register(said, select.POLLIN)
    poll.register(done, select.POLLIN)
    words = b""
    status: int | None = None
    try:
        while True:
            left = None if deadline is None else max(0.0, deadline - time.monotonic()) * 1000
            events = poll.poll(left)
            if not events:
                os.killpg(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
                break
            if any(fd == said for fd, _ in events):
                data = os.read(said, 4096)
                if not data:
                    poll.unregister(said)
                words = (words + data)[-SHOWN:]
            elif any(
                fd == done for fd, _ in events
            ):  # what it left behind may hold stderr open: that isn't waited for
                status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
                break
    finally:
        os.close(done)
    return words.decode("utf-8", "replace").strip(), status

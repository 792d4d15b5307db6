"""startContainer hooks: programs of the container, which run in the sandbox before the user's program does."""

from __future__ import annotations

import os
from typing import Any

from cordon.control import Connection, ControlError
from cordon.oci import translate
from cordon.oci.config import Process
from cordon.oci.errors import RuntimeFailure
from cordon.oci.hooks import SHOWN
from cordon.oci.reader import Reader


def run_all(
    socket_path: str, container: str, base: dict[str, Any], hooks: list[dict[str, Any]], state: bytes
) -> None:
    """Runs them in order with the state on standard input. `base`: the container's own process, whose capabilities they have.

    RuntimeFailure names the first that fails or does not end in its time.
    """
    for hook in hooks:
        path = str(hook["path"])
        plain = {
            **base,
            "args": hook.get("args") or [path],
            "env": hook.get("env") or [],
            "cwd": "/",
            "user": {"uid": 0, "gid": 0},
        }
        try:
            run(
                socket_path,
                container,
                {**translate.process(Process(Reader(plain, "", "hook")), [0, 1, 2], []), "program": path},
                float(hook.get("timeout", 0)),
                state,
            )
        except ControlError as e:
            raise RuntimeFailure(f"startContainer hook {path}: {e.message}") from None
        except RuntimeFailure as e:
            raise RuntimeFailure(f"startContainer hook {path}: {e}") from None


def run(socket_path: str, container: str, process: dict[str, Any], timeout: float, state: bytes) -> None:
    stdin = os.memfd_create("cordon-state")
    os.write(stdin, state)
    os.lseek(stdin, 0, os.SEEK_SET)
    null = os.open("/dev/null", os.O_WRONLY | os.O_CLOEXEC)
    said = os.memfd_create("cordon-hook")
    try:
        with Connection.open(socket_path) as line:
            pid = line.exec(container, process, [stdin, null, said], tie=True)
            waited = line.request_wait(container, pid)
            line.sock.settimeout(timeout or None)
            try:
                end = line.answer(waited)
            except ControlError as e:
                if timeout and e.code == "gone":
                    raise RuntimeFailure(f"no end after its time limit of {timeout:g} s") from None
                raise
        if end.get("exit") != 0:
            words = os.pread(said, SHOWN, 0).decode("utf-8", "replace").strip()
            how = (
                f"ended with status {end['exit']}"
                if "exit" in end
                else f"was killed by signal {end.get('killed')}"
            )
            raise RuntimeFailure(f"{how}: {words}" if words else how)
    finally:
        for fd in (stdin, null, said):
            os.close(fd)

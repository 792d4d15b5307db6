"""cordon.run: a sandboxed subprocess.run.

The calling process only starts an isolated interpreter (cordon/front.py) and reads what it says; no kernel code is imported
here, and the caller's threads, signal handlers and descriptors stay as they are.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from typing import IO, Any, AnyStr, Generic, Literal, overload

from cordon.errors import CordonError
from cordon.options import Mount, Options

__all__ = ["CordonError", "Mount", "Result", "SandboxFailed", "run"]

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
BOOT = "import sys; sys.path.insert(0, {root!r}); from cordon.front import main; sys.exit(main({request}, {report}))"
#: Seconds after its own time limit until a front that does not end is killed.
GRACE = 10.0

Verdict = Literal["ok", "exit", "signal", "timeout", "memory"]
Argument = str | bytes | os.PathLike[str] | os.PathLike[bytes]
Stream = int | IO[Any] | None


class Result(Generic[AnyStr]):
    """How a sandboxed command ended."""

    def __init__(
        self, args: list[str], outcome: dict[str, Any], stdout: AnyStr | None, stderr: AnyStr | None
    ) -> None:
        self.args: list[str] = args
        #: Signal that ended the command, 0 for none.
        self.signal: int = outcome["signal"]
        #: Exit status; -n when signal n ended the command, as in subprocess; 124 after a timeout.
        self.returncode: int = -self.signal if outcome["verdict"] == "signal" else outcome["status"]
        #: ok: exit status 0. exit: another one. signal, timeout, memory: what ended it.
        self.verdict: Verdict = outcome["verdict"]
        #: Limits that were reached on the way: "memory", "pids".
        self.exceeded: list[str] = outcome["exceeded"]
        self.stdout: AnyStr | None = stdout
        self.stderr: AnyStr | None = stderr
        #: Seconds from start to end, the sandbox's own start and end included.
        self.wall_time: float = outcome["wall_s"]
        #: Seconds of CPU that all of its processes used, in user and kernel mode.
        self.cpu_time: float = outcome["cpu_s"]
        #: Most bytes of memory that all of its processes used at a time.
        self.peak_memory: int = outcome["peak_bytes"]

    def check_returncode(self) -> None:
        """Raises SandboxFailed unless the verdict is "ok"."""
        if self.verdict != "ok":
            raise SandboxFailed(self)

    def __repr__(self) -> str:
        return f"Result(args={self.args!r}, verdict={self.verdict!r}, returncode={self.returncode})"


class SandboxFailed(subprocess.CalledProcessError):
    """The command ran but did not end well; raised by `check=True`, as subprocess raises CalledProcessError."""

    def __init__(self, result: Result[Any]) -> None:
        super().__init__(result.returncode, result.args, result.stdout, result.stderr)
        self.result = result

    def __str__(self) -> str:
        return f"{self.result.args[0]}: {self.result.verdict}, status {self.returncode}"


@overload
def run(
    args: Sequence[Argument],
    *,
    input: str | None = ...,
    stdin: Stream = ...,
    stdout: Stream = ...,
    stderr: Stream = ...,
    capture_output: bool = ...,
    text: Literal[True],
    encoding: str | None = ...,
    errors: str | None = ...,
    timeout: float | None = ...,
    check: bool = ...,
    env: Mapping[str, str] | None = ...,
    cwd: Argument | None = ...,
    memory: int | str | None = ...,
    pids: int | None = ...,
    mounts: Sequence[Mount | str] = ...,
    root: Argument | None = ...,
    user: str | int | None = ...,
    hostname: str = ...,
    platform: str = ...,
    network: str = ...,
    strace: bool = ...,
    patch: bool = ...,
    debug_log: Argument | None = ...,
) -> Result[str]: ...
@overload
def run(
    args: Sequence[Argument],
    *,
    input: bytes | None = ...,
    stdin: Stream = ...,
    stdout: Stream = ...,
    stderr: Stream = ...,
    capture_output: bool = ...,
    text: Literal[False] = ...,
    timeout: float | None = ...,
    check: bool = ...,
    env: Mapping[str, str] | None = ...,
    cwd: Argument | None = ...,
    memory: int | str | None = ...,
    pids: int | None = ...,
    mounts: Sequence[Mount | str] = ...,
    root: Argument | None = ...,
    user: str | int | None = ...,
    hostname: str = ...,
    platform: str = ...,
    network: str = ...,
    strace: bool = ...,
    patch: bool = ...,
    debug_log: Argument | None = ...,
) -> Result[bytes]: ...
def run(
    args: Sequence[Argument],
    *,
    input: str | bytes | None = None,
    stdin: Stream = None,
    stdout: Stream = None,
    stderr: Stream = None,
    capture_output: bool = False,
    text: bool = False,
    encoding: str | None = None,
    errors: str | None = None,
    timeout: float | None = None,
    check: bool = False,
    env: Mapping[str, str] | None = None,
    cwd: Argument | None = None,
    memory: int | str | None = None,
    pids: int | None = None,
    mounts: Sequence[Mount | str] = (),
    root: Argument | None = None,
    user: str | int | None = None,
    hostname: str = "cordon",
    platform: str = "auto",
    network: str = "none",
    strace: bool = False,
    patch: bool = True,
    debug_log: Argument | None = None,
) -> Result[Any]:
    """Runs a command in a sandbox of its own and waits for it, with the signature and habits of subprocess.run.

    text=True, or an encoding or errors (how to decode, as in open()), make stdout and stderr text.
    Differences: a time-out gives a result with verdict "timeout" and what was written instead of raising. `env` replaces the
    minimal environment (PATH, HOME, LANG), not the caller's, of which nothing is passed on. `cwd` is a directory in the sandbox's view.
    memory: bytes, or text such as "512M". pids: processes and threads alive at a time. mounts: "SRC:DST[:ro|rw]" or Mount.
    Without them a sandbox gets three quarters of the memory that is available and 4096 processes.
    root: host directory to be the root ("/" shows the whole host); by default the system directories and the
    current directory. user: UID or "UID:GID", by default the caller's. network: "none" (loopback inside the sandbox), "host" or
    "ns:PATH", a network namespace. patch=False: system call sites in programs stay as they are (systrap; slower).
    Nothing the command does changes the host, except below writable mounts.

    CordonError (one sentence) when the command cannot be started or the sandbox fails; its `status` is 127 when the command is
    not found, 126 when it cannot be executed. SandboxFailed with check=True when the verdict is not "ok".
    """
    if isinstance(args, (str, bytes)):
        raise TypeError("args must be a sequence of arguments, not one string")
    options = Options([os.fsdecode(a) for a in args])
    if env is not None:
        options.env = [f"{name}={value}" for name, value in env.items()]
        options.env_only = True
    options.cwd = "" if cwd is None else os.fsdecode(cwd)
    if memory is not None:
        options.set_memory(memory)
    if pids is not None:
        options.set_pids(pids)
    options.mounts = [Mount.parse(m) if isinstance(m, str) else Mount(*m) for m in mounts]
    options.root = "" if root is None else os.fsdecode(root)
    if user is not None:
        options.set_user(str(user))
    options.hostname = hostname
    options.platform = platform
    options.network = network
    options.strace = strace
    options.patch = patch
    options.debug_log = "" if debug_log is None else os.path.abspath(os.fsdecode(debug_log))
    if timeout is not None:
        options.set_timeout(timeout)
    options.check()
    if capture_output:
        if stdout is not None or stderr is not None:
            raise ValueError("stdout and stderr arguments may not be used with capture_output")
        stdout = stderr = subprocess.PIPE
    if input is not None:
        if stdin is not None:
            raise ValueError("stdin and input arguments may not both be used")
        stdin = subprocess.PIPE
    streams: dict[str, Any] = {"stdin": stdin, "stdout": stdout, "stderr": stderr}
    streams |= {"text": text or None, "encoding": encoding, "errors": errors}
    outcome, out, err = run_front(options, input, streams)
    if outcome["error"]:
        raise CordonError(outcome["error"], outcome["status"])
    result: Result[Any] = Result(options.args, outcome, out, err)
    if check:
        result.check_returncode()
    return result


def run_front(
    options: Options, data: str | bytes | None, streams: dict[str, Any]
) -> tuple[dict[str, Any], Any, Any]:
    """Runs the isolated interpreter; what it says, stdout, stderr. `streams`: arguments of subprocess.Popen."""
    with tempfile.TemporaryFile() as request, tempfile.TemporaryFile() as report:
        request.write(json.dumps(options.to_plain()).encode())
        request.seek(0)
        fds = (request.fileno(), report.fileno())
        boot = BOOT.format(root=ROOT, request=fds[0], report=fds[1])
        with subprocess.Popen(
            [sys.executable, "-I", "-c", boot],
            pass_fds=fds,
            **streams,
        ) as front:
            try:
                out, err = front.communicate(data, options.timeout + GRACE if options.timeout else None)
            except BaseException:
                front.kill()
                raise
        report.seek(0)
        said = report.read()
    if not said:
        raise CordonError(f"the front ended with status {front.returncode} and did not say why")
    outcome: dict[str, Any] = json.loads(said)
    return outcome, out, err

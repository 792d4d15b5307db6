"""Starts the processes of a sandbox, gofer, sentry and (with a network) broker, as forks of this (isolated, single-threaded) one.

Both die with this process, and with them everything below: each makes a pid namespace of its own. They start at the same
time; whichever cannot go on says so on its line to the front.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import struct
import sys
from collections.abc import Callable
from typing import Any, NoReturn

from cordon import specs
from cordon.errors import CordonError
from cordon.options import Options

#: What the front forwards; the terminal and process managers may send it to the whole group, so gofer and sentry ignore it.
FORWARDED = (
    signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGALRM,
    signal.SIGCONT, signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU, signal.SIGWINCH, signal.SIGIO, signal.SIGPWR,
    signal.SIGURG, signal.SIGVTALRM, signal.SIGPROF,
)  # fmt: skip
#: Not ignored by them, because that would change how they work.
KEPT_DEFAULT = (signal.SIGCONT, signal.SIGWINCH, signal.SIGURG)


#: Seconds after which a gofer that does not answer one request counts as failed, which ends the sandbox.
GOFER_TIMEOUT = 60


class Processes:
    """A sandbox that was started: its processes, and the front's ends of the lines to them."""

    def __init__(self, gofer: int, sentry: int, control: socket.socket, ready: int) -> None:
        self.gofer = gofer
        self.sentry = sentry
        #: To and from the sentry: the owner's line (docs/control-protocol.md).
        self.control = control
        #: The gofer's one line: "ok" or "error: sentence".
        self.ready = ready
        #: The broker's process and its one line; 0 and -1 without a network.
        self.broker = 0
        self.broker_ready = -1
        #: Records for --profile, -1: none.
        self.profile = -1


def platform_of(options: Options) -> str:
    """The platform to use."""
    from platforms import detect
    from platforms.platform import PlatformError

    try:
        return detect.choose(options.platform, import_bodies)
    except PlatformError as e:
        raise CordonError(str(e)) from None


def import_bodies() -> None:
    """What gofer and sentry, being forks, have in common with this process and need not import each."""
    import gofer.main  # noqa: F401
    import sentry.main  # noqa: F401


def open_log(path: str) -> int:
    if not path:
        return -1
    try:
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    except OSError as e:
        raise CordonError(f"debug log {path}: {os.strerror(e.errno or 0).lower()}") from None


def open_profile(path: str) -> int:
    """Where the records for --profile go, once it is sure that the file for what is made of them can be written."""
    if not path:
        return -1
    try:
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))
    except OSError as e:
        raise CordonError(f"profile {path}: {os.strerror(e.errno or 0).lower()}") from None
    return os.memfd_create("cordon-profile", os.MFD_CLOEXEC)


def fork(body: Callable[[], int], keep: list[int]) -> int:
    """A child that has only the descriptors 2 and `keep` (0 is empty, 1 goes where 2 goes) and ends with what `body` returns."""
    pid = os.fork()
    if pid:
        return pid
    status = 70
    try:
        for sig in FORWARDED:
            if sig not in KEPT_DEFAULT:
                signal.signal(sig, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_SETMASK, [])
        null = os.open("/dev/null", os.O_RDONLY)
        os.dup2(null, 0)
        os.dup2(2, 1)
        close_all_but([0, 1, 2, *keep])
        status = body()
    except SystemExit as e:
        status = e.code if isinstance(e.code, int) else 1
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(status)


def close_all_but(keep: list[int]) -> None:
    first = 0
    for fd in sorted({fd for fd in keep if fd >= 0}):
        if fd > first:
            os.closerange(first, fd)
        first = fd + 1
    os.closerange(first, 1 << 20)


def gofer_body(document: dict[str, Any]) -> NoReturn:
    from gofer import main, spec

    main.run(spec.parse(json.dumps(document).encode()))


def broker_body(fd: int, netns: str, ready: int, log: int) -> NoReturn:
    from broker import main

    main.run(main.BrokerSpec(fd, netns, ready, log))


def sentry_body(document: dict[str, Any]) -> int:
    from sentry import main

    fd = os.memfd_create("cordon-spec")
    os.write(fd, json.dumps(document).encode())
    os.lseek(fd, 0, os.SEEK_SET)
    return main.main(fd)


def start(options: Options, job: bool) -> Processes:
    """Starts them. job: a stopped command is somebody's to continue. The caller has blocked the signals in FORWARDED."""
    from native._core import lib

    lib.cn_adopt_orphans()
    platform = platform_of(options)
    log = open_log(options.debug_log)
    profile = open_profile(options.profile)
    terminal = os.isatty(0) and os.isatty(1)
    pairs = [socket.socketpair() for _ in range(1 + len(options.mounts))]
    patience = struct.pack("ll", GOFER_TIMEOUT, 0)
    for _, b in pairs:
        b.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, patience)
        b.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, patience)
    ours, theirs = socket.socketpair()
    ready, ready_out = os.pipe()
    stdio = [os.dup(fd) for fd in (0, 1, 2)]
    me = os.getpid()

    line, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET) if options.network != "none" else (None, None)
    gofer_fds = [a.fileno() for a, _ in pairs]
    gofer_doc = specs.gofer_document(options, gofer_fds, ready_out, log)
    sentry_fds = [b.fileno() for _, b in pairs]
    broker_fd = far.fileno() if far is not None else -1
    sentry_doc = specs.sentry_document(
        options, platform, sentry_fds, stdio, theirs.fileno(), log, terminal, broker_fd, profile, job
    )

    def tied(body: Callable[[], int]) -> Callable[[], int]:
        def run() -> int:
            return 1 if lib.cn_die_with_parent(me) < 0 else body()

        return run

    sentry = fork(tied(lambda: sentry_body(sentry_doc)), [*sentry_fds, *stdio, theirs.fileno(), log, broker_fd, profile])
    gofer = fork(tied(lambda: gofer_body(gofer_doc)), [*gofer_fds, ready_out, log])
    started = Processes(gofer, sentry, ours, ready)
    started.profile = profile
    if line is not None and far is not None:
        started.broker_ready, said = os.pipe()
        near = line.fileno()
        started.broker = fork(tied(lambda: broker_body(near, options.netns, said, log)), [near, said, log])
        os.close(said)
        line.close()
        far.close()
    for a, b in pairs:
        a.close()
        b.close()
    theirs.close()
    os.close(ready_out)
    for fd in [*stdio, log]:
        if fd >= 0:
            os.close(fd)
    return started

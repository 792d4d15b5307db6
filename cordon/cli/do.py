"""cordon do: runs one command in a sandbox."""

from __future__ import annotations

import argparse
import sys
from typing import NoReturn

from cordon.errors import CordonError
from cordon.options import Mount, Options

EPILOG = """\
Without --root the sandbox shows the system directories and the current directory, read-only below a memory overlay:
what the command changes is gone when it ends. It shows no home directory, key, run-time state or /proc of the host.

exit status: the command's; 128+N when signal N killed it; 124 when --timeout ended it; 125 when the sandbox
failed; 126 when the command cannot be executed; 127 when it is not found.
"""


class Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise CordonError(f"do: {message}", 2)


def parser() -> Parser:
    p = Parser(
        prog="cordon do",
        usage="cordon do [option ...] [--] COMMAND [ARGUMENT ...]",
        description="Runs one command in a sandbox of its own.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    p.add_argument("--platform", default="auto", metavar="P", help="auto (default), ptrace, systrap or kvm")
    p.add_argument(
        "--root", default="", metavar="DIR", help="show this directory as the root (/: the whole host tree)"
    )
    p.add_argument(
        "--mount", action="append", default=[], metavar="SRC:DST[:ro|rw]",
        help="show a host file or directory too, read-only unless rw",
    )  # fmt: skip
    p.add_argument("--env", action="append", default=[], metavar="NAME=VALUE", help="set a variable")
    p.add_argument("--cwd", default="", metavar="DIR", help="start in this directory of the sandbox")
    p.add_argument("--user", metavar="UID[:GID]", help="run as this user; default: the caller's ids")
    p.add_argument("--hostname", default="cordon", metavar="NAME")
    p.add_argument("--timeout", type=float, metavar="SECONDS", help="end the sandbox after this time")
    p.add_argument(
        "--memory", metavar="SIZE", help="limit of guest memory, such as 512M; default: 3/4 of what is available"
    )
    p.add_argument(
        "--pids", type=int, metavar="N", help="limit of processes and threads; default: 4096, fewer on a small host"
    )
    p.add_argument(
        "--network", default="none", metavar="N",
        help="none (default: loopback in the sandbox), host, or ns:PATH: host sockets in that network namespace",
    )  # fmt: skip
    p.add_argument("--strace", action="store_true", help="print every system call to stderr or the debug log")
    p.add_argument("--no-patch", action="store_true", help="systrap: leave the system call sites in programs as they are")
    p.add_argument(
        "--profile", default="", metavar="FILE",
        help="write where the time of system calls went, for ui.perfetto.dev (Chrome JSON trace format)",
    )  # fmt: skip
    p.add_argument("--debug-log", default="", metavar="FILE", help="write messages for developers to a file")
    p.add_argument("command", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    return p


def options_of(argv: list[str]) -> Options:
    a = parser().parse_args(argv)
    options = Options(a.command[1:] if a.command[:1] == ["--"] else a.command)
    options.platform = a.platform
    options.root = a.root
    options.mounts = [Mount.parse(text) for text in a.mount]
    options.env = a.env
    options.cwd = a.cwd
    if a.user is not None:
        options.set_user(a.user)
    options.hostname = a.hostname
    if a.timeout is not None:
        options.set_timeout(a.timeout)
    if a.memory is not None:
        options.set_memory(a.memory)
    if a.pids is not None:
        options.set_pids(a.pids)
    options.network = a.network
    options.strace = a.strace
    options.profile = a.profile
    options.patch = not a.no_patch
    options.debug_log = a.debug_log
    options.check()
    return options


def main(argv: list[str]) -> int:
    options = options_of(argv)
    from cordon import front

    outcome = front.run(options)
    for line in outcome.remarks:
        print(f"cordon: {line}", file=sys.stderr)
    if outcome.error:
        raise CordonError(outcome.error, outcome.status)
    return outcome.status

"""cordon do: runs one command in a sandbox."""

from __future__ import annotations

import sys

from cordon.cli.flags import LIST, SWITCH, VALUE, Command, Flag
from cordon.errors import CordonError
from cordon.options import Mount, Options

MORE = """\
Without --root the sandbox shows the system directories and the current directory, read-only below a memory overlay:
what the command changes is gone when it ends. It shows no home directory, key, run-time state or /proc of the host.

exit status: the command's; 128+N when signal N killed it; 124 when --timeout ended it; 125 when the sandbox
failed; 126 when the command cannot be executed; 127 when it is not found.
"""

COMMAND = Command(
    "do",
    "Runs one command in a sandbox of its own.",
    {
        "platform": Flag(VALUE, "P", "auto (default), ptrace, systrap or kvm"),
        "root": Flag(VALUE, "DIR", "show this directory as the root (/: the whole host tree)"),
        "mount": Flag(LIST, "SRC:DST[:ro|rw]", "show a host file or directory too, read-only unless rw"),
        "env": Flag(LIST, "NAME=VALUE", "set a variable"),
        "cwd": Flag(VALUE, "DIR", "start in this directory of the sandbox"),
        "user": Flag(VALUE, "UID[:GID]", "run as this user; default: the caller's ids"),
        "hostname": Flag(VALUE, "NAME", "the sandbox's name; default: cordon"),
        "timeout": Flag(VALUE, "SECONDS", "end the sandbox after this time"),
        "memory": Flag(VALUE, "SIZE", "limit of guest memory, such as 512M; default: 3/4 of what is available"),
        "pids": Flag(VALUE, "N", "limit of processes and threads; default: 4096, fewer on a small host"),
        "network": Flag(
            VALUE, "N", "none (default: loopback in the sandbox), host, or ns:PATH: host sockets in that network namespace"
        ),
        "strace": Flag(SWITCH, text="print every system call to stderr or the debug log"),
        "no-patch": Flag(SWITCH, text="systrap: leave the system call sites in programs as they are"),
        "profile": Flag(
            VALUE, "FILE", "write where the time of system calls went, for ui.perfetto.dev (Chrome JSON trace format)"
        ),
        "debug-log": Flag(VALUE, "FILE", "write messages for developers to a file"),
    },
    ("COMMAND...",),
    MORE,
)


def options_of(argv: list[str]) -> Options:
    a = COMMAND.parse(argv)
    options = Options(a.words)
    options.platform = a.value("platform", options.platform)
    options.root = a.value("root")
    options.mounts = [Mount.parse(text) for text in a.lists.get("mount", [])]
    options.env = a.lists.get("env", [])
    options.cwd = a.value("cwd")
    if "user" in a.values:
        options.set_user(a.values["user"])
    options.hostname = a.value("hostname", options.hostname)
    if "timeout" in a.values:
        options.set_timeout(a.seconds("timeout", 0.0))
    if "memory" in a.values:
        options.set_memory(a.values["memory"])
    if "pids" in a.values:
        options.set_pids(a.number("pids", 0))
    options.network = a.value("network", options.network)
    options.strace = "strace" in a.on
    options.profile = a.value("profile")
    options.patch = "no-patch" not in a.on
    options.debug_log = a.value("debug-log")
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

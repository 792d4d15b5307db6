"""cordon exec: runs a further process in a container."""

from __future__ import annotations

import os
from typing import Any

from cordon.cli.flags import LIST, SWITCH, VALUE, Command, Flag, Parsed, Usage
from cordon.cli.runtime import open_container

COMMAND = Command(
    "exec",
    "Runs a process in a running container.",
    {
        "process": Flag(VALUE, "FILE", "the process as JSON (OCI), instead of a command", "p"),
        "detach": Flag(SWITCH, "", "return when it runs", "d"),
        "pid-file": Flag(VALUE, "FILE", "write the number of the process that stands for it there"),
        "tty": Flag(SWITCH, "", "with a terminal", "t"),
        "console-socket": Flag(VALUE, "PATH", "socket that gets the terminal's master"),
        "cwd": Flag(VALUE, "DIR", "working directory"),
        "env": Flag(LIST, "NAME=VALUE", "one more variable", "e"),
        "user": Flag(VALUE, "UID[:GID]", "ids", "u"),
        "additional-gids": Flag(LIST, "GID", "supplementary group", "g"),
        "cap": Flag(LIST, "CAP", "one more capability", "c"),
        "no-new-privs": Flag(SWITCH, "", "set no_new_privs"),
        "preserve-fds": Flag(VALUE, "N", "give it N more descriptors, from 3 on"),
        "apparmor": Flag(VALUE),
        "process-label": Flag(VALUE),
        "cgroup": Flag(VALUE),
        "ignore-paused": Flag(SWITCH),
        "pidfd-socket": Flag(VALUE),
        "no-subreaper": Flag(SWITCH),
    },
    ("ID", "[COMMAND]..."),
)


def main(argv: list[str]) -> int:
    """In the foreground the exit status is the process's."""
    a = COMMAND.parse(argv)
    for name in ("cgroup", "pidfd-socket"):
        if a.value(name):
            raise Usage(f"--{name}: not supported")
    preserve = a.number("preserve-fds", 0)
    if not 0 <= preserve <= 1000:
        raise Usage(f"--preserve-fds {preserve}: not between 0 and 1000")
    os.closerange(3 + preserve, 1 << 20)
    from cordon.oci import config, foreground
    from cordon.oci.execution import Execution
    from cordon.oci.reader import Reader

    with open_container(a.words[0]) as d:
        state = d.read()
        if a.value("process"):
            process = config.load_process(a.value("process"))
        else:
            process = config.Process(Reader(document(a, state.process), "", "exec"))
        if "tty" in a.on:
            process.terminal = True
        e = Execution(d, state, process)
        e.console_socket = os.path.abspath(a.value("console-socket")) if a.value("console-socket") else ""
        e.pid_file = a.value("pid-file")
        e.preserve = preserve
        detach = "detach" in a.on
        terminal = foreground.Terminal() if not detach and process.terminal and not e.console_socket else None
        pid = e.start(terminal)
        return 0 if detach else foreground.follow(pid, terminal)


def document(a: Parsed, base: dict[str, Any]) -> dict[str, Any]:
    """The process in OCI's form, from the container's own and the flags."""
    if len(a.words) < 2:
        raise Usage("exec: neither --process nor a command is given")
    plain = {**base, "args": a.words[1:]}
    plain["env"] = [*base.get("env", []), *a.lists.get("env", [])]
    if a.value("cwd"):
        plain["cwd"] = a.value("cwd")
    user = dict(base.get("user", {}))
    if a.value("user"):
        uid, _, gid = a.value("user").partition(":")
        if not uid.isdigit() or (gid and not gid.isdigit()):
            raise Usage(f"--user {a.value('user')!r}: not of the form UID[:GID] in numbers")
        user = {"uid": int(uid), "gid": int(gid) if gid else user.get("gid", 0)}
    groups = [g for text in a.lists.get("additional-gids", []) for g in text.split(",")]
    if groups:
        if not all(g.isdigit() for g in groups):
            raise Usage("--additional-gids: not numbers")
        user["additionalGids"] = [int(g) for g in groups]
    plain["user"] = user
    if a.lists.get("cap"):
        sets = base.get("capabilities") or {}
        more = [c.upper() if c.upper().startswith("CAP_") else f"CAP_{c.upper()}" for c in a.lists["cap"]]
        plain["capabilities"] = {
            name: [*sets.get(name, []), *(c for c in more if c not in sets.get(name, []))]
            for name in ("bounding", "effective", "permitted")
        } | {name: sets.get(name, []) for name in ("inheritable", "ambient")}
    if "no-new-privs" in a.on:
        plain["noNewPrivileges"] = True
    return plain

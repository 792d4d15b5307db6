"""Makes the two documents of a sandbox: the gofer's (gofer/spec.py) and the sentry's (sentry/spec.py)."""

from __future__ import annotations

import os
from typing import Any

from cordon.options import Mount, Options

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
#: File systems of the sentry's own: type, place.
KERNEL_MOUNTS = (
    ("proc", "/proc"),
    ("sysfs", "/sys"),
    ("dev", "/dev"),
    ("devpts", "/dev/pts"),
    ("tmpfs", "/dev/shm"),
    ("mqueue", "/dev/mqueue"),
)


def environment(options: Options, terminal: bool) -> list[str]:
    """The guest's environment: a few plain variables and what --env says; nothing of the caller's leaks in."""
    if options.env_only:
        return list(options.env)
    uid = options.uid if options.uid >= 0 else os.geteuid()
    values = {"PATH": PATH, "HOME": "/root" if uid == 0 else "/tmp", "LANG": "C.UTF-8"}
    if terminal:
        values["TERM"] = os.environ.get("TERM", "dumb")
    for pair in options.env:
        name, _, value = pair.partition("=")
        values[name] = value
    return [f"{name}={value}" for name, value in values.items()]


def host_cwd() -> str:
    """The caller's working directory, / when it is gone or cannot be reached by its name."""
    try:
        here = os.getcwd()
        os.stat(here)
    except OSError:
        return "/"
    return here


def cwd_of(options: Options) -> str:
    """Where the command starts: as asked, else here if here is shown, else at the root."""
    if options.cwd:
        return options.cwd
    if options.root and os.path.realpath(options.root) != "/":
        return "/"
    if options.root:
        return host_cwd()
    from gofer.places import shown_cwd

    here = os.fsencode(host_cwd())
    return os.fsdecode(here) if shown_cwd(here) or in_system(here) else "/"


def in_system(path: bytes) -> bool:
    """Does the default view show this path with the system directories?"""
    from gofer.places import SYSTEM

    return path == b"/" or path.split(b"/")[1] in SYSTEM


def export_of(options: Options, fd: int) -> dict[str, Any]:
    """The root tree as the gofer serves it: always read-only, the guest's changes stay in the sentry's overlay."""
    if not options.root:
        return {"source": "view:default", "fd": fd, "readonly": True, "cwd": host_cwd()}
    root = os.path.realpath(options.root)
    return {"source": "view:host" if root == "/" else root, "fd": fd, "readonly": True}


def mount_export(mount: Mount, fd: int) -> dict[str, Any]:
    return {"source": os.path.realpath(mount.source), "fd": fd, "readonly": not mount.writable}


def gofer_document(options: Options, fds: list[int], ready: int, log: int) -> dict[str, Any]:
    """`fds`: the gofer's ends of the 9P sockets, the root's first, then one for each of options.mounts."""
    exports = [export_of(options, fds[0])]
    exports += [mount_export(m, fd) for m, fd in zip(options.mounts, fds[1:], strict=True)]
    return {"exports": exports, "ready": ready, "log": log}


def sentry_document(
    options: Options,
    platform: str,
    fds: list[int],
    stdio: list[int],
    control: int,
    log: int,
    terminal: bool,
    broker: int = -1,
    profile: int = -1,
    job: bool = False,
) -> dict[str, Any]:
    """`fds`: the sentry's ends of the 9P sockets in the same order. broker: its end of the line to the broker, -1: no network.
    job: somebody would continue a stopped command."""
    mounts: list[dict[str, Any]] = [{"type": kind, "dst": dst} for kind, dst in KERNEL_MOUNTS]
    mounts += [
        {"type": "gofer", "dst": m.target, "fd": fd, "flags": [] if m.writable else ["ro"]}
        for m, fd in zip(options.mounts, fds[1:], strict=True)
    ]
    own = options.uid < 0
    process = {
        "args": options.args,
        "env": environment(options, terminal),
        "cwd": cwd_of(options),
        "uid": os.geteuid() if own else options.uid,
        "gid": os.getegid() if own else options.gid,
        "groups": os.getgroups() if own else [],
        "stdio": stdio,
        "job": job,
    }
    container = {
        "hostname": options.hostname,
        "root": {"type": "gofer", "dst": "/", "fd": fds[0], "overlay": True},
        "mounts": mounts,
        "process": process,
        "pids": options.pids,
    }
    network = {"network": "host", "broker": broker} if broker >= 0 else {"network": "none"}
    return {
        **network,
        "platform": platform,
        "control": control,
        "memory": options.memory,
        "strace": options.strace,
        "no_patch": not options.patch,
        "log": log,
        "profile": profile,
        "container": container,
    }

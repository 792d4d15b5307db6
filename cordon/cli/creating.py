"""Flags that `create` and `run` share."""

from __future__ import annotations

import os

from cordon.cli.flags import SWITCH, VALUE, Flag, Parsed, Usage
from cordon.cli.runtime import root_path, settings
from cordon.oci.creation import Request
from cordon.oci.errors import RuntimeFailure

FLAGS = {
    "bundle": Flag(VALUE, "DIR", "the bundle, default: the working directory", "b"),
    "console-socket": Flag(VALUE, "PATH", "socket that gets the terminal's master"),
    "pid-file": Flag(VALUE, "FILE", "write the container process's number there"),
    "preserve-fds": Flag(VALUE, "N", "give the guest N more descriptors, from 3 on"),
    "no-pivot": Flag(SWITCH, "", "accepted: the sandbox's root is not made by pivot_root"),
    "no-new-keyring": Flag(SWITCH, "", "accepted: the sandbox has no key rings of the host"),
    "pidfd-socket": Flag(VALUE),
    "no-subreaper": Flag(SWITCH),
}


def request_of(a: Parsed) -> Request:
    """The request, with leaked descriptors closed."""
    if a.value("pidfd-socket"):
        raise Usage("--pidfd-socket: not supported")
    if settings.cgroup_manager == "systemd":
        raise RuntimeFailure(
            "cgroups by systemd are not supported: use cgroupfs (cgroup_manager of containers.conf, native.cgroupdriver of docker)"
        )
    preserve = a.number("preserve-fds", 0)
    if not 0 <= preserve <= 1000:
        raise Usage(f"--preserve-fds {preserve}: not between 0 and 1000")
    os.closerange(3 + preserve, 1 << 20)
    r = Request(a.words[0], a.value("bundle", "."), root_path())
    r.pid_file = a.value("pid-file")
    r.console_socket = a.value("console-socket")
    r.preserve = preserve
    r.platform = settings.platform
    r.cgroup_manager = settings.cgroup_manager
    r.debug_log = settings.debug_log
    r.strace = settings.strace
    r.watchdog, r.watchdog_ends = settings.watchdog, settings.watchdog_ends
    return r

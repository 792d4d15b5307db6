"""What the runtime commands share: the flags before the verb, and finding a container."""

from __future__ import annotations

import os

from cordon.cli.flags import LIST, SWITCH, VALUE, Command, Flag, Usage
from cordon.oci import ids
from cordon.oci.errors import Log, log
from cordon.oci.state import StateDir

#: Seconds; a gofer that does not answer counts as failed after a third of it.
WATCHDOG = 180


class Settings:
    """The flags before the verb."""

    def __init__(self) -> None:
        self.root = ""
        self.platform = "auto"
        self.cgroup_manager = "cgroupfs"
        self.debug_log = ""
        self.strace = False
        #: Seconds in the kernel after which a task is reported as stuck; 0: never.
        self.watchdog = WATCHDOG
        self.watchdog_ends = False
        self.log: Log = log


settings = Settings()

GLOBAL = Command(
    "",
    "",
    {
        "root": Flag(VALUE),
        "log": Flag(VALUE),
        "log-format": Flag(VALUE),
        "log-level": Flag(VALUE),
        "debug": Flag(SWITCH),
        "systemd-cgroup": Flag(SWITCH),
        "cgroup-manager": Flag(VALUE),
        "rootless": Flag(VALUE),
        "criu": Flag(VALUE),
        "platform": Flag(VALUE),
        "debug-log": Flag(VALUE),
        "strace": Flag(SWITCH),
        "watchdog": Flag(VALUE),
        "watchdog-ends": Flag(SWITCH),
        "version": Flag(SWITCH, short="v"),
    },
    ("[VERB]...",),
)


def take_globals(argv: list[str]) -> tuple[str, list[str]]:
    """Reads the flags before the verb into `settings`; the verb ("" if there is none) and what follows it."""
    a = GLOBAL.parse(argv)
    settings.root = a.value("root")
    log.path = os.path.abspath(a.value("log")) if a.value("log") not in ("", "/dev/stderr") else ""
    form = a.value("log-format", "text")
    if form not in ("text", "json"):
        raise Usage(f"--log-format {form!r}: neither text nor json")
    log.json = form == "json"
    log.debug = "debug" in a.on or a.value("log-level") in ("debug", "trace")
    settings.platform = a.value("platform") or os.environ.get("CORDON_PLATFORM", "auto")
    settings.cgroup_manager = a.value("cgroup-manager", "cgroupfs")
    if settings.cgroup_manager not in ("cgroupfs", "disabled", "systemd"):
        raise Usage(f"--cgroup-manager {settings.cgroup_manager!r}: neither cgroupfs nor disabled")
    if settings.cgroup_manager == "systemd" or "systemd-cgroup" in a.on:
        settings.cgroup_manager = "systemd"
    settings.debug_log = os.path.abspath(a.value("debug-log")) if a.value("debug-log") else ""
    settings.strace = "strace" in a.on
    if a.value("watchdog"):
        settings.watchdog = a.number("watchdog", 0)
    settings.watchdog_ends = "watchdog-ends" in a.on
    if "version" in a.on:
        return "version", []
    return (a.words[0], a.words[1:]) if a.words else ("", [])


def root_path() -> str:
    return settings.root or ids.default_root()


def open_container(text: str, abbreviated: bool = True) -> StateDir:
    """The state directory of a container that a user names."""
    return StateDir.open(ids.Root(root_path()), text, abbreviated)


__all__ = [
    "LIST",
    "SWITCH",
    "VALUE",
    "Command",
    "Flag",
    "Usage",
    "open_container",
    "root_path",
    "settings",
    "take_globals",
]

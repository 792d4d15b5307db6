"""`resources` of config.json and of `update`: limits for cgroups and for the sentry."""

from __future__ import annotations

from typing import Any

from cordon.oci.reader import Reader

INT64 = (1 << 63) - 1
UINT64 = (1 << 64) - 1


class Resources:
    """Limits; None: not given. -1 is "no limit" where the specification says so."""

    def __init__(self, r: Reader) -> None:
        memory = r.inner("memory")
        #: Bytes.
        self.memory = optional(memory, "limit")
        self.memory_low = optional(memory, "reservation")
        #: Bytes of memory and swap together.
        self.swap = optional(memory, "swap")
        self.swappiness = optional(memory, "swappiness", 0, 100)
        if memory.flag("disableOOMKiller"):
            raise memory.bad("disableOOMKiller", "cannot be honoured: a sandbox that is out of memory ends")
        if memory.has("kernel"):
            optional(memory, "kernel")
        cpu = r.inner("cpu")
        self.shares = optional(cpu, "shares", 0, UINT64)
        #: Microseconds of CPU time in each period.
        self.quota = optional(cpu, "quota", -1)
        self.period = optional(cpu, "period", 0, UINT64)
        #: May spinning on a second core use CPU time? Not where that would be missing elsewhere.
        self.spin = self.quota is None or self.quota <= 0 or self.quota >= 2 * (self.period or 100_000)
        self.cpus = cpu.text("cpus")
        self.mems = cpu.text("mems")
        for key, value in (("cpus", self.cpus), ("mems", self.mems)):
            if value and not is_list(value):
                raise cpu.bad(key, f"is not a list of numbers: {value!r}")
        self.idle = optional(cpu, "idle", 0, 1)
        #: Tasks.
        self.pids = optional(r.inner("pids"), "limit", -1)
        block = r.inner("blockIO")
        self.io_weight = optional(block, "weight", 0, 10000)
        #: cgroup v2 files: name -> text.
        self.unified = r.text_map("unified")
        for name in self.unified:
            if not name or "/" in name or name.startswith("."):
                raise r.bad("unified", f"has a key that is not a cgroup file: {name!r}")
        #: As written: allow, type, major, minor, access.
        self.devices: list[dict[str, Any]] = r.each("devices", device_rule)

    def to_plain(self) -> dict[str, Any]:
        """What was given, by attribute name: for the state file."""
        return {name: value for name, value in vars(self).items() if value not in (None, "", [], {}, False)}


def device_rule(r: Reader) -> dict[str, Any]:
    kind, access = r.text("type", "a"), r.text("access", "rwm")
    if kind not in ("", "a", "c", "b", "u", "p"):
        raise r.bad("type", f"is not a, c or b: {kind!r}")
    if not set(access) <= set("rwm"):
        raise r.bad("access", f"has other letters than r, w and m: {access!r}")
    rule: dict[str, Any] = {"allow": r.flag("allow"), "type": "c" if kind == "u" else kind, "access": access}
    for key in ("major", "minor"):
        rule[key] = r.number(key, -1)
    return rule


def optional(r: Reader, key: str, least: int = -1, most: int = INT64) -> int | None:
    return r.number(key, 0, least, most) if r.has(key) else None


def is_list(text: str) -> bool:
    """Numbers and ranges as in cpuset files: 0-3,7."""
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not first.isdigit() or (dash and not last.isdigit()):
            return False
    return True

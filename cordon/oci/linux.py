"""The `linux` part of config.json: namespaces, id mappings, devices, masked paths, sysctl, seccomp; resources are in resources.py."""

from __future__ import annotations

from typing import Any

from cordon.oci.reader import Reader
from cordon.oci.resources import Resources

NAMESPACES = ("pid", "network", "mount", "ipc", "uts", "user", "cgroup", "time")
ID_MOST = 0xFFFFFFFF
SECCOMP_ACTIONS = (
    "SCMP_ACT_KILL", "SCMP_ACT_KILL_PROCESS", "SCMP_ACT_KILL_THREAD", "SCMP_ACT_TRAP", "SCMP_ACT_ERRNO", "SCMP_ACT_TRACE",
    "SCMP_ACT_ALLOW", "SCMP_ACT_LOG", "SCMP_ACT_NOTIFY",
)  # fmt: skip
SECCOMP_OPERATORS = (
    "SCMP_CMP_NE", "SCMP_CMP_LT", "SCMP_CMP_LE", "SCMP_CMP_EQ", "SCMP_CMP_GE", "SCMP_CMP_GT", "SCMP_CMP_MASKED_EQ",
)  # fmt: skip
SECCOMP_FLAGS = (
    "SECCOMP_FILTER_FLAG_TSYNC", "SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_SPEC_ALLOW",
    "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV",
)  # fmt: skip


class IdMap:
    """A range of ids of the container and where it lies on the host."""

    def __init__(self, r: Reader) -> None:
        self.inside = r.need_number("containerID", 0, ID_MOST)
        self.outside = r.need_number("hostID", 0, ID_MOST)
        self.size = r.need_number("size", 1, ID_MOST)
        if max(self.inside, self.outside) + self.size > 1 << 32:
            raise r.bad("size", "goes beyond the largest id")


class Device:
    """A device node of the container."""

    def __init__(self, r: Reader) -> None:
        self.path = r.absolute("path")
        self.kind = r.need_text("type")
        if self.kind not in ("c", "u", "b", "p"):
            raise r.bad("type", f"is not c, b, u or p: {self.kind!r}")
        self.major = r.number("major", 0, 0, (1 << 12) - 1)
        self.minor = r.number("minor", 0, 0, (1 << 20) - 1)
        self.mode = r.number("fileMode", 0o666, 0, 0o177777) & 0o7777
        self.uid = r.number("uid", 0, 0, ID_MOST)
        self.gid = r.number("gid", 0, 0, ID_MOST)


class Syscalls:
    """A rule of a seccomp profile."""

    def __init__(self, r: Reader) -> None:
        self.names = r.texts("names")
        if not self.names:
            raise r.bad("names", "is empty")
        self.action = action(r, "action")
        self.errno: int | None = r.number("errnoRet", 0, 0, 4095) if r.has("errnoRet") else None
        #: (index, value, second value, operator)
        self.args: list[tuple[int, int, int, str]] = r.each("args", argument)


class Seccomp:
    """A seccomp profile, which the sentry applies to the guest's calls."""

    def __init__(self, r: Reader) -> None:
        self.default = action(r, "defaultAction")
        self.default_errno: int | None = (
            r.number("defaultErrnoRet", 0, 0, 4095) if r.has("defaultErrnoRet") else None
        )
        self.architectures = r.texts("architectures")
        self.flags = r.texts("flags")
        for i, flag in enumerate(self.flags):
            if flag not in SECCOMP_FLAGS:
                raise r.bad(f"flags[{i}]", f"is not a seccomp flag: {flag!r}")
        self.syscalls: list[Syscalls] = r.each("syscalls", Syscalls)
        if r.text("listenerPath"):
            raise r.bad("listenerPath", "cannot be honoured: user notification is not supported")
        for i, rule in enumerate(self.syscalls):
            if rule.action == "SCMP_ACT_NOTIFY":
                raise r.bad(f"syscalls[{i}].action", "cannot be honoured: user notification is not supported")

    def to_plain(self) -> dict[str, Any]:
        """As the sentry's spec has it: the OCI names."""
        rules: list[dict[str, Any]] = []
        for rule in self.syscalls:
            plain: dict[str, Any] = {"names": rule.names, "action": rule.action}
            if rule.errno is not None:
                plain["errnoRet"] = rule.errno
            plain["args"] = [{"index": i, "value": v, "valueTwo": w, "op": op} for i, v, w, op in rule.args]
            rules.append(plain)
        whole: dict[str, Any] = {"defaultAction": self.default, "syscalls": rules}
        if self.default_errno is not None:
            whole["defaultErrnoRet"] = self.default_errno
        return whole


def action(r: Reader, key: str) -> str:
    name = r.need_text(key)
    if name not in SECCOMP_ACTIONS:
        raise r.bad(key, f"is not a seccomp action: {name!r}")
    return name


def argument(r: Reader) -> tuple[int, int, int, str]:
    op = r.need_text("op")
    if op not in SECCOMP_OPERATORS:
        raise r.bad("op", f"is not a comparison: {op!r}")
    most = (1 << 64) - 1
    return r.need_number("index", 0, 5), r.number("value", 0, 0, most), r.number("valueTwo", 0, 0, most), op


class Linux:
    """What concerns the kernel that the container sees."""

    def __init__(self, r: Reader) -> None:
        #: Kind -> path of a namespace to join, "" for a new one.
        self.namespaces: dict[str, str] = {}
        r.each("namespaces", self.take_namespace)
        self.uid_map: list[IdMap] = r.each("uidMappings", IdMap)
        self.gid_map: list[IdMap] = r.each("gidMappings", IdMap)
        if (self.uid_map or self.gid_map) and "user" not in self.namespaces:
            raise r.bad("uidMappings", "needs a user namespace in namespaces")
        self.devices: list[Device] = r.each("devices", Device)
        self.masked = self.paths(r, "maskedPaths")
        self.readonly = self.paths(r, "readonlyPaths")
        self.sysctl = r.text_map("sysctl")
        self.seccomp: Seccomp | None = Seccomp(r.inner("seccomp")) if r.has("seccomp") else None
        self.resources = Resources(r.inner("resources"))
        self.cgroups_path = r.text("cgroupsPath")
        if ".." in self.cgroups_path.split("/"):
            raise r.bad("cgroupsPath", f"leaves the cgroup file system: {self.cgroups_path!r}")
        propagation = r.text("rootfsPropagation")
        if propagation not in ("", "private", "rprivate", "slave", "rslave", "unbindable", "runbindable"):
            raise r.bad(
                "rootfsPropagation",
                f"cannot be honoured: mounts do not propagate between host and sandbox ({propagation!r})",
            )
        if r.has("intelRdt"):
            raise r.bad("intelRdt", "cannot be honoured")
        if r.inner("personality").text("domain", "LINUX") != "LINUX":
            raise r.bad("personality.domain", "cannot be honoured: only LINUX")

    def take_namespace(self, r: Reader) -> None:
        kind = r.need_text("type")
        if kind not in NAMESPACES:
            raise r.bad("type", f"is not a namespace: {kind!r}")
        if kind in self.namespaces:
            raise r.bad("type", f"is given twice: {kind}")
        self.namespaces[kind] = r.absolute("path") if r.text("path") else ""

    def paths(self, r: Reader, key: str) -> list[str]:
        values = r.texts(key)
        for i, value in enumerate(values):
            if not value.startswith("/"):
                raise r.bad(f"{key}[{i}]", f"is not an absolute path: {value!r}")
        return values

"""A mount of config.json: its options in words, as mount(8) has them, become flags and data."""

from __future__ import annotations

from cordon.oci.reader import Reader

#: Words that set or clear a flag.
FLAGS = {
    "ro": ("ro", True), "rw": ("ro", False), "nosuid": ("nosuid", True), "suid": ("nosuid", False),
    "nodev": ("nodev", True), "dev": ("nodev", False), "noexec": ("noexec", True), "exec": ("noexec", False),
    "noatime": ("noatime", True), "atime": ("noatime", False), "nodiratime": ("nodiratime", True),
    "diratime": ("nodiratime", False), "relatime": ("relatime", True), "norelatime": ("relatime", False),
    "strictatime": ("strictatime", True), "nostrictatime": ("strictatime", False), "rro": ("ro", True),
    "rrw": ("ro", False), "rnosuid": ("nosuid", True), "rsuid": ("nosuid", False), "rnodev": ("nodev", True),
    "rdev": ("nodev", False), "rnoexec": ("noexec", True), "rexec": ("noexec", False),
    "nosymfollow": ("nosymfollow", True), "symfollow": ("nosymfollow", False),
    "rnosymfollow": ("nosymfollow", True), "rsymfollow": ("nosymfollow", False),
}  # fmt: skip
#: Words about when things reach a disk or how times are kept, which change nothing here.
IGNORED = frozenset(
    (
        "defaults", "async", "sync", "dirsync", "acl", "noacl", "iversion", "noiversion", "lazytime", "nolazytime", "loud",
        "silent", "mand", "nomand", "user_xattr", "nouser_xattr", "rnoatime", "ratime", "rdiratime", "rnodiratime",
        "rnorelatime", "rrelatime", "rnostrictatime", "rstrictatime", "notmpcopyup", "z", "Z", "U",
    )
)  # fmt: skip
PRIVATE = frozenset(("private", "rprivate", "unbindable", "runbindable"))
#: Propagation between host and sandbox, which two kernels can't have.
SHARED = frozenset(("shared", "rshared", "slave", "rslave"))
#: File systems of the sentry's own.
OWN = ("tmpfs", "proc", "sysfs", "devpts", "mqueue", "cgroup", "cgroup2", "devtmpfs", "ramfs")


class Mount:
    """One entry of `mounts`. `kind` is bind or a file system of the sentry's own."""

    def __init__(self, r: Reader) -> None:
        self.destination = "/" + r.need_text("destination").lstrip("/")
        if any(part == ".." for part in self.destination.split("/")):
            raise r.bad("destination", f"leaves the root: {self.destination!r}")
        self.source = r.text("source")
        self.kind = r.text("type")
        self.flags: dict[str, bool] = {}
        #: tmpfs and devpts options: size=..., mode=..., gid=...
        self.data: list[str] = []
        #: A bind mount that takes what is mounted below its source, too.
        self.recursive = False
        self.where = r.where
        for i, option in enumerate(r.texts("options")):
            self.take(r, f"options[{i}]", option)
        if self.kind in ("bind", "none", "rbind", "") and self.kind != "bind":
            self.kind = "bind"
        if self.kind == "bind":
            if not self.source:
                raise r.bad("source", "is missing for a bind mount")
        elif self.kind not in OWN:
            raise r.bad("type", f"is a file system that the sandbox does not have: {self.kind!r}")
        if r.has("uidMappings") or r.has("gidMappings"):
            raise r.bad("uidMappings", "cannot be honoured: id-mapped mounts are not supported")

    def take(self, r: Reader, key: str, option: str) -> None:
        if option in FLAGS:
            flag, value = FLAGS[option]
            self.flags[flag] = value
        elif option in ("bind", "rbind"):
            self.kind = "bind"
            self.recursive = option == "rbind"
        elif option in SHARED:
            raise r.bad(
                key, f"cannot be honoured: mounts do not propagate between host and sandbox ({option!r})"
            )
        elif option == "remount":
            raise r.bad(key, "cannot be honoured: a container's mounts are new, there is nothing to remount")
        elif option in ("idmap", "ridmap"):
            raise r.bad(key, "cannot be honoured: id-mapped mounts are not supported")
        elif option in ("tmpcopyup", "copyup"):
            self.data.append("tmpcopyup")
        elif option and option not in IGNORED and option not in PRIVATE:
            self.data.append(option)

    def on(self, flag: str) -> bool:
        return self.flags.get(flag, False)

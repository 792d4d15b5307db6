"""The container process's own namespaces and root: what engines find at /proc/PID/ns when they look for the container's.

The guest is confined by the sentry, not by these. They are there for engines that configure a network namespace, join one for a
pod, or copy files in and out by joining the mount namespace.
"""

from __future__ import annotations

import _socket
import errno
import fcntl
import os
import struct
import sys
import time

from cordon.oci.config import Config
from cordon.oci.errors import RuntimeFailure, log, why
from cordon.oci.procview import ProcView
from cordon.oci.translate import Plan
from native._core import ffi, lib

#: <linux/sched.h>, as ioctl_ns(2) tells them.
TYPES = {
    "pid": 0x20000000, "network": 0x40000000, "mount": 0x20000, "ipc": 0x8000000, "uts": 0x4000000, "user": 0x10000000,
    "cgroup": 0x2000000, "time": 0x80,
}  # fmt: skip
NS_GET_NSTYPE = 0xB703
KINDS = (("ipc", lib.CN_NS_IPC), ("uts", lib.CN_NS_UTS), ("network", lib.CN_NS_NET))
SIOCGIFFLAGS = 0x8913
SIOCSIFFLAGS = 0x8914
IFF_UP = 1
AT_FDCWD = -100
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC = 1, 2, 4, 8


class Namespaces:
    """Those of config.json that the container process is in itself: ipc, uts, network, mount."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.wanted = config.linux.namespaces
        self.admin = True

    def enter(self) -> None:
        """Joins those with a path, makes the others. Without the right to make new ones (an ordinary user) it stays where it is."""
        new = 0
        for kind, bit in KINDS:
            path = self.wanted.get(kind)
            if path:
                join(kind, path, bit)
            elif path is not None:
                new |= bit
        if new:
            r = int(lib.cn_ns_enter(new, 0, 0))
            if r == -errno.EPERM:
                self.admin = False
                log.write(
                    "debug", "no right to make namespaces: the container process stays in its starter's"
                )
                return
            if r < 0:
                raise RuntimeFailure(f"new namespaces: {os.strerror(-r).lower()}")
        if self.wanted.get("network") == "":
            raise_loopback()
        if self.wanted.get("uts") == "" and self.config.hostname:
            _socket.sethostname(self.config.hostname)

    def window(self, plan: Plan) -> Window | None:
        """The view for engines, None if the container shares the host's mount namespace or there is no right to make one."""
        return Window(plan, self.wanted["mount"]) if self.admin and "mount" in self.wanted else None


def check_paths(config: Config) -> None:
    """Refuses paths that are no namespaces of the kind they are given for, and user namespaces other than ours."""
    for kind, path in config.linux.namespaces.items():
        if path:
            fd = open_namespace(kind, path)
            mine = own_namespace(kind)
            other = not os.path.sameopenfile(fd, mine)
            os.close(fd)
            os.close(mine)
            if kind == "user" and other:
                raise RuntimeFailure(
                    f"user namespace {path}: cannot be joined, only made with mappings or shared with the caller"
                )


def own_namespace(kind: str) -> int:
    name = {"network": "net", "mount": "mnt"}.get(kind, kind)
    return os.open(f"/proc/self/ns/{name}", os.O_RDONLY | os.O_CLOEXEC)


def open_namespace(kind: str, path: str) -> int:
    """A descriptor of the namespace; RuntimeFailure when it is none of that kind."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as e:
        raise RuntimeFailure(f"{kind} namespace {path}: {why(e)}") from None
    try:
        found = fcntl.ioctl(fd, NS_GET_NSTYPE)
    except OSError:
        found = 0
    if found != TYPES[kind]:
        os.close(fd)
        raise RuntimeFailure(f"{kind} namespace {path}: is not a namespace of that kind")
    return fd


def join_for_children(path: str) -> int:
    """Children of this process will be in that pid namespace; what `leave` takes to undo it."""
    mine = own_namespace("pid")
    join("pid", path, lib.CN_NS_PID)
    return mine


def leave(mine: int) -> None:
    lib.cn_ns_join(mine, lib.CN_NS_PID)
    os.close(mine)


def join(kind: str, path: str, bit: int) -> None:
    fd = open_namespace(kind, path)
    r = int(lib.cn_ns_join(fd, bit))
    os.close(fd)
    if r < 0:
        raise RuntimeFailure(f"{kind} namespace {path}: cannot join it: {os.strerror(-r).lower()}")


def raise_loopback() -> None:
    """Brings `lo` of a new network namespace up, as engines expect it."""
    s = _socket.socket(_socket.AF_INET, _socket.SOCK_DGRAM | _socket.SOCK_CLOEXEC)
    try:
        request = struct.pack("16sh14x", b"lo", 0)
        flags = struct.unpack("16sh14x", fcntl.ioctl(s.fileno(), SIOCGIFFLAGS, request))[1]
        fcntl.ioctl(s.fileno(), SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", flags | IFF_UP))
    except OSError as e:
        raise RuntimeFailure(f"network namespace: cannot bring lo up: {why(e)}") from None
    finally:
        s.close()


class Window:
    """The container's root and bind mounts as a mount namespace of the host, for engines that copy files through it.

    What the sentry holds in memory (tmpfs) is not there: an empty read-only directory stands for it.
    """

    def __init__(self, plan: Plan, path: str) -> None:
        """`path`: of a mount namespace to be in instead."""
        self.plan = plan
        self.path = path
        self.processes = ProcView(os.readlink("/proc/self/ns/pid"))

    def open(self) -> None:
        """Changes this process's root. No file is opened by name and nothing imported after that: names are the guest's."""
        os.environ["TZ"] = "UTC0"
        time.tzset()
        sys.path.clear()
        sys.meta_path.clear()
        if self.path:
            join("mount", self.path, lib.CN_NS_MOUNT)
            return
        check("mount namespace", lib.cn_ns_enter(lib.CN_NS_MOUNT, 0, 0))
        root = self.plan.exports[0]
        tree = clone(root.source, root.readonly)
        trees = [
            (clone(source, readonly) if source else -1, os.fsencode(place))
            for source, place, readonly in self.plan.view
        ]
        check("root", lib.cn_tree_attach(tree, AT_FDCWD, os.fsencode(root.source)))
        os.close(tree)
        os.chdir(root.source)
        check("root", lib.cn_root_pivot(b"."))
        os.chdir("/")
        for fd, place in trees:
            if fd >= 0:
                r = int(lib.cn_tree_attach(fd, AT_FDCWD, place))
                os.close(fd)
            else:
                flags = MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC
                r = int(lib.cn_mount(b"cordon", place, b"tmpfs", flags, ffi.NULL))
            if r < 0:  # a place that is not in the root (read-only, or a link into nowhere)
                log.write("debug", f"engines will not see {os.fsdecode(place)}: {os.strerror(-r)}")
        for mount in self.plan.mounts:
            if mount["type"] == "proc":
                self.processes.open(mount["dst"])
                break


def clone(source: str, readonly: bool) -> int:
    fd = check(source, lib.cn_tree_clone(AT_FDCWD, os.fsencode(source), 1))
    attrs = lib.CN_MNT_NOSUID | lib.CN_MNT_NODEV | (lib.CN_MNT_RDONLY if readonly else 0)
    check(source, lib.cn_tree_setattr(fd, attrs, 1))
    return fd


def check(what: str, r: int) -> int:
    if r < 0:
        raise RuntimeFailure(f"mount view: {what}: {os.strerror(-r).lower()}")
    return int(r)

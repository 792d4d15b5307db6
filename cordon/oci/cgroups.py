"""The container's cgroups: version 1, version 2, or both side by side (hybrid).

    groups = Groups.make(hierarchies(), path)     directories, made where allowed
    groups.limit(resources)                       limits put into their files
    groups.join(pid)
    groups.remove()                               at delete

The sentry enforces the guest's limits by itself; a cgroup's limits are the second line, and hold for gofer and sentry as well.
"""

from __future__ import annotations

import os
import signal
import time

from cordon.oci.errors import RuntimeFailure, why
from cordon.oci.resources import Resources

# `typing` itself would be a tenth of a management command's time
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

#: Bytes that sentry, gofer and the container process may use on top of the guest's limit.
OVERHEAD = 192 << 20
#: Tasks of theirs on the host on top of the guest's limit: the sentry has a thread for each guest task, the stub processes come besides.
OVERHEAD_TASKS = 64
#: Seconds until a cgroup whose processes were killed must be empty.
PATIENCE = 5.0
V1_CONTROLLERS = frozenset(
    ("cpu", "cpuacct", "cpuset", "memory", "devices", "freezer", "net_cls", "net_prio", "blkio", "perf_event", "hugetlb",
     "pids", "rdma", "misc", "name=systemd")
)  # fmt: skip


class Hierarchy:
    """A mounted cgroup hierarchy. `controllers` is empty for version 2."""

    def __init__(self, mount: str, root: str, controllers: frozenset[str]) -> None:
        self.mount = mount
        #: What of the hierarchy is mounted here.
        self.root = root
        self.controllers = controllers

    @property
    def v2(self) -> bool:
        return not self.controllers


def hierarchies() -> list[Hierarchy]:
    """Those that are mounted, as /proc/self/mountinfo tells."""
    found: dict[frozenset[str], Hierarchy] = {}
    try:
        with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as f:
            lines = f.read().splitlines()
    except OSError:
        return []
    for line in lines:
        head, _, tail = line.partition(" - ")
        kind, _, rest = tail.partition(" ")
        if kind not in ("cgroup", "cgroup2"):
            continue
        fields = head.split()
        controllers = (
            V1_CONTROLLERS.intersection(rest.split()[-1].split(",")) if kind == "cgroup" else frozenset[str]()
        )
        if kind == "cgroup2" or controllers:
            found.setdefault(controllers, Hierarchy(fields[4], fields[3], controllers))
    return list(found.values())


def own_paths() -> dict[str, str]:
    """Controllers (comma separated, "" for version 2) -> path of this process's cgroup."""
    paths = {}
    try:
        with open("/proc/self/cgroup", encoding="utf-8", errors="surrogateescape") as f:
            for line in f:
                _, controllers, path = line.rstrip("\n").split(":", 2)
                paths[controllers] = path
    except OSError:
        pass
    return paths


def place(h: Hierarchy, path: str, own: dict[str, str]) -> str:
    """The directory for a cgroupsPath: absolute below the hierarchy's mount, relative below this process's own cgroup."""
    if path.startswith("/"):
        return os.path.normpath(h.mount + "/" + path)
    mine = ""
    for controllers, where in own.items():
        if (h.v2 and not controllers) or h.controllers.intersection(controllers.split(",")):
            mine = where
    mine = mine.removeprefix(h.root.rstrip("/")) if h.root != "/" else mine
    return os.path.normpath(h.mount + "/" + mine + "/" + path)


class Groups:
    """A container's cgroup in each hierarchy: directory -> made by us."""

    def __init__(self, made: dict[str, bool]) -> None:
        self.made = made
        #: Directory of each controller; "" for version 2's.
        self.where: dict[str, str] = {}

    @classmethod
    def plan(cls, mounted: list[Hierarchy], path: str) -> dict[str, bool]:
        """What `make` will make: to be written down before, so that a creation that is cut off can be cleaned up."""
        own = own_paths()
        return {
            directory: not os.path.isdir(directory) for directory in (place(h, path, own) for h in mounted)
        }

    @classmethod
    def make(cls, mounted: list[Hierarchy], path: str, needed: bool) -> Groups:
        """Makes the directories. Without the right to (an ordinary user) there are none, unless `needed`: RuntimeFailure then."""
        groups = cls({})
        own = own_paths()
        for h in mounted:
            directory = place(h, path, own)
            try:
                new = make_directories(h, directory)
            except OSError as e:
                if e.errno in DENIED and not needed:
                    continue
                groups.remove()
                raise RuntimeFailure(f"cgroup {directory}: {why(e)}") from None
            groups.made[directory] = new
            for controller in h.controllers or ("",):
                groups.where[controller] = directory
        return groups

    @classmethod
    def known(cls, made: dict[str, bool]) -> Groups:
        """Those that a state document tells of."""
        groups = cls(dict(made))
        for h in hierarchies():
            for directory in made:
                if directory == h.mount or directory.startswith(h.mount.rstrip("/") + "/"):
                    for controller in h.controllers or ("",):
                        groups.where[controller] = directory
        return groups

    def join(self, pid: int) -> None:
        """Moves a process into it, 0: this one."""
        for directory in self.made:
            try:
                write(directory + "/cgroup.procs", str(pid))
            except OSError as e:
                raise RuntimeFailure(f"cgroup {directory}: cannot enter it: {why(e)}") from None

    def limit(self, r: Resources, strict: bool = True) -> None:
        """Puts limits in place. With `strict` one that can't be is an error, else it is the sentry's alone."""
        for controller, name, value in files(r, self.where):
            directory = self.where.get(controller)
            if directory is None or not os.path.exists(f"{directory}/{name}"):
                continue  # this machine's kernel has no such controller: the sentry's own limits stand
            try:
                write(f"{directory}/{name}", value)
            except OSError as e:
                if strict:
                    raise RuntimeFailure(
                        f"cgroup {directory}: cannot set {name} to {value}: {why(e)}"
                    ) from None

    def limit_devices(self, rules: list[Any]) -> None:
        """Version 1's list of devices that processes may use: the guest gets none of the host's, so this holds for the sandbox
        itself. What it needs to start is allowed besides."""
        directory = self.where.get("devices")
        if directory is None:
            return
        for rule in [*rules, *({"allow": True, **d} for d in NEEDED_DEVICES if rules)]:
            numbers = [
                str(n) if isinstance(n := rule.get(key), int) and n >= 0 else "*"
                for key in ("major", "minor")
            ]
            text = f"{rule.get('type') or 'a'} {':'.join(numbers)} {rule.get('access') or 'rwm'}"
            try:
                write(f"{directory}/devices.{'allow' if rule.get('allow') else 'deny'}", text)
            except (
                OSError
            ):  # what our own cgroup may not use can't be allowed; a nested one can't be changed at all
                continue

    def pids(self) -> list[int]:
        """All processes in it."""
        found: set[int] = set()
        for directory in self.made:
            for path, _, _ in os.walk(directory):
                found.update(int(p) for p in read(path + "/cgroup.procs").split())
        return sorted(found)

    def kill(self) -> None:
        """Ends every process in the directories that are ours."""
        for directory, ours in self.made.items():
            if not ours:
                continue
            try:
                write(directory + "/cgroup.kill", "1")  # version 2, Linux 5.14
                continue
            except OSError:
                pass
            for pid in read(directory + "/cgroup.procs").split():
                try:
                    os.kill(int(pid), signal.SIGKILL)
                except (ProcessLookupError, PermissionError):
                    pass

    def remove(self) -> None:
        """Removes what we made, with the processes still in it."""
        give_up = time.monotonic() + PATIENCE
        for directory, ours in self.made.items():
            while ours:
                try:
                    remove_tree(directory)
                    break
                except OSError as e:
                    if time.monotonic() > give_up:
                        raise RuntimeFailure(f"cgroup {directory}: cannot be removed: {why(e)}") from None
                    self.kill()
                    time.sleep(0.005)

    def stats(self) -> dict[str, Any]:
        """Usage as the cgroup files tell: memory and CPU of the whole sandbox, tasks on the host."""
        v2 = self.where.get("", "")
        memory, cpu, pids = (self.where.get(c, v2) for c in ("memory", "cpuacct", "pids"))
        usage: dict[str, Any] = {}
        if memory:
            usage["memory"] = first_number(memory, "memory.usage_in_bytes", "memory.current")
            usage["memory_limit"] = first_number(memory, "memory.limit_in_bytes", "memory.max")
            usage["memory_peak"] = first_number(memory, "memory.max_usage_in_bytes", "memory.peak")
            events = table(read(memory + "/memory.events"))  # version 2
            usage["memory_failures"] = events.get("max", 0) or first_number(memory, "memory.failcnt")
            usage["memory_stat"] = table(read(memory + "/memory.stat"))
        if cpu:
            stat = table(read(cpu + "/cpu.stat"))
            usage["cpu_ns"] = first_number(cpu, "cpuacct.usage") or stat.get("usage_usec", 0) * 1000
        if throttled := self.where.get("cpu", v2):
            stat = table(read(throttled + "/cpu.stat"))
            if "throttled_usec" in stat:
                stat["throttled_time"] = stat["throttled_usec"] * 1000
            usage["throttling"] = stat
        if pids:
            usage["pids"] = first_number(pids, "pids.current")
            usage["pids_limit"] = first_number(pids, "pids.max")
        return usage


#: null, zero, full, random, urandom, tty, ptmx, pts, kvm.
NEEDED_DEVICES: tuple[dict[str, Any], ...] = (
    *({"type": "c", "major": 1, "minor": n} for n in (3, 5, 7, 8, 9)),
    {"type": "c", "major": 5, "minor": 0},
    {"type": "c", "major": 5, "minor": 2},
    {"type": "c", "major": 136},
    {"type": "c", "major": 10, "minor": 232},
)
#: errno of a cgroup file system that is not ours to change: EPERM, EACCES, EROFS, ENOENT.
DENIED = (1, 13, 30, 2)


def files(r: Resources, where: dict[str, str]) -> list[tuple[str, str, str]]:
    """What limits mean: (controller, file, text). Version 2's files have the controller ""."""
    out: list[tuple[str, str, str]] = []

    def both(v1: str, old: str, v1_text: str, new: str, v2_text: str) -> None:
        out.append((v1, old, v1_text) if v1 in where else ("", new, v2_text))

    def most(value: int) -> str:
        return "max" if value < 0 else str(value)

    memory = r.memory
    if memory is not None and memory >= 0:
        memory += OVERHEAD
    swap = r.swap
    if swap is not None and swap >= 0:
        swap += OVERHEAD
    if memory is not None:
        if "memory" in where and swap is not None and -1 < current_memory(where) < memory:
            out.append(
                ("memory", "memory.memsw.limit_in_bytes", str(swap))
            )  # raised first: it may not be below the other
        both("memory", "memory.limit_in_bytes", str(memory), "memory.max", most(memory))
    if swap is not None:
        v2_swap = most(swap - memory if swap >= 0 and memory is not None and memory >= 0 else swap)
        both("memory", "memory.memsw.limit_in_bytes", str(swap), "memory.swap.max", v2_swap)
    if r.memory_low is not None:
        both("memory", "memory.soft_limit_in_bytes", str(r.memory_low), "memory.low", most(r.memory_low))
    if r.swappiness is not None and "memory" in where:
        out.append(("memory", "memory.swappiness", str(r.swappiness)))
    if r.shares:
        weight = 1 + (max(2, min(r.shares, 262144)) - 2) * 9999 // 262142
        both("cpu", "cpu.shares", str(r.shares), "cpu.weight", str(weight))
    if r.period:
        if "cpu" in where:
            out.append(("cpu", "cpu.cfs_period_us", str(r.period)))
    if r.quota is not None:
        v2_quota = "max" if r.quota <= 0 else str(r.quota)
        both("cpu", "cpu.cfs_quota_us", str(r.quota or -1), "cpu.max", f"{v2_quota} {r.period or 100000}")
    if r.pids is not None:
        tasks = r.pids * 2 + OVERHEAD_TASKS if r.pids > 0 else -1
        both("pids", "pids.max", most(tasks), "pids.max", most(tasks))
    if r.cpus:
        both("cpuset", "cpuset.cpus", r.cpus, "cpuset.cpus", r.cpus)
    if r.mems:
        both("cpuset", "cpuset.mems", r.mems, "cpuset.mems", r.mems)
    if r.io_weight:
        v2_weight = 1 + (max(10, min(r.io_weight, 1000)) - 10) * 9999 // 990
        both("blkio", "blkio.weight", str(r.io_weight), "io.weight", str(v2_weight))
    out.extend(("", name, text) for name, text in r.unified.items())
    return out


def current_memory(where: dict[str, str]) -> int:
    return first_number(where.get("memory", ""), "memory.limit_in_bytes")


def make_directories(h: Hierarchy, directory: str) -> bool:
    """Makes a cgroup and those above it; True when the last one is new."""
    below = os.path.relpath(directory, h.mount)
    if below == "." or below.startswith(".."):
        return False
    at = h.mount
    new = False
    for name in below.split("/"):
        if h.v2:
            enable_controllers(at)
        parent, at = at, f"{at}/{name}"
        try:
            os.mkdir(at, 0o755)
            new = True
        except FileExistsError:
            new = False
        if "cpuset" in h.controllers:  # empty ones take no processes
            for file in ("cpuset.cpus", "cpuset.mems"):
                if not read(f"{at}/{file}").strip():
                    write(f"{at}/{file}", read(f"{parent}/{file}").strip())
    return new


def enable_controllers(directory: str) -> None:
    """Version 2: lets the children of a cgroup have its controllers."""
    have = read(directory + "/cgroup.controllers").split()
    on = read(directory + "/cgroup.subtree_control").split()
    for controller in have:
        if controller not in on:
            try:
                write(directory + "/cgroup.subtree_control", "+" + controller)
            except OSError:  # processes of its own, or threaded: the limit's file will be missing
                pass


def remove_tree(directory: str) -> None:
    """Removes a cgroup and those below it (which only its own processes can have made)."""
    for path, _, _ in os.walk(directory, topdown=False):
        try:
            os.rmdir(path)
        except FileNotFoundError:
            pass


def read(path: str) -> str:
    try:
        with open(path, encoding="ascii", errors="replace") as f:
            return f.read()
    except OSError:
        return ""


def write(path: str, text: str) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)


def first_number(directory: str, *names: str) -> int:
    """The number in the first file that there is; -1: "max" or unlimited, 0: none of them."""
    for name in names:
        text = read(f"{directory}/{name}").strip()
        if text == "max":
            return -1
        if text.lstrip("-").isdigit():
            return int(text)
    return 0


def table(text: str) -> dict[str, int]:
    """Lines of "name number"."""
    pairs = (line.split() for line in text.splitlines())
    return {p[0]: int(p[1]) for p in pairs if len(p) == 2 and p[1].isdigit()}

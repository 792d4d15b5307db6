"""What a sandbox is to be: the JSON document that the front hands to the sentry, read into typed classes.

The document is an object with the keys below; unknown keys are refused, so that nothing asked for is silently ignored.

    platform    str        ptrace, systrap, kvm (the front has resolved "auto")
    control     int        the owner's line: an inherited socket (docs/control-protocol.md), -1: none
    listen      int        an inherited listening socket for more connections, -1: none
    memory      int        limit in bytes of guest memory, 0: none
    memory_file int        inherited descriptor of an empty file for guest memory, on a file system of that size; -1: the sentry makes one
    network     str        "none" (loopback inside the sentry) or "host" (host sockets by a broker, docs/network.md)
    broker      int        for "host": inherited socket to the broker
    strace      bool       print every call to the debug log
    log         int        descriptor for the debug log, -1: none
    no_patch    bool       system call sites of programs are left as they are (native/mm/patch.h)
    spin        bool       systrap may use a second core to answer sooner (true); not wanted where a quota of CPU time counts it
    profile     int        descriptor for the records of native/trace/trace.h, -1: none
    seed        int        for everything random, -1: from the host
    watchdog    int        seconds in the kernel after which a task counts as stuck, 0: nobody watches
    watchdog_ends bool     a stuck task ends the sandbox; else it is only reported
    start       bool       the first container runs at once; else it waits for a start message
    container   container  the first container

A container:

    id          str        1 to 1024 characters; "" is the name of the only container of `cordon do`
    process     process    the first one, its init
    root        mount      dst "/"
    mounts      [mount]    in the order in which they are mounted
    masked      [str]      paths that show nothing: an empty directory, an empty file
    readonly    [str]      paths below which nothing can be changed
    devices     [device]   nodes to be made
    sysctl      {str: str} settings below /proc/sys
    seccomp     object     the OCI profile (linux.seccomp), null: none
    hostname, domainname   str
    share       {str: str} kind of namespace (pid, ipc, uts) -> id of the container of this sandbox that has it
    memory, pids int       limits of this container, 0: none
    cgroup      str        what /proc/PID/cgroup shows
    uid_map, gid_map       [[inside, outside, count]]: what /proc/PID/uid_map shows. The gofer does the mapping

A process:

    args        [str]      command and arguments (surrogateescape for bytes that are not UTF-8, as everywhere here)
    env         [str]      NAME=VALUE
    cwd         str        absolute, in the guest's view
    uid, gid    int
    groups      [int]      supplementary groups
    umask       int        -1: 022
    capabilities {str: [str]}  sets (bounding, permitted, effective, inheritable, ambient) of names; null: all for uid 0, else none
    limits      {str: [soft, hard]}   RLIMIT_* names without the prefix, -1: infinity
    no_new_privs bool
    oom_score_adj int
    terminal    bool       stdio is one descriptor, the slave of a host pty, to be connected with a terminal of the sandbox
    size        [rows, columns]   of that terminal; [0, 0]: what the host's has
    stdio       [int]      descriptors of the guest's 0, 1, 2
    preserve    [int]      descriptors that become the guest's 3, 4, ...
    job         bool       somebody outside continues it when it was stopped: its process group is not orphaned

A mount is {"type": T, "dst": str, "fd": int, "overlay": bool, "flags": [str], "options": str, "source": str} with T
one of MOUNT_TYPES (gofer: fd is its 9P socket; overlay: changes stay in memory), source what /proc/mounts shows ("": a name of
the sentry's) and flags of MOUNT_FLAGS.
A device is {"path": str, "type": "c", "b", "u" or "p", "major", "minor", "mode", "uid", "gid": int}.
"""

from __future__ import annotations

import json
from typing import Any, Final

from sentry.abi import capability as CAP
from sentry.abi import mount as M
from sentry.errors import SandboxError

MOUNT_TYPES: Final = ("gofer", "tmpfs", "proc", "sysfs", "dev", "devpts", "mqueue", "cgroup")
MOUNT_FLAGS: Final = {
    "ro": M.MS_RDONLY,
    "nosuid": M.MS_NOSUID,
    "nodev": M.MS_NODEV,
    "noexec": M.MS_NOEXEC,
    "noatime": M.MS_NOATIME,
    "nodiratime": M.MS_NODIRATIME,
    "relatime": M.MS_RELATIME,
    "nosymfollow": M.MS_NOSYMFOLLOW,
}
CAPABILITY_SETS: Final = ("bounding", "permitted", "effective", "inheritable", "ambient")
SHARED: Final = ("pid", "ipc", "uts")
DEFAULT_UMASK: Final = 0o022
NETWORKS: Final = ("none", "host")


class SpecError(SandboxError):
    """The document is not a spec; the text names the place."""


class MountSpec:
    def __init__(
        self, kind: str, dst: bytes, fd: int, flags: int, overlay: bool, options: str, source: bytes = b""
    ) -> None:
        self.kind: str = kind
        self.dst: bytes = dst
        self.fd: int = fd
        self.flags: int = flags  # MS_*
        self.overlay: bool = overlay
        self.options: str = options
        self.source: bytes = source

    @property
    def readonly(self) -> bool:
        return self.flags & M.MS_RDONLY != 0


class DeviceSpec:
    def __init__(self, path: bytes, kind: str, major: int, minor: int, mode: int, uid: int, gid: int) -> None:
        self.path: bytes = path
        self.kind: str = kind
        self.major: int = major
        self.minor: int = minor
        self.mode: int = mode
        self.uid: int = uid
        self.gid: int = gid


class ProcessSpec:
    def __init__(self) -> None:
        self.program: bytes = b""  # the executable, when args[0] doesn't name it
        self.args: list[bytes] = []
        self.env: list[bytes] = []
        self.cwd: bytes = b"/"
        self.uid: int = 0
        self.gid: int = 0
        self.groups: list[int] = []
        self.umask: int = DEFAULT_UMASK
        self.capabilities: dict[str, int] | None = None  # sets of CAP_* bits by name
        self.limits: dict[str, tuple[int, int]] = {}
        self.no_new_privs: bool = False
        self.oom_score_adj: int = 0
        self.terminal: bool = False
        self.rows: int = 0
        self.columns: int = 0
        self.stdio: list[int] = []
        self.preserve: list[int] = []
        self.job: bool = False


class ContainerSpec:
    def __init__(self) -> None:
        self.ident: str = ""
        self.process: ProcessSpec = ProcessSpec()
        self.root: MountSpec = MountSpec("tmpfs", b"/", -1, 0, False, "")
        self.mounts: list[MountSpec] = []
        self.masked: list[bytes] = []
        self.readonly: list[bytes] = []
        self.devices: list[DeviceSpec] = []
        self.sysctl: dict[str, str] = {}
        self.seccomp: dict[str, Any] | None = None
        self.hostname: bytes = b"cordon"
        self.domainname: bytes = b"(none)"
        self.share: dict[str, str] = {}
        self.memory: int = 0
        self.pids: int = 0
        self.cgroup: bytes = b"/"
        self.uid_map: list[tuple[int, int, int]] = []
        self.gid_map: list[tuple[int, int, int]] = []


class Spec:
    def __init__(self) -> None:
        self.platform: str = "ptrace"
        self.control: int = -1
        self.listen: int = -1
        self.memory: int = 0
        self.memory_file: int = -1
        self.network: str = "none"
        self.broker: int = -1
        self.strace: bool = False
        self.no_patch: bool = False
        self.spin: bool = True
        self.log: int = -1
        self.profile: int = -1
        self.seed: int = -1
        self.watchdog: int = 0
        self.watchdog_ends: bool = False
        self.start: bool = True
        self.container: ContainerSpec = ContainerSpec()


class Reader:
    """Takes typed values out of a JSON object; each error names the place. `fds`: what descriptor numbers in the document stand for,
    None for themselves."""

    def __init__(self, value: Any, where: str, fds: list[int] | None = None) -> None:
        if not isinstance(value, dict):
            raise SpecError(f"{where} is not an object")
        self.value: dict[str, Any] = dict(value)
        self.where: str = where
        self.fds: list[int] | None = fds

    def bad(self, key: str, want: str) -> SpecError:
        return SpecError(f"{self.where}.{key} is not {want}")

    def text(self, key: str, default: str) -> bytes:
        v = self.value.pop(key, default)
        if not isinstance(v, str) or "\0" in v:
            raise self.bad(key, "a string without NUL")
        return as_bytes(v, self, key)

    def name(self, key: str, default: str) -> str:
        """A string that is not a path."""
        v = self.value.pop(key, default)
        if not isinstance(v, str) or "\0" in v or len(v) > 4096:
            raise self.bad(key, "a string without NUL")
        return v

    def number(self, key: str, default: int, least: int = -1, most: int = (1 << 63) - 1) -> int:
        v = self.value.pop(key, default)
        if not isinstance(v, int) or isinstance(v, bool):
            raise self.bad(key, "an integer")
        if not least <= v <= most:
            raise self.bad(key, f"between {least} and {most}")
        return v

    def flag(self, key: str, default: bool = False) -> bool:
        v = self.value.pop(key, default)
        if not isinstance(v, bool):
            raise self.bad(key, "true or false")
        return v

    def texts(self, key: str) -> list[bytes]:
        v = self.value.pop(key, [])
        if not isinstance(v, list) or not all(isinstance(x, str) and "\0" not in x for x in v):
            raise self.bad(key, "a list of strings without NUL")
        return [as_bytes(str(x), self, key) for x in v]

    def paths(self, key: str) -> list[bytes]:
        paths = self.texts(key)
        if not all(p.startswith(b"/") for p in paths):
            raise self.bad(key, "a list of absolute paths")
        return paths

    def numbers(self, key: str) -> list[int]:
        v = self.value.pop(key, [])
        if not isinstance(v, list) or not all(isinstance(x, int) and not isinstance(x, bool) for x in v):
            raise self.bad(key, "a list of integers")
        return [int(x) for x in v]

    def fd(self, key: str) -> int:
        """A descriptor, -1 for none."""
        return self.descriptor(key, self.number(key, -1))

    def descriptors(self, key: str) -> list[int]:
        return [self.descriptor(key, n) for n in self.numbers(key)]

    def descriptor(self, key: str, n: int) -> int:
        if self.fds is None or n == -1:
            return n
        if not 0 <= n < len(self.fds):
            raise self.bad(key, f"one of the {len(self.fds)} descriptors that were sent")
        return self.fds[n]

    def inner(self, key: str, default: Any = None) -> Reader:
        return Reader(self.value.pop(key, default), f"{self.where}.{key}", self.fds)

    def each(self, key: str) -> list[Reader]:
        """Readers of the objects in a list."""
        v = self.value.pop(key, [])
        if not isinstance(v, list):
            raise self.bad(key, "a list")
        return [Reader(x, f"{self.where}.{key}[{i}]", self.fds) for i, x in enumerate(v)]

    def strings(self, key: str) -> dict[str, str]:
        """An object of strings."""
        v = self.value.pop(key, {})
        if not isinstance(v, dict) or not all(isinstance(x, str) and "\0" not in x for x in v.values()):
            raise self.bad(key, "an object of strings")
        return {str(k): str(x) for k, x in v.items()}

    def end(self) -> None:
        if self.value:
            raise SpecError(f"{self.where} has unknown keys: {', '.join(sorted(self.value))}")


def as_bytes(v: str, r: Reader, key: str) -> bytes:
    try:
        return v.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        raise r.bad(key, "text: half a surrogate pair") from None


def parse_mount(r: Reader) -> MountSpec:
    kind = r.name("type", "")
    if kind not in MOUNT_TYPES:
        raise r.bad("type", f"one of {', '.join(MOUNT_TYPES)}")
    dst = r.text("dst", "/")
    fd = r.fd("fd")
    flags = 0
    for word in r.texts("flags"):
        bit = MOUNT_FLAGS.get(word.decode("utf-8", "replace"))
        if bit is None:
            raise r.bad("flags", f"a list of {', '.join(MOUNT_FLAGS)}")
        flags |= bit
    mount = MountSpec(kind, dst, fd, flags, r.flag("overlay"), r.name("options", ""), r.text("source", ""))
    if not mount.dst.startswith(b"/"):
        raise SpecError(f"{r.where}.dst is not absolute")
    if kind == "gofer" and mount.fd < 0:
        raise SpecError(f"{r.where}.fd is missing")
    r.end()
    return mount


def parse_device(r: Reader) -> DeviceSpec:
    path = r.text("path", "")
    kind = r.name("type", "c")
    if not path.startswith(b"/") or kind not in ("c", "b", "u", "p"):
        raise SpecError(f"{r.where}: path is not absolute, or type not c, b, u or p")
    device = DeviceSpec(
        path,
        kind,
        r.number("major", 0, 0, 4095),
        r.number("minor", 0, 0, (1 << 20) - 1),
        r.number("mode", 0o666, 0, 0o7777),
        r.number("uid", 0, 0, 0xFFFFFFFE),
        r.number("gid", 0, 0, 0xFFFFFFFE),
    )
    r.end()
    return device


def parse_capabilities(r: Reader) -> dict[str, int]:
    """The sets, each as CAP_* bits. Names this kernel doesn't know are refused."""
    sets: dict[str, int] = {}
    for name in CAPABILITY_SETS:
        bits = 0
        for word in r.texts(name):
            number = CAPABILITIES.get(word.decode("utf-8", "replace").upper())
            if number is None:
                raise SpecError(f"{r.where}.{name}: unknown capability {word.decode('utf-8', 'replace')}")
            bits |= 1 << number
        sets[name] = bits
    r.end()
    return sets


def parse_process(r: Reader) -> ProcessSpec:
    p = ProcessSpec()
    p.program = r.text("program", "")
    p.args = r.texts("args")
    p.env = r.texts("env")
    p.cwd = r.text("cwd", "/")
    p.uid = r.number("uid", 0, 0, 0xFFFFFFFE)
    p.gid = r.number("gid", 0, 0, 0xFFFFFFFE)
    p.groups = r.numbers("groups")
    umask = r.number("umask", -1, -1, 0o777)
    p.umask = DEFAULT_UMASK if umask < 0 else umask
    if r.value.get("capabilities") is not None:
        p.capabilities = parse_capabilities(r.inner("capabilities"))
    r.value.pop("capabilities", None)
    limits = r.inner("limits", {})
    for name in list(limits.value):
        pair = limits.numbers(name)
        if len(pair) != 2:
            raise limits.bad(name, "a pair [soft, hard]")
        p.limits[name] = (pair[0], pair[1])
    p.no_new_privs = r.flag("no_new_privs")
    p.oom_score_adj = r.number("oom_score_adj", 0, -1000, 1000)
    p.terminal = r.flag("terminal")
    size = r.numbers("size") or [0, 0]
    if len(size) != 2 or not all(0 <= n < 1 << 16 for n in size):
        raise r.bad("size", "a pair [rows, columns]")
    p.rows, p.columns = size
    p.stdio = r.descriptors("stdio")
    p.preserve = r.descriptors("preserve")
    p.job = r.flag("job")
    r.end()
    if not p.args or not p.args[0]:
        raise SpecError(f"{r.where}.args has no command")
    if not p.cwd.startswith(b"/"):
        raise SpecError(f"{r.where}.cwd is not absolute")
    if not all(0 <= g < 0xFFFFFFFF for g in p.groups):
        raise r.bad("groups", "a list of ids")
    if min([*p.stdio, *p.preserve], default=0) < 0:
        raise r.bad("stdio", "a list of descriptors")
    if len(p.stdio) != (1 if p.terminal else 3):
        raise r.bad("stdio", "one descriptor, a terminal" if p.terminal else "three descriptors")
    return p


def parse_map(r: Reader, key: str) -> list[tuple[int, int, int]]:
    v = r.value.pop(key, [])
    out: list[tuple[int, int, int]] = []
    if not isinstance(v, list):
        raise r.bad(key, "a list")
    for row in v:
        if (
            not isinstance(row, list)
            or len(row) != 3
            or not all(type(n) is int and 0 <= n < 1 << 32 for n in row)
        ):
            raise r.bad(key, "a list of [inside, outside, count]")
        out.append((row[0], row[1], row[2]))
    return out


def parse_container(r: Reader) -> ContainerSpec:
    """A container; SpecError. The reader's `fds` resolve descriptors."""
    c = ContainerSpec()
    c.ident = r.name("id", "")
    c.process = parse_process(r.inner("process"))
    c.root = parse_mount(r.inner("root"))
    c.mounts = [parse_mount(m) for m in r.each("mounts")]
    c.masked = r.paths("masked")
    c.readonly = r.paths("readonly")
    c.devices = [parse_device(d) for d in r.each("devices")]
    c.sysctl = r.strings("sysctl")
    seccomp = r.value.pop("seccomp", None)
    if seccomp is not None and not isinstance(seccomp, dict):
        raise r.bad("seccomp", "an object")
    c.seccomp = seccomp
    c.hostname = r.text("hostname", "cordon")
    c.domainname = r.text("domainname", "(none)")
    if max(len(c.hostname), len(c.domainname)) > 64:
        raise r.bad("hostname", "of at most 64 bytes")
    c.share = r.strings("share")
    for kind in c.share:
        if kind not in SHARED:
            raise r.bad("share", f"an object with keys of {', '.join(SHARED)}")
    c.memory = r.number("memory", 0, 0)
    c.pids = r.number("pids", 0, 0)
    c.cgroup = r.text("cgroup", "/")
    c.uid_map = parse_map(r, "uid_map")
    c.gid_map = parse_map(r, "gid_map")
    r.end()
    return c


def owners_line(text: bytes) -> int:
    """The descriptor to complain to about a document that is no spec; -1: there is none."""
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        return -1
    fd = document.get("control", -1) if isinstance(document, dict) else -1
    return fd if isinstance(fd, int) and not isinstance(fd, bool) else -1


def parse(text: bytes) -> Spec:
    """The spec in a JSON document; SpecError with one sentence when it is not one."""
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as e:
        raise SpecError(f"sandbox spec: not JSON: {e}") from None
    r = Reader(document, "sandbox spec: spec")
    s = Spec()
    s.platform = r.name("platform", "ptrace")
    s.control = r.fd("control")
    s.listen = r.fd("listen")
    s.memory = r.number("memory", 0, 0)
    s.memory_file = r.fd("memory_file")
    s.network = r.text("network", "none").decode("utf-8", "replace")
    s.broker = r.fd("broker")
    if s.network not in NETWORKS or (s.network == "host") != (s.broker >= 0):
        raise SpecError("sandbox spec: spec.network is neither none nor host with a broker")
    s.strace = r.flag("strace")
    s.no_patch = r.flag("no_patch")
    s.spin = r.flag("spin", True)
    s.log = r.fd("log")
    s.profile = r.fd("profile")
    s.seed = r.number("seed", -1)
    s.watchdog = r.number("watchdog", 0, 0)
    s.watchdog_ends = r.flag("watchdog_ends")
    s.start = r.flag("start", True)
    s.container = parse_container(r.inner("container"))
    if s.container.share:
        raise SpecError("sandbox spec: spec.container.share: the first container has nobody to share with")
    r.end()
    return s


CAPABILITIES: Final[dict[str, int]] = {
    "CAP_CHOWN": CAP.CAP_CHOWN,
    "CAP_DAC_OVERRIDE": CAP.CAP_DAC_OVERRIDE,
    "CAP_DAC_READ_SEARCH": CAP.CAP_DAC_READ_SEARCH,
    "CAP_FOWNER": CAP.CAP_FOWNER,
    "CAP_FSETID": CAP.CAP_FSETID,
    "CAP_KILL": CAP.CAP_KILL,
    "CAP_SETGID": CAP.CAP_SETGID,
    "CAP_SETUID": CAP.CAP_SETUID,
    "CAP_SETPCAP": CAP.CAP_SETPCAP,
    "CAP_LINUX_IMMUTABLE": CAP.CAP_LINUX_IMMUTABLE,
    "CAP_NET_BIND_SERVICE": CAP.CAP_NET_BIND_SERVICE,
    "CAP_NET_BROADCAST": CAP.CAP_NET_BROADCAST,
    "CAP_NET_ADMIN": CAP.CAP_NET_ADMIN,
    "CAP_NET_RAW": CAP.CAP_NET_RAW,
    "CAP_IPC_LOCK": CAP.CAP_IPC_LOCK,
    "CAP_IPC_OWNER": CAP.CAP_IPC_OWNER,
    "CAP_SYS_MODULE": CAP.CAP_SYS_MODULE,
    "CAP_SYS_RAWIO": CAP.CAP_SYS_RAWIO,
    "CAP_SYS_CHROOT": CAP.CAP_SYS_CHROOT,
    "CAP_SYS_PTRACE": CAP.CAP_SYS_PTRACE,
    "CAP_SYS_PACCT": CAP.CAP_SYS_PACCT,
    "CAP_SYS_ADMIN": CAP.CAP_SYS_ADMIN,
    "CAP_SYS_BOOT": CAP.CAP_SYS_BOOT,
    "CAP_SYS_NICE": CAP.CAP_SYS_NICE,
    "CAP_SYS_RESOURCE": CAP.CAP_SYS_RESOURCE,
    "CAP_SYS_TIME": CAP.CAP_SYS_TIME,
    "CAP_SYS_TTY_CONFIG": CAP.CAP_SYS_TTY_CONFIG,
    "CAP_MKNOD": CAP.CAP_MKNOD,
    "CAP_LEASE": CAP.CAP_LEASE,
    "CAP_AUDIT_WRITE": CAP.CAP_AUDIT_WRITE,
    "CAP_AUDIT_CONTROL": CAP.CAP_AUDIT_CONTROL,
    "CAP_SETFCAP": CAP.CAP_SETFCAP,
    "CAP_MAC_OVERRIDE": CAP.CAP_MAC_OVERRIDE,
    "CAP_MAC_ADMIN": CAP.CAP_MAC_ADMIN,
    "CAP_SYSLOG": CAP.CAP_SYSLOG,
    "CAP_WAKE_ALARM": CAP.CAP_WAKE_ALARM,
    "CAP_BLOCK_SUSPEND": CAP.CAP_BLOCK_SUSPEND,
    "CAP_AUDIT_READ": CAP.CAP_AUDIT_READ,
    "CAP_PERFMON": CAP.CAP_PERFMON,
    "CAP_BPF": CAP.CAP_BPF,
    "CAP_CHECKPOINT_RESTORE": CAP.CAP_CHECKPOINT_RESTORE,
}

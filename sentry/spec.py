"""What a sandbox is to be: the JSON document that the front hands to the sentry, read into typed classes.

The document is an object with the keys below; unknown keys are refused, so that nothing asked for is silently ignored.

    args        [str]      command and arguments (surrogateescape for bytes that are not UTF-8, as everywhere here)
    env         [str]      NAME=VALUE
    cwd         str        absolute, in the guest's view
    uid, gid    int        of the first process
    groups      [int]      supplementary groups
    hostname    str
    platform    str        ptrace, systrap, kvm (the front has resolved "auto")
    root        mount      as below, dst "/"
    mounts      [mount]    in the order in which they are mounted
    stdio       [int]      inherited descriptors of the guest's 0, 1, 2
    control     int        inherited socket: the sentry writes one JSON line when the command ended and obeys signal requests
    memory      int        limit in bytes of guest memory, 0: none
    pids        int        limit of guest tasks, 0: none
    limits      {str: [soft, hard]}   RLIMIT_* names without the prefix, -1: infinity
    strace      bool       print every call to stderr_log
    log         int        descriptor for the debug log, -1: none
    seed        int        for everything random, -1: from the host

A mount is {"type": T, "dst": str, "fd": int, "readonly": bool, "overlay": bool, "options": str} with T one of gofer (fd: its
9P socket; overlay: changes stay in memory), tmpfs, proc, sysfs, dev, devpts, mqueue.
"""

from __future__ import annotations

import json
from typing import Any, Final

from sentry.errors import SandboxError

MOUNT_TYPES: Final = ("gofer", "tmpfs", "proc", "sysfs", "dev", "devpts", "mqueue")


class MountSpec:
    def __init__(self, kind: str, dst: bytes, fd: int, readonly: bool, overlay: bool, options: str) -> None:
        self.kind: str = kind
        self.dst: bytes = dst
        self.fd: int = fd
        self.readonly: bool = readonly
        self.overlay: bool = overlay
        self.options: str = options


class Spec:
    def __init__(self) -> None:
        self.args: list[bytes] = []
        self.env: list[bytes] = []
        self.cwd: bytes = b"/"
        self.uid: int = 0
        self.gid: int = 0
        self.groups: list[int] = []
        self.hostname: bytes = b"cordon"
        self.platform: str = "ptrace"
        self.root: MountSpec = MountSpec("tmpfs", b"/", -1, False, False, "")
        self.mounts: list[MountSpec] = []
        self.stdio: list[int] = []
        self.control: int = -1
        self.memory: int = 0
        self.pids: int = 0
        self.limits: dict[str, tuple[int, int]] = {}
        self.strace: bool = False
        self.log: int = -1
        self.seed: int = -1


class Reader:
    """Takes typed values out of a JSON object; each error names the place."""

    def __init__(self, value: Any, where: str) -> None:
        if not isinstance(value, dict):
            raise SandboxError(f"sandbox spec: {where} is not an object")
        self.value: dict[str, Any] = dict(value)
        self.where: str = where

    def bad(self, key: str, want: str) -> SandboxError:
        return SandboxError(f"sandbox spec: {self.where}.{key} is not {want}")

    def text(self, key: str, default: str) -> bytes:
        v = self.value.pop(key, default)
        if not isinstance(v, str) or "\0" in v:
            raise self.bad(key, "a string without NUL")
        return v.encode("utf-8", "surrogateescape")

    def number(self, key: str, default: int) -> int:
        v = self.value.pop(key, default)
        if not isinstance(v, int) or isinstance(v, bool):
            raise self.bad(key, "an integer")
        return v

    def flag(self, key: str) -> bool:
        v = self.value.pop(key, False)
        if not isinstance(v, bool):
            raise self.bad(key, "true or false")
        return v

    def texts(self, key: str) -> list[bytes]:
        v = self.value.pop(key, [])
        if not isinstance(v, list) or not all(isinstance(x, str) and "\0" not in x for x in v):
            raise self.bad(key, "a list of strings without NUL")
        return [str(x).encode("utf-8", "surrogateescape") for x in v]

    def numbers(self, key: str) -> list[int]:
        v = self.value.pop(key, [])
        if not isinstance(v, list) or not all(isinstance(x, int) and not isinstance(x, bool) for x in v):
            raise self.bad(key, "a list of integers")
        return [int(x) for x in v]

    def end(self) -> None:
        if self.value:
            raise SandboxError(f"sandbox spec: {self.where} has unknown keys: {', '.join(sorted(self.value))}")


def parse_mount(value: Any, where: str) -> MountSpec:
    r = Reader(value, where)
    kind = r.text("type", "").decode("utf-8", "replace")
    if kind not in MOUNT_TYPES:
        raise r.bad("type", f"one of {', '.join(MOUNT_TYPES)}")
    mount = MountSpec(
        kind,
        r.text("dst", "/"),
        r.number("fd", -1),
        r.flag("readonly"),
        r.flag("overlay"),
        r.text("options", "").decode("utf-8", "replace"),
    )
    if not mount.dst.startswith(b"/"):
        raise SandboxError(f"sandbox spec: {where}.dst is not absolute")
    if kind == "gofer" and mount.fd < 0:
        raise SandboxError(f"sandbox spec: {where}.fd is missing")
    r.end()
    return mount


def parse(text: bytes) -> Spec:
    """The spec in a JSON document; SandboxError with one sentence when it is not one."""
    try:
        document = json.loads(text)
    except ValueError as e:
        raise SandboxError(f"sandbox spec: not JSON: {e}") from None
    r = Reader(document, "spec")
    s = Spec()
    s.args = r.texts("args")
    s.env = r.texts("env")
    s.cwd = r.text("cwd", "/")
    s.uid = r.number("uid", 0)
    s.gid = r.number("gid", 0)
    s.groups = r.numbers("groups")
    s.hostname = r.text("hostname", "cordon")
    s.platform = r.text("platform", "ptrace").decode("utf-8", "replace")
    s.root = parse_mount(r.value.pop("root", None), "spec.root")
    mounts = r.value.pop("mounts", [])
    if not isinstance(mounts, list):
        raise r.bad("mounts", "a list")
    s.mounts = [parse_mount(m, f"spec.mounts[{i}]") for i, m in enumerate(mounts)]
    s.stdio = r.numbers("stdio")
    s.control = r.number("control", -1)
    s.memory = r.number("memory", 0)
    s.pids = r.number("pids", 0)
    limits = Reader(r.value.pop("limits", {}), "spec.limits")
    for name in list(limits.value):
        pair = limits.numbers(name)
        if len(pair) != 2:
            raise limits.bad(name, "a pair [soft, hard]")
        s.limits[name] = (pair[0], pair[1])
    s.strace = r.flag("strace")
    s.log = r.number("log", -1)
    s.seed = r.number("seed", -1)
    r.end()
    if not s.args or not s.args[0]:
        raise SandboxError("sandbox spec: spec.args has no command")
    if not s.cwd.startswith(b"/"):
        raise SandboxError("sandbox spec: spec.cwd is not absolute")
    if not 0 <= s.uid < 0xFFFFFFFF or not 0 <= s.gid < 0xFFFFFFFF:
        raise SandboxError("sandbox spec: spec.uid or spec.gid is not an id")
    return s

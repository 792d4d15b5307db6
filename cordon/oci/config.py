"""config.json of a bundle, read into typed classes and checked (OCI runtime specification 1.0 to 1.3).

    config = config.load(bundle)

What is not supported and can't be ignored without changing what was asked for is refused with the path of the key. Unknown
keys are ignored, as the specification says.
"""

from __future__ import annotations

import os
from typing import Any

from cordon.oci.linux import Linux
from cordon.oci.mounts import Mount
from cordon.oci.reader import BadDocument, Reader
from cordon.oci.reader import load as load_json

#: Hooks in the order of their moments.
HOOKS = ("prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop")
MAX_ID = 0xFFFFFFFE
CAPABILITY_SETS = ("bounding", "effective", "inheritable", "permitted", "ambient")
RLIMITS = (
    "AS", "CORE", "CPU", "DATA", "FSIZE", "LOCKS", "MEMLOCK", "MSGQUEUE", "NICE", "NOFILE", "NPROC", "RSS",
    "RTPRIO", "RTTIME", "SIGPENDING", "STACK",
)  # fmt: skip
UINT64 = (1 << 64) - 1


class User:
    """Ids of a process."""

    def __init__(self, r: Reader) -> None:
        self.uid = r.number("uid", 0, 0, MAX_ID)
        self.gid = r.number("gid", 0, 0, MAX_ID)
        self.umask = r.number("umask", 0o022, 0, 0o7777) & 0o777
        self.groups = r.numbers("additionalGids", 0, MAX_ID)


class Process:
    """A process to run: of config.json, or of `exec --process`."""

    def __init__(self, r: Reader) -> None:
        self.args = r.texts("args")
        if not self.args:
            raise r.bad("args", "has no command" if r.has("args") else "is missing")
        if not self.args[0]:
            raise r.bad("args[0]", "is empty")
        self.env = r.texts("env")
        self.cwd = r.text("cwd") or "/"
        if not self.cwd.startswith("/"):
            raise r.bad("cwd", f"is not an absolute path: {self.cwd!r}")
        self.user = User(r.inner("user"))
        self.terminal = r.flag("terminal")
        size = r.inner("consoleSize")
        #: Rows and columns, 0 when not given.
        self.rows = size.number("height", 0, 0, 0xFFFF)
        self.columns = size.number("width", 0, 0, 0xFFFF)
        #: Capability names by set; None: not given.
        self.capabilities: dict[str, list[str]] | None = None
        if r.has("capabilities"):
            self.capabilities = read_capabilities(r.inner("capabilities"))
        #: RLIMIT name without the prefix -> soft, hard.
        self.rlimits = read_rlimits(r)
        self.no_new_privileges = r.flag("noNewPrivileges")
        #: None: left as it is.
        self.oom_score_adj = r.number("oomScoreAdj", 0, -1000, 1000) if r.has("oomScoreAdj") else None
        for key in ("apparmorProfile", "selinuxLabel"):
            r.text(key)


def read_capabilities(r: Reader) -> dict[str, list[str]]:
    sets = {}
    for name in CAPABILITY_SETS:
        values = r.texts(name)
        for i, value in enumerate(values):
            if not value.upper().startswith("CAP_"):
                raise r.bad(f"{name}[{i}]", f"is not a capability: {value!r}")
        sets[name] = [value.upper() for value in values]
    return sets


def read_rlimits(r: Reader) -> dict[str, tuple[int, int]]:
    limits: dict[str, tuple[int, int]] = {}

    def one(limit: Reader) -> None:
        kind = limit.need_text("type")
        name = kind.removeprefix("RLIMIT_")
        if name not in RLIMITS or name == kind:
            raise limit.bad("type", f"is not an rlimit: {kind!r}")
        if name in limits:
            raise limit.bad("type", f"is given twice: {kind}")
        # Go programs write 2^64-1 and -1 for infinity
        hard = limit.need_number("hard", -1, UINT64) & UINT64
        soft = limit.need_number("soft", -1, UINT64) & UINT64
        if soft > hard:
            raise limit.bad("soft", f"is above the hard limit: {soft} > {hard}")
        limits[name] = (soft, hard)

    r.each("rlimits", one)
    return limits


class Hook:
    """A program to be run at a moment of a container's life."""

    def __init__(self, r: Reader) -> None:
        self.path = r.absolute("path")
        self.args = r.texts("args") or [self.path]
        self.env = r.texts("env")
        #: Seconds, 0 for none.
        self.timeout = r.number("timeout", 0, -INT32, INT32)
        if r.has("timeout") and self.timeout <= 0:
            raise r.bad("timeout", f"is not above zero: {self.timeout}")

    def to_plain(self) -> dict[str, Any]:
        plain: dict[str, Any] = {"path": self.path, "args": self.args, "env": self.env}
        if self.timeout:
            plain["timeout"] = self.timeout
        return plain


INT32 = (1 << 31) - 1


class Config:
    """A container's configuration."""

    def __init__(self, document: Any, name: str) -> None:
        r = Reader(document, "", name)
        self.version = check_version(r)
        self.hostname = r.text("hostname")
        if len(self.hostname.encode()) > 64:
            raise r.bad("hostname", "is longer than 64 bytes")
        self.domainname = r.text("domainname")
        if len(self.domainname.encode()) > 64:
            raise r.bad("domainname", "is longer than 64 bytes")
        if not r.has("root"):
            raise r.bad("root", "is missing")
        root = r.inner("root")
        #: As written; relative to the bundle.
        self.root = root.need_text("path")
        self.readonly = root.flag("readonly")
        self.mounts: list[Mount] = r.each("mounts", Mount)
        #: None: a container without a program; `start` fails then.
        self.process: Process | None = Process(r.inner("process")) if r.has("process") else None
        self.annotations = r.text_map("annotations")
        hooks = r.inner("hooks")
        self.hooks: dict[str, list[Hook]] = {moment: hooks.each(moment, Hook) for moment in HOOKS}
        self.linux = Linux(r.inner("linux"))
        for key in ("windows", "solaris", "vm", "zos"):
            if r.has(key) and not r.has("linux"):
                raise r.bad(key, "is for another operating system")

    def root_path(self, bundle: str) -> str:
        """The host path of the root, without symbolic links. BadDocument when it is no directory."""
        path = os.path.realpath(os.path.join(bundle, self.root))
        if not os.path.isdir(path):
            wrong = "not a directory" if os.path.lexists(path) else "no such directory"
            raise BadDocument(f"root {path}: {wrong}")
        return path


def check_version(r: Reader) -> str:
    version = r.need_text("ociVersion")
    parts = version.partition("+")[0].partition("-")[0].split(".")
    if len(parts) != 3 or not all(p.isascii() and p.isdigit() and len(p) < 5 for p in parts):
        raise r.bad("ociVersion", f"is not a version: {version!r}")
    if parts[0] != "1":
        raise r.bad("ociVersion", f"is {version}, which this runtime does not know (1.0 to 1.3)")
    return version


def load(bundle: str) -> Config:
    """The configuration of a bundle. BadDocument says what is wrong, RuntimeFailure why it can't be read."""
    path = os.path.join(bundle, "config.json")
    if not os.path.isdir(bundle):
        wrong = "not a directory" if os.path.lexists(bundle) else "no such directory"
        raise BadDocument(f"bundle {bundle}: {wrong}")
    return Config(load_json(path), path)


def load_process(path: str) -> Process:
    """The process of `exec --process FILE`."""
    return Process(Reader(load_json(path), "", path))

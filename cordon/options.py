"""What a sandbox is asked to be, as the command line and the Python API say it."""

from __future__ import annotations

import math
import os
import re
from typing import Any, NamedTuple

from cordon.errors import CordonError

#: Of memory: what no limit of a machine reaches, and any computation with it bears.
SIZE_MAX = 1 << 48
MEMORY_MIN = 1 << 20
#: Seconds, of a time limit: a century.
TIMEOUT_MAX = 100 * 365 * 86400.0
#: Bytes of arguments and environment together, and of one string, as execve(2) limits them with the usual stack limit.
STRINGS_MAX = 2 << 20
STRING_MAX = 128 << 10

UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}


class Mount(NamedTuple):
    """A host file or directory shown in the sandbox. Changes reach the host only when it is `writable`."""

    source: str
    target: str
    writable: bool = False

    @classmethod
    def parse(cls, text: str) -> Mount:
        """SRC:DST[:ro|rw], as in --mount. Colons in the paths are not possible."""
        parts = text.split(":")
        if len(parts) not in (2, 3) or not parts[0] or (len(parts) == 3 and parts[2] not in ("ro", "rw")):
            raise CordonError(f"mount {text!r}: not of the form SRC:DST[:ro|rw]", 2)
        return cls(parts[0], parts[1], len(parts) == 3 and parts[2] == "rw")


def parse_size(text: str) -> int:
    """Bytes of "512M" and the like; units k, m, g, t are powers of 1024."""
    match = re.fullmatch(r"([0-9]{1,19})([kmgt]?)(i?b)?", text.strip().lower())
    if not match or int(match[1]) == 0:
        raise CordonError(f"size {shortened(text)}: not a positive number with an optional unit K, M, G or T", 2)
    size = int(match[1]) * UNITS[match[2]]
    if size > SIZE_MAX:
        raise CordonError(f"size {text!r}: more than a machine can have", 2)
    return size


def shortened(text: str) -> str:
    """Quoted, for a message of one line."""
    return repr(text) if len(text) <= 200 else repr(text[:200]) + "..."


class Options:
    """One sandbox. Everything has the default that `cordon do` documents."""

    def __init__(self, args: list[str]) -> None:
        self.args = args
        self.platform = "auto"
        #: Host directory to be the root; "" for the default view.
        self.root = ""
        self.mounts: list[Mount] = []
        #: NAME=VALUE, added to the minimal environment.
        self.env: list[str] = []
        #: Nothing but `env`, not even the minimal environment.
        self.env_only = False
        #: In the guest's view; "" for the caller's own where it is shown, else "/".
        self.cwd = ""
        #: Ids of the first process, -1: the caller's.
        self.uid = -1
        self.gid = -1
        self.hostname = "cordon"
        #: Seconds, 0 for none.
        self.timeout = 0.0
        #: Bytes, 0 for the default (cordon/defaults.py).
        self.memory = 0
        #: Tasks, 0 for the default.
        self.pids = 0
        #: none (loopback only), host, or ns:PATH: host sockets in that network namespace.
        self.network = "none"
        self.strace = False
        #: File for a trace of where the time of system calls goes, "" for none.
        self.profile = ""
        self.patch = True
        #: File for the debug log, "" for none.
        self.debug_log = ""

    def set_user(self, text: str) -> None:
        """UID[:GID] in numbers; without GID it is the same number."""
        match = re.fullmatch(r"(\d+)(?::(\d+))?", text)
        if not match or max(int(match[1]), int(match[2] or 0)) >= 0xFFFFFFFF:
            raise CordonError(f"user {text!r}: not of the form UID[:GID] in numbers", 2)
        self.uid = int(match[1])
        self.gid = int(match[2]) if match[2] else self.uid

    def set_timeout(self, seconds: float) -> None:
        if not 0 < seconds < math.inf:
            raise CordonError(f"timeout {seconds:g}: not a positive number of seconds", 2)
        self.timeout = min(float(seconds), TIMEOUT_MAX)

    def set_memory(self, size: int | str) -> None:
        """Bytes, or text such as "512M"."""
        self.memory = parse_size(str(size))
        if self.memory < MEMORY_MIN:
            raise CordonError(f"memory {size}: too little for any program; the least is {MEMORY_MIN >> 10}K", 2)

    def set_pids(self, pids: int) -> None:
        if not 0 < pids < 1 << 22:
            raise CordonError(f"pids {pids}: not a number from 1 to {(1 << 22) - 1}", 2)
        self.pids = pids

    def check(self) -> None:
        """Raises CordonError for what no sandbox can be."""
        if not self.args or not self.args[0]:
            raise CordonError("no command given", 2)
        words = [*self.args, *self.env, self.hostname, self.cwd, self.root, *(p for m in self.mounts for p in m[:2])]
        for word in words:
            if "\0" in word:
                raise CordonError(f"{shortened(word)}: holds a NUL character", 2)
            if len(word) >= STRING_MAX:
                raise CordonError(f"{shortened(word)}: longer than the {STRING_MAX} bytes of one argument", 2)
        if sum(len(os.fsencode(word)) + 9 for word in [*self.args, *self.env]) > STRINGS_MAX:
            raise CordonError(f"arguments and environment: more than {STRINGS_MAX} bytes together", 2)
        for pair in self.env:
            if pair.find("=") < 1:
                raise CordonError(f"environment {shortened(pair)}: not of the form NAME=VALUE", 2)
        if self.cwd and not self.cwd.startswith("/"):
            raise CordonError(f"working directory {self.cwd!r}: not absolute", 2)
        if not 0 < len(os.fsencode(self.hostname)) <= 64:
            raise CordonError(f"hostname {self.hostname!r}: not of 1 to 64 bytes", 2)
        if self.network not in ("none", "host") and not self.network.startswith("ns:/"):
            raise CordonError(f"network {self.network!r}: not none, host or ns:PATH", 2)
        if self.root and not os.path.isdir(self.root):
            raise CordonError(f"root {self.root}: {why_not_directory(self.root)}")
        for mount in self.mounts:
            if not mount.target.startswith("/"):
                raise CordonError(f"mount {mount.source}:{mount.target}: the target is not absolute", 2)
            if not os.path.exists(mount.source):
                raise CordonError(f"mount {mount.source}: no such file or directory")

    @property
    def netns(self) -> str:
        """Path of the network namespace for host sockets, "" for the caller's own."""
        return self.network.removeprefix("ns:") if self.network.startswith("ns:") else ""

    def to_plain(self) -> dict[str, Any]:
        """As JSON can say it."""
        return dict(vars(self))

    @classmethod
    def from_plain(cls, plain: dict[str, Any]) -> Options:
        options = cls([])
        vars(options).update(plain)
        options.mounts = [Mount(*m) for m in options.mounts]
        return options


def why_not_directory(path: str) -> str:
    return "not a directory" if os.path.exists(path) else "no such directory"

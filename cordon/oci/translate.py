"""From config.json to what gofer and sentry are told: exports, mounts, the container's and processes' documents (sentry/spec.py)."""

from __future__ import annotations

import os
import stat
from typing import Any

from cordon.oci.config import CAPABILITY_SETS, Config, Process
from cordon.oci.errors import RuntimeFailure, why
from cordon.oci.linux import IdMap
from cordon.oci.mounts import Mount

INFINITY = (1 << 64) - 1
#: Flags of a mount that the sentry knows.
FLAGS = ("ro", "nosuid", "nodev", "noexec", "noatime", "nodiratime", "relatime", "nosymfollow")
#: On request the root's changes stay in memory.
OVERLAY = "org.cordon.overlay"
#: With the value "namespace" the guest's sockets are the host's, in the container's network namespace, though only `lo` is there.
NETWORK = "org.cordon.network"
#: Options of the sentry's file systems that config.json may set.
TMPFS_OPTIONS = ("size", "mode", "uid", "gid", "nr_inodes", "nr_blocks", "tmpcopyup")


class Export:
    """A host file tree that the gofer serves."""

    def __init__(self, source: str, readonly: bool) -> None:
        self.source = source
        self.readonly = readonly


def network_of(config: Config) -> str:
    """The sentry's network: the stack of the namespace that the container process is in, or loopback alone.

    A new namespace that nobody can have put an interface into has only a loopback anyway: the sentry's own serves better, unless
    other containers are to join it.
    """
    path = config.linux.namespaces.get("network")
    early = ("prestart", "createRuntime", "createContainer")
    if config.annotations.get(NETWORK) == "namespace" or any(config.hooks[moment] for moment in early):
        return "host"
    return "none" if path == "" else "host"


class Plan:
    """A container as it is to be built: exports, and the sentry's mounts with the place of their export in that list as "fd"."""

    def __init__(self, config: Config, bundle: str, rootfs: str) -> None:
        self.config = config
        self.exports: list[Export] = []
        overlay = config.annotations.get(OVERLAY) in ("memory", "true", "1")
        self.root: dict[str, Any] = {
            "type": "gofer",
            "dst": "/",
            "fd": self.export(rootfs, config.readonly or overlay),
            "overlay": overlay,
            "flags": ["ro"] if config.readonly else [],
        }
        #: What the engines' window (cordon/oci/window.py) shows: (host path or "", place, read-only).
        self.view: list[tuple[str, str, bool]] = []
        #: Namespaces of other containers of the same sandbox: kind -> id.
        self.share: dict[str, str] = {}
        self.mounts = [self.mount(m, bundle) for m in config.mounts]

    def export(self, source: str, readonly: bool) -> int:
        self.exports.append(Export(source, readonly))
        return len(self.exports) - 1

    def mount(self, m: Mount, bundle: str) -> dict[str, Any]:
        """The sentry's mount for one of config.json."""
        flags = [f for f in FLAGS if m.on(f)]
        plain: dict[str, Any] = {"type": m.kind, "dst": m.destination, "flags": flags}
        if m.kind == "bind":
            source = os.path.realpath(os.path.join(bundle, m.source))
            try:
                mode = os.stat(source).st_mode
            except OSError as e:
                raise RuntimeFailure(f"{m.where}.source {source}: {why(e)}") from None
            if stat.S_ISBLK(mode):
                raise RuntimeFailure(
                    f"{m.where}.source {source}: a block device, which a sandbox can't be given"
                )
            plain["type"] = "gofer"
            plain["fd"] = self.export(source, m.on("ro"))
            self.view.append((source, m.destination, m.on("ro")))
            return plain
        plain["source"] = m.source
        where = m.destination.rstrip("/")
        if m.kind in ("tmpfs", "ramfs", "devtmpfs"):
            plain["type"] = "dev" if where == "/dev" else "tmpfs"
            if where != "/dev":
                self.view.append(("", m.destination, True))
            plain["options"] = ",".join(o for o in m.data if o.partition("=")[0] in TMPFS_OPTIONS)
        elif m.kind == "cgroup2":
            plain["type"] = "cgroup"
        elif m.kind == "devpts":
            plain["options"] = ",".join(
                o for o in m.data if o.partition("=")[0] in ("gid", "mode", "ptmxmode")
            )
        return plain

    def container(self, cid: str, sockets: list[int], process: dict[str, Any], cgroup: str) -> dict[str, Any]:
        """The sentry's document. `sockets`: descriptor numbers of the 9P connections, in the order of `exports`."""
        config, linux = self.config, self.config.linux

        def with_socket(plain: dict[str, Any]) -> dict[str, Any]:
            return {**plain, "fd": sockets[plain["fd"]]} if "fd" in plain else plain

        resources = linux.resources
        document: dict[str, Any] = {
            "id": cid,
            "process": process,
            "root": with_socket(self.root),
            "mounts": [with_socket(m) for m in self.mounts],
            "masked": linux.masked,
            "readonly": linux.readonly,
            "devices": [vars_of_device(d) for d in linux.devices],
            "sysctl": linux.sysctl,
            "seccomp": linux.seccomp.to_plain() if linux.seccomp else None,
            "memory": max(0, resources.memory or 0),
            "pids": max(0, resources.pids or 0),
            "cgroup": cgroup or "/",
            "uid_map": rows(linux.uid_map),
            "gid_map": rows(linux.gid_map),
        }
        if config.hostname:
            document["hostname"] = config.hostname
        elif "uts" not in linux.namespaces:
            document["hostname"] = os.uname().nodename[:64]
        if config.domainname:
            document["domainname"] = config.domainname
        return document


def vars_of_device(d: Any) -> dict[str, Any]:
    return {
        "path": d.path, "type": d.kind, "major": d.major, "minor": d.minor, "mode": d.mode, "uid": d.uid, "gid": d.gid,
    }  # fmt: skip


def rows(ids: list[IdMap]) -> list[list[int]]:
    return [[m.inside, m.outside, m.size] for m in ids]


def process(p: Process, stdio: list[int], preserve: list[int]) -> dict[str, Any]:
    """The sentry's document of a process. `stdio`: three descriptors, or a terminal's slave alone."""
    capabilities = p.capabilities or {name: [] for name in CAPABILITY_SETS}
    return {
        "args": p.args,
        "env": p.env,
        "cwd": p.cwd,
        "uid": p.user.uid,
        "gid": p.user.gid,
        "groups": p.user.groups,
        "umask": p.user.umask,
        "capabilities": {name: capabilities.get(name, []) for name in CAPABILITY_SETS},
        "limits": {name: [finite(soft), finite(hard)] for name, (soft, hard) in p.rlimits.items()},
        "no_new_privs": p.no_new_privileges,
        "oom_score_adj": p.oom_score_adj or 0,
        "terminal": p.terminal,
        "size": [p.rows, p.columns],
        "stdio": stdio,
        "preserve": preserve,
    }


def finite(limit: int) -> int:
    """-1 for infinity, as the sentry has it."""
    return -1 if limit >= INFINITY >> 1 else limit

"""Pods: containers of one pod live in one sandbox, told by the annotations of containerd's CRI, CRI-O and podman."""

from __future__ import annotations

import os
from collections.abc import Iterator

from cordon.oci import lifecycle
from cordon.oci.config import Config
from cordon.oci.errors import NoContainer, RuntimeFailure, log
from cordon.oci.state import SOCKET_FILE, State, StateDir
from cordon.oci.translate import NETWORK

#: (annotation of the type, annotation of the sandbox's id)
ANNOTATIONS = (
    ("io.kubernetes.cri.container-type", "io.kubernetes.cri.sandbox-id"),
    ("io.kubernetes.cri-o.ContainerType", "io.kubernetes.cri-o.SandboxID"),
)
SHARED = ("pid", "ipc", "uts")


class Pod:
    """The sandbox that a container joins."""

    def __init__(self, directory: StateDir, state: State) -> None:
        #: Of the container that the sandbox was made for.
        self.id = state.id
        self.socket = os.path.join(directory.path, SOCKET_FILE)
        self.members = members(directory, state.id)

    def shared(self, config: Config) -> dict[str, str]:
        """Kind of namespace -> container of this sandbox whose /proc/PID/ns/... the configuration joins."""
        out = {}
        for kind in SHARED:
            cid = self.members.get(process_of(config.linux.namespaces.get(kind, "")))
            if cid is not None:
                out[kind] = cid
        return out


def process_of(path: str) -> int:
    """N of /proc/N/ns/..., else -1."""
    parts = path.split("/")
    named = len(parts) == 5 and parts[1] == "proc" and parts[3] == "ns" and parts[2].isdigit()
    return int(parts[2]) if named else -1


def states(directory: StateDir) -> Iterator[State]:
    """Of all containers of the same root that can be read."""
    for cid in directory.root.ids():
        try:
            with StateDir.open(directory.root, cid, False) as d:
                yield d.read()
        except RuntimeFailure:
            continue


def members(directory: StateDir, sandbox: str) -> dict[int, str]:
    """Container process -> id, of all in one sandbox."""
    return {s.pid: s.id for s in states(directory) if sandbox in (s.id, s.sandbox)}


def check_network(config: Config, directory: StateDir) -> None:
    """Warns of the network namespace of a container whose sockets aren't in it: it is joined, but the two don't meet there."""
    path = config.linux.namespaces.get("network", "")
    pid = process_of(path)
    if pid < 0:
        return
    for state in states(directory):
        if state.pid == pid and state.loopback and state.status() != lifecycle.STOPPED:
            log.write(
                "warning",
                f'network namespace {path}: container "{state.id}" keeps its loopback in its own sandbox; '
                f"to share it, that one needs the annotation {NETWORK}=namespace",
            )


def sandbox_of(config: Config, directory: StateDir) -> Pod | None:
    """The sandbox to join, None for one of its own."""
    for kind, owner in ANNOTATIONS:
        cid = config.annotations.get(owner, "")
        if config.annotations.get(kind) != "container" or not cid or cid == directory.id:
            continue
        try:
            with StateDir.open(directory.root, cid, False) as d:
                state = d.read()
                if state.status() in (lifecycle.CREATED, lifecycle.RUNNING):
                    return Pod(d, state)
        except NoContainer:
            pass
        log.write("debug", f'no live sandbox "{cid}" to join: the container gets its own')
    return None

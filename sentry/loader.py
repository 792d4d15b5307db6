"""Wires a sandbox: memory file, platform, kernel, mounts, stdio; seals; starts the first process."""

from __future__ import annotations

import gc
import os
from typing import TYPE_CHECKING

from native._core import lib
from sentry import process, seal, tree
from sentry.control.server import Server
from sentry.control.watchdog import Watchdog
from sentry.control.wire import NOBODY
from sentry.errors import Errno, SandboxError
from sentry.fs import proc
from sentry.fs.generated import GenDir, GenFile
from sentry.fs.gofer.super import descriptor_limit
from sentry.fs.tty import bridge
from sentry.kernel import profile
from sentry.kernel.container import STOPPED
from sentry.kernel.creds import Creds
from sentry.kernel.kernel import Kernel
from sentry.mm import memfile
from sentry.net import start as network
from sentry.strace import profiling, tracer
from sentry.vfs.special import anon_dev

if TYPE_CHECKING:
    from sentry.kernel.container import Container
    from sentry.kernel.task import Task
    from sentry.spec import ContainerSpec, Spec
    from sentry.vfs.inode import Inode


def memory_file(spec: Spec) -> int:
    """The sandbox's memory file. With a limit it lies on a tmpfs of that size, so that the host kernel enforces it."""
    if spec.memory_file >= 0:
        return spec.memory_file
    if spec.memory == 0:
        return os.memfd_create("cordon-memory", os.MFD_CLOEXEC)
    root = lib.cn_tmpfs_new(max(1, spec.memory >> 12) << 12)
    if root < 0:
        raise SandboxError(f"cannot limit guest memory: tmpfs for the memory file: {os.strerror(-root)}")
    try:
        return os.open(".", os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600, dir_fd=root)
    finally:
        os.close(root)


def build_container(kernel: Kernel, spec: ContainerSpec, server: Server) -> Container:
    """A container, created: mounted, its first process loaded. SandboxError, with status 127 or 126 for the executable."""
    pidns = shared(kernel, spec, "pid")
    ipc = shared(kernel, spec, "ipc")
    uts = shared(kernel, spec, "uts")
    container = kernel.new_container(
        spec.ident,
        pidns.pidns if pidns is not None else None,
        ipc.ipc if ipc is not None else None,
        uts.uts if uts is not None else None,
    )
    try:
        furnish(container, spec, uts is None)
        t = process.build(container, spec.process, True)
        set_sysctls(t, spec.sysctl)
    except BaseException:
        tree.take_down(container)
        if container is not kernel.first:
            kernel.forget_container(container)
        raise
    t.tg.fostered = spec.process.job
    t.tg.unkillable = bool(spec.ident) and t.tg.is_init
    for client in container.gofers:
        client.lost = container.gofer_gone
        server.watch_gofer(client.sock, container)
    return container


def furnish(container: Container, spec: ContainerSpec, own_names: bool) -> None:
    """Everything that a container has before its first process."""
    if own_names:
        container.uts.hostname = spec.hostname
        container.uts.domainname = spec.domainname
    container.pids_limit = spec.pids
    container.cgroup = spec.cgroup
    if spec.uid_map:
        container.uid_map = spec.uid_map
    if spec.gid_map:
        container.gid_map = spec.gid_map
    if spec.seccomp is not None:
        container.seccomp = profile.compile_profile(spec.seccomp)
    container.root = tree.build(container, spec)
    container.memory_limit = spec.memory


def shared(kernel: Kernel, spec: ContainerSpec, kind: str) -> Container | None:
    """The container whose namespace of a kind is to be shared."""
    ident = spec.share.get(kind)
    if ident is None:
        return None
    other = kernel.containers.get(ident)
    if other is None or (other.status == STOPPED and kind == "pid"):
        raise SandboxError(
            f'cannot share the {kind} namespace of container "{ident}": it is not there or stopped'
        )
    return other


def set_sysctls(t: Task, wanted: dict[str, str]) -> None:
    """Settings below /proc/sys, by their dotted names. One that is not there or can't have the value is refused."""
    if not wanted:
        return
    creds = t.creds
    t.creds = Creds(0, 0, [])
    try:
        for name, value in wanted.items():
            set_sysctl(t, name, value.encode("utf-8", "surrogateescape"))
    finally:
        t.creds = creds


def set_sysctl(t: Task, name: str, value: bytes) -> None:
    node: Inode | None = proc.new(t.kernel, t.pidns, anon_dev()).lookup(b"sys")
    for part in name.replace("/", ".").split("."):
        node = node.lookup(part.encode("utf-8", "surrogateescape")) if isinstance(node, GenDir) else None
    if not isinstance(node, GenFile):
        raise SandboxError(f"sysctl {name}: the sandbox does not have this setting")
    try:
        if node.text(t).split() == value.split():
            return
        node.store(t, value + b"\n")
    except Errno as e:
        raise SandboxError(
            f"sysctl {name}: cannot be set to {tree.show(value)}: {os.strerror(e.errno).lower()}"
        ) from None


class Sandbox:
    """A built sandbox, ready to run once."""

    def __init__(self, spec: Spec) -> None:
        self.spec: Spec = spec
        self.kernel: Kernel = Kernel(seed=spec.seed, memory=spec.memory)
        self.server: Server = Server(self.kernel, spec.container.ident)
        if spec.log >= 0:
            self.kernel.log = Log(spec.log).write

    def start(self) -> None:
        """Makes the first container, seals the sentry, and hears requests. SandboxError when the command cannot be executed."""
        spec = self.spec
        network.start(self.kernel, spec.network, spec.broker)
        if spec.control >= 0:
            self.server.add_owner(spec.control)
        if spec.listen >= 0:
            self.server.listen(spec.listen)
        if spec.profile >= 0:
            profiling.start(spec.profile)
        if spec.strace:
            tracer.start(spec.log if spec.log >= 0 else 2)
        container = build_container(self.kernel, spec.container, self.server)
        gc.freeze()  # what there is now stays: the collector need not look at it again
        seal.seal(spec.platform + ("-net" if spec.network == "host" else ""))
        self.server.start()
        if spec.watchdog:
            Watchdog(self.kernel, self.server, spec.watchdog, spec.watchdog_ends).start()
        bridge.start()
        owner = self.server.owner
        if owner is not None:
            owner.say({"id": NOBODY, "event": {"event": "ready"}})
        if spec.start:
            container.start()

    def run(self) -> bool:
        """Runs the sandbox to its end, and tells it. False: it failed. SandboxError when it can't be started."""
        lib.cn_klock()
        try:
            self.start()
        finally:
            lib.cn_kunlock()
        try:
            self.kernel.run_until_exit()
            return True
        except SandboxError as e:
            self.server.failed(e)
            return False
        finally:
            profiling.stop()
            self.server.finish()


class Log:
    """The debug log."""

    def __init__(self, fd: int) -> None:
        self.fd: int = fd

    def write(self, text: str) -> None:
        try:
            os.write(self.fd, f"cordon: sentry: {text}\n".encode("utf-8", "backslashreplace"))
        except OSError:
            pass


def build(spec: Spec) -> Sandbox:
    """Builds the sandbox, in a process that is isolated."""
    descriptor_limit()
    fd = memory_file(spec)
    rc = memfile.start(fd, spec.memory)
    if rc < 0:
        raise SandboxError(f"cannot map the memory file: {os.strerror(-rc)}")
    if spec.no_patch:
        lib.cn_patch_enable(0)
    if not spec.spin:
        lib.cn_place_apart(0)
    rc = lib.cn_platform_start(spec.platform.encode(), fd)
    if rc < 0:
        raise SandboxError(f"platform {spec.platform}: cannot start: {os.strerror(-rc)}")
    return Sandbox(spec)

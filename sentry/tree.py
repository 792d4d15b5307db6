"""What the first process finds: the tree of mounts, its working directory, its program, its standard streams."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from sentry.abi import errno as E
from sentry.abi import stat as S
from sentry.errors import Errno, SandboxError
from sentry.fs import dev, devpts, gofer, mqueue, overlay, proc, sysfs, tmpfs
from sentry.fs.proc import root as _proc_root  # noqa: F401 -- a sealed sentry can't import
from sentry.syscalls.system import memory_total
from sentry.vfs import access, walk
from sentry.vfs.mount import Path
from sentry.vfs.mounts import MountNamespace
from sentry.vfs.special import anon_dev

if TYPE_CHECKING:
    from sentry.kernel.container import Container
    from sentry.kernel.creds import Creds
    from sentry.spec import ContainerSpec, MountSpec
    from sentry.vfs.inode import Inode


def show(path: bytes) -> str:
    return path.decode("utf-8", "backslashreplace")


def root_inode(container: Container, m: MountSpec) -> Inode:
    """The root of a new file system of the spec's type."""
    kernel = container.kernel
    if m.kind == "gofer":
        shared = not m.overlay and not m.readonly
        _, inode = gofer.attach(m.fd, anon_dev(), shared)
        return overlay.new(anon_dev(), inode, memory_total(kernel)) if m.overlay else inode
    if m.kind == "tmpfs":
        options = tmpfs.MountOptions(m.options.encode(), memory_total(kernel))
        return tmpfs.new(anon_dev(), options)
    if m.kind == "proc":
        return proc.new(kernel, container.pidns, anon_dev())
    if m.kind == "sysfs":
        return sysfs.new(kernel, anon_dev())
    if m.kind == "dev":
        return dev.new(anon_dev())
    if m.kind == "devpts":
        return devpts.new(kernel, anon_dev())
    return mqueue.new(container.ipc, anon_dev())


def make_place(root: Path, path: bytes, directory: bool) -> None:
    """Makes what is missing of a mount point (in the overlay, so nothing of the host changes)."""
    done = b""
    names = [n for n in path.split(b"/") if n]
    for i, name in enumerate(names):
        done += b"/" + name
        try:
            walk.kernel_resolve(root, done)
        except Errno as e:
            if e.errno != E.ENOENT:
                raise
            parent = walk.kernel_resolve_parent(root, done)
            if directory or i < len(names) - 1:
                parent.inode().mkdir(name, S.S_IFDIR | 0o755, 0, 0)
            else:
                parent.inode().create(name, S.S_IFREG | 0o644, 0, 0)
            parent.dentry.children.pop(name, None)


def attach(container: Container, ns: MountNamespace, root: Path, m: MountSpec) -> None:
    """Mounts one file system of the spec; SandboxError names it."""
    try:
        inode = root_inode(container, m)
        make_place(root, m.dst, inode.mode & S.S_IFMT == S.S_IFDIR)
        ns.mount(inode.sb, inode, walk.kernel_resolve(root, m.dst), m.flags)
    except Errno as e:
        raise SandboxError(
            f"cannot mount {m.kind} on {show(m.dst)}: {os.strerror(e.errno).lower()}"
        ) from None


def build(container: Container, spec: ContainerSpec) -> Path:
    """Mounts everything; the root."""
    ns = MountNamespace()
    inode = root_inode(container, spec.root)
    root = ns.set_root(inode.sb, inode, spec.root.flags)
    for m in spec.mounts:
        attach(container, ns, root, m)
    return root


def console(root: Path) -> Path | None:
    """The node of /dev/console, if there is one."""
    try:
        place = walk.kernel_resolve(root, b"/dev/console")
    except Errno:
        return None
    return place if place.inode.mode & S.S_IFMT == S.S_IFCHR else None


def working_directory(root: Path, cwd: bytes) -> Path:
    try:
        return walk.kernel_resolve(root, cwd, walk.FOLLOW | walk.DIRECTORY)
    except Errno as e:
        raise SandboxError(f"working directory {show(cwd)}: {os.strerror(e.errno).lower()}") from None


def executable(root: Path, cwd: Path, creds: Creds, path: bytes) -> int:
    """0 when the path can be executed, else the errno."""
    try:
        place = walk.kernel_resolve(root if path.startswith(b"/") else cwd, path)
        inode = place.inode
        if inode.mode & S.S_IFMT == S.S_IFDIR:
            return E.EISDIR
        if inode.mode & S.S_IFMT != S.S_IFREG or not access.permitted(creds, inode, access.MAY_EXEC):
            return E.EACCES
    except Errno as e:
        return e.errno
    return 0


def status_of(errno: int) -> int:
    """Exit status for an executable that is not there (127) or can't be executed (126)."""
    return 127 if errno in (E.ENOENT, E.ENOTDIR) else 126


def find_program(root: Path, cwd: Path, creds: Creds, name: bytes, env: list[bytes]) -> bytes:
    """The path of a command, looked up in the spec's PATH as a shell does. SandboxError 127 (not found) or 126 (not executable)."""
    if b"/" in name:
        candidates = [name]
    else:
        path = next((e[5:] for e in env if e.startswith(b"PATH=")), b"/usr/local/bin:/usr/bin:/bin")
        candidates = [(d or b".") + b"/" + name for d in path.split(b":")]
    worst = E.ENOENT
    for candidate in candidates:
        rc = executable(root, cwd, creds, candidate)
        if rc == 0:
            return candidate
        if rc not in (E.ENOENT, E.ENOTDIR):
            worst = rc
    if worst == E.ENOENT:
        what = "no such file or directory" if b"/" in name else "command not found"
        raise SandboxError(f"{show(name)}: {what}", 127)
    raise SandboxError(f"{show(name)}: {os.strerror(worst).lower()}", 126)

"""What the first process finds: the tree of mounts, its working directory, its program, its standard streams."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from sentry.abi import errno as E
from sentry.abi import mount as M
from sentry.abi import stat as S
from sentry.errors import Errno, SandboxError
from sentry.fs import cgroup, dev, devpts, gofer, mqueue, overlay, proc, sysfs, tmpfs
from sentry.fs.proc import root as _proc_root  # noqa: F401 -- a sealed sentry can't import
from sentry.syscalls.system import memory_total
from sentry.vfs import access, walk
from sentry.vfs.mount import Dentry, Path
from sentry.vfs.mounts import MountNamespace
from sentry.vfs.special import anon_dev, makedev

if TYPE_CHECKING:
    from sentry.kernel.container import Container
    from sentry.kernel.creds import Creds
    from sentry.spec import ContainerSpec, DeviceSpec, MountSpec
    from sentry.vfs.inode import Inode


COPY_UP: Final = ("tmpcopyup", "notmpcopyup", "copyup")


def show(path: bytes) -> str:
    return path.decode("utf-8", "backslashreplace")


def root_inode(container: Container, m: MountSpec, below: Inode | None) -> Inode:
    """The root of a new file system of the spec's type, to be mounted over `below`."""
    kernel = container.kernel
    if m.kind == "gofer":
        shared = not m.overlay and not m.readonly
        super_block, inode = gofer.attach(os.dup(m.fd), anon_dev(), shared)
        container.gofers.append(super_block.client)
        return overlay.new(anon_dev(), inode, memory_total(kernel)) if m.overlay else inode
    if m.kind == "tmpfs":
        words = m.options.split(",")
        options = tmpfs.MountOptions(
            ",".join(w for w in words if w not in COPY_UP).encode(), memory_total(kernel)
        )
        if "tmpcopyup" in words and below is not None and below.mode & S.S_IFMT == S.S_IFDIR:
            copied = overlay.new(
                anon_dev(), below, options.size or memory_total(kernel)
            )  # what lies below, changed in memory
            copied.sb.fstype = b"tmpfs"
            return copied
        return tmpfs.new(anon_dev(), options)
    if m.kind == "proc":
        return proc.new(kernel, container.pidns, anon_dev())
    if m.kind == "sysfs":
        return sysfs.new(kernel, anon_dev())
    if m.kind == "cgroup":
        return cgroup.new(container, anon_dev())
    if m.kind == "dev":
        return dev.new(anon_dev())
    if m.kind == "devpts":
        return devpts_root(container, m.options)
    return mqueue.new(container.ipc, anon_dev())


def devpts_root(container: Container, options: str) -> Inode:
    """devpts with the options that OCI bundles have: gid, mode, ptmxmode, newinstance."""
    numbers = {"gid": 5, "mode": 0o620, "ptmxmode": 0o666}
    for word in options.split(","):
        name, _, value = word.partition("=")
        if name in numbers:
            try:
                numbers[name] = int(value, 10 if name == "gid" else 8)
            except ValueError:
                raise Errno(E.EINVAL) from None
        elif word and word != "newinstance":
            raise Errno(E.EINVAL)
    return devpts.new(container.kernel, anon_dev(), numbers["gid"], numbers["mode"], numbers["ptmxmode"])


def make_place(ns: MountNamespace, root: Path, path: bytes, directory: bool) -> Path:
    """The place of a mount point, made if it is missing: in its file system where that can be changed, else in memory."""
    done = b""
    names = [n for n in path.split(b"/") if n]
    place = root
    for i, name in enumerate(names):
        done += b"/" + name
        try:
            place = walk.kernel_resolve(root, done)
            continue
        except Errno as e:
            if e.errno != E.ENOENT:
                raise
        parent = walk.kernel_resolve_parent(root, done)
        whole = i == len(names) - 1
        try:
            if directory or not whole:
                parent.inode().mkdir(name, S.S_IFDIR | 0o755, 0, 0)
            else:
                parent.inode().create(name, S.S_IFREG | 0o644, 0, 0)
            parent.dentry.children.pop(name, None)
            place = walk.kernel_resolve(root, done)
        except Errno as e:
            if e.errno not in (E.EROFS, E.EACCES, E.EPERM):
                raise
            place = synthetic(ns, parent.path(), name, directory or not whole, whole)
    return place


def synthetic(ns: MountNamespace, parent: Path, name: bytes, directory: bool, whole: bool) -> Path:
    """A mount point that exists in memory alone. One on the way to the wanted place gets a small file system of its own."""
    inode = empty(directory)
    place = Path(parent.mount, Dentry(name, parent.dentry, inode))
    parent.dentry.children[name] = place.dentry  # the mount on it keeps it there
    if whole:
        return place
    return Path(mounted := ns.mount(inode.sb, inode, place, 0), mounted.root)


def empty(directory: bool) -> Inode:
    """An empty directory or file in memory."""
    root = tmpfs.new(anon_dev())
    return root if directory else root.create(b"empty", S.S_IFREG | 0o644, 0, 0)


def attach(container: Container, ns: MountNamespace, root: Path, m: MountSpec) -> None:
    """Mounts one file system of the spec; SandboxError names it."""
    try:
        below: Inode | None = None
        if m.kind == "tmpfs":
            below = make_place(ns, root, m.dst, True).inode
        inode = root_inode(container, m, below)
        place = make_place(ns, root, m.dst, inode.mode & S.S_IFMT == S.S_IFDIR)
        if m.source:
            inode.sb.source = m.source
        made = ns.mount(inode.sb, inode, place, m.flags)
        if not m.flags & M.MS_NOATIME:
            made.flags |= M.MS_RELATIME
    except Errno as e:
        raise SandboxError(
            f"cannot mount {m.kind} on {show(m.dst)}: {os.strerror(e.errno).lower()}"
        ) from None


def build(container: Container, spec: ContainerSpec) -> Path:
    """Mounts everything; the root."""
    ns = MountNamespace()
    inode = root_inode(container, spec.root, None)
    root = ns.set_root(inode.sb, inode, spec.root.flags)
    for m in spec.mounts:
        attach(container, ns, root, m)
    dev.register()
    if container.ident:
        fill_dev(ns, root, spec)
    for path in spec.readonly:
        make_readonly(ns, root, path)
    for path in spec.masked:
        mask(ns, root, path)
    return root


def take_down(container: Container) -> None:
    """A stopped container's mounts are undone and its gofer is left alone."""
    root = container.root
    ns = root.mount.ns if root is not None else None
    container.root = None
    if ns is not None and ns.root is not None:
        for m in reversed(ns.below(ns.root)):
            ns.remove(m)
    for client in container.gofers:
        client.close()
    container.gofers = []


def fill_dev(ns: MountNamespace, root: Path, spec: ContainerSpec) -> None:
    """The devices and links that every container has (OCI, config-linux.md, "Default Devices"), where /dev is in memory, and
    the spec's own."""
    try:
        place = walk.kernel_resolve(root, b"/dev")
    except Errno:
        return
    if isinstance(place.inode, tmpfs.TmpDir):
        dev.fill(place.inode, spec.process.terminal)
        place.dentry.children = {name: d for name, d in place.dentry.children.items() if d.inode is not None}
    for device in spec.devices:
        try:
            make_place(ns, root, device.path.rpartition(b"/")[0], True)
            make_device(root, device)
        except Errno as e:
            raise SandboxError(
                f"cannot make the device {show(device.path)}: {os.strerror(e.errno).lower()}"
            ) from None


def make_device(root: Path, d: DeviceSpec) -> None:
    """One node. What the sandbox has no driver for can't be opened (ENXIO), as on a machine without it."""
    parent = walk.kernel_resolve_parent(root, d.path)
    kind = {"c": S.S_IFCHR, "u": S.S_IFCHR, "b": S.S_IFBLK, "p": S.S_IFIFO}[d.kind]
    inode = parent.inode()
    old = inode.lookup(parent.last)
    if old is not None:  # one of those that every container has, or the root's own
        return
    inode.mknod(parent.last, kind | d.mode, makedev(d.major, d.minor), d.uid, d.gid)
    parent.dentry.children.pop(parent.last, None)


def make_readonly(ns: MountNamespace, root: Path, path: bytes) -> None:
    """Nothing below the path can be changed through it any more. A path that is not there is passed over."""
    try:
        place = walk.kernel_resolve(root, path)
    except Errno:
        return
    ns.bind(place, place, True)
    for m in ns.below(walk.kernel_resolve(root, path).mount):
        m.flags |= M.MS_RDONLY


def mask(ns: MountNamespace, root: Path, path: bytes) -> None:
    """The path shows an empty directory, or the null device. A path that is not there is passed over."""
    try:
        place = walk.kernel_resolve(root, path)
    except Errno:
        return
    if place.inode.mode & S.S_IFMT == S.S_IFDIR:
        inode: Inode = empty(True)
    else:
        inode = tmpfs.new(anon_dev()).mknod(b"null", S.S_IFCHR | 0o666, makedev(1, 3), 0, 0)
    ns.mount(inode.sb, inode, place, M.MS_RDONLY)


def console(root: Path) -> Path | None:
    """The node of /dev/console, if there is one."""
    try:
        place = walk.kernel_resolve(root, b"/dev/console")
    except Errno:
        return None
    return place if place.inode.mode & S.S_IFMT == S.S_IFCHR else None


def make_directory(root: Path, path: bytes) -> None:
    """A container's working directory is made if it is missing, as other runtimes do. One that can't be is told of later."""
    ns = root.mount.ns
    if ns is not None:
        try:
            make_place(ns, root, path, True)
        except Errno:
            pass


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

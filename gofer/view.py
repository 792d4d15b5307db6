"""The trees that a gofer serves, built in its own mount namespace: a tmpfs root with a directory (or file) for each export.

All sources are cloned first (open_tree), then attached below the new root, which becomes the process's only one. Nothing
is mounted on the host. System directories of the default view are shown with what everybody may read (policy of
native/gofer), and files that hold secrets are covered as well.
"""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING, Final

from gofer.places import EMPTY, KERNELS, LINKS, SECRET_DIRS, SECRET_FILES, SYSTEM, shown_cwd
from gofer.spec import VIEW_DEFAULT, VIEW_HOST, Export, GoferError
from native._core import ffi, lib

if TYPE_CHECKING:
    from native._core import CData

# Where the new root is mounted before it becomes the root; nothing below it is ever exported.
PLACE: Final = b"/proc"
AT_FDCWD: Final = -100


class Tree:
    """A cloned mount that waits to be attached at a path below the new root."""

    def __init__(self, fd: int, where: bytes, isdir: bool) -> None:
        self.fd: int = fd
        self.where: bytes = where
        self.isdir: bool = isdir


class Root:
    """One export in the new root: its descriptor, and what it may show."""

    def __init__(self, fd: int, policy: CData) -> None:
        self.fd: int = fd
        self.policy: CData = policy


def failed(what: str, path: bytes, r: int) -> GoferError:
    return GoferError(f"gofer: cannot {what} {os.fsdecode(path)}: {os.strerror(-r)}")


def clone(source: bytes, where: bytes, attrs: int) -> Tree:
    """A clone of the mounts at and below a host path, with the attributes set."""
    try:
        isdir = stat.S_ISDIR(os.stat(source).st_mode)
    except OSError as e:
        raise GoferError(f"gofer: cannot export {os.fsdecode(source)}: {e.strerror}") from None
    fd = int(lib.cn_tree_clone(AT_FDCWD, source, 1))
    if fd < 0:
        raise failed("clone", source, fd)
    r = int(lib.cn_tree_setattr(fd, attrs, 1))
    if r < 0:
        raise failed("restrict", source, r)
    return Tree(fd, where, isdir)


def trees_of(export: Export, where: bytes) -> list[Tree]:
    attrs = lib.CN_MNT_NOSUID | lib.CN_MNT_NODEV | (lib.CN_MNT_RDONLY if export.readonly else 0)
    if export.source == VIEW_HOST:
        return [clone(b"/", where, attrs)]
    if export.source != VIEW_DEFAULT:
        return [clone(os.path.realpath(export.source), where, attrs)]
    trees = []
    for name in SYSTEM:
        source = b"/" + name
        if os.path.isdir(source) and not os.path.islink(source):
            trees.append(clone(source, where + source, attrs))
    cwd = os.path.normpath(export.cwd) if export.cwd else b""
    if cwd and shown_cwd(cwd) and os.path.realpath(cwd) == cwd:
        trees.append(clone(cwd, where + cwd, attrs))
    return trees


def attach(tree: Tree) -> None:
    """Puts a tree at its place below the current directory, made if need be."""
    if tree.isdir:
        os.makedirs(tree.where, 0o755, exist_ok=True)
    else:
        os.close(os.open(tree.where, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o644))
    r = int(lib.cn_tree_attach(tree.fd, AT_FDCWD, tree.where))
    if r < 0:
        raise failed("attach", tree.where, r)


def furnish(where: bytes) -> None:
    """The default view's own directories and links, in the new root."""
    for name, mode in EMPTY:
        path = where + b"/" + name
        os.makedirs(path, exist_ok=True)
        os.chmod(path, mode)
    for name, target in LINKS:
        os.symlink(target, where + b"/" + name)


def copy_links(where: bytes, links: list[tuple[bytes, bytes]]) -> None:
    for name, target in links:
        os.symlink(target, where + b"/" + name)


def system_links() -> list[tuple[bytes, bytes]]:
    """/bin -> usr/bin and the like, as they are on the host."""
    links = []
    for name in SYSTEM:
        try:
            links.append((name, os.readlink(b"/" + name)))
        except OSError:
            pass
    return links


def cover(where: bytes, empty: bytes) -> None:
    """Mounts emptiness over the secrets below /etc of a view."""
    etc = where + b"/etc/"
    files = [etc + name for name in SECRET_FILES]
    try:
        files += [
            etc + b"ssh/" + name
            for name in os.listdir(etc + b"ssh")
            if name.startswith(b"ssh_host_") and name.endswith(b"_key")
        ]
    except OSError:
        pass
    for path in files:
        over(path, empty, stat.S_ISREG)
    for name in SECRET_DIRS:
        over(etc + name, empty + b".d", stat.S_ISDIR)


def over(path: bytes, empty: bytes, kind: object) -> None:
    try:
        mode = os.lstat(path).st_mode
    except OSError:
        return
    if not (stat.S_ISREG(mode) if kind is stat.S_ISREG else stat.S_ISDIR(mode)):
        return
    fd = int(lib.cn_tree_clone(AT_FDCWD, empty, 0))
    attrs = lib.CN_MNT_RDONLY | lib.CN_MNT_NOSUID | lib.CN_MNT_NODEV | lib.CN_MNT_NOEXEC
    r = fd if fd < 0 else int(lib.cn_tree_setattr(fd, attrs, 0))
    if r >= 0:
        r = int(lib.cn_tree_attach(fd, AT_FDCWD, path))
    if r < 0:
        raise failed("cover", path, r)
    os.close(fd)


def blank(where: bytes, empty: bytes) -> None:
    """Hides the host's kernel file systems in a view of the whole host."""
    for name in KERNELS:
        over(where + name, empty + b".d", stat.S_ISDIR)


def build(exports: list[Export], privileged: bool) -> list[Root]:
    """Builds the trees and makes them the process's root. `privileged`: the gofer can read what others can't."""
    places = [b"%d" % i for i in range(len(exports))]
    trees = [trees_of(export, place) for export, place in zip(exports, places, strict=True)]
    links = system_links()
    r = int(lib.cn_mount(b"cordon", PLACE, b"tmpfs", NOSUID | NODEV | NOEXEC, b"mode=0755,size=1m"))
    if r < 0:
        raise failed("mount a root at", PLACE, r)
    os.chdir(PLACE)
    empty = b"empty"
    os.mkdir(empty + b".d", 0o555)
    os.close(os.open(empty, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0))
    os.chmod(empty, 0)
    for export, place, parts in zip(exports, places, trees, strict=True):
        if export.source == VIEW_DEFAULT:
            os.mkdir(place, 0o755)
            furnish(place)
            copy_links(place, links)
        for tree in parts:
            attach(tree)
        if export.source == VIEW_DEFAULT and privileged:
            cover(place, empty)
        if export.source == VIEW_HOST:
            blank(place, empty)
    r = int(lib.cn_root_pivot(b"."))
    if r < 0:
        raise failed("pivot to", PLACE, r)
    r = int(
        lib.cn_mount(ffi.NULL, b"/", ffi.NULL, REMOUNT | BIND | RDONLY | NOSUID | NODEV | NOEXEC, ffi.NULL)
    )
    if r < 0:
        raise failed("make read-only the root", b"/", r)
    roots = []
    for export, place, parts in zip(exports, places, trees, strict=True):
        fd = os.open(b"/" + place, os.O_PATH | os.O_CLOEXEC | os.O_NOFOLLOW)
        roots.append(Root(fd, policy_of(export, fd, parts)))
        for tree in parts:
            os.close(tree.fd)
    return roots


def policy_of(export: Export, root: int, trees: list[Tree]) -> CData:
    """The default view shows what everybody may read, its own directories, and all of the caller's working directory."""
    policy = ffi.new("struct cn_gf_policy *")
    if export.source == VIEW_DEFAULT:
        policy.public_only = 1
        node = ffi.new("struct cn_gf_node *")
        attr = ffi.new("uint8_t[]", lib.CN_GF_ATTR)
        own = [tree.fd for tree in trees if tree.where.partition(b"/")[2] not in SYSTEM]
        for fd in [root, *own]:
            if lib.cn_gf_stat(fd, node, attr) == 0:
                policy.mnt[policy.n] = node.mnt
                policy.n += 1
    return policy


# <linux/mount.h>
RDONLY: Final = 1
NOSUID: Final = 2
NODEV: Final = 4
NOEXEC: Final = 8
REMOUNT: Final = 32
BIND: Final = 4096

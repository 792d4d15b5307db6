"""The gofer file system: host files by way of a gofer process (9P2000.L with our extension)."""

from __future__ import annotations

from sentry.fs.gofer.inode import GoferDir, GoferFile, GoferInode
from sentry.fs.gofer.super import GoferSuper

__all__ = ["GoferDir", "GoferFile", "GoferInode", "GoferSuper", "attach"]


def attach(sock: int, dev: int, shared: bool = False) -> tuple[GoferSuper, GoferInode]:
    """Attaches to the tree that a gofer serves on `sock` (which it takes over): super block and root inode.

    shared: others may change the tree meanwhile, so cached names and attributes are checked with every use; otherwise
    (read-only below an overlay, or only this sandbox's own) what was seen once stays true. SandboxError when the gofer fails.
    """
    sb = GoferSuper(sock, dev, shared)
    return sb, sb.start()

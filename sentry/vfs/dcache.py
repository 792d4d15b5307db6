"""The dentry cache: bounds how many names, found or known to be missing, are remembered.

Every cached dentry sits in its parent's `children` and in one ring that a clock hand goes round when the cache is full. Python's
own reference counts say whether anything else (a Path, an open file, a working directory) still uses a dentry; dentries in use, with
children or with mounts stay. An inode is dropped when its last dentry and open file are gone (Inode.dropped).
"""

from __future__ import annotations

import sys
from typing import Final

from sentry.vfs.inode import Inode
from sentry.vfs.mount import Dentry

LIMIT: Final = 50_000
STEPS: Final = 64  # how far the hand moves at most for one new dentry


class DentryCache:
    def __init__(self, limit: int) -> None:
        self.limit: int = limit
        self.ring: list[Dentry] = []
        self.hand: int = 0
        self.add(Dentry(b"", None, None), b"x", None)
        self.idle: int = self.references(0)  # of a dentry that only ring and parent know
        self.forget(self.ring[0])

    def references(self, slot: int) -> int:
        return sys.getrefcount(self.ring[slot])

    def add(self, parent: Dentry, name: bytes, inode: Inode | None) -> Dentry:
        """Remembers what a name leads to; there must be no dentry of that name yet."""
        ring = self.ring
        if len(ring) >= self.limit:
            self.shrink(STEPS)
        dentry = Dentry(name, parent, inode)
        dentry.slot = len(ring)
        ring.append(dentry)
        parent.children[name] = dentry
        return dentry

    def forget(self, dentry: Dentry) -> None:
        """Takes a dentry out of the cache and out of its parent (unlinked, renamed over, stale, evicted)."""
        parent = dentry.parent
        if parent is not None and parent.children.get(dentry.name) is dentry:
            del parent.children[dentry.name]
        slot = dentry.slot
        if slot >= 0:
            dentry.slot = -1
            last = self.ring.pop()
            if last is not dentry:
                self.ring[slot] = last
                last.slot = slot

    def forget_tree(self, dentry: Dentry) -> None:
        """Forgets all dentries below one, too (a file system is gone)."""
        for child in list(dentry.children.values()):
            self.forget_tree(child)
        self.forget(dentry)

    def shrink(self, steps: int) -> None:
        """Evicts dentries that were not used since the hand last passed, looking at `steps` of them at most."""
        while steps > 0 and len(self.ring) >= self.limit:
            steps -= 1
            if self.hand >= len(self.ring):
                self.hand = 0
            if self.old(self.hand) and self.references(self.hand) <= self.idle:
                self.forget(self.ring[self.hand])
            else:
                self.hand += 1

    def old(self, slot: int) -> bool:
        """Was the dentry unused since the hand last came by, and a leaf?"""
        d = self.ring[slot]
        if d.used:
            d.used = False
            return False
        return not d.children and d.mounts is None


CACHE: Final = DentryCache(LIMIT)

"""What the three kinds of System V objects share: keys, ids, owners, permissions (ipc(2) and svipc(7))."""

from __future__ import annotations

import heapq
import struct
from typing import TYPE_CHECKING, Final, Generic, TypeVar

from sentry.abi import capability as C
from sentry.abi import errno as E
from sentry.abi import ipc as I
from sentry.errors import Errno
from sentry.kernel import clock
from sentry.kernel.ipc.limits import IPCMNI

if TYPE_CHECKING:
    from sentry.kernel.ipc.limits import Limits
    from sentry.kernel.task import Task

PERM: Final = struct.Struct("<iIIIIIHH4xQQ")  # struct ipc64_perm
READ: Final = 0o444
WRITE: Final = 0o222


class IpcObject:
    """A System V object. `removed` once IPC_RMID took its id away."""

    def __init__(self, t: Task, key: int, mode: int) -> None:
        self.key: int = key
        self.ident: int = -1
        self.seq: int = 0
        self.cuid: int = t.creds.euid
        self.cgid: int = t.creds.egid
        self.uid: int = t.creds.euid
        self.gid: int = t.creds.egid
        self.mode: int = mode & 0o777
        self.ctime: int = clock.realtime() // clock.NS
        self.removed: bool = False

    def permit(self, t: Task, mask: int) -> None:
        """EACCES unless the task may do all of `mask` (READ and WRITE bits)."""
        c = t.creds
        if c.has(C.CAP_IPC_OWNER):
            return
        if c.euid in (self.uid, self.cuid):
            granted = self.mode >> 6
        elif c.in_group(self.gid) or c.in_group(self.cgid) or c.egid in (self.gid, self.cgid):
            granted = self.mode >> 3
        else:
            granted = self.mode
        if mask & 7 & ~granted:
            raise Errno(E.EACCES)

    def own(self, t: Task) -> None:
        """EPERM unless the task may change or remove the object."""
        if t.creds.euid not in (self.uid, self.cuid) and not t.creds.has(C.CAP_SYS_ADMIN):
            raise Errno(E.EPERM)

    def perm(self) -> bytes:
        """struct ipc64_perm."""
        return PERM.pack(self.key, self.uid, self.gid, self.cuid, self.cgid, self.mode, self.seq, 0, 0, 0)

    def set_perm(self, t: Task, raw: bytes) -> None:
        """IPC_SET."""
        self.own(t)
        _, uid, gid, _, _, mode, _, _, _, _ = PERM.unpack(raw[: PERM.size])
        if uid == 0xFFFFFFFF or gid == 0xFFFFFFFF:
            raise Errno(E.EINVAL)
        self.uid, self.gid = uid, gid
        self.mode = self.mode & ~0o777 | mode & 0o777
        self.ctime = clock.realtime() // clock.NS


T = TypeVar("T", bound=IpcObject)


class Registry(Generic[T]):
    """Objects of one kind. An id is the slot plus a sequence number, so that ids are not soon used again."""

    def __init__(self, limits: Limits, most: int) -> None:
        self.limits: Limits = limits
        self.most: int = most  # place of the limit on their number
        self.slots: dict[int, T] = {}
        self.keys: dict[int, T] = {}
        self.next_seq: int = 0
        self.free: list[int] = []  # a heap of slots below `fresh` that are not in use
        self.fresh: int = 0  # from here on none was ever used

    def lookup(self, t: Task, key: int, flags: int) -> T | None:
        """The object of a key for a get call; None: make one. EEXIST, ENOENT, EACCES."""
        if key == I.IPC_PRIVATE:
            return None
        found = self.keys.get(key)
        if found is None:
            if not flags & I.IPC_CREAT:
                raise Errno(E.ENOENT)
            return None
        if flags & I.IPC_CREAT and flags & I.IPC_EXCL:
            raise Errno(E.EEXIST)
        found.permit(t, (flags >> 6 | flags >> 3 | flags) & 7)
        return found

    def add(self, obj: T) -> int:
        """Gives a new object its id; ENOSPC."""
        if len(self.slots) >= self.limits.values[self.most]:
            raise Errno(E.ENOSPC)
        if self.free:
            slot = heapq.heappop(self.free)
        else:
            slot = self.fresh
            self.fresh += 1
        obj.seq = self.next_seq
        self.next_seq = (self.next_seq + 1) & 0x7FFF
        obj.ident = obj.seq * IPCMNI + slot
        self.slots[slot] = obj
        if obj.key != I.IPC_PRIVATE:
            self.keys[obj.key] = obj
        return obj.ident

    def find(self, ident: int) -> T:
        """EINVAL for an id that never was, EIDRM for one that is gone."""
        if ident < 0:
            raise Errno(E.EINVAL)
        obj = self.slots.get(ident % IPCMNI)
        if obj is None:
            raise Errno(E.EINVAL)
        if obj.ident != ident:
            raise Errno(E.EIDRM)
        return obj

    def at(self, index: int) -> T:
        """The object in a slot (the *_STAT commands), of which an id says the same, too."""
        obj = None if index < 0 else self.slots.get(index % IPCMNI)
        if obj is None:
            raise Errno(E.EINVAL)
        return obj

    def remove(self, obj: T) -> None:
        """IPC_RMID: the id is free."""
        obj.removed = True
        slot = obj.ident % IPCMNI
        if self.slots.pop(slot, None) is not None:
            heapq.heappush(self.free, slot)
        self.forget_key(obj)

    def forget_key(self, obj: T) -> None:
        if self.keys.get(obj.key) is obj:
            del self.keys[obj.key]

    def highest(self) -> int:
        """The greatest slot in use (what the INFO commands return)."""
        return max(self.slots, default=0)

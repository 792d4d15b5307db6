"""User and group ids, capabilities (credentials(7), capabilities(7))."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

from sentry.abi import capability as C
from sentry.abi import errno as E
from sentry.errors import Errno

if TYPE_CHECKING:
    from sentry.kernel.creds import Creds
    from sentry.kernel.task import Task

NO_ID: Final = 0xFFFFFFFF
NGROUPS_MAX: Final = 65536
FS_CAPS: Final = (
    1 << C.CAP_CHOWN
    | 1 << C.CAP_DAC_OVERRIDE
    | 1 << C.CAP_DAC_READ_SEARCH
    | 1 << C.CAP_FOWNER
    | 1 << C.CAP_FSETID
    | 1 << C.CAP_MAC_OVERRIDE
    | 1 << C.CAP_MKNOD
    | 1 << C.CAP_LINUX_IMMUTABLE
)
SECBIT_KEEP_CAPS: Final = 1 << 4
SECBIT_NO_SETUID_FIXUP: Final = 1 << 2


def getuid(t: Task) -> int:
    """getuid(2)."""
    return t.creds.ruid


def geteuid(t: Task) -> int:
    """geteuid(2)."""
    return t.creds.euid


def getgid(t: Task) -> int:
    """getgid(2)."""
    return t.creds.rgid


def getegid(t: Task) -> int:
    """getegid(2)."""
    return t.creds.egid


def fix_caps(t: Task, old: Creds, new: Creds) -> None:
    """What a change of user ids does to capabilities (capabilities(7), "Effect of user ID changes")."""
    if new.securebits & SECBIT_NO_SETUID_FIXUP:
        return
    was_root = 0 in (old.ruid, old.euid, old.suid)
    is_root = 0 in (new.ruid, new.euid, new.suid)
    if was_root and not is_root:
        if not new.securebits & SECBIT_KEEP_CAPS:
            new.permitted = 0
            new.effective = 0
        new.ambient = 0
    if old.euid == 0 and new.euid != 0:
        new.effective = 0
    elif old.euid != 0 and new.euid == 0:
        new.effective = new.permitted
    fix_fs_caps(old, new)


def fix_fs_caps(old: Creds, new: Creds) -> None:
    """The same for the file-system user id."""
    if old.fsuid == 0 and new.fsuid != 0:
        new.effective &= ~FS_CAPS
    elif old.fsuid != 0 and new.fsuid == 0:
        new.effective |= new.permitted & FS_CAPS


def commit(t: Task, new: Creds) -> int:
    """Installs changed credentials; a change of effective ids takes dumpability away."""
    old = t.creds
    if (old.euid, old.egid, old.fsuid, old.fsgid) != (new.euid, new.egid, new.fsuid, new.fsgid):
        t.mm.dumpable = 0
        t.pdeathsig = 0
    t.creds = new
    return 0


def setuid(t: Task, uid: int) -> int:
    """setuid(2)."""
    if uid == NO_ID:
        raise Errno(E.EINVAL)
    old = t.creds
    new = old.copy()
    if old.has(C.CAP_SETUID):
        new.ruid = new.suid = uid
    elif uid not in (old.ruid, old.suid):
        raise Errno(E.EPERM)
    new.euid = new.fsuid = uid
    fix_caps(t, old, new)
    return commit(t, new)


def setgid(t: Task, gid: int) -> int:
    """setgid(2)."""
    if gid == NO_ID:
        raise Errno(E.EINVAL)
    old = t.creds
    new = old.copy()
    if old.has(C.CAP_SETGID):
        new.rgid = new.sgid = gid
    elif gid not in (old.rgid, old.sgid):
        raise Errno(E.EPERM)
    new.egid = new.fsgid = gid
    return commit(t, new)


def setreuid(t: Task, ruid: int, euid: int) -> int:
    """setreuid(2)."""
    old = t.creds
    new = old.copy()
    free = old.has(C.CAP_SETUID)
    if ruid != NO_ID:
        if not free and ruid not in (old.ruid, old.euid):
            raise Errno(E.EPERM)
        new.ruid = ruid
    if euid != NO_ID:
        if not free and euid not in (old.ruid, old.euid, old.suid):
            raise Errno(E.EPERM)
        new.euid = euid
    if ruid != NO_ID or (euid != NO_ID and euid != old.ruid):
        new.suid = new.euid
    new.fsuid = new.euid
    fix_caps(t, old, new)
    return commit(t, new)


def setregid(t: Task, rgid: int, egid: int) -> int:
    """setregid(2)."""
    old = t.creds
    new = old.copy()
    free = old.has(C.CAP_SETGID)
    if rgid != NO_ID:
        if not free and rgid not in (old.rgid, old.egid):
            raise Errno(E.EPERM)
        new.rgid = rgid
    if egid != NO_ID:
        if not free and egid not in (old.rgid, old.egid, old.sgid):
            raise Errno(E.EPERM)
        new.egid = egid
    if rgid != NO_ID or (egid != NO_ID and egid != old.rgid):
        new.sgid = new.egid
    new.fsgid = new.egid
    return commit(t, new)


def setresuid(t: Task, ruid: int, euid: int, suid: int) -> int:
    """setresuid(2)."""
    old = t.creds
    allowed = (NO_ID, old.ruid, old.euid, old.suid)
    if not old.has(C.CAP_SETUID) and not (ruid in allowed and euid in allowed and suid in allowed):
        raise Errno(E.EPERM)
    new = old.copy()
    new.ruid = old.ruid if ruid == NO_ID else ruid
    new.euid = old.euid if euid == NO_ID else euid
    new.suid = old.suid if suid == NO_ID else suid
    new.fsuid = new.euid
    fix_caps(t, old, new)
    return commit(t, new)


def setresgid(t: Task, rgid: int, egid: int, sgid: int) -> int:
    """setresgid(2)."""
    old = t.creds
    allowed = (NO_ID, old.rgid, old.egid, old.sgid)
    if not old.has(C.CAP_SETGID) and not (rgid in allowed and egid in allowed and sgid in allowed):
        raise Errno(E.EPERM)
    new = old.copy()
    new.rgid = old.rgid if rgid == NO_ID else rgid
    new.egid = old.egid if egid == NO_ID else egid
    new.sgid = old.sgid if sgid == NO_ID else sgid
    new.fsgid = new.egid
    return commit(t, new)


def getresuid(t: Task, ruid: int, euid: int, suid: int) -> int:
    """getresuid(2)."""
    t.mm.write_u32(ruid, t.creds.ruid)
    t.mm.write_u32(euid, t.creds.euid)
    t.mm.write_u32(suid, t.creds.suid)
    return 0


def getresgid(t: Task, rgid: int, egid: int, sgid: int) -> int:
    """getresgid(2)."""
    t.mm.write_u32(rgid, t.creds.rgid)
    t.mm.write_u32(egid, t.creds.egid)
    t.mm.write_u32(sgid, t.creds.sgid)
    return 0


def setfsuid(t: Task, uid: int) -> int:
    """setfsuid(2): the id before, whether it changed or not."""
    old = t.creds
    if uid != NO_ID and (old.has(C.CAP_SETUID) or uid in (old.ruid, old.euid, old.suid, old.fsuid)):
        new = old.copy()
        new.fsuid = uid
        fix_fs_caps(old, new)
        commit(t, new)
    return old.fsuid


def setfsgid(t: Task, gid: int) -> int:
    """setfsgid(2)."""
    old = t.creds
    if gid != NO_ID and (old.has(C.CAP_SETGID) or gid in (old.rgid, old.egid, old.sgid, old.fsgid)):
        new = old.copy()
        new.fsgid = gid
        commit(t, new)
    return old.fsgid


def getgroups(t: Task, size: int, addr: int) -> int:
    """getgroups(2)."""
    groups = t.creds.groups
    if size < 0 or (size and size < len(groups)):
        raise Errno(E.EINVAL)
    if size:
        t.mm.write(addr, struct.pack(f"<{len(groups)}I", *groups))
    return len(groups)


def setgroups(t: Task, size: int, addr: int) -> int:
    """setgroups(2)."""
    if not t.creds.has(C.CAP_SETGID):
        raise Errno(E.EPERM)
    if not 0 <= size <= NGROUPS_MAX:
        raise Errno(E.EINVAL)
    new = t.creds.copy()
    new.groups = sorted(struct.unpack(f"<{size}I", t.mm.read(addr, size * 4)))
    return commit(t, new)


HEADER: Final = struct.Struct("<Ii")
VERSIONS: Final = {
    C._LINUX_CAPABILITY_VERSION_1: 1,
    C._LINUX_CAPABILITY_VERSION_2: 2,
    C._LINUX_CAPABILITY_VERSION_3: 2,
}
LOW: Final = 0xFFFFFFFF


def words_of(t: Task, header: int) -> tuple[int, int]:
    """(32-bit words per set, pid) of a capability header; a wrong version is corrected in place: EINVAL."""
    version, pid = HEADER.unpack(t.mm.read(header, 8))
    words = VERSIONS.get(version, 0)
    if words == 0:
        t.mm.write_u32(header, C._LINUX_CAPABILITY_VERSION_3)
        raise Errno(E.EINVAL)
    if pid < 0:
        raise Errno(E.EINVAL)
    return words, pid


def capget(t: Task, header: int, data: int) -> int:
    """capget(2)."""
    try:
        words, pid = words_of(t, header)
    except Errno as e:
        if data == 0 and e.errno == E.EINVAL:
            return 0  # who asks for the version only
        raise
    if data == 0:
        return 0
    other = t if pid == 0 else t.pidns.tasks.get(pid)
    if other is None:
        raise Errno(E.ESRCH)
    c = other.creds
    out = b""
    for i in range(words):
        out += struct.pack("<III", *(s >> 32 * i & LOW for s in (c.effective, c.permitted, c.inheritable)))
    t.mm.write(data, out)
    return 0


def capset(t: Task, header: int, data: int) -> int:
    """capset(2)."""
    words, pid = words_of(t, header)
    if pid not in (0, t.tid):
        raise Errno(E.EPERM)
    raw = t.mm.read(data, 12 * words)
    sets = [0, 0, 0]
    for i in range(words):
        for k, word in enumerate(struct.unpack_from("<III", raw, 12 * i)):
            sets[k] |= word << 32 * i
    effective, permitted, inheritable = sets
    old = t.creds
    known = (1 << C.CAP_LAST_CAP + 1) - 1
    effective, permitted, inheritable = effective & known, permitted & known, inheritable & known
    if permitted & ~old.permitted or effective & ~permitted:
        raise Errno(E.EPERM)
    reach = old.inheritable | (old.bounding if old.has(C.CAP_SETPCAP) else old.permitted)
    if inheritable & ~reach or inheritable & ~(old.inheritable | old.bounding):
        raise Errno(E.EPERM)
    new = old.copy()
    new.effective, new.permitted, new.inheritable = effective, permitted, inheritable
    new.ambient &= permitted & inheritable
    return commit(t, new)

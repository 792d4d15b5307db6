"""Memory policies of a machine with one node: checked and told as Linux does; there is nothing to choose.

Source: mbind(2), set_mempolicy(2), get_mempolicy(2), mm/mempolicy.c.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sentry.abi import capability as CAP
from sentry.abi import errno as E
from sentry.errors import Errno

if TYPE_CHECKING:
    from sentry.kernel.task import Task

# <linux/mempolicy.h>; most are enumerators, which tools/gen_abi.py does not see.
MPOL_DEFAULT: Final = 0
MPOL_PREFERRED: Final = 1
MPOL_INTERLEAVE: Final = 3
MPOL_LOCAL: Final = 4
MPOL_MAX: Final = 6
MPOL_F_STATIC_NODES: Final = 1 << 15
MPOL_F_RELATIVE_NODES: Final = 1 << 14
MPOL_F_NODE: Final = 1
MPOL_F_ADDR: Final = 2
MPOL_F_MEMS_ALLOWED: Final = 4
MPOL_MF_STRICT: Final = 1
MPOL_MF_MOVE: Final = 2
MPOL_MF_MOVE_ALL: Final = 4

MODE_FLAGS: Final = MPOL_F_STATIC_NODES | MPOL_F_RELATIVE_NODES
PAGE: Final = 4096
MAX_BITS: Final = PAGE * 8
NODES: Final = 1  # node 0 is there


def read_nodes(t: Task, addr: int, maxnode: int) -> int:
    """A node mask of the guest; its last bit does not count (get_nodes)."""
    bits = (maxnode - 1) & 0xFFFFFFFFFFFFFFFF
    if bits == 0 or addr == 0:
        return 0
    if bits > MAX_BITS:
        raise Errno(E.EINVAL)
    return int.from_bytes(t.mm.read(addr, (bits + 63) // 64 * 8), "little") & (1 << bits) - 1


def check_policy(t: Task, mode: int, addr: int, maxnode: int) -> tuple[int, int]:
    """(mode, nodes) of a policy that makes sense here (mpol_new, mpol_set_nodemask)."""
    flags = mode & MODE_FLAGS
    kind = mode & ~MODE_FLAGS
    if not 0 <= kind < MPOL_MAX or flags == MODE_FLAGS:
        raise Errno(E.EINVAL)
    nodes = read_nodes(t, addr, maxnode)
    if kind == MPOL_DEFAULT:
        if nodes or flags:
            raise Errno(E.EINVAL)
        return 0, 0
    if kind == MPOL_LOCAL or (kind == MPOL_PREFERRED and not nodes):
        if nodes or flags:
            raise Errno(E.EINVAL)
        return MPOL_LOCAL, 0
    nodes &= NODES
    if not nodes:
        raise Errno(E.EINVAL)
    return mode, nodes


def set_mempolicy(t: Task, mode: int, nodemask: int, maxnode: int) -> int:
    """set_mempolicy(2)."""
    t.mempolicy, t.mempolicy_nodes = check_policy(t, mode, nodemask, maxnode)
    return 0


def mbind(t: Task, addr: int, length: int, mode: int, nodemask: int, maxnode: int, flags: int) -> int:
    """mbind(2): all memory is on the only node already."""
    if flags & ~(MPOL_MF_STRICT | MPOL_MF_MOVE | MPOL_MF_MOVE_ALL) or addr % PAGE:
        raise Errno(E.EINVAL)
    if flags & MPOL_MF_MOVE_ALL and not t.creds.has(CAP.CAP_SYS_NICE):
        raise Errno(E.EPERM)
    length = (length + PAGE - 1) & ~(PAGE - 1) & 0xFFFFFFFFFFFFFFFF
    end = addr + length
    if end >= 1 << 64:
        raise Errno(E.EINVAL)
    check_policy(t, mode, nodemask, maxnode)
    while addr < end:
        region = t.mm.find(addr)
        if region is None:
            raise Errno(E.EFAULT)
        addr = region.end
    return 0


def get_mempolicy(t: Task, mode: int, nodemask: int, maxnode: int, addr: int, flags: int) -> int:
    """get_mempolicy(2)."""
    if flags & ~(MPOL_F_NODE | MPOL_F_ADDR | MPOL_F_MEMS_ALLOWED) or (nodemask and maxnode < 1):
        raise Errno(E.EINVAL)
    value = t.mempolicy
    nodes = t.mempolicy_nodes
    if flags & MPOL_F_MEMS_ALLOWED:
        if flags & (MPOL_F_NODE | MPOL_F_ADDR):
            raise Errno(E.EINVAL)
        value, nodes = 0, NODES
    elif flags & MPOL_F_ADDR:
        if t.mm.find(addr) is None:
            raise Errno(E.EFAULT)
        if flags & MPOL_F_NODE:
            value = 0
    elif addr:
        raise Errno(E.EINVAL)
    elif flags & MPOL_F_NODE:
        if value & ~MODE_FLAGS != MPOL_INTERLEAVE:
            raise Errno(E.EINVAL)
        value = 0  # where it goes on
    if mode:
        t.mm.write_u32(mode, value)
    if nodemask:
        size = (maxnode - 1 + 63) // 64 * 8
        if size > PAGE:
            raise Errno(E.EINVAL)
        t.mm.write(nodemask, nodes.to_bytes(max(size, 8), "little")[:size])
    return 0

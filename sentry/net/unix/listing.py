"""/proc/net/unix."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sentry.net.unix.names import REGISTRY

if TYPE_CHECKING:
    from sentry.kernel.kernel import Kernel

LISTENING: Final = 0x10000  # __SO_ACCEPTCON
UNCONNECTED: Final = 1  # SS_UNCONNECTED
CONNECTED: Final = 3  # SS_CONNECTED


def lines(kernel: Kernel) -> list[bytes]:
    """A line for each socket, abstract names with an @."""
    out: list[bytes] = []
    for ino, s in sorted(REGISTRY.sockets.items()):
        name = b""
        if s.name:
            name = b" @" + s.name[1:].replace(b"\0", b"@") if s.name[0] == 0 else b" " + s.name
        flags = LISTENING if s.listening() else 0
        state = CONNECTED if s.peer is not None else UNCONNECTED
        out.append(b"%016x: %08X %08X %08X %04X %02X %5d%s\n" % (0, max(1, s.refs + s.numbers()), 0, flags, s.kind, state, ino, name))
    return out

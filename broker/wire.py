"""What sentry and broker say to each other, over a SOCK_SEQPACKET pair: a request, then its answer, one after the other.

    request   op, domain, type, protocol (a byte each), then a sockaddr for BIND and CONNECT, with the socket as SCM_RIGHTS
    answer    errno (0: done), 1 if more packets follow, then data; the new socket as SCM_RIGHTS for SOCKET
"""

from __future__ import annotations

import struct
from typing import Final

SOCKET: Final = 1
BIND: Final = 2
CONNECT: Final = 3
TABLES: Final = 4  # answered by JSON text in pieces (broker/routes.py says of what)

REQUEST: Final = struct.Struct("<BBBB")
ANSWER: Final = struct.Struct("<iB")
MAX_REQUEST: Final = 64
PIECE: Final = 32768  # bytes of data in one answer
MAX_TABLES: Final = 8 << 20

"""What an IPC namespace grants its objects; /proc/sys changes it (proc(5), sysvipc(7), mq_overview(7))."""

from __future__ import annotations

from typing import Final

IPCMNI: Final = 32768  # objects of a kind there can be
NO_LIMIT: Final = (1 << 64) - 1 - (1 << 24)  # but the memory there is, as Linux tells it

# Places in Limits.values.
SHMMAX: Final = 0  # bytes of a segment
SHMALL: Final = 1  # pages of all segments
SHMMNI: Final = 2  # segments
MSGMAX: Final = 3  # bytes of a message
MSGMNB: Final = 4  # bytes in a new queue
MSGMNI: Final = 5  # queues
SEMMSL: Final = 6  # semaphores of a set
SEMMNS: Final = 7  # semaphores
SEMOPM: Final = 8  # operations of a call
SEMMNI: Final = 9  # sets
QUEUES_MAX: Final = 10  # POSIX queues
MSG_MAX: Final = 11  # messages of one, for those without CAP_SYS_RESOURCE
MSGSIZE_MAX: Final = 12
MSG_DEFAULT: Final = 13
MSGSIZE_DEFAULT: Final = 14
DEFAULTS: Final = (
    NO_LIMIT, NO_LIMIT, 4096, 8192, 16384, 32000, 32000, 1024000000, 500, 32000, 256, 10, 8192, 10, 8192,
)  # fmt: skip


class Limits:
    """`values` is indexed with the names above."""

    def __init__(self) -> None:
        self.values: list[int] = list(DEFAULTS)

"""Files in flight (SCM_RIGHTS), and the end of cycles among them.

A socket that is only referred to by messages in queues of sockets that nobody can read is garbage: its queue is emptied.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sentry.abi import capability as C
from sentry.abi import errno as E
from sentry.abi import resource as R
from sentry.errors import Errno

if TYPE_CHECKING:
    from sentry.kernel.task import Task
    from sentry.net.unix.sockets import UnixSocket
    from sentry.vfs.file import File

MAX_RIGHTS: Final = 253  # in one message (SCM_MAX_FD)
CROWDED: Final = 1000  # sockets in flight that make sending look for garbage


class Flight:
    """All files in flight."""

    def __init__(self) -> None:
        self.by_user: dict[int, int] = {}  # uid -> files it has in flight
        self.sockets: dict[int, UnixSocket] = {}  # id -> AF_UNIX socket in flight
        self.counts: dict[int, int] = {}  # id -> how many messages hold it
        self.collecting: bool = False


FLIGHT: Final = Flight()


class Parcel:
    """Files of one message; charged to the user who sent it."""

    def __init__(self, uid: int, files: list[File]) -> None:
        self.uid: int = uid
        self.files: list[File] = files


def take_off(t: Task, files: list[File]) -> Parcel:
    """The files' references pass to a message. ETOOMANYREFS beyond RLIMIT_NOFILE of files in flight for one user."""
    from sentry.net.unix.sockets import UnixSocket

    uid = t.creds.ruid
    count = FLIGHT.by_user.get(uid, 0)
    if count + len(files) > t.tg.limits.soft(R.RLIMIT_NOFILE):
        if not t.creds.has(C.CAP_SYS_RESOURCE) and not t.creds.has(C.CAP_SYS_ADMIN):
            raise Errno(E.ETOOMANYREFS)
    FLIGHT.by_user[uid] = count + len(files)
    for file in files:
        if isinstance(file, UnixSocket):
            key = id(file)
            FLIGHT.sockets[key] = file
            FLIGHT.counts[key] = FLIGHT.counts.get(key, 0) + 1
    if len(FLIGHT.sockets) > CROWDED:
        collect()
    return Parcel(uid, files)


def land(parcel: Parcel) -> list[File]:
    """The message was received (or thrown away): its references are the caller's."""
    files = parcel.files
    parcel.files = []
    left = FLIGHT.by_user.get(parcel.uid, 0) - len(files)
    if left > 0:
        FLIGHT.by_user[parcel.uid] = left
    else:
        FLIGHT.by_user.pop(parcel.uid, None)
    for file in files:
        key = id(file)
        n = FLIGHT.counts.get(key, 0)
        if n > 1:
            FLIGHT.counts[key] = n - 1
        elif n == 1:
            del FLIGHT.counts[key]
            del FLIGHT.sockets[key]
    return files


def discard(parcel: Parcel) -> None:
    for file in land(parcel):
        file.decref()


def collect() -> None:
    """Empties the queues of sockets that only garbage refers to."""
    from sentry.net.unix.sockets import UnixSocket

    if FLIGHT.collecting or not FLIGHT.sockets:
        return
    FLIGHT.collecting = True
    try:
        alive: set[int] = set()
        work: list[UnixSocket] = []
        for key, socket in FLIGHT.sockets.items():
            if socket.refs + socket.numbers() > FLIGHT.counts[key]:
                alive.add(key)
                work.append(socket)
        while work:
            for parcel in work.pop().parcels():
                for file in parcel.files:
                    if isinstance(file, UnixSocket) and id(file) not in alive:
                        alive.add(id(file))
                        work.append(file)
        garbage = [socket for key, socket in FLIGHT.sockets.items() if key not in alive]
        for socket in garbage:
            socket.incref()
        for socket in garbage:
            for parcel in socket.parcels():
                discard(parcel)
        for socket in garbage:
            socket.decref()
    finally:
        FLIGHT.collecting = False

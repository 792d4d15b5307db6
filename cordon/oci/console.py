"""The terminal of a container or of a process in it: a host pty whose master the engine gets through its console socket."""

from __future__ import annotations

import _socket
import array
import fcntl
import os
import struct
import termios

from cordon.control import connect
from cordon.oci.errors import RuntimeFailure, why


def open_pair(rows: int, columns: int) -> tuple[int, int]:
    """A new pty: master, slave. With rows and columns as its size unless they are 0."""
    try:
        master, slave = os.openpty()
    except OSError as e:
        raise RuntimeFailure(f"terminal: cannot make one: {why(e)}") from None
    if rows and columns:
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    return master, slave


def own(fd: int, uid: int, gid: int) -> None:
    """Gives the pty to the container's user, as login does. In a user namespace without that id it stays ours."""
    try:
        os.fchown(fd, uid, gid)
        os.fchmod(fd, 0o620)
    except OSError:
        pass


def send(path: str, master: int) -> None:
    """Sends the master to the engine's console socket. RuntimeFailure."""
    s = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC)
    try:
        s.settimeout(10)
        connect(s, path)
        send_fd(s.fileno(), master)
    except OSError as e:
        raise RuntimeFailure(f"console socket {path}: {why(e)}") from None
    finally:
        s.close()


def send_fd(sock: int, master: int) -> None:
    """The same over a connected socket."""
    s = _socket.socket(fileno=os.dup(sock))
    try:
        s.sendmsg([b"/dev/ptmx"], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, array.array("i", [master]))])
    finally:
        s.close()


def control(fd: int) -> None:
    """Makes a terminal the controlling one of this process, a session leader: it gets SIGWINCH and SIGHUP then."""
    fcntl.ioctl(fd, termios.TIOCSCTTY, 0)

"""Terminal attributes and their forms in memory (termios(3), ioctl_tty(2))."""

from __future__ import annotations

import struct
from typing import Final

from sentry.abi import ioctl as IO

TERMIOS: Final = struct.Struct("<IIIIB19s")  # struct termios of the kernel
TERMIOS2: Final = struct.Struct("<IIIIB19sII")
TERMIO: Final = struct.Struct("<HHHHB8sx")
WINSIZE: Final = struct.Struct("<HHHH")

NCC: Final = 8  # control characters in struct termio

# INTR QUIT ERASE KILL EOF TIME MIN SWTC START STOP SUSP EOL REPRINT DISCARD WERASE LNEXT EOL2 and two unused
DEFAULT_CC: Final = b"\x03\x1c\x7f\x15\x04\x00\x01\x00\x11\x13\x1a\x00\x12\x0f\x17\x16\x00\x00\x00"

SPEEDS: Final[dict[int, int]] = {
    IO.B0: 0, IO.B50: 50, IO.B75: 75, IO.B110: 110, IO.B134: 134, IO.B150: 150, IO.B200: 200, IO.B300: 300, IO.B600: 600,
    IO.B1200: 1200, IO.B1800: 1800, IO.B2400: 2400, IO.B4800: 4800, IO.B9600: 9600, IO.B19200: 19200, IO.B38400: 38400,
    IO.B57600: 57600, IO.B115200: 115200, IO.B230400: 230400, IO.B460800: 460800, IO.B500000: 500000, IO.B576000: 576000,
    IO.B921600: 921600, IO.B1000000: 1000000, IO.B1152000: 1152000, IO.B1500000: 1500000, IO.B2000000: 2000000,
    IO.B2500000: 2500000, IO.B3000000: 3000000, IO.B3500000: 3500000, IO.B4000000: 4000000,
}  # fmt: skip
CODES: Final[dict[int, int]] = {speed: code for code, speed in SPEEDS.items()}


class Termios:
    """Modes, control characters (`cc`, indexed by V*) and speeds."""

    def __init__(self) -> None:
        self.iflag: int = IO.ICRNL | IO.IXON
        self.oflag: int = IO.OPOST | IO.ONLCR
        self.cflag: int = IO.B38400 | IO.CS8 | IO.CREAD
        self.lflag: int = (
            IO.ISIG | IO.ICANON | IO.ECHO | IO.ECHOE | IO.ECHOK | IO.ECHOCTL | IO.ECHOKE | IO.IEXTEN
        )
        self.line: int = IO.N_TTY
        self.cc: bytes = DEFAULT_CC
        self.ispeed: int = 38400
        self.ospeed: int = 38400

    def copy(self) -> Termios:
        new = Termios()
        new.iflag, new.oflag, new.cflag, new.lflag = self.iflag, self.oflag, self.cflag, self.lflag
        new.line, new.cc, new.ispeed, new.ospeed = self.line, self.cc, self.ispeed, self.ospeed
        return new

    def pack(self) -> bytes:
        return TERMIOS.pack(self.iflag, self.oflag, self.cflag, self.lflag, self.line, self.cc)

    def pack2(self) -> bytes:
        return TERMIOS2.pack(
            self.iflag, self.oflag, self.cflag, self.lflag, self.line, self.cc, self.ispeed, self.ospeed
        )

    def pack_old(self) -> bytes:
        return TERMIO.pack(
            self.iflag & 0xFFFF, self.oflag & 0xFFFF, self.cflag & 0xFFFF, self.lflag & 0xFFFF, self.line, self.cc[:NCC]
        )

    def take_speeds(self) -> None:
        """The speeds that the codes in cflag name; BOTHER leaves what is there."""
        speed = SPEEDS.get(self.cflag & IO.CBAUD)
        if speed is not None:
            self.ospeed = speed
        code = self.cflag >> IO.IBSHIFT & IO.CBAUD
        speed = SPEEDS.get(code)
        if code == IO.B0:
            self.ispeed = self.ospeed
        elif speed is not None:
            self.ispeed = speed


def unpack(old: Termios, data: bytes) -> Termios:
    """From struct termios; the speeds follow the codes in it."""
    new = old.copy()
    new.iflag, new.oflag, new.cflag, new.lflag, new.line, new.cc = TERMIOS.unpack(data)
    new.take_speeds()
    return new


def unpack2(old: Termios, data: bytes) -> Termios:
    """From struct termios2: speeds are numbers where the code is BOTHER."""
    new = old.copy()
    new.iflag, new.oflag, new.cflag, new.lflag, new.line, new.cc, new.ispeed, new.ospeed = TERMIOS2.unpack(data)
    new.take_speeds()
    return new


def unpack_old(old: Termios, data: bytes) -> Termios:
    """From struct termio: the lower halves of the modes and the first control characters."""
    new = old.copy()
    iflag, oflag, cflag, lflag, new.line, cc = TERMIO.unpack(data)
    new.iflag = old.iflag & ~0xFFFF | iflag
    new.oflag = old.oflag & ~0xFFFF | oflag
    new.cflag = old.cflag & ~0xFFFF | cflag
    new.lflag = old.lflag & ~0xFFFF | lflag
    new.cc = cc + old.cc[NCC:]
    new.take_speeds()
    return new

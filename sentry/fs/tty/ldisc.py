"""The line discipline N_TTY (termios(3)): what happens between a terminal's keyboard, its screen and the programs on it.

It knows nothing of files or tasks. `receive` takes typed bytes, `take` gives a program what it may read, `process` prepares what
a program writes; echoes go to `echo`, and a `Screen` is told of signals and flow control.
"""

from __future__ import annotations

from typing import Final

from sentry.abi import ioctl as IO
from sentry.abi import signal as SIG
from sentry.fs.tty.termios import Termios

BUFFER: Final = 4096  # of typed bytes that nobody has read; one stays free
ECHO_LIMIT: Final = 4096  # echoes that found no room on the screen; more are lost
DISABLED: Final = 0  # _POSIX_VDISABLE: a control character of this value is off

NEWLINE: Final = 10
RETURN: Final = 13
TAB: Final = 9
BACKSPACE: Final = 8
DELETE: Final = 127


class Screen:
    """What a line discipline is attached to."""

    def signal(self, sig: int) -> None:
        """Sends a signal to the foreground job."""

    def flushed(self, read: bool, write: bool) -> None:
        """Typed (read) or waiting output (write) bytes were thrown away."""

    def flow_changed(self, stopped: bool) -> None:
        """Output was stopped or goes on."""


class Mark:
    """The end of a line in the buffer: position past its last byte; `eof` when that byte is the EOF character's place."""

    def __init__(self, end: int, eof: bool) -> None:
        self.end: int = end
        self.eof: bool = eof


def control(c: int) -> bool:
    return c < 32 or c == DELETE


def word_char(c: int) -> bool:
    """A letter, digit or underscore (of Latin-1, as the kernel's isalnum)."""
    return 48 <= c <= 57 or 65 <= c <= 90 or 97 <= c <= 122 or c == 95 or (c >= 0xC0 and c != 0xD7 and c != 0xF7)


class LineDiscipline:
    """One terminal's state. Positions are counts of bytes since the beginning; buf[0] is at `base`."""

    def __init__(self, termios: Termios, screen: Screen) -> None:
        self.termios: Termios = termios
        self.screen: Screen = screen
        self.buf: bytearray = bytearray()
        self.base: int = 0
        self.marks: list[Mark] = []
        self.line: int = 0  # where the line that is being edited begins
        self.column: int = 0
        self.canon_column: int = 0  # column where that line began on the screen
        self.erasing: bool = False  # within \.../ of ECHOPRT
        self.literal: bool = False  # VLNEXT was typed
        self.stopped: bool = False  # by VSTOP
        self.output_off: bool = False  # by tcflow(TCOOFF)
        self.echo: bytearray = bytearray()  # for the screen, not yet shown

    # Questions

    @property
    def canonical(self) -> bool:
        return bool(self.termios.lflag & IO.ICANON)

    @property
    def halted(self) -> bool:
        """No output at the moment."""
        return self.stopped or self.output_off

    def available(self) -> int:
        """Bytes that a read could get now (FIONREAD)."""
        if self.canonical:
            if not self.marks:
                return 0
            return self.marks[-1].end - self.base - sum(1 for m in self.marks if m.eof)
        return len(self.buf)

    def readable(self) -> bool:
        """Is there a line, or in raw mode enough (VMIN without VTIME)?"""
        if self.canonical:
            return bool(self.marks)
        cc = self.termios.cc
        least = cc[IO.VMIN] if cc[IO.VTIME] == 0 and cc[IO.VMIN] else 1
        return len(self.buf) >= least

    def room(self) -> bool:
        """Can more typed bytes be taken?"""
        return len(self.buf) < BUFFER - 1 or (self.canonical and not self.marks)

    # Reading

    def take(self, count: int) -> bytes:
        """Up to `count` bytes for a reader: in canonical mode of one line at most, b"" for an end of file."""
        if not self.canonical:
            data = bytes(self.buf[:count])
            self.drop(len(data))
            return data
        if not self.marks:
            return b""
        mark = self.marks[0]
        length = mark.end - self.base
        text = length - 1 if mark.eof else length
        if count < text:
            data = bytes(self.buf[:count])
            self.drop(count)
            return data
        data = bytes(self.buf[:text])
        del self.marks[0]
        self.drop(length)
        return data

    def drop(self, n: int) -> None:
        del self.buf[:n]
        self.base += n
        if self.line < self.base:
            self.line = self.base

    def flush_input(self) -> None:
        """Forgets what was typed (TCIFLUSH)."""
        self.base += len(self.buf)
        self.buf = bytearray()
        self.marks = []
        self.line = self.base
        self.erasing = False
        self.literal = False

    # Modes

    def set_termios(self, new: Termios) -> None:
        old = self.termios
        self.termios = new
        if (old.lflag ^ new.lflag) & (IO.ICANON | IO.EXTPROC):
            self.marks = []
            if new.lflag & IO.ICANON and self.buf:
                self.line = self.base + len(self.buf)
                self.marks.append(Mark(self.line, False))  # what was typed so far counts as a line
            else:
                self.line = self.base
            self.erasing = False
            self.literal = False
        if old.iflag & IO.IXON and not new.iflag & IO.IXON:
            self.start()

    def start(self) -> None:
        """Output goes on after VSTOP."""
        if self.stopped:
            self.stopped = False
            if not self.output_off:
                self.screen.flow_changed(False)

    def stop(self) -> None:
        if not self.stopped:
            self.stopped = True
            self.screen.flow_changed(True)

    # Output

    def process(self, data: bytes) -> bytes:
        """What the screen gets for bytes a program writes (OPOST)."""
        oflag = self.termios.oflag
        if not oflag & IO.OPOST:
            return data
        if not oflag & (IO.OLCUC | IO.OCRNL | IO.ONOCR | IO.ONLRET) and oflag & IO.TABDLY != IO.XTABS:
            self.follow_columns(data)
            return data.replace(b"\n", b"\r\n") if oflag & IO.ONLCR else data
        out = bytearray()
        for c in data:
            self.put(out, c)
        return bytes(out)

    def follow_columns(self, data: bytes) -> None:
        """Where the cursor is after simple output."""
        oflag = self.termios.oflag
        i = data.rfind(b"\r")
        if oflag & IO.ONLCR:
            i = max(i, data.rfind(b"\n"))
        if i >= 0:
            self.column = self.canon_column = 0
        rest = data[i + 1 :] if i >= 0 else data
        if len(rest) > 512:  # a line that long wraps: only the position within a tab stop could matter
            rest = rest[-512:]
        for c in rest:
            if c >= 32 and c != DELETE:
                if not self.continuation(c):
                    self.column += 1
            elif c == TAB:
                self.column += 8 - (self.column & 7)
            elif c == BACKSPACE:
                if self.column > 0:
                    self.column -= 1
            elif c == NEWLINE:
                self.canon_column = self.column

    def put(self, out: bytearray, c: int) -> None:
        """One character of output under OPOST."""
        oflag = self.termios.oflag
        if c == NEWLINE:
            if oflag & IO.ONLRET:
                self.column = 0
            if oflag & IO.ONLCR:
                out.append(RETURN)
                self.column = 0
            self.canon_column = self.column
        elif c == RETURN:
            if oflag & IO.ONOCR and self.column == 0:
                return
            if oflag & IO.OCRNL:
                c = NEWLINE
                if oflag & IO.ONLRET:
                    self.column = self.canon_column = 0
            else:
                self.column = self.canon_column = 0
        elif c == TAB:
            spaces = 8 - (self.column & 7)
            self.column += spaces
            if oflag & IO.TABDLY == IO.XTABS:
                out += b" " * spaces
                return
        elif c == BACKSPACE:
            if self.column > 0:
                self.column -= 1
        elif not control(c):
            if oflag & IO.OLCUC and 97 <= c <= 122:
                c -= 32
            if not self.continuation(c):
                self.column += 1
        out.append(c)

    def continuation(self, c: int) -> bool:
        """A further byte of a UTF-8 character?"""
        return c & 0xC0 == 0x80 and bool(self.termios.iflag & IO.IUTF8)

    # Echo

    def echo_raw(self, c: int) -> None:
        if len(self.echo) >= ECHO_LIMIT:
            return
        if self.termios.oflag & IO.OPOST:
            self.put(self.echo, c)
        else:
            self.echo.append(c)

    def echo_char(self, c: int) -> None:
        """A typed character as the user sees it: control characters as ^X with ECHOCTL."""
        if self.termios.lflag & IO.ECHOCTL and control(c) and c != TAB:
            if len(self.echo) < ECHO_LIMIT:
                self.echo.append(94)
                self.echo.append(c ^ 64)
                self.column += 2
        else:
            self.echo_raw(c)

    def finish_erasing(self) -> None:
        if self.erasing:
            self.echo_raw(47)
            self.erasing = False

    def echo_typed(self, c: int) -> None:
        """The echo of a character that goes into the line."""
        self.finish_erasing()
        if c == NEWLINE:
            self.echo_raw(NEWLINE)
            return
        if self.line == self.base + len(self.buf):
            self.canon_column = self.column
        self.echo_char(c)

    # Input

    def receive(self, data: bytes) -> int:
        """Typed bytes come in; how many were taken: all, unless the buffer is full and somebody has to read first."""
        lflag = self.termios.lflag
        iflag = self.termios.iflag
        plain = not lflag & (IO.ICANON | IO.ISIG | IO.ECHO | IO.EXTPROC | IO.IEXTEN)
        if plain and not iflag & (IO.ISTRIP | IO.IUCLC | IO.IXON | IO.ICRNL | IO.INLCR | IO.IGNCR | IO.PARMRK):
            n = min(len(data), BUFFER - 1 - len(self.buf))
            self.buf += data[:n]
            return max(n, 0)
        taken = 0
        for c in data:
            if not self.room():
                break
            self.typed(c)
            taken += 1
        return taken

    def keep(self, c: int) -> None:
        """Puts a byte into the buffer; in a line that has grown too long it is lost."""
        if len(self.buf) < BUFFER - 1:
            self.buf.append(c)

    def end_line(self, c: int, eof: bool) -> None:
        """The line is complete; its last byte always finds room."""
        if len(self.buf) >= BUFFER:
            self.buf.pop()
        self.buf.append(c)
        self.line = self.base + len(self.buf)
        self.marks.append(Mark(self.line, eof))

    def typed(self, c: int) -> None:
        t = self.termios
        iflag = t.iflag
        lflag = t.lflag
        cc = t.cc
        if iflag & IO.ISTRIP:
            c &= 0x7F
        if iflag & IO.IUCLC and lflag & IO.IEXTEN and 65 <= c <= 90:
            c += 32
        if self.literal:
            self.literal = False
            self.text(c)
            return
        if lflag & IO.EXTPROC:
            self.keep(c)
            return
        if iflag & IO.IXON:
            if c == cc[IO.VSTART] and c != DISABLED:
                self.start()
                return
            if c == cc[IO.VSTOP] and c != DISABLED:
                self.stop()
                return
            if self.stopped and iflag & IO.IXANY:
                self.start()
        if lflag & IO.ISIG and c != DISABLED:
            sig = 0
            if c == cc[IO.VINTR]:
                sig = SIG.SIGINT
            elif c == cc[IO.VQUIT]:
                sig = SIG.SIGQUIT
            elif c == cc[IO.VSUSP]:
                sig = SIG.SIGTSTP
            if sig:
                self.interrupt(c, sig)
                return
        if c == RETURN:
            if iflag & IO.IGNCR:
                return
            if iflag & IO.ICRNL:
                c = NEWLINE
        elif c == NEWLINE and iflag & IO.INLCR:
            c = RETURN
        if lflag & IO.ICANON and self.edit(c):
            return
        self.text(c)

    def text(self, c: int) -> None:
        """A character without a meaning of its own."""
        if self.termios.lflag & IO.ECHO:
            self.echo_typed(c)
        if c == 0xFF and self.termios.iflag & IO.PARMRK:
            self.keep(c)
        self.keep(c)

    def interrupt(self, c: int, sig: int) -> None:
        """A character that sends a signal."""
        lflag = self.termios.lflag
        if not lflag & IO.NOFLSH:
            self.flush_input()
            self.echo = bytearray()
            self.screen.flushed(True, True)
        if self.termios.iflag & IO.IXON:
            self.start()
        if lflag & IO.ECHO:
            self.echo_char(c)
        self.screen.signal(sig)

    def edit(self, c: int) -> bool:
        """Line editing of canonical mode; False when the character is none of its."""
        t = self.termios
        lflag = t.lflag
        cc = t.cc
        extended = bool(lflag & IO.IEXTEN)
        if c == NEWLINE:
            if lflag & (IO.ECHO | IO.ECHONL):
                self.echo_raw(NEWLINE)
            self.end_line(c, False)
            return True
        if c == DISABLED:
            return False
        if c == cc[IO.VERASE]:
            self.erase(IO.VERASE)
        elif c == cc[IO.VKILL]:
            self.erase(IO.VKILL)
        elif extended and c == cc[IO.VWERASE]:
            self.erase(IO.VWERASE)
        elif extended and c == cc[IO.VLNEXT]:
            self.literal = True
            if lflag & IO.ECHO:
                self.finish_erasing()
                if lflag & IO.ECHOCTL:
                    self.echo_raw(94)
                    self.echo_raw(BACKSPACE)
        elif extended and lflag & IO.ECHO and c == cc[IO.VREPRINT]:
            self.finish_erasing()
            self.echo_char(c)
            self.echo_raw(NEWLINE)
            for typed in bytes(self.buf[self.line - self.base :]):
                self.echo_char(typed)
        elif c == cc[IO.VEOF]:
            self.end_line(DISABLED, True)
        elif c == cc[IO.VEOL] or (extended and c == cc[IO.VEOL2]):
            if lflag & IO.ECHO:
                if self.line == self.base + len(self.buf):
                    self.canon_column = self.column
                self.echo_char(c)
            if c == 0xFF and t.iflag & IO.PARMRK:
                self.keep(c)
            self.end_line(c, False)
        else:
            return False
        return True

    def erase(self, kind: int) -> None:
        """VERASE, VWERASE, VKILL: takes back the last character, word or the whole line."""
        lflag = self.termios.lflag
        buf = self.buf
        first = self.line - self.base
        if len(buf) <= first:
            return
        if kind == IO.VKILL:
            if not lflag & IO.ECHO:
                del buf[first:]
                return
            if not (lflag & IO.ECHOK and lflag & IO.ECHOKE and lflag & IO.ECHOE):
                del buf[first:]
                self.finish_erasing()
                self.echo_char(self.termios.cc[IO.VKILL])
                if lflag & IO.ECHOK:
                    self.echo_raw(NEWLINE)
                return
        in_word = False
        while len(buf) > first:
            head = len(buf) - 1
            while self.continuation(buf[head]) and head > first:
                head -= 1
            c = buf[head]
            if self.continuation(c):
                break
            if kind == IO.VWERASE:
                if word_char(c):
                    in_word = True
                elif in_word:
                    break
            gone = bytes(buf[head:])
            del buf[head:]
            if lflag & IO.ECHO:
                self.echo_erased(kind, gone)
            if kind == IO.VERASE:
                break
        if len(buf) == first and lflag & IO.ECHO:
            self.finish_erasing()

    def echo_erased(self, kind: int, gone: bytes) -> None:
        """Shows that a character (its bytes) was taken back."""
        lflag = self.termios.lflag
        c = gone[0]
        if lflag & IO.ECHOPRT:
            if not self.erasing:
                self.echo_raw(92)
                self.erasing = True
            self.echo_char(c)
            for more in bytes(gone[1:]):
                self.echo_raw(more)
        elif kind == IO.VERASE and not lflag & IO.ECHOE:
            self.echo_char(self.termios.cc[IO.VERASE])
        elif c == TAB:
            self.erase_tab()
        else:
            if control(c) and lflag & IO.ECHOCTL:
                self.rub_out()
            if not control(c) or lflag & IO.ECHOCTL:
                self.rub_out()

    def rub_out(self) -> None:
        for c in b"\b \b":
            self.echo_raw(c)

    def erase_tab(self) -> None:
        """Back to where a tab began: after the tab before it, or else counted from the column where the line began."""
        width = 0
        after_tab = False
        for c in reversed(bytes(self.buf[self.line - self.base :])):
            if c == TAB:
                after_tab = True
                break
            if control(c):
                if self.termios.lflag & IO.ECHOCTL:
                    width += 2
            elif not self.continuation(c):
                width += 1
        if not after_tab:
            width += self.canon_column
        for _ in range(8 - (width & 7)):
            self.echo.append(BACKSPACE)
            if self.column > 0:
                self.column -= 1

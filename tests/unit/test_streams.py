"""Rules of pipes and of the line discipline that need no sandbox."""

from __future__ import annotations

from sentry.abi import ioctl as IO
from sentry.abi import signal as SIG
from sentry.fs.pipe import PAGE, Pipe
from sentry.fs.tty.ldisc import BUFFER, LineDiscipline, Screen
from sentry.fs.tty.termios import DEFAULT_CC, TERMIOS, TERMIOS2, Termios, unpack, unpack2, unpack_old


class Recorder(Screen):
    def __init__(self) -> None:
        self.signals: list[int] = []
        self.flow: list[bool] = []

    def signal(self, sig: int) -> None:
        self.signals.append(sig)

    def flow_changed(self, stopped: bool) -> None:
        self.flow.append(stopped)


def terminal() -> tuple[LineDiscipline, Recorder]:
    screen = Recorder()
    return LineDiscipline(Termios(), screen), screen


def echo(ld: LineDiscipline) -> bytes:
    shown = bytes(ld.echo)
    ld.echo = bytearray()
    return shown


def test_a_full_pipe_takes_nothing_until_a_page_is_free() -> None:
    p = Pipe()
    assert p.push(bytes(17 * PAGE)) == 16 * PAGE
    assert p.full() and p.push(b"x") == 0
    p.pull(PAGE - 1)
    assert p.full() and p.push(b"x") == 0
    p.pull(1)
    assert not p.full() and p.push(b"x") == 1
    assert p.bytes == 15 * PAGE + 1


def test_short_writes_share_a_page_when_they_fit() -> None:
    p = Pipe()
    assert [p.push(b"a" * 3000), p.push(b"b" * 1000), p.push(b"c" * 1000)] == [3000, 1000, 1000]
    assert p.used == 2
    assert p.pull(10_000) == b"a" * 3000 + b"b" * 1000 + b"c" * 1000
    assert p.used == 0 and p.bytes == 0 and p.empty()


def test_slots_are_given_back_exactly() -> None:
    p = Pipe()
    p.push(bytes(range(256)) * 50)
    p.push(b"tail")
    total = p.bytes
    got = b""
    while not p.empty():
        got += p.pull(777)
    assert len(got) == total and got.endswith(b"tail")
    assert p.used == 0 and p.start == 0


def test_packets_keep_their_ends() -> None:
    p = Pipe()
    p.push(b"first", True)
    p.push(b"second", True)
    assert p.peek(100) == b"first"
    assert p.pull(2) == b"fi"
    assert p.pull(100) == b"second"
    assert p.used == 0


def test_line_editing_and_echo() -> None:
    ld, _ = terminal()
    ld.receive(b"wrung\x7f\x7f\x7fong wxrd\x17\r")
    assert ld.take(100) == b"wrong \n"
    assert echo(ld).endswith(b"\r\n")
    ld.receive(b"\tx\x7f\x7f")
    assert echo(ld) == b"\tx\b \b" + b"\b" * 8


def test_end_of_file_and_partial_reads() -> None:
    ld, _ = terminal()
    ld.receive(b"half\x04line\n\x04")
    assert ld.take(2) == b"ha"
    assert ld.take(100) == b"lf"
    assert ld.take(100) == b"line\n"
    assert ld.readable() and ld.take(100) == b""
    assert not ld.readable()


def test_signals_flush_input() -> None:
    ld, screen = terminal()
    ld.receive(b"abc\x03\x1a\x1c")
    assert screen.signals == [SIG.SIGINT, SIG.SIGTSTP, SIG.SIGQUIT]
    assert not ld.buf
    assert echo(ld).endswith(b"^\\")


def test_a_line_that_is_too_long_loses_its_end_but_can_be_finished() -> None:
    ld, _ = terminal()
    assert ld.receive(b"x" * 10_000) == 10_000
    assert not ld.readable()
    ld.receive(b"\n")
    assert ld.take(10_000) == b"x" * (BUFFER - 1) + b"\n"


def test_flow_control_and_literal_next() -> None:
    ld, screen = terminal()
    ld.receive(b"\x13")
    assert ld.halted
    ld.receive(b"\x11\x16\x03\n")
    assert screen.flow == [True, False]
    assert ld.take(10) == b"\x03\n" and not screen.signals


def test_switch_to_raw_and_back_keeps_what_was_typed() -> None:
    ld, _ = terminal()
    ld.receive(b"abc")
    raw = ld.termios.copy()
    raw.lflag &= ~IO.ICANON
    ld.set_termios(raw)
    assert ld.take(1) == b"a"
    cooked = raw.copy()
    cooked.lflag |= IO.ICANON
    ld.set_termios(cooked)
    assert ld.readable() and ld.take(100) == b"bc"


def test_output_processing() -> None:
    ld, _ = terminal()
    assert ld.process(b"a\nb") == b"a\r\nb"
    ld.termios.oflag |= IO.XTABS
    assert ld.process(b"\tx") == b"       x"  # after the b in column 0
    ld.termios.oflag = IO.OPOST | IO.OLCUC | IO.OCRNL | IO.ONOCR
    assert ld.process(b"abc\r") == b"ABC\n"


def test_termios_forms() -> None:
    t = Termios()
    assert unpack(t, t.pack()).pack2() == t.pack2()
    assert unpack2(t, t.pack2()).pack() == t.pack()
    assert unpack_old(t, t.pack_old()).pack() == t.pack()
    assert len(t.pack()) == TERMIOS.size == 36 and len(t.pack2()) == TERMIOS2.size == 44
    assert len(DEFAULT_CC) == IO.NCCS
    t.cflag = t.cflag & ~IO.CBAUD | IO.B9600
    assert unpack(Termios(), t.pack()).ospeed == 9600

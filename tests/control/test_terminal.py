"""Terminals: a host pty whose master the test has, connected with one of the sandbox."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import signal
import struct
import termios
import time
from pathlib import Path

from tests.control.harness import Sandbox, process


class Screen:
    """The master of a host pty."""

    def __init__(self) -> None:
        self.master, self.slave = pty.openpty()
        self.seen = b""

    def size(self, rows: int, columns: int) -> None:
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def type(self, text: str) -> None:
        os.write(self.master, text.encode())

    def until(self, text: str, seconds: float = 10) -> str:
        """Reads until the text has been shown; everything up to it, which is then forgotten."""
        end = time.monotonic() + seconds
        while text.encode() not in self.seen:
            ready, _, _ = select.select([self.master], [], [], max(0, end - time.monotonic()))
            assert ready, f"{text!r} was not shown, but {self.seen!r}"
            try:
                data = os.read(self.master, 4096)
            except OSError:
                data = b""
            assert data, f"{text!r} was not shown, but {self.seen!r}, then the end"
            self.seen += data
        end_of_it = self.seen.index(text.encode()) + len(text.encode())
        seen, self.seen = self.seen[:end_of_it], self.seen[end_of_it:]
        return seen.decode()

    def rest(self) -> str:
        """What is shown until the other side has gone."""
        while True:
            try:
                data = os.read(self.master, 4096)
            except OSError:
                return self.seen.decode()
            if not data:
                return self.seen.decode()
            self.seen += data


def terminal_box(tmp: Path, screen: Screen, args: list[str], **more: object) -> Sandbox:
    s = Sandbox(tmp, args, stdio=[screen.slave], process={"terminal": True, **more})
    os.close(screen.slave)
    return s


def test_shell_on_a_terminal(tmp_path: Path) -> None:
    screen = Screen()
    screen.size(40, 100)
    with terminal_box(tmp_path, screen, ["sh", "-i"]) as s:
        screen.until("# ")
        screen.type("tty; stty size; echo hi > /dev/console; ps -o tty,comm\n")
        text = screen.until("ps\r\n")
        assert "\r\n/dev/pts/0\r\n40 100\r\nhi\r\n" in text
        assert "136,0" in text
        ended = s.line.request_wait("c")
        screen.type("exit 5\n")
        assert s.line.answer(ended)["exit"] == 5
        screen.rest()


def test_ctrl_c_and_ctrl_z(tmp_path: Path) -> None:
    screen = Screen()
    with terminal_box(tmp_path, screen, ["sh", "-i"]):
        screen.until("# ")
        screen.type("sleep 100\n")
        screen.until("sleep 100\r\n")
        time.sleep(0.3)
        screen.type("\x03")
        screen.until("# ")
        screen.type("echo st=$?\n")
        screen.until("st=130")
        screen.until("# ")
        screen.type("sleep 100\n")
        screen.until("sleep 100\r\n")
        time.sleep(0.3)
        screen.type("\x1a")
        screen.until("Stopped")
        screen.type("kill %1; echo do''ne\n")
        screen.until("done")


def test_resize(tmp_path: Path) -> None:
    screen = Screen()
    with terminal_box(
        tmp_path,
        screen,
        ["sh", "-c", "trap 'stty size' WINCH; echo up; while :; do sleep 0.1; done"],
        size=[10, 20],
    ) as s:
        screen.until("up")
        with s.connect() as c:
            c.resize("c", 30, 50)
            screen.until("30 50")
            screen.size(33, 77)
            c.resize("c")
            screen.until("33 77")
            screen.size(34, 78)
            c.signal("c", signal.SIGWINCH, mode="foreground")
            screen.until("34 78")


def test_hang_up(tmp_path: Path) -> None:
    screen = Screen()
    with terminal_box(
        tmp_path, screen, ["sh", "-c", "trap 'exit 9' HUP; echo up; while :; do sleep 0.1; done"]
    ) as s:
        screen.until("up")
        os.close(screen.master)
        assert s.line.wait("c")["exit"] == 9


def test_much_output_arrives_whole(tmp_path: Path) -> None:
    screen = Screen()
    with terminal_box(
        tmp_path,
        screen,
        ["sh", "-c", "stty -onlcr; i=0; while [ $i -lt 3000 ]; do echo 123456789; i=$((i+1)); done"],
    ) as s:
        ended = s.line.request_wait("c")
        text = screen.rest()
        assert len(text) == 30000
        assert s.line.answer(ended)["exit"] == 0


def test_exec_on_a_terminal(tmp_path: Path) -> None:
    with Sandbox(tmp_path, ["sleep", "1000"]) as s, s.connect() as c:
        screen = Screen()
        spec = process(
            ["sh", "-c", "tty; stty size; read x; echo got $x; test -t 2; exit $?"],
            terminal=True,
            size=[7, 70],
        )
        spec["stdio"] = [0]
        pid = c.exec("c", spec, [screen.slave])
        os.close(screen.slave)
        assert "/dev/pts/0\r\n7 70\r\n" in screen.until("70\r\n")
        screen.type("word\n")
        screen.until("got word")
        assert c.wait("c", pid)["exit"] == 0
        assert screen.rest() == "\r\n"
        assert s.run(["ls", "/dev/pts"])[1] == "ptmx\n"

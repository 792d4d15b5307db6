"""Interactive programs on a terminal: job control, signals from the keyboard, window size."""

from __future__ import annotations

import os
import signal
import time

import pytest

from tests.harness import ENVIRONMENT, Sandbox
from tests.programs.terminal import Terminal

PROMPT = r"sh> "


@pytest.fixture(params=["native", "sandbox"])
def native_or_not(request: pytest.FixtureRequest) -> bool:
    """The same conversation natively first: if that fails, the test is wrong."""
    return bool(request.param == "native")


def start(sandbox: Sandbox, command: list[str], native: bool, *options: str) -> Terminal:
    env = {**os.environ, **ENVIRONMENT, "TERM": "xterm", "PS1": "sh> "}
    argv = command if native else sandbox.argv(command, ["--env=PS1=sh> ", *options])
    return Terminal(argv, sandbox.cwd, env)


def bash(sandbox: Sandbox, native: bool) -> Terminal:
    t = start(sandbox, ["bash", "--norc", "--noprofile", "-i"], native)
    t.expect(PROMPT)
    return t


def test_commands_and_exit(sandbox: Sandbox, native_or_not: bool) -> None:
    with bash(sandbox, native_or_not) as t:
        t.type("echo $((6*7)); tty; test -t 0 && test -t 1 && echo terminal\r")
        t.expect(r"\n42\r\n/dev/\S+\r\nterminal\r\n" + PROMPT)
        t.type("exit 5\r")
        assert t.wait() == 5


def long_command(t: Terminal) -> None:
    """Starts one; it runs when this returns."""
    t.type("sh -c 'echo re\\ady; exec sleep 100'\r")
    t.expect(r"ready\r\n")
    time.sleep(0.3)  # bash itself is not always waiting for its child by then, and misses how it ended


def test_ctrl_c(sandbox: Sandbox, native_or_not: bool) -> None:
    with bash(sandbox, native_or_not) as t:
        long_command(t)
        t.type("\x03")
        t.expect(PROMPT)
        t.type("echo status $?\r")
        t.expect(r"\nstatus 130\r\n")
        t.expect(PROMPT)
        t.type("abc\x03")
        t.expect(PROMPT)
        t.type("exit\r")
        assert t.wait() == 130


def test_ctrl_z_fg_bg(sandbox: Sandbox, native_or_not: bool) -> None:
    with bash(sandbox, native_or_not) as t:
        t.type("sleep 2\r")
        time.sleep(0.5)
        t.type("\x1a")
        t.expect(r"Stopped +sleep 2")
        t.expect(PROMPT)
        t.type("jobs\r")
        t.expect(r"\[1\]\+ +Stopped")
        t.expect(PROMPT)
        t.type("fg\r")
        t.expect(r"sleep 2\r\n" + PROMPT)
        t.type("sleep 1 &\r")
        t.expect(r"\[1\] \d+")
        t.type("wait; echo waited\r")
        t.expect(r"\nwaited\r\n")
        t.expect(PROMPT)
        t.type("cat\r")
        time.sleep(0.5)
        t.type("\x1a")
        t.expect(r"Stopped +cat")
        t.expect(PROMPT)
        t.type("bg\r")
        time.sleep(0.5)
        t.type("\r")
        t.expect(r"Stopped +cat")
        t.type("kill -KILL %1; sleep 1\r")
        t.expect(r"Killed +cat")
        t.type("exit 0\r")
        assert t.wait() == 0


def test_ctrl_backslash_and_eof(sandbox: Sandbox, native_or_not: bool) -> None:
    with bash(sandbox, native_or_not) as t:
        long_command(t)
        t.type("\x1c")
        t.expect(PROMPT)
        t.type("echo status $?\r")
        t.expect(r"\nstatus 131\r\n")
        t.expect(PROMPT)
        t.type("echo re''ady; cat > f\r")
        t.expect(r"ready\r\n")
        t.type("line\r\x04")
        t.expect(PROMPT)
        t.type("cat f\r")
        t.expect(r"\nline\r\n" + PROMPT)
        t.type("\x04")
        assert t.wait() == 0


def test_window_size(sandbox: Sandbox, native_or_not: bool) -> None:
    with bash(sandbox, native_or_not) as t:
        t.type("stty size\r")
        t.expect(r"\n24 80\r\n" + PROMPT)
        t.type("trap 'echo changed' WINCH\r")
        t.expect(PROMPT)
        t.resize(50, 132)
        for _ in range(20):  # in the sandbox it takes the way through the front
            t.type("stty size\r")
            if "50 132" in t.expect(r"\n(24 80|50 132)\r\n"):
                break
        t.expect(PROMPT)
        for _ in range(100):  # the size may be there before the signal; bash runs the trap after a command
            t.type("echo do''ne\r")
            t.expect(r"done\r\n" + PROMPT)
            if "changed\r\n" in t.all:
                break
            time.sleep(0.1)
        assert "changed\r\n" in t.all
        t.type("exit 0\r")
        assert t.wait() == 0


def test_raw_mode(sandbox: Sandbox, native_or_not: bool) -> None:
    with bash(sandbox, native_or_not) as t:
        t.type("stty raw -echo; echo re''ady; dd bs=1 count=3 2>/dev/null | od -An -tx1; stty sane\r")
        t.expect(r"ready\r?\n")
        t.type("\x03\x1a\r")
        t.expect(r"03 1a 0d")
        t.expect(PROMPT)
        t.type("exit 0\r")
        assert t.wait() == 0


def test_python_readline(sandbox: Sandbox, native_or_not: bool) -> None:
    with start(sandbox, ["python3", "-q"], native_or_not) as t:
        t.expect(">>> ")
        t.type("6*7\r")
        t.expect(r"42\r\n")
        # not one long sleep: Python misses a signal that comes between its last look and the sleep
        t.type("import time; exec(\"print('re' + 'ady')\\nwhile True: time.sleep(0.1)\")\r")
        t.expect(r"ready\r\n")
        t.type("\x03")
        t.expect("KeyboardInterrupt")
        t.expect(">>> ")
        t.type("exit(5)\r")
        assert t.wait() == 5


def test_ctrl_c_ends_a_plain_command(sandbox: Sandbox, native_or_not: bool) -> None:
    with start(sandbox, ["sh", "-c", "echo ready; exec sleep 100"], native_or_not) as t:
        t.expect(r"ready\r\n")
        t.type("\x03")
        assert t.wait() == 130


def test_hangup(sandbox: Sandbox, native_or_not: bool) -> None:
    with bash(sandbox, native_or_not) as t:
        status = None
        for _ in range(20):  # bash misses one that comes right before it reads
            os.kill(t.pid, signal.SIGHUP)
            status = t.ended(1)
            if status is not None:
                break
        assert status == 129


def test_guest_pty(sandbox: Sandbox) -> None:
    """A terminal made inside: script(1) opens /dev/ptmx."""
    done = sandbox.run(["script", "-qec", "tty; stty size; test -t 0 && echo terminal", "/dev/null"], data=b"")
    assert done.status == 0
    assert "/dev/pts/" in done.out
    assert "terminal" in done.out


def test_ctrl_z_of_a_plain_command(sandbox: Sandbox, native_or_not: bool) -> None:
    """The caller's shell stops and continues the command like any other: the front stops itself when the command has."""
    env = {**os.environ, **ENVIRONMENT, "TERM": "xterm", "PS1": "sh> "}
    command = ["cat"] if native_or_not else sandbox.argv(["cat"])
    with Terminal(["bash", "--norc", "--noprofile", "-i"], sandbox.cwd, env) as t:
        t.expect(PROMPT)
        t.type(" ".join(command) + "\r")
        t.expect("cat\r\n")
        time.sleep(1)
        t.type("one\r")
        t.expect("one\r\none\r\n")
        t.type("\x1a")
        t.expect("Stopped")
        t.expect(PROMPT)
        t.type("echo st''atus $?\r")
        t.expect(f"status {128 + signal.SIGTSTP if native_or_not else 128 + signal.SIGSTOP}")
        t.expect(PROMPT)
        t.type("bg; sleep 1.5; jobs\r")  # a background job that reads the terminal stops again
        t.expect("Stopped")
        t.expect(PROMPT)
        t.type("fg\r")
        t.expect("cat\r\n")
        t.type("two\r")
        t.expect("two\r\ntwo\r\n")
        t.type("\x04")
        t.expect(PROMPT)
        t.type("exit\r")
        assert t.wait() == 0


def test_background_job_leaves_the_modes_alone(sandbox: Sandbox, native_or_not: bool) -> None:
    """It stops when it wants to change them; in the foreground it goes on."""
    env = {**os.environ, **ENVIRONMENT, "TERM": "xterm", "PS1": "sh> "}
    command = ["stty", "-onlcr"]
    with Terminal(["bash", "--norc", "--noprofile", "-i"], sandbox.cwd, env) as t:
        t.expect(PROMPT)
        t.type(" ".join(command if native_or_not else sandbox.argv(command)) + " & sleep 1; jobs; stty -a\r")
        t.expect("Stopped")
        t.expect(" onlcr")
        t.expect(PROMPT)
        t.type("fg; stty -a\r")
        t.expect(" -onlcr")
        t.type("exit 0\r")
        assert t.wait() == 0


def test_ctrl_z_without_a_shell(sandbox: Sandbox) -> None:
    """Nobody would continue a job whose shell is gone, so that nothing stops."""
    env = {**os.environ, **ENVIRONMENT, "TERM": "xterm"}
    with Terminal(sandbox.argv(["sh", "-c", "echo ready; sleep 2; echo on"]), sandbox.cwd, env) as t:
        t.expect("ready")
        t.type("\x1a")
        t.expect("on\r\n")
        assert t.wait() == 0

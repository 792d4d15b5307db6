"""The calls of the control protocol, each against a real sentry."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from tests.control.harness import ControlError, Sandbox

SERVICE = ["sh", "-c", "trap 'echo term; exit 7' TERM; echo up; while :; do sleep 0.1; done"]


def until(condition: object, seconds: float = 10) -> None:
    """Waits until a function returns something true."""
    end = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < end, "it did not come true"
        time.sleep(0.02)


def test_create_and_start_are_two_steps(tmp_path: Path) -> None:
    with Sandbox(tmp_path, ["echo", "hello"], start=False) as s:
        s.line.ready()
        with s.connect() as c:
            assert c.state("c") == {"status": "created", "pid": 1, "status_of_init": None}
            assert [(p["pid"], p["command"], p["args"]) for p in c.ps("c")] == [
                (1, "echo", ["echo", "hello"])
            ]
            time.sleep(0.1)
            assert s.output == []
            ended = c.request_wait("c")
            c.start("c")
            assert c.answer(ended)["exit"] == 0
        assert s.text() == "hello\n"
        assert s.sentry.wait(10) == 0


def test_exit_by_signal_and_status(tmp_path: Path) -> None:
    with Sandbox(tmp_path, ["sh", "-c", "read x; exit 3"]) as s:
        assert s.line.wait("c")["exit"] == 3


@pytest.mark.parametrize(
    ("command", "code", "status"),
    [
        (["nothing"], "not-found", 127),
        (["/bin/nothing"], "not-found", 127),
        (["/etc/plain"], "not-executable", 126),
        (["/etc"], "not-executable", 126),
    ],
)
def test_create_says_what_cannot_be_executed(
    tmp_path: Path, command: list[str], code: str, status: int
) -> None:
    from tests.control.harness import make_root

    make_root(tmp_path / "root")
    (tmp_path / "root/etc/plain").write_text("x")
    with Sandbox(tmp_path, command, start=False) as s:
        with pytest.raises(ControlError) as e:
            s.line.ready()
        assert (e.value.code, e.value.status) == (code, status)
        assert command[0] in e.value.message
        assert s.sentry.wait(10) == 1


def test_exec(tmp_path: Path) -> None:
    with Sandbox(tmp_path, SERVICE) as s:
        how, text = s.run(["sh", "-c", "cat; echo $PPID $A; exit 4"], b"data\n", env=["PATH=/bin", "A=b c"])
        assert how["exit"] == 4
        assert text == "data\n0 b c\n"
        how, text = s.run(["sh", "-c", "kill -9 $$"])
        assert how["killed"] == 9
        with pytest.raises(ControlError) as e:
            s.run(["nothing"])
        assert e.value.code == "not-found"
        with pytest.raises(ControlError) as e:
            s.run(["true"], cwd="/nowhere")
        assert e.value.message == "working directory /nowhere: no such file or directory"


def test_exec_with_identity(tmp_path: Path) -> None:
    with Sandbox(tmp_path, SERVICE) as s:
        how, text = s.run(
            ["sh", "-c", "id; umask; pwd; ulimit -n; cat /proc/self/status; cat /proc/self/oom_score_adj"],
            uid=1000,
            gid=1001,
            groups=[7, 8],
            umask=0o27,
            cwd="/etc",
            limits={"NOFILE": [100, 200]},
            capabilities={"bounding": ["CAP_KILL", "CAP_CHOWN"]},
            no_new_privs=True,
            oom_score_adj=500,
        )
        assert how["exit"] == 0
        lines = text.splitlines()
        assert lines[0].replace("1001,", "") == "uid=1000 gid=1001 groups=7,8"
        assert lines[1:4] == ["0027", "/etc", "100"]
        assert "CapBnd:\t0000000000000021" in lines
        assert "CapEff:\t0000000000000000" in lines
        assert "NoNewPrivs:\t1" in lines
        assert lines[-1] == "500"


def test_root_has_the_capabilities_of_its_bounding_set(tmp_path: Path) -> None:
    caps = ["CAP_CHOWN", "CAP_SETUID"]
    with Sandbox(tmp_path, SERVICE) as s:
        sets = {"bounding": caps, "permitted": caps, "effective": caps}
        _, text = s.run(["sh", "-c", "grep Cap /proc/self/status; hostname other"], capabilities=sets)
        assert "CapEff:\t0000000000000081" in text
        assert "hostname: sethostname: Operation not permitted" in text


def test_status_is_kept(tmp_path: Path) -> None:
    with Sandbox(tmp_path, SERVICE) as s, s.connect() as c:
        null = os.open("/dev/null", os.O_RDWR)
        from tests.control.harness import process

        pid = c.exec("c", process(["sh", "-c", "exit 9"]), [null, null, null])
        os.close(null)
        assert c.wait("c", pid)["exit"] == 9
        assert c.wait("c", pid)["exit"] == 9
        with pytest.raises(ControlError, match="no such process"):
            c.signal("c", signal.SIGTERM, pid)
        with pytest.raises(ControlError, match="no process 4711 was started"):
            c.wait("c", 4711)


def test_signals(tmp_path: Path) -> None:
    with Sandbox(tmp_path, SERVICE) as s, s.connect() as c:
        until(lambda: b"up\n" in b"".join(s.output))
        c.signal("c", signal.SIGUSR1)  # an init ignores what it has no handler for
        time.sleep(0.1)
        assert c.state("c")["status"] == "running"
        ended = c.request_wait("c")
        c.signal("c", signal.SIGTERM)
        assert c.answer(ended)["exit"] == 7


def test_kill_reaches_an_init_from_outside_only(tmp_path: Path) -> None:
    with Sandbox(tmp_path, ["sh", "-c", "kill -9 $$; echo survived; sleep 100"]) as s, s.connect() as c:
        until(lambda: b"survived\n" in b"".join(s.output))
        ended = c.request_wait("c")
        c.signal("c", signal.SIGKILL)
        assert c.answer(ended)["killed"] == 9


def test_kill_of_a_created_container(tmp_path: Path) -> None:
    with Sandbox(tmp_path, ["sleep", "100"], start=False) as s, s.connect() as c:
        ended = c.request_wait("c")
        c.signal("c", signal.SIGKILL)
        assert c.answer(ended)["killed"] == 9
        assert s.sentry.wait(10) == 0


def test_signal_to_all(tmp_path: Path) -> None:
    with (
        Sandbox(tmp_path, ["sh", "-c", "trap 'exit 5' USR1; sleep 100 & sleep 100 & wait; wait"]) as s,
        s.connect() as c,
    ):
        until(lambda: len(c.ps("c")) == 3)
        ended = c.request_wait("c")
        c.signal("c", signal.SIGUSR1, mode="all")
        assert c.answer(ended)["exit"] == 5


def test_pause(tmp_path: Path) -> None:
    count = "i=0; while :; do i=$((i+1)); echo $i > /tmp/n; done & while :; do sleep 0.01; cat /proc/uptime > /tmp/t; done"
    with Sandbox(tmp_path, ["sh", "-c", count]) as s, s.connect() as c:
        progress = [s.root / "tmp/n", s.root / "tmp/t"]
        until(lambda: all(p.exists() for p in progress))
        c.pause("c")
        assert c.state("c")["status"] == "paused"
        before = [p.read_text() for p in progress]
        time.sleep(0.5)
        assert [p.read_text() for p in progress] == before
        with pytest.raises(ControlError, match="is paused"):
            s.run(["true"])
        c.resume("c")
        assert c.state("c")["status"] == "running"
        until(lambda: all(p.read_text() not in (b, "") for p, b in zip(progress, before, strict=True)))
        c.pause("c")
        ended = c.request_wait("c")
        c.signal("c", signal.SIGKILL)
        assert c.answer(ended)["killed"] == 9


def test_stats_and_limits(tmp_path: Path) -> None:
    # The first process must not fork itself: at the limit it would fail, and its end is everybody's.
    with Sandbox(tmp_path, ["sleep", "1000"], container={"pids": 20}) as s, s.connect() as c:
        stats = c.stats("c")
        assert stats["pids"]["limit"] == 20
        assert stats["pids"]["current"] >= 1
        assert stats["memory"]["peak"] > 0
        c.update("c", pids=5)
        # They last as long as it takes, however slow the machine; only the shell has the pipe, so its end is the end of the text.
        how, text = s.run(["sh", "-c", "for i in 1 2 3 4 5 6 7; do sleep 1000 >/dev/null 2>&1 & done"])
        assert "fork" in text
        assert "pids" in how["exceeded"]
        c.update("c", pids=0)
        assert c.stats("c")["pids"]["limit"] == 0


def test_memory_limit(tmp_path: Path) -> None:
    hog = ["sh", "-c", "x=xxxxxxxxxxxxxxxx; while :; do x=$x$x; done"]
    with Sandbox(tmp_path, hog, container={"memory": 32 << 20}, start=False) as s, s.connect() as c:
        events = s.connect()
        happened = events.events("c")
        ident = events.request("events", {"container": "c"})
        c.start("c")
        how = c.wait("c")
        assert how["oom"] is True
        assert how["killed"] == 9
        assert events.next_for(ident)["event"] == {"event": "oom", "container": "c"}
        happened.close()
        events.close()


def test_events(tmp_path: Path) -> None:
    with Sandbox(tmp_path, SERVICE) as s, s.connect() as e:
        seen = e.events()
        s.line.ready()
        until(lambda: b"up\n" in b"".join(s.output))
        ident = e.request("events", {})
        with s.connect() as c:
            c.containers()
        s.run(["sh", "-c", "exit 2"])
        first = e.next_for(ident)["event"]
        assert (first["event"], first["exit"]) == ("exec-exit", 2)
        with s.connect() as c:
            c.signal("c", signal.SIGSTOP)
            assert e.next_for(ident)["event"] == {
                "event": "stopped",
                "container": "c",
                "pid": 1,
                "signal": signal.SIGSTOP,
            }
            c.signal("c", signal.SIGCONT)
            assert e.next_for(ident)["event"]["event"] == "continued"
            c.signal("c", signal.SIGTERM)
        assert e.next_for(ident)["event"]["event"] == "exit"
        seen.close()


def test_tied_processes_end_with_the_connection(tmp_path: Path) -> None:
    from tests.control.harness import process

    with Sandbox(tmp_path, SERVICE) as s, s.connect() as c:
        null = os.open("/dev/null", os.O_RDWR)
        with s.connect() as other:
            pid = other.exec("c", process(["sleep", "100"]), [null, null, null], tie=True)
        os.close(null)
        assert c.wait("c", pid)["killed"] == 9


def test_the_owner_s_line_ends_the_sandbox(tmp_path: Path) -> None:
    with Sandbox(tmp_path, SERVICE) as s:
        s.line.ready()
        s.line.close()
        assert s.sentry.wait(10) == 0


def test_preserved_descriptors(tmp_path: Path) -> None:
    r, w = os.pipe()
    with Sandbox(tmp_path, ["sh", "-c", "echo three >&3"], process={"preserve": [w]}, fds=[w]) as s:
        os.close(w)
        assert os.read(r, 100) == b"three\n"
        assert s.line.wait("c")["exit"] == 0
    os.close(r)


def test_init_takes_everything_along(tmp_path: Path) -> None:
    with Sandbox(tmp_path, ["sh", "-c", "sleep 100 & setsid sleep 100 & read x < /tmp/none; exit 0"]) as s:
        assert s.line.wait("c")["exit"] == 0
        assert s.sentry.wait(10) == 0


def test_unknown_things(tmp_path: Path) -> None:
    with Sandbox(tmp_path, SERVICE) as s, s.connect() as c:
        for call, args, code in (
            ("nothing", {}, "unknown-call"),
            ("start", {"container": "x"}, "no-container"),
            ("start", {"container": "c"}, "not-running"),
            ("start", {"container": "c", "more": 1}, "bad-argument"),
            ("start", {"container": 3}, "bad-argument"),
            ("start", [], "bad-argument"),
            ("signal", {"container": "c", "signal": 65}, "bad-argument"),
            ("signal", {"container": "c", "signal": 1, "mode": "x"}, "bad-argument"),
            ("signal", {"container": "c", "signal": 1, "pid": 999}, "no-process"),
            ("resume", {"container": "c"}, "not-running"),
            ("resize", {"container": "c"}, "bad-argument"),
            ("exec", {"container": "c", "process": {}}, "bad-argument"),
            ("exec", {"container": "c", "process": {"args": ["true"], "stdio": [0, 1, 2]}}, "bad-argument"),
        ):
            with pytest.raises(ControlError) as e:
                c.call(call, args)  # type: ignore[arg-type]
            assert e.value.code == code, (call, args, e.value.message)
            assert e.value.message


def test_calls_that_sleep_do_not_notice_a_pause(tmp_path: Path) -> None:
    script = "(sleep 1; echo slept $?) & cat; echo $?; wait"
    source, feed = os.pipe()
    with Sandbox(tmp_path, SERVICE) as s, s.connect() as c:
        out, write = os.pipe()
        from tests.control.harness import process

        pid = c.exec("c", process(["sh", "-c", script]), [source, write, write])
        for fd in (source, write):
            os.close(fd)
        time.sleep(0.4)
        c.pause("c")
        os.write(feed, b"data\n")
        time.sleep(1.2)
        os.set_blocking(out, False)
        with pytest.raises(BlockingIOError):
            os.read(out, 100)
        os.set_blocking(out, True)
        c.resume("c")
        os.close(feed)
        text = b""
        while data := os.read(out, 100):
            text += data
        os.close(out)
        assert sorted(text.split(b"\n")) == [b"", b"0", b"data", b"slept 0"]
        assert c.wait("c", pid)["exit"] == 0


def test_the_sandbox_s_memory_limit_stays(tmp_path: Path) -> None:
    with (
        Sandbox(tmp_path, SERVICE, spec={"memory": 64 << 20}, container={"memory": 64 << 20}) as s,
        s.connect() as c,
    ):
        for memory in (65 << 20, 0):
            with pytest.raises(ControlError, match="cannot be raised above the 67108864 bytes"):
                c.update("c", memory=memory)
        c.update("c", memory=32 << 20)
        assert c.stats("c")["memory"]["limit"] == 32 << 20
        how, _ = s.run(["sh", "-c", "x=xxxxxxxxxxxxxxxx; while :; do x=$x$x; done"])
        assert how["killed"] == 9
        assert how["oom"] is True

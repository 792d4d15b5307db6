"""The runtime commands themselves, on bundles made by hand: life cycle, errors, races, crashes, garbage."""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from cordon.oci import default
from tests.harness import CORDON, Done
from tests.oci.conftest import Runtime, eventually

pytestmark = [pytest.mark.needs("busybox"), pytest.mark.root]


def test_life(runtime: Runtime) -> None:
    """create, state, start, kill, state, delete: each status in its turn."""
    pid = runtime.create("a", "sleep", "1000")
    state = runtime.state("a")
    assert state["status"] == "created"
    assert state["bundle"] == str(runtime.where / "a")
    assert state["rootfs"] == str(runtime.rootfs)
    assert "time" not in state
    assert Path(f"/proc/{pid}").exists()
    runtime.ok("start", "a")
    assert runtime.status("a") == "running"
    assert (
        runtime("start", "a").err
        == 'cordon: cannot start container "a": it was started already and is running\n'
    )
    assert "not stopped" in runtime("delete", "a").err
    (listed,) = json.loads(runtime.ok("list", "--format", "json"))
    assert (listed["id"], listed["status"], listed["pid"]) == ("a", "running", pid)
    assert pid in json.loads(runtime.ok("ps", "--format=json", "a"))
    assert "sleep 1000" in runtime.ok("ps", "a")
    runtime.ok("pause", "a")
    assert runtime.status("a") == "paused"
    runtime.ok("resume", "a")
    stats = json.loads(runtime.ok("events", "--stats", "a"))
    assert stats["data"]["pids"]["current"] == 1
    runtime.ok("kill", "a", "KILL")
    assert runtime("wait", "a").status == 137
    assert runtime.status("a") == "stopped"
    assert "container not running" in runtime("kill", "a", "TERM").err
    runtime.ok("delete", "a")
    assert "does not exist" in runtime("state", "a").err
    assert runtime("delete", "a").status == 1
    assert runtime("delete", "--force", "a").status == 0


def test_run_and_exec(runtime: Runtime) -> None:
    d = runtime("run", "--bundle", runtime.bundle("r", "sh", "-c", "echo out; echo err >&2; exit 7"), "r")
    assert d == Done(7, "out\n", "err\n")
    runtime.create("e", "sleep", "1000")
    assert "it is created" in runtime("exec", "e", "true").err
    runtime.ok("start", "e")
    assert runtime(
        "exec",
        "-e",
        "A=b",
        "--cwd=/tmp",
        "-user",
        "5:6",
        "e",
        "sh",
        "-c",
        "echo $A; pwd; id -u; id -g; exit 3",
    ) == Done(3, "b\n/tmp\n5\n6\n", "")
    assert runtime("exec", "e", "nope").status == 127
    assert runtime("exec", "e", "/etc").status == 126
    pid_file = runtime.where / "pid"
    null = subprocess.DEVNULL
    subprocess.run(
        [CORDON, "--root", runtime.root, "exec", "--detach", "--pid-file", pid_file, "e", "sleep", "500"],
        stdin=null, stdout=null, stderr=null, check=True, timeout=60,
    )  # fmt: skip
    pid = int(pid_file.read_text())
    assert "sleep 500" in runtime.ok("ps", "e")
    os.kill(pid, signal.SIGTERM)  # forwarded to the guest process
    eventually("it ended", lambda: "sleep 500" not in runtime.ok("ps", "e"))


def test_abbreviated_ids(runtime: Runtime) -> None:
    runtime.create("alpha-1")
    runtime.create("alpha-2")
    assert runtime.state("alpha-1")["id"] == "alpha-1"
    assert "begins 2 ids" in runtime("state", "alp").err
    runtime.ok("delete", "alpha-1")
    assert runtime.state("alp")["id"] == "alpha-2"
    runtime.ok("delete", "--force", "alp")  # never by abbreviation
    assert runtime.status("alpha-2") == "created"


def test_pid_file_process_forwards_and_takes_along(runtime: Runtime) -> None:
    pid = runtime.create("p", "sh", "-c", "trap 'exit 9' USR2; while :; do sleep 0.05; done")
    runtime.ok("start", "p")
    time.sleep(0.5)
    os.kill(pid, signal.SIGUSR2)
    assert runtime("wait", "p").status == 9
    runtime.ok("delete", "p")
    pid = runtime.create("q", "sleep", "1000")
    runtime.ok("start", "q")
    os.kill(pid, signal.SIGKILL)
    eventually("nothing of it runs", lambda: not runtime.processes())
    assert runtime.status("q") == "stopped"
    runtime.ok("delete", "q")


@pytest.mark.parametrize("victim", ["gofer of", "sentry of"])
def test_a_dead_part_ends_the_container(runtime: Runtime, victim: str) -> None:
    runtime.create("v", "sleep", "1000")
    runtime.ok("start", "v")
    strike(f"cordon: {victim} v\0")
    assert runtime("wait", "v").status == 137
    assert runtime.status("v") == "stopped"
    runtime.ok("delete", "v")


@pytest.mark.parametrize(
    ("command", "status", "text"),
    [
        (["nope"], 127, "no such file or directory"),
        (["/no/such"], 127, "no such file or directory"),
        (["/etc/passwd"], 126, "permission denied"),
    ],
)
def test_create_reports_the_executable(runtime: Runtime, command: list[str], status: int, text: str) -> None:
    log = runtime.where / "log.json"
    d = runtime("--log", str(log), "--log-format=json", "create", "-b", runtime.bundle("x", *command), "x")
    assert d.status == status
    assert text in d.err
    line = json.loads(log.read_text().splitlines()[-1])
    assert line["level"] == "error"
    assert text in line["msg"]
    assert not os.listdir(runtime.root)


def test_console_socket(runtime: Runtime) -> None:
    """The master comes by the socket; size and ^C are the terminal's."""
    path = str(runtime.where / "console")
    server = socket.socket(socket.AF_UNIX)
    server.bind(path)
    server.listen()
    document = default.document()["process"]
    document.update({"args": ["sh"], "consoleSize": {"height": 33, "width": 77}})
    bundle = runtime.bundle("t", process=document)
    assert runtime("create", "-b", bundle, "t").err.endswith("--console-socket is needed\n")
    runtime.ok("create", "-b", bundle, "--console-socket", path, "t")
    connection, _ = server.accept()
    _, fds, _, _ = socket.recv_fds(connection, 100, 1)
    runtime.ok("start", "t")
    os.write(fds[0], b"stty size; exit 5\n")
    seen = b""
    try:
        while data := os.read(fds[0], 4096):
            seen += data
    except OSError:
        pass
    assert b"33 77" in seen
    assert runtime("wait", "t").status == 5
    os.close(fds[0])
    server.close()
    connection.close()


def test_hooks(runtime: Runtime) -> None:
    """All on the host at their moments, with the state on stdin."""
    log = runtime.where / "hooks"

    def hook(moment: str) -> dict[str, Any]:
        script = f"s=$(/bin/busybox cat | /bin/busybox tr -d '\\n'); echo {moment} $s >> {log}"
        return {"path": "/bin/busybox", "args": ["sh", "-c", script]}

    moments = ("prestart", "createRuntime", "createContainer", "poststart", "poststop")
    hooks = {moment: [hook(moment)] for moment in moments}
    pid = runtime.create("h", "sleep", "1000", hooks=hooks)
    runtime.ok("start", "h")
    runtime.ok("delete", "--force", "h")
    lines = [line.partition(" ") for line in log.read_text().splitlines()]
    assert [line[0] for line in lines] == list(moments)
    states = [json.loads(line[2]) for line in lines]
    assert [s["status"] for s in states] == ["created", "creating", "creating", "running", "stopped"]
    assert all(s["id"] == "h" and s["pid"] in (pid, 0) for s in states)


def test_hooks_in_the_container(runtime: Runtime) -> None:
    """startContainer runs as a guest program, with the state on stdin; a failure stops the container."""
    script = 'read s; [ -n "$s" ] && [ $$ != 1 ] && [ ! -e /etc/os-release ] && echo fine > /dev/shm/hook'
    hooks = {"startContainer": [{"path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/bin"]}]}
    d = runtime("run", "-b", runtime.bundle("s", "cat", "/dev/shm/hook", hooks=hooks), "s")
    assert d == Done(0, "fine\n", "")
    hooks["startContainer"][0]["args"] = ["sh", "-c", "echo no luck >&2; exit 3"]
    runtime.create("s", "true", hooks=hooks)
    assert runtime("start", "s").err == "cordon: startContainer hook /bin/sh: ended with status 3: no luck\n"
    assert runtime.status("s") == "stopped"


def test_a_failing_hook_stops_the_creation(runtime: Runtime) -> None:
    hooks = {"createRuntime": [{"path": "/bin/busybox", "args": ["sh", "-c", "echo no luck >&2; exit 3"]}]}
    d = runtime("create", "-b", runtime.bundle("f", hooks=hooks), "f")
    assert d.status == 1
    assert d.err == "cordon: createRuntime hook /bin/busybox: ended with status 3: no luck\n"
    hooks = {"prestart": [{"path": "/bin/busybox", "args": ["sleep", "100"], "timeout": 1}]}
    assert "time limit" in runtime("create", "-b", runtime.bundle("f", hooks=hooks), "f").err
    assert not os.listdir(runtime.root)


@pytest.mark.parametrize("cid", ["", "a/b", "../x", "a b", "a\nb", "\x1b[31m", "x" * 300, ".", ".."])
def test_bad_ids(runtime: Runtime, cid: str) -> None:
    bundle = runtime.bundle("ok")
    for verb in (
        ["create", "-b", bundle],
        ["start"],
        ["state"],
        ["kill"],
        ["delete"],
        ["delete", "--force"],
        ["exec"],
    ):
        d = runtime(*verb, "--", cid, *(["true"] if verb == ["exec"] else []))
        assert d.status in (1, 2), (verb, d)
        assert d.err.startswith("cordon: ")
        assert d.err.count("\n") == 1
        assert "\x1b" not in d.err
    assert not runtime.root.exists() or not os.listdir(runtime.root)


def test_garbage_bundles(runtime: Runtime) -> None:
    b = runtime.where / "g"
    b.mkdir()
    for text in ("", "{", "[]", '{"ociVersion": "1.0.2"}', "\x00" * 100, "[" * 100000):
        (b / "config.json").write_text(text)
        d = runtime("create", "-b", str(b), "g")
        assert d.status == 1
        assert d.err.count("\n") == 1
    assert "no such directory" in runtime("create", "-b", str(runtime.where / "nope"), "g").err
    assert "not a directory" in runtime("create", "-b", "/etc/passwd", "g").err
    bundle = runtime.bundle("g", root={"path": "/etc/passwd"})
    assert runtime("create", "-b", bundle, "g").err == "cordon: root /etc/passwd: not a directory\n"
    assert not runtime.root.exists() or not os.listdir(runtime.root)


def test_garbage_state_directories(runtime: Runtime, tmp_path: Path) -> None:
    root = runtime.root
    root.mkdir()
    root.chmod(0o711)
    (tmp_path / "elsewhere").mkdir()
    (root / "link").symlink_to(tmp_path / "elsewhere")
    (root / "file").write_text("x")
    (root / "empty").mkdir()
    (root / "bad").mkdir()
    (root / "bad" / "state.json").write_text('{"version": 99}')
    for cid in ("link", "file", "empty", "bad"):
        for verb in ("state", "start", "kill", "delete", "pause"):
            d = runtime(verb, cid)
            assert d.status == 1
            assert d.err.count("\n") == 1, d
    runtime.ok("list")
    for cid in ("empty", "bad"):
        runtime.ok("delete", "--force", cid)
    assert runtime("delete", "--force", "link").status == 1
    assert (tmp_path / "elsewhere").is_dir()
    (root / "link").unlink()
    (root / "file").unlink()
    not_a_directory = tmp_path / "root"
    not_a_directory.write_text("x")
    p = subprocess.run(
        [CORDON, "--root", not_a_directory, "list"], capture_output=True, text=True, timeout=30, check=False
    )
    assert p.returncode == 1
    assert "not a directory" in p.stderr


def test_races(runtime: Runtime) -> None:
    """Of two that create, start or delete at once, one wins and the other has an error."""
    bundle = runtime.bundle("w", "sleep", "1000")

    def both(*args: str) -> list[int]:
        with ThreadPoolExecutor(2) as pool:
            null = {"stdin": subprocess.DEVNULL}
            ended = list(pool.map(lambda _: subprocess.run(
                [CORDON, "--root", str(runtime.root), *args], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                timeout=60, check=False, **null,
            ).returncode, range(2)))  # fmt: skip
        return sorted(ended)

    assert both("create", "-b", bundle, "w") == [0, 1]
    assert both("start", "w") == [0, 1]
    runtime.ok("kill", "w", "9")
    runtime("wait", "w")
    assert both("delete", "w") == [0, 1]
    assert both("delete", "--force", "w") == [0, 0]


def test_creation_that_is_cut_off(runtime: Runtime) -> None:
    """`create` killed at any moment leaves what delete --force cleans."""
    for i in range(8):
        cid = f"cut{i}"
        bundle = runtime.bundle(cid, "sleep", "1000")
        p = subprocess.Popen(
            [CORDON, "--root", runtime.root, "create", "-b", bundle, cid], stdout=subprocess.DEVNULL
        )
        time.sleep(0.03 * (i + 1))
        p.kill()
        p.wait()
        runtime.ok("delete", "--force", cid)
    assert not os.listdir(runtime.root)


@pytest.mark.slow
def test_many_with_accidents(runtime: Runtime) -> None:
    """50 containers, 8 at a time, with random SIGKILLs of front, sentry and gofer: all delete cleanly and leave nothing."""
    seed = int(os.environ.get("SEED", "0")) or random.randrange(1 << 30)
    print("SEED", seed)
    problems: list[str] = []

    def one(i: int) -> None:
        r = random.Random(seed + i)
        cid = f"many{i}"
        null = subprocess.DEVNULL
        base = [CORDON, "--root", str(runtime.root)]

        def call(*args: str, kill_after: float = 0.0) -> int:
            p = subprocess.Popen([*base, *args], stdin=null, stdout=null, stderr=null)
            if kill_after:
                time.sleep(kill_after)
                p.kill()
            return p.wait(timeout=120)

        bundle = runtime.bundle(cid, "sh", "-c", "while :; do sleep 0.1; done")
        accident = r.choice(["none", "none", "front", "container", "gofer of", "sentry of"])
        status = call(
            "create", "-b", bundle, cid, kill_after=r.uniform(0.02, 1) if accident == "front" else 0
        )
        if accident != "front" and status:
            problems.append(f"{cid}: create ended with {status}")
        call("start", cid)
        if accident in ("container", "gofer of", "sentry of"):
            timer = threading.Timer(r.uniform(0, 0.5), strike, (f"cordon: {accident} {cid}\0",))
            timer.start()
        call("exec", cid, "true")
        if accident == "none":
            if call("exec", cid, "sh", "-c", "exit 5") != 5:
                problems.append(f"{cid}: exec did not end with 5")
            call("kill", cid, "KILL")
            if call("wait", cid) != 137:
                problems.append(f"{cid}: did not end with 137")
            if call("delete", cid):
                problems.append(f"{cid}: delete failed")
        elif accident != "front":
            timer.join()
            if call("wait", cid) != 137:
                problems.append(f"{cid}: {accident} was killed, but it did not end with 137")
        if call("delete", "--force", cid):
            problems.append(f"{cid}: delete --force failed after {accident}")

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(one, range(50)))
    assert not problems, f"seed {seed}: {problems}"


def strike(title: str) -> None:
    """SIGKILL to the process of that title."""
    for p in Path("/proc").glob("[0-9]*"):
        try:
            if (p / "cmdline").read_bytes().startswith(title.encode()):
                os.kill(int(p.name), signal.SIGKILL)
        except OSError:
            continue

"""Commands of the runtime beyond the life cycle: events, update, descriptors, consoles of executed processes, the watchdog, features."""

from __future__ import annotations

import fcntl
import json
import os
import resource
import signal
import socket
import struct
import subprocess
import termios
import time
from pathlib import Path
from typing import Any

import pytest

from cordon.oci import default
from tests.harness import CORDON, Done
from tests.oci.conftest import Runtime, eventually

pytestmark = [pytest.mark.needs("busybox"), pytest.mark.root]


def started(runtime: Runtime, cid: str, *command: str, **changes: Any) -> int:
    pid = runtime.create(cid, *command, **changes)
    runtime.ok("start", cid)
    return pid


def background(runtime: Runtime, *args: str) -> subprocess.Popen[str]:
    argv = [CORDON, "--root", str(runtime.root), *args]
    return subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)


def children(title: str) -> list[int]:
    """A process by its title, and those below it."""
    for p in Path("/proc").glob("[0-9]*"):
        try:
            if (p / "cmdline").read_bytes().startswith(title.encode() + b"\0"):
                below = (p / "task" / p.name / "children").read_text().split()
                return [int(p.name), *map(int, below)]
        except OSError:
            continue
    return []


def test_events(runtime: Runtime) -> None:
    """Usage at once and every interval, what happens as it comes, and the end."""
    started(runtime, "e", "sh", "-c", "while :; do sleep 0.1; done")
    p = background(runtime, "events", "--interval", "200ms", "e")
    assert p.stdout is not None
    began = time.monotonic()
    seen = [json.loads(p.stdout.readline()) for _ in range(5)]
    assert 0.7 < time.monotonic() - began < 10
    assert {(s["type"], s["id"]) for s in seen} == {("stats", "e")}
    cpu = [s["data"]["cpu"]["usage"]["total"] for s in seen]
    assert cpu == sorted(cpu)
    assert cpu[-1] > cpu[0] > 0
    assert seen[0]["data"]["memory"]["usage"]["usage"] > 0
    runtime.ok("kill", "e", "KILL")
    rest = [json.loads(line) for line in p.stdout]
    assert p.wait(30) == 0
    assert [(e["type"], e["data"]["killed"]) for e in rest if e["type"] != "stats"] == [("exit", 9)]
    assert "container not running" in runtime("events", "--stats", "e").err
    for wrong in ("0s", "nan", "5", "x", "-1s", "1y"):
        assert runtime("events", "--interval", wrong, "e").status == (2 if wrong != "5" else 1)


def test_out_of_memory_is_an_event(runtime: Runtime) -> None:
    linux = {**default.document()["linux"], "resources": {"memory": {"limit": 40 << 20}}}
    runtime.create("o", "tail", "/dev/zero", linux=linux)
    p = background(runtime, "events", "--interval", "1h", "o")
    assert p.stdout is not None
    assert json.loads(p.stdout.readline())["type"] == "stats"
    runtime.ok("start", "o")
    kinds = [json.loads(line)["type"] for line in p.stdout]
    assert p.wait(30) == 0
    assert kinds.index("oom") < kinds.index("exit")
    assert runtime("wait", "o").status == 137


def test_update(runtime: Runtime) -> None:
    """Limits by a file, by standard input, as containerd spells it; the sentry holds them."""
    document = default.document()
    linux = {**document["linux"], "resources": {"pids": {"limit": 3}}}
    mounts = [*document["mounts"], {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup"}]
    started(runtime, "u", "sleep", "1000", linux=linux, mounts=mounts)
    five = ("exec", "u", "sh", "-c", "for i in 1 2 3 4 5; do sleep 0.3 & done; wait")
    assert "can't fork" in runtime(*five).err
    (runtime.where / "more").write_text(json.dumps({"pids": {"limit": 20}}))
    runtime.ok("update", f"--resources={runtime.where}/more", "u")
    assert runtime(*five).status == 0
    limit = {"memory": {"limit": 64 << 20}}
    for spelling in (("--resources", "-"), ("--resources=-",), ("-r", "-")):
        argv = [CORDON, "--root", str(runtime.root), "update", *spelling, "u"]
        subprocess.run(argv, input=json.dumps(limit).encode(), check=True, timeout=60)
        stats = json.loads(runtime.ok("events", "--stats", "u"))["data"]
        assert stats["memory"]["usage"]["limit"] == limit["memory"]["limit"]
        limit["memory"]["limit"] += 1 << 20
    assert stats["pids"]["limit"] == 20
    assert runtime("exec", "u", "tail", "/dev/zero").status == 137
    (runtime.where / "bad").write_text('{"pids": {"limit": "many"}}')
    assert "pids.limit is not an integer" in runtime("update", "-r", f"{runtime.where}/bad", "u").err


def test_preserved_descriptors(runtime: Runtime) -> None:
    """run and exec hand 3, 4, ... on and nothing else that the caller had open."""
    (runtime.where / "f").write_text("three\n")
    (runtime.where / "g").write_text("four\n")
    fds = [os.open(runtime.where / name, os.O_RDONLY) for name in ("f", "g", "g")]
    script = "cat <&3; [ ! -e /proc/self/fd/5 ] && ls /proc/self/fd | wc -l"

    def call(*args: str) -> Done:
        for fd in fds:
            os.lseek(fd, 0, os.SEEK_SET)
        # the shell puts them at 3, 4 and 5, whatever they are here
        shell = "exec " + " ".join(f"{33 + i}<&{fd}" for i, fd in enumerate(fds)) + (
            "; exec 3<&33 4<&34 5<&35 33<&- 34<&- 35<&-; exec \"$@\""
        )
        argv = ["bash", "-c", shell, "-", CORDON, "--root", str(runtime.root), *args]
        p = subprocess.run(argv, pass_fds=fds, capture_output=True, text=True, timeout=60, check=False)
        return Done(p.returncode, p.stdout, p.stderr)

    bundle = runtime.bundle("p", "sh", "-c", script)
    # 0-4, and the directory that ls reads
    assert call("run", "--preserve-fds", "2", "-b", bundle, "p") == Done(0, "three\n6\n", "")
    started(runtime, "x", "sleep", "1000")
    assert call("exec", "--preserve-fds=1", "x", "sh", "-c", script) == Done(0, "three\n5\n", "")
    d = runtime("run", "--preserve-fds", "50", "-b", bundle, "q")
    assert d.err == "cordon: --preserve-fds 50: descriptor 3 is not open\n"
    for fd in fds:
        os.close(fd)


def test_exec_with_a_console_socket(runtime: Runtime) -> None:
    """The process's terminal comes by the socket; its size is consoleSize's, a new one reaches the program."""
    started(runtime, "c", "sleep", "1000")
    path = str(runtime.where / "s")
    server = socket.socket(socket.AF_UNIX)
    server.bind(path)
    server.listen()
    process = {"terminal": True, "consoleSize": {"height": 22, "width": 66}, "cwd": "/", "user": {"uid": 0, "gid": 0},
               "args": ["sh", "-c", "stty size; trap 'stty size; exit 8' WINCH; while :; do sleep 0.05; done"],
               "env": ["PATH=/bin"]}  # fmt: skip
    (runtime.where / "process").write_text(json.dumps(process))
    pid_file = runtime.where / "pid"
    words = ("--process", str(runtime.where / "process"), "--detach", "--pid-file", str(pid_file))
    runtime.ok("exec", *words, "--console-socket", path, "c")
    connection, _ = server.accept()
    _, (master, *_), _, _ = socket.recv_fds(connection, 100, 1)
    assert os.read(master, 100).split() == [b"22", b"66"]
    time.sleep(0.3)
    lines, columns = 44, 88
    fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
    os.kill(int(pid_file.read_text()), signal.SIGWINCH)
    assert os.read(master, 100).split() == [b"44", b"88"]
    for s in (server, connection):
        s.close()
    os.close(master)


@pytest.mark.parametrize("ends", [False, True])
def test_watchdog(runtime: Runtime, ends: bool) -> None:
    """A gofer that doesn't answer: the stuck task with its stacks in the log; by flag the sandbox ends."""
    (runtime.where / "shared").mkdir()
    bind = {"destination": "/tmp", "type": "bind", "source": f"{runtime.where}/shared", "options": ["rbind", "rw"]}
    script = "while :; do mkdir /tmp/d; rmdir /tmp/d; sleep 0.05; done"
    bundle = runtime.bundle("w", "sh", "-c", script, mounts=[*default.document()["mounts"], bind])
    flags = ["--watchdog", "1", *(["--watchdog-ends"] if ends else [])]
    null = subprocess.DEVNULL
    errors = runtime.where / "errors.log"
    argv = [CORDON, "--root", str(runtime.root), "--log", str(errors), *flags, "create", "-b", bundle, "w"]
    subprocess.run(argv, stdin=null, stdout=null, stderr=null, check=True, timeout=60)
    runtime.ok("start", "w")
    log = runtime.root / "w" / "log"
    gofer = children("cordon: gofer of w")
    assert gofer
    try:
        for pid in gofer:
            os.kill(pid, signal.SIGSTOP)
        eventually("it is in the log", lambda: "the kernel has been busy for" in log.read_text())
        assert "thread" in log.read_text()
        if ends:
            eventually("it ended", lambda: runtime.status("w") == "stopped")
            assert runtime("wait", "w").status == 137
    finally:
        for pid in gofer:
            try:
                os.kill(pid, signal.SIGCONT)
            except ProcessLookupError:
                pass
    if not ends:
        assert runtime("exec", "w", "echo", "on").out == "on\n"
    else:
        assert "its kernel was stuck" in errors.read_text()


def test_a_dead_gofer_is_in_the_log(runtime: Runtime) -> None:
    log = runtime.where / "log"
    bundle = runtime.bundle("g", "sleep", "1000")
    null = subprocess.DEVNULL
    argv = [CORDON, "--root", str(runtime.root), "--log", str(log), "create", "-b", bundle, "g"]
    subprocess.run(argv, stdin=null, stdout=null, stderr=null, check=True, timeout=60)
    runtime.ok("start", "g")
    for pid in children("cordon: gofer of g"):
        os.kill(pid, signal.SIGKILL)
    assert runtime("wait", "g").status == 137
    eventually("a sentence", lambda: "gofer" in log.read_text())


def test_all_hooks_in_their_order(runtime: Runtime) -> None:
    """The six moments; startContainer is a program of the container."""
    log = runtime.where / "shared" / "log"
    log.parent.mkdir()

    def hook(moment: str, path: str) -> dict[str, Any]:
        return {"path": "/bin/busybox", "args": ["sh", "-c", f"echo {moment} >> {path}"]}

    outside = ("prestart", "createRuntime", "createContainer", "poststart", "poststop")
    hooks = {moment: [hook(moment, str(log))] for moment in outside}
    hooks["startContainer"] = [hook("startContainer", "/tmp/log")]
    bind = {"destination": "/tmp", "type": "bind", "source": str(log.parent), "options": ["rbind", "rw"]}
    script = "echo program >> /tmp/log; sleep 1000"
    runtime.create("h", "sh", "-c", script, hooks=hooks, mounts=[*default.document()["mounts"], bind])
    assert log.read_text().split() == ["prestart", "createRuntime", "createContainer"]
    runtime.ok("start", "h")
    eventually("it runs", lambda: "program" in log.read_text())
    runtime.ok("delete", "--force", "h")
    seen = log.read_text().split()
    assert seen[:4] == ["prestart", "createRuntime", "createContainer", "startContainer"]
    assert sorted(seen[4:6]) == ["poststart", "program"]
    assert seen[6:] == ["poststop"]


def test_features_version_spec(runtime: Runtime) -> None:
    features = json.loads(runtime.ok("features"))
    assert features["ociVersionMin"] == "1.0.0"
    assert features["ociVersionMax"].startswith("1.")
    assert set(features["hooks"]) >= {"prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"}
    first, second, third = runtime.ok("--version").splitlines()[:3]
    assert first.startswith("cordon version ")
    assert second.startswith("commit: ")
    assert third.startswith("spec: 1.")
    where = runtime.where / "spec"
    where.mkdir()
    runtime.ok("spec", "--bundle", str(where))
    assert json.loads((where / "config.json").read_text())["ociVersion"].startswith("1.")
    assert runtime("spec", "--bundle", str(where)).status == 1  # it is there already


def test_management_commands_are_quick(runtime: Runtime) -> None:
    """state, kill, delete of a stopped container: the processor time of each, which load does not change."""
    started(runtime, "q", "true")
    runtime("wait", "q")
    for command in (("state", "q"), ("kill", "q", "9"), ("delete", "q")):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        runtime(*command)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        used = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
        assert used < 0.06, command

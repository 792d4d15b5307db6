"""containerd (ctr), docker and buildah with cordon as their runtime."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness import CORDON, Done
from tests.oci.conftest import Podman, eventually, run
from tests.programs.terminal import Terminal

pytestmark = [pytest.mark.root, pytest.mark.slow]
COUNTER = "i=0; while :; do i=$((i+1)); echo $i > /out/count; sleep 0.02; done"


def daemon(argv: list[str], socket: Path, log: Path) -> subprocess.Popen[bytes]:
    """A daemon that was started and listens."""
    with log.open("wb") as f:
        p = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=f, stderr=f, start_new_session=True)
    deadline = time.monotonic() + 20
    while not socket.exists():
        if p.poll() is not None or time.monotonic() > deadline:
            p.kill()
            pytest.skip(f"{argv[0]} does not start here: {log.read_text()[-300:]}")
        time.sleep(0.1)
    time.sleep(0.5)
    return p


def number(file: Path) -> int:
    """The count that COUNTER is at, -1 while there is none."""
    text = file.read_text().strip() if file.exists() else ""
    return int(text) if text else -1


def stands_still(file: Path) -> bool:
    before = number(file)
    time.sleep(0.5)
    return number(file) == before


def resized(t: Terminal, rows: int, columns: int) -> None:
    """A new size of the terminal reaches the shell in it."""
    t.resize(rows, columns)
    time.sleep(0.5)
    t.type("stty size\n")
    t.expect(f"{rows} {columns}")


def stop(p: subprocess.Popen[bytes]) -> None:
    p.send_signal(signal.SIGTERM)
    try:
        p.wait(20)
    except subprocess.TimeoutExpired:
        p.kill()
        p.wait()


@pytest.fixture(scope="module")
def containerd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The socket of a containerd of our own."""
    if shutil.which("containerd") is None or shutil.which("ctr") is None:
        pytest.skip("containerd is not installed")
    where = Path(tempfile.mkdtemp(prefix="cordon-test-", dir="/tmp"))  # socket addresses are short
    (where / "config.toml").write_text(
        f"""\
version = 2
root = "{where}/root"
state = "{where}/state"
disabled_plugins = ["io.containerd.grpc.v1.cri"]
[grpc]
  address = "{where}/c.sock"
"""
    )
    p = daemon(["containerd", "-c", str(where / "config.toml")], where / "c.sock", where / "log")
    yield where / "c.sock"
    stop(p)
    shutil.rmtree(where, ignore_errors=True)


class Ctr:
    def __init__(self, socket: Path, rootfs: Path) -> None:
        self.socket = socket
        self.rootfs = rootfs

    def argv(self, *args: str) -> list[str]:
        return ["ctr", "--address", str(self.socket), "--namespace", "cordon-test", *args]

    def __call__(self, *args: str) -> Done:
        return run(self.argv(*args))

    def run_args(self, cid: str, *command: str, options: tuple[str, ...] = ("--rm",)) -> list[str]:
        return self.argv(
            "run", *options, "--runc-binary", CORDON, "--rootfs", str(self.rootfs), cid, *command
        )


@pytest.fixture
def ctr(containerd: Path, rootfs: Path) -> Ctr:
    return Ctr(containerd, rootfs)


@pytest.mark.parametrize(
    ("command", "status", "out"),
    [
        (["echo", "hello"], 0, "hello\n"),
        (["sh", "-c", "exit 7"], 7, ""),
        (["sh", "-c", "sleep 9 & kill -9 $!; wait $!"], 137, ""),
    ],
)
def test_ctr_run(ctr: Ctr, command: list[str], status: int, out: str) -> None:
    d = run(ctr.run_args("r", *command))
    assert (d.status, d.out) == (status, out), d.err


@pytest.mark.parametrize(
    ("command", "why"),
    [("no-such-program", "no such file or directory"), ("/not-executable", "permission denied")],
)
def test_ctr_what_cannot_be_executed(ctr: Ctr, command: str, why: str) -> None:
    """ctr ends with 1 whatever the runtime's status is, and says what the runtime says."""
    d = run(ctr.run_args("n", command))
    assert d.status == 1
    assert why in d.err
    ctr("container", "rm", "n")


def test_ctr_life(ctr: Ctr) -> None:
    """Detached: exec, ps, metrics, pause, resume, kill, delete."""
    script = "trap 'exit 5' TERM; while :; do sleep 0.05; done"
    assert run(ctr.run_args("l", "sh", "-c", script, options=("-d",))).status == 0
    d = ctr("task", "exec", "--exec-id", "e", "l", "sh", "-c", "echo in; exit 3")
    assert (d.status, d.out) == (3, "in\n")
    assert len(ctr("task", "ps", "l").out.splitlines()) > 1
    assert "memory.usage_in_bytes" in ctr("task", "metrics", "l").out
    assert ctr("task", "pause", "l").status == 0
    assert "PAUSED" in ctr("task", "ls").out
    assert ctr("task", "resume", "l").status == 0
    assert ctr("task", "kill", "-s", "TERM", "l").status == 0
    eventually("it stopped", lambda: "STOPPED" in ctr("task", "ls").out)
    assert "5" in ctr("task", "rm", "l").err
    assert ctr("container", "rm", "l").status == 0


def test_ctr_terminal(ctr: Ctr) -> None:
    with Terminal(ctr.run_args("t", "sh", options=("--rm", "-t")), Path("/"), os.environ, 31, 91) as t:
        t.expect("# ", 60)
        t.type("stty size\n")
        t.expect("31 91")
        resized(t, 41, 101)
        t.type("exit 6\n")
        assert t.wait() == 6


def test_ctr_pause(ctr: Ctr, tmp_path: Path) -> None:
    """What is paused makes no progress; exec with a terminal of its own."""
    options = ("-d", "--mount", f"type=bind,src={tmp_path},dst=/out,options=rbind:rw")
    assert run(ctr.run_args("p", "sh", "-c", COUNTER, options=options)).status == 0
    count = tmp_path / "count"
    eventually("it counts", lambda: number(count) > 3)
    assert ctr("task", "pause", "p").status == 0
    assert stands_still(count)
    assert ctr("task", "resume", "p").status == 0
    assert not stands_still(count)
    with Terminal(
        ctr.argv("task", "exec", "-t", "--exec-id", "x", "p", "sh"), Path("/"), os.environ, 30, 90
    ) as t:
        t.expect("# ", 60)
        resized(t, 40, 100)
        t.type("exit 4\n")
        assert t.wait() == 4
    ctr("task", "kill", "-s", "KILL", "p")
    eventually("it stopped", lambda: "STOPPED" in ctr("task", "ls").out)
    assert "137" in ctr("task", "rm", "p").err
    ctr("container", "rm", "p")


@pytest.mark.parametrize(("command", "status"), [("/not-executable", 126), ("no-such-program", 127)])
def test_buildah_exit_codes(podman: Podman, tmp_path: Path, command: str, status: int) -> None:
    """buildah run ends with the status of the container's process, here a shell that tells how its command failed."""
    base = [
        "buildah",
        "--root",
        f"{podman.where}/root",
        "--runroot",
        f"{podman.where}/run",
        "--storage-driver",
        "vfs",
    ]
    made = run([*base, "from", "localhost/busybox:test"], CONTAINERS_CONF=str(podman.conf))
    assert made.status == 0, made.err
    name = made.out.strip()
    argv = [*base, "run", "--runtime", CORDON, "--isolation", "oci", "--network", "none", name]
    try:
        d = run([*argv, "sh", "-c", "exit 7"], CONTAINERS_CONF=str(podman.conf))
        assert d.status == 7, d.err
        d = run([*argv, "sh", "-c", f"{command}; exit $?"], CONTAINERS_CONF=str(podman.conf))
        assert d.status == status, d.err
        d = run([*argv, command], CONTAINERS_CONF=str(podman.conf))
        assert d.status == 1  # buildah's own, whatever the runtime's is
        assert f"exit status {status}" in d.err
    finally:
        run([*base, "rm", name], CONTAINERS_CONF=str(podman.conf))


#: The network interface of the docker daemon under test.
BRIDGE = "cordondk0"


class Docker:
    def __init__(self, socket: Path) -> None:
        self.socket = socket

    def argv(self, *args: str) -> list[str]:
        return ["docker", "-H", f"unix://{self.socket}", *args]

    def __call__(self, *args: str, data: bytes = b"") -> Done:
        return run(self.argv(*args), data=data)

    def ok(self, *args: str, data: bytes = b"") -> str:
        d = self(*args, data=data)
        assert d.status == 0, f"docker {' '.join(args)}: {d}"
        return d.out

    def run(self, *args: str) -> Done:
        return self("run", "--runtime", "cordon", "--network", "none", *args)


@pytest.fixture(scope="module")
def docker_daemon(containerd: Path, image: Path) -> Iterator[Docker]:
    if shutil.which("dockerd") is None or shutil.which("docker") is None:
        pytest.skip("docker is not installed")
    where = containerd.parent / "docker"
    where.mkdir()
    argv = [
        "dockerd", "--data-root", f"{where}/data", "--exec-root", f"{where}/exec", "-H", f"unix://{where}/d.sock",
        "-p", f"{where}/d.pid", "--add-runtime", f"cordon={CORDON}", "--storage-driver", "vfs", "--exec-opt",
        "native.cgroupdriver=cgroupfs", "--bridge", BRIDGE, "--iptables=false", "--ip6tables=false", f"--containerd={containerd}",
    ]  # fmt: skip
    run(["ip", "link", "add", BRIDGE, "type", "bridge"])
    run(["ip", "addr", "add", "10.231.7.1/24", "dev", BRIDGE])
    run(["ip", "link", "set", BRIDGE, "up"])
    try:
        p = daemon(argv, where / "d.sock", where / "log")
        d = Docker(where / "d.sock")
        d.ok("import", "-", "busybox:test", data=image.read_bytes())
        yield d
        stop(p)
        for place in (where / "exec" / "netns").glob("*"):  # the host network's, which dockerd leaves mounted
            run(["umount", str(place)])
    finally:
        run(["ip", "link", "del", BRIDGE])


@pytest.fixture
def docker(docker_daemon: Docker) -> Iterator[Docker]:
    yield docker_daemon
    left = docker_daemon.ok("ps", "-aq").split()
    if left:
        docker_daemon("rm", "-f", *left)


@pytest.mark.parametrize(
    ("command", "status", "out"),
    [
        (["echo", "hello"], 0, "hello\n"),
        (["sh", "-c", "exit 7"], 7, ""),
        (["/not-executable"], 126, ""),
        (["no-such-program"], 127, ""),
        (["sh", "-c", "sleep 9 & kill -9 $!; wait $!"], 137, ""),
    ],
)
def test_docker_run(docker: Docker, command: list[str], status: int, out: str) -> None:
    """Docker runs a prestart hook for its networks each time."""
    d = docker.run("--rm", "busybox:test", *command)
    assert (d.status, d.out) == (status, out), d.err


def test_docker_life(docker: Docker, tmp_path: Path) -> None:
    docker.run(
        "-d",
        "--name",
        "life",
        "busybox:test",
        "sh",
        "-c",
        "trap 'echo got; exit 5' TERM; echo up; while :; do sleep 0.05; done",
    )
    eventually("it is up", lambda: docker("logs", "life").out == "up\n")
    d = docker(
        "exec", "-e", "A=b", "-u", "1000", "-w", "/tmp", "life", "sh", "-c", "id -u; pwd; echo $A; exit 3"
    )
    assert (d.status, d.out) == (3, "1000\n/tmp\nb\n")
    assert "cordon: container" in docker.ok("top", "life")
    stats = json.loads(docker.ok("stats", "--no-stream", "--format", "{{json .}}", "life"))
    assert stats["Name"] == "life"
    docker.ok("pause", "life")
    assert "Paused" in docker.ok("ps")
    docker.ok("unpause", "life")
    (tmp_path / "f").write_text("copied\n")
    docker.ok("cp", str(tmp_path / "f"), "life:/tmp/f")
    assert docker.ok("exec", "life", "cat", "/tmp/f") == "copied\n"
    assert "A /tmp/f" in docker.ok("diff", "life")
    docker.ok("commit", "life", "committed:test")
    assert docker.run("--rm", "committed:test", "cat", "/tmp/f").out == "copied\n"
    docker.ok("update", "--memory", "64m", "--memory-swap", "64m", "life")
    docker.ok("rename", "life", "life2")
    docker.ok("stop", "life2")
    assert docker.ok("inspect", "--format", "{{.State.ExitCode}}", "life2") == "5\n"
    assert docker.ok("logs", "life2") == "up\ngot\n"


def test_docker_raises_a_memory_limit(docker: Docker) -> None:
    hog = "yes | head -c 100m > /t/f && rm /t/f && echo held"
    docker.ok("run", "-d", "--name", "more", "--memory", "64m", "--tmpfs", "/t", "busybox:test", "sleep", "1000")
    docker.ok("update", "--memory", "200m", "--memory-swap", "200m", "more")
    assert docker.ok("exec", "more", "sh", "-c", hog) == "held\n"


def test_docker_out_of_memory(docker: Docker) -> None:
    d = docker.run(
        "--name",
        "memo",
        "--memory",
        "40m",
        "busybox:test",
        "dd",
        "if=/dev/zero",
        "of=/dev/null",
        "bs=100M",
        "count=1",
    )
    assert d.status == 137
    eventually(
        "docker knows",
        lambda: docker.ok("inspect", "--format", "{{.State.OOMKilled}}", "memo") == "true\n",
        5,
    )


def test_docker_terminal(docker: Docker) -> None:
    argv = docker.argv("run", "--rm", "-it", "--runtime", "cordon", "--network", "none", "busybox:test", "sh")
    with Terminal(argv, Path("/"), os.environ, 32, 92) as t:
        t.expect("# ", 60)
        time.sleep(0.5)
        t.type("stty size\n")
        t.expect("32 92")
        t.type("sleep 100\n")
        time.sleep(0.5)
        t.type("\x03")
        t.expect("# ")
        t.type("exit 4\n")
        assert t.wait() == 4


def test_docker_pause_and_exec_terminal(docker: Docker, tmp_path: Path) -> None:
    docker.run("-d", "--name", "pause1", "-v", f"{tmp_path}:/out", "busybox:test", "sh", "-c", COUNTER)
    count = tmp_path / "count"
    eventually("it counts", lambda: number(count) > 3)
    docker.ok("pause", "pause1")
    assert stands_still(count)
    docker.ok("unpause", "pause1")
    assert not stands_still(count)
    with Terminal(docker.argv("exec", "-it", "pause1", "sh"), Path("/"), os.environ, 30, 90) as t:
        t.expect("# ", 60)
        time.sleep(0.5)  # the client listens for resizes a moment later
        t.resize(40, 100)
        time.sleep(0.5)
        t.type("stty size; echo to-the-host > /tmp/g\n")
        t.expect("40 100")
        t.type("exit 4\n")
        assert t.wait() == 4
    docker.ok("cp", "pause1:/tmp/g", str(tmp_path / "g"))
    assert (tmp_path / "g").read_text() == "to-the-host\n"
    docker.ok("kill", "pause1")
    assert docker.ok("wait", "pause1") == "137\n"


def test_docker_prestart_hook(docker: Docker) -> None:
    """Docker gives each container a prestart hook that sets its network up; cordon runs it where runc does."""
    docker.run("-d", "--name", "hook1", "busybox:test", "sleep", "1000")
    ident = docker.ok("inspect", "--format", "{{.Id}}", "hook1").strip()
    bundle = docker.socket.parent.parent / "state" / "io.containerd.runtime.v2.task" / "moby" / ident
    hooks = json.loads((bundle / "config.json").read_text())["hooks"]["prestart"]
    assert "libnetwork-setkey" in hooks[0]["args"]
    assert docker.ok("inspect", "--format", "{{.State.Running}}", "hook1") == "true\n"
    assert docker.ok("inspect", "--format", "{{.NetworkSettings.SandboxKey}}", "hook1").strip()


def test_docker_limits(docker: Docker, tmp_path: Path) -> None:
    """Read-only root, tmpfs, volumes, users, capabilities, no new privileges, seccomp, pids, --init."""

    def out(*args: str) -> str:
        d = docker.run("--rm", *args)
        return d.out if d.status == 0 else f"{d.status}: {d.out}{d.err}"

    box = ("busybox:test", "sh", "-c")
    assert "Read-only file system" in out("--read-only", *box, "touch /f")
    assert out("--read-only", "--tmpfs", "/t:size=1m", *box, "touch /t/f && ls /t") == "f\n"
    (tmp_path / "f").write_text("host\n")
    assert "Read-only file system" in out("-v", f"{tmp_path}:/v:ro", *box, "cat /v/f && touch /v/g")
    assert out("-v", f"{tmp_path}:/v", *box, "echo guest > /v/g") == ""
    assert (tmp_path / "g").read_text() == "guest\n"
    assert out("--user", "1000:1000", *box, "id -u; id -g") == "1000\n1000\n"
    assert "not permitted" in out("--cap-drop", "CHOWN", *box, "touch /f && chown 5 /f")
    assert (
        out("--security-opt", "no-new-privileges", *box, "grep NoNewPrivs /proc/self/status")
        == "NoNewPrivs:\t1\n"
    )
    profile = tmp_path / "seccomp.json"
    rule = {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO"}
    profile.write_text(json.dumps({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]}))
    assert "not permitted" in out("--security-opt", f"seccomp={profile}", *box, "mkdir /d")
    limited = out("--pids-limit", "10", *box, "for i in 1 2 3 4 5 6 7 8 9 10 11 12; do sleep 1 & done; wait")
    assert "can't fork" in limited
    restarts = docker.run("-d", "--name", "again", "--restart", "on-failure:2", *box, "exit 3")
    assert restarts.status == 0
    eventually(
        "it was restarted twice",
        lambda: docker.ok("inspect", "--format", "{{.RestartCount}}", "again") == "2\n",
        30,
    )
    health = ("--health-cmd", "test -e /ok", "--health-interval", "1s", "--health-retries", "2")
    docker.run("-d", "--name", "health", *health, *box, "touch /ok; sleep 1000")
    state = ("inspect", "--format", "{{.State.Health.Status}}", "health")
    eventually("it is healthy", lambda: docker.ok(*state) == "healthy\n", 30)
    docker.ok("exec", "health", "rm", "/ok")
    eventually("it is unhealthy", lambda: docker.ok(*state) == "unhealthy\n", 30)


def test_docker_stop_kills_in_the_end(docker: Docker) -> None:
    docker.run("-d", "--name", "stop1", "busybox:test", "sleep", "1000")
    docker.ok("stop", "-t", "1", "stop1")
    assert docker.ok("inspect", "--format", "{{.State.ExitCode}}", "stop1") == "137\n"


@pytest.mark.needs("buildah")
def test_buildah(podman: Podman, tmp_path: Path) -> None:
    """A small Containerfile with RUN steps."""
    (tmp_path / "Containerfile").write_text(
        "FROM localhost/busybox:test\n"
        "RUN echo built > /built && mkdir -p /a/b && chown 5:6 /a/b\n"
        "RUN cat /built && test $(stat -c %u:%g /a/b) = 5:6\n"
        "USER 1000\n"
        "RUN id -u > /tmp/who\n"
        'CMD ["cat", "/built", "/tmp/who"]\n'
    )
    argv = [
        "buildah", "--root", f"{podman.where}/root", "--runroot", f"{podman.where}/run", "--storage-driver", "vfs", "bud",
        "--runtime", CORDON, "--isolation", "oci", "--ulimit", "nofile=20000:20000", "--ulimit", "nproc=32768:32768",
        "--network", "none", "-t", "built:test", str(tmp_path),
    ]  # fmt: skip
    d = run(argv, 120, CONTAINERS_CONF=str(podman.conf))
    assert d.status == 0, d.err
    assert podman.ok("run", "--rm", "--network", "none", "built:test") == "built\n1000\n"
    podman("rmi", "built:test")

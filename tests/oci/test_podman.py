"""podman with cordon as its runtime, for real: conmon, storage and networks are podman's own."""

from __future__ import annotations

import json
import os
import re
import subprocess
import time
from pathlib import Path

import pytest

from tests.oci.conftest import Podman, eventually
from tests.programs.terminal import Terminal

pytestmark = [pytest.mark.needs("podman", "conmon"), pytest.mark.root]
IMAGE = "busybox:test"
QUIET = ("--network", "none")
COUNTER = "i=0; while :; do i=$((i+1)); echo $i > /count; sleep 0.02; done"
PATIENT = "trap 'echo got TERM; exit 5' TERM; echo up; while :; do sleep 0.05; done"


def start(podman: Podman, name: str, *args: str) -> None:
    podman.ok("run", "-d", "--name", name, *QUIET, *args)


def inspect(podman: Podman, name: str, what: str) -> str:
    return podman.ok("inspect", name, "--format", f"{{{{{what}}}}}").strip()


@pytest.mark.parametrize(
    ("command", "status", "out"),
    [
        (["echo", "hello"], 0, "hello\n"),
        (["sh", "-c", "echo out; exit 7"], 7, "out\n"),
        (["/not-executable"], 126, ""),
        (["/etc"], 126, ""),
        (["no-such-program"], 127, ""),
        (["/no/such"], 127, ""),
        (["sh", "-c", "sleep 9 & kill -9 $!; wait $!"], 137, ""),
        (["cat"], 0, "typed"),
    ],
)
def test_run(podman: Podman, command: list[str], status: int, out: str) -> None:
    # Not always -i: podman 4.3 may lose the output of what ends without reading its input (runc: 5 of 100 runs).
    more = ("-i",) if command == ["cat"] else ()
    d = podman("run", "--rm", *more, *QUIET, IMAGE, *command, data=b"typed")
    assert (d.status, d.out) == (status, out), d.err


def test_streams_are_apart(podman: Podman) -> None:
    d = podman("run", "--rm", *QUIET, IMAGE, "sh", "-c", "echo out; echo err >&2")
    assert (d.out, d.err) == ("out\n", "err\n")


def test_terminal(podman: Podman) -> None:
    """run -it: size, a new size, ^C to the foreground job, exit status."""
    argv = podman.argv("run", "--rm", "-it", *QUIET, IMAGE, "sh")
    with Terminal(argv, Path("/"), {**os.environ, "CONTAINERS_CONF": str(podman.conf)}, 30, 100) as t:
        t.expect("# ", 60)
        t.type("stty size; tty\n")
        t.expect("30 100")
        t.expect("/dev/pts/0")
        t.resize(40, 120)
        time.sleep(0.5)
        t.type("stty size\n")
        t.expect("40 120")
        t.type("sleep 100\n")
        time.sleep(0.5)
        t.type("\x03")
        t.expect("# ")
        t.type("echo =$?=; exit 4\n")
        t.expect("=130=")
        assert t.wait() == 4


def test_detached(podman: Podman) -> None:
    """-d, logs, exec in every form, stop with a handler, inspect, rm."""
    start(podman, "d", IMAGE, "sh", "-c", PATIENT)
    eventually("its first line is in the log", lambda: podman.ok("logs", "d") == "up\n")
    d = podman("exec", "d", "sh", "-c", "echo in; exit 9")
    assert (d.status, d.out) == (9, "in\n")
    out = podman.ok(
        "exec",
        "--user",
        "1000:1000",
        "--workdir",
        "/tmp",
        "--env",
        "A=b",
        "d",
        "sh",
        "-c",
        "id -u; pwd; echo $A",
    )
    assert out == "1000\n/tmp\nb\n"
    assert podman("exec", "d", "no-such").status == 127
    assert podman("exec", "d", "/not-executable").status == 126
    assert podman("exec", "-i", "d", "cat", data=b"typed").out == "typed"
    podman.ok("stop", "-t", "20", "d")
    assert inspect(podman, "d", ".State.ExitCode") == "5"
    assert podman.ok("logs", "d") == "up\ngot TERM\n"
    podman.ok("rm", "d")


def test_exec_terminal(podman: Podman) -> None:
    start(podman, "x", IMAGE, "sleep", "1000")
    argv = podman.argv("exec", "-it", "x", "sh")
    with Terminal(argv, Path("/"), {**os.environ, "CONTAINERS_CONF": str(podman.conf)}, 20, 70) as t:
        t.expect("# ", 60)
        t.type("stty size; ps\n")
        t.expect("20 70")
        t.expect("sleep 1000")
        t.type("exit 3\n")
        assert t.wait() == 3
    assert podman("exec", "x", "true").status == 0


def test_stop_kills_in_the_end(podman: Podman) -> None:
    start(podman, "s", IMAGE, "sleep", "1000")
    podman.ok("stop", "-t", "1", "s")
    assert inspect(podman, "s", ".State.ExitCode") == "137"


def test_kill_by_name(podman: Podman) -> None:
    start(podman, "k", IMAGE, "sh", "-c", "trap 'exit 6' USR1; while :; do sleep 0.05; done")
    time.sleep(0.3)
    podman.ok("kill", "-s", "USR1", "k")
    assert podman.ok("wait", "k") == "6\n"


def test_pause(podman: Podman) -> None:
    """A paused guest makes no progress."""
    start(podman, "p", IMAGE, "sh", "-c", COUNTER)
    count = Path(podman.ok("mount", "p").strip()) / "count"
    eventually("it counts", lambda: count.exists() and count.read_text().strip())
    podman.ok("pause", "p")
    before = count.read_text()
    time.sleep(0.5)
    assert count.read_text() == before
    assert inspect(podman, "p", ".State.Status") == "paused"
    podman.ok("unpause", "p")
    eventually("it counts again", lambda: count.read_text().strip() not in ("", before.strip()))


def test_top_and_stats(podman: Podman) -> None:
    start(podman, "t", IMAGE, "sh", "-c", "sleep 1000 & exec sleep 2000")
    time.sleep(0.5)
    top = podman.ok("top", "t", "pid", "user", "args")
    assert re.search(r"^1 +root +sleep 2000", top, re.M)
    assert re.search(r"^\d+ +root +sleep 1000", top, re.M)
    assert len(top.splitlines()) == 3
    assert "sleep 2000" in podman.ok("top", "t", "-o", "pid,args")  # runs ps in the container
    (stats,) = json.loads(podman.ok("stats", "--no-stream", "--format", "json", "t"))
    assert stats["name"] == "t"
    assert stats["mem_usage"].split()[0] != "0B"


def test_copies(podman: Podman, tmp_path: Path) -> None:
    """cp in and out of a running container, commit, diff, rename."""
    start(podman, "c", IMAGE, "sleep", "1000")
    (tmp_path / "in").write_text("from outside\n")
    podman.ok("cp", str(tmp_path / "in"), "c:/tmp/in")
    assert podman.ok("exec", "c", "cat", "/tmp/in") == "from outside\n"
    podman.ok("exec", "c", "sh", "-c", "mkdir /made; echo from inside > /made/out")
    podman.ok("cp", "c:/made/out", str(tmp_path / "out"))
    assert (tmp_path / "out").read_text() == "from inside\n"
    diff = podman.ok("diff", "c").split("\n")
    assert "A /made" in diff
    assert "A /made/out" in diff
    podman.ok("commit", "-q", "c", "committed:test")
    assert podman.ok("run", "--rm", *QUIET, "committed:test", "cat", "/made/out") == "from inside\n"
    podman.ok("rename", "c", "c2")
    assert podman.ok("exec", "c2", "cat", "/made/out") == "from inside\n"
    podman.ok("rm", "-f", "-t", "0", "c2")
    podman.ok("rmi", "committed:test")


def test_update(podman: Podman) -> None:
    start(podman, "u", IMAGE, "sleep", "1000")
    podman.ok("update", "--memory", "64m", "--cpus", "0.5", "u")
    assert podman.ok("exec", "u", "cat", "/sys/fs/cgroup/memory.max") == f"{64 << 20}\n"


def test_memory_is_raised(podman: Podman) -> None:
    """The limit is exact (test_out_of_memory); update makes room for more while the container runs."""
    start(podman, "u", "--memory", "64m", "--tmpfs", "/t", IMAGE, "sleep", "1000")
    podman.ok("update", "--memory", "200m", "--memory-swap", "200m", "u")
    assert podman.ok("exec", "u", "cat", "/sys/fs/cgroup/memory.max") == f"{200 << 20}\n"
    assert podman.ok("exec", "u", "sh", "-c", "yes | head -c 120m > /t/f && rm /t/f && echo held") == "held\n"


def test_restart_policy(podman: Podman) -> None:
    start(podman, "r", "--restart", "on-failure:2", IMAGE, "sh", "-c", "echo run; exit 3")
    eventually("it ran three times", lambda: podman.ok("logs", "r") == "run\n" * 3, 30)
    assert inspect(podman, "r", ".RestartCount") == "2"


def test_healthcheck(podman: Podman) -> None:
    start(
        podman, "h", "--health-cmd", "test -e /tmp/ok", "--health-interval", "disable", IMAGE, "sleep", "1000"
    )
    assert podman("healthcheck", "run", "h").status == 1
    podman.ok("exec", "h", "touch", "/tmp/ok")
    assert podman("healthcheck", "run", "h").status == 0


def test_read_only_root(podman: Podman) -> None:
    d = podman(
        "run",
        "--rm",
        "--read-only",
        *QUIET,
        IMAGE,
        "sh",
        "-c",
        "touch /tmp/a /var/tmp/b /dev/shm/c && touch /x",
    )
    assert d.status == 1
    assert "/x: Read-only file system" in d.err


def test_mounts(podman: Podman, tmp_path: Path) -> None:
    for name in ("ro", "rw"):
        (tmp_path / name).mkdir()
    script = "touch /ro/x; echo w > /rw/w; mount | grep -c ' on /t '; echo q > /t/q && cat /t/q"
    d = podman(
        "run", "--rm", *QUIET, "-v", f"{tmp_path}/ro:/ro:ro", "-v", f"{tmp_path}/rw:/rw", "--tmpfs", "/t:size=1m", IMAGE, "sh", "-c",
        script,
    )  # fmt: skip
    assert d.out == "1\nq\n"
    assert "/ro/x: Read-only file system" in d.err
    assert (tmp_path / "rw" / "w").read_text() == "w\n"
    assert not list((tmp_path / "ro").iterdir())


@pytest.mark.parametrize(
    ("options", "command", "out"),
    [
        (["--user", "1000:1000"], "id -u; id -g", "1000\n1000\n"),
        (["--user", "user"], "id -un", "user\n"),
        (["--env", "A=b c"], "echo $A", "b c\n"),
        (["--hostname", "there"], "hostname", "there\n"),
        (["--workdir", "/var"], "pwd", "/var\n"),
        (
            ["--cap-drop", "all"],
            "chown 1 /etc/passwd 2>&-; echo $?; grep -c 'CapEff.*0000$' /proc/self/status",
            "1\n1\n",
        ),
        (["--security-opt", "no-new-privileges"], "grep NoNewPrivs /proc/self/status", "NoNewPrivs:\t1\n"),
        (["--ulimit", "nofile=99:99"], "ulimit -n", "99\n"),
        (["--entrypoint", '["/bin/echo", "entry"]'], "", "entry -c\n"),
        (["--privileged"], "id -u", "0\n"),
    ],
)
def test_options(podman: Podman, options: list[str], command: str, out: str) -> None:
    words = ["sh", "-c", command] if command else ["-c"]
    assert podman.ok("run", "--rm", *QUIET, *options, IMAGE, *words) == out


def test_sysctl(podman: Podman) -> None:
    """Settings of the container's IPC namespace, which is its own."""
    keys = {"kernel.shmmax": "65536", "kernel.msgmni": "77", "kernel.sem": "100\t1000\t50\t60"}
    options = [o for key, value in keys.items() for o in ("--sysctl", f"{key}={value}")]
    shown = "".join(value + "\n" for value in keys.values())
    files = ["/proc/sys/" + key.replace(".", "/") for key in keys]
    assert podman.ok("run", "--rm", *QUIET, *options, IMAGE, "cat", *files) == shown
    assert podman.ok("run", "--rm", *QUIET, IMAGE, "cat", *files) != shown


def test_seccomp_profile(podman: Podman, tmp_path: Path) -> None:
    profile = {
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 98}],
    }
    (tmp_path / "profile.json").write_text(json.dumps(profile))
    d = podman(
        "run", "--rm", *QUIET, "--security-opt", f"seccomp={tmp_path}/profile.json", IMAGE, "mkdir", "/tmp/a"
    )
    assert d.status == 1
    assert "Address already in use" in d.err  # errno 98


def test_out_of_memory(podman: Podman) -> None:
    start(podman, "m", "--memory", "40m", IMAGE, "dd", "if=/dev/zero", "of=/dev/null", "bs=100M", "count=1")
    assert podman.ok("wait", "m") == "137\n"


def test_pids_limit(podman: Podman) -> None:
    d = podman(
        "run",
        "--rm",
        *QUIET,
        "--pids-limit",
        "5",
        IMAGE,
        "sh",
        "-c",
        "for i in 1 2 3 4 5 6 7; do sleep 1 & done; wait",
    )
    assert "can't fork" in d.err


def test_preserved_descriptors(podman: Podman, tmp_path: Path) -> None:
    (tmp_path / "f").write_text("by descriptor\n")
    fd = os.open(tmp_path / "f", os.O_RDONLY)
    os.dup2(fd, 3)
    try:
        argv = podman.argv("run", "--rm", *QUIET, "--preserve-fds", "1", IMAGE, "sh", "-c", "cat <&3")
        env = {**os.environ, "CONTAINERS_CONF": str(podman.conf)}
        done = subprocess.run(
            argv,
            capture_output=True,
            text=True,
            timeout=60,
            pass_fds=[3],
            env=env,
            check=False,
        )
    finally:
        os.close(fd)
    assert done.stdout == "by descriptor\n", done.stderr


def test_pod(podman: Podman, rootfs: Path) -> None:
    """Two containers of a pod talk over localhost."""
    if podman(
        "pod",
        "create",
        "--name",
        "pod",
        "--infra-command",
        "sleep 1000",
        "--infra-image",
        IMAGE,
        "--network",
        "none",
    ).status:
        pytest.skip("this podman cannot make a pod with an image of ours")
    try:
        podman.ok(
            "run", "-d", "--pod", "pod", "--name", "server", IMAGE, "sh", "-c", "echo served | nc -l -p 7777"
        )
        eventually(
            "the other container is served",
            lambda: podman("run", "--rm", "--pod", "pod", IMAGE, "nc", "127.0.0.1", "7777").out == "served\n",
        )
    finally:
        podman("pod", "rm", "-f", "-t", "0", "pod")


def test_pid_file_process(podman: Podman) -> None:
    """It exits when killed, and takes all with it; podman sees 137."""
    start(podman, "z", IMAGE, "sleep", "1000")
    pid = int(inspect(podman, "z", ".State.Pid"))
    os.kill(pid, 9)
    assert podman.ok("wait", "z") == "137\n"
    podman.ok("rm", "z")

"""What a container is given: mounts, masks, devices, seccomp profiles, settings; several containers in one sandbox."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from tests.control.harness import ControlError, Gofer, Sandbox, make_root, mounts, process

IDLE = ["sleep", "1000"]


def outcome(tmp: Path, script: str, container: dict[str, Any], **process: Any) -> str:
    """What a shell script writes in a container of its own."""
    with Sandbox(tmp, ["sh", "-c", script], container=container, process=process, start=False) as s:
        s.line.ready()
        ended = s.line.request_wait("c")
        s.line.start("c")
        s.line.answer(ended)
        return s.text()


def test_writes_reach_the_bundle_s_root(tmp_path: Path) -> None:
    outcome(tmp_path, "echo data > /etc/file; mkdir /new; rm /bin/yes", {})
    root = tmp_path / "root"
    assert (root / "etc/file").read_text() == "data\n"
    assert (root / "new").is_dir()
    assert not (root / "bin/yes").is_symlink()


def test_read_only_root_with_a_missing_mount_point(tmp_path: Path) -> None:
    root = make_root(tmp_path / "root")
    gofer = Gofer((root, True))
    fd = gofer.sockets[0].fileno()
    more = [{"type": "tmpfs", "dst": "/a/b/c", "options": "size=1m"}, *mounts()]
    container = {"root": {"type": "gofer", "fd": fd, "flags": ["ro"]}, "mounts": more}
    with Sandbox(
        tmp_path,
        ["sh", "-c", "echo x > /etc/x; echo y > /a/b/c/y; cat /a/b/c/y; echo z > /a/z; ls /a"],
        container=container,
        fds=[fd],
    ) as s:
        text = s.text()
    gofer.close()
    assert "can't create /etc/x: Read-only file system" in text
    assert "y\n" in text
    assert not (root / "a").exists()


def test_masked_and_read_only_paths(tmp_path: Path) -> None:
    root = make_root(tmp_path / "root")
    (root / "etc/secret").write_text("secret")
    (root / "etc/dir").mkdir()
    (root / "etc/dir/secret").write_text("secret")
    text = outcome(
        tmp_path,
        "cat /etc/secret; ls /etc/dir; echo x > /etc/dir/x; echo x > /proc/sys/kernel/hostname; echo x > /tmp/ro; echo end",
        {"masked": ["/etc/secret", "/etc/dir", "/none"], "readonly": ["/proc/sys", "/tmp", "/none/x"]},
    )
    assert "secret" not in text
    for path in ("/etc/dir/x", "/proc/sys/kernel/hostname", "/tmp/ro"):
        assert f"{path}: Read-only file system" in text
    assert text.endswith("end\n")


def test_mount_flags_and_copied_up_tmpfs(tmp_path: Path) -> None:
    root = make_root(tmp_path / "root")
    (root / "etc/file").write_text("below\n")
    text = outcome(
        tmp_path,
        "cat /etc/file; echo more >> /etc/file; cp /bin/busybox /tmp/true; /tmp/true; grep -e ' /etc ' -e ' /tmp ' /proc/mounts",
        {
            "mounts": [
                *mounts(),
                {"type": "tmpfs", "dst": "/etc", "flags": ["nosuid"], "options": "tmpcopyup,size=1m"},
                {
                    "type": "tmpfs",
                    "dst": "/tmp",
                    "flags": ["nosuid", "nodev", "noexec"],
                    "options": "size=8m",
                },
            ]
        },
    )
    assert text.startswith("below\n")
    assert "/tmp/true: Permission denied" in text
    assert " /etc tmpfs rw,nosuid,relatime" in text
    assert " /tmp tmpfs rw,nosuid,nodev,noexec,relatime,size=8192k" in text
    assert (root / "etc/file").read_text() == "below\n"


def test_devices(tmp_path: Path) -> None:
    devices = [
        {"path": "/dev/mine", "type": "c", "major": 1, "minor": 3, "mode": 0o640, "uid": 5, "gid": 6},
        {"path": "/dev/none", "type": "c", "major": 200, "minor": 1},
        {"path": "/dev/queue", "type": "p"},
        {"path": "/dev/null", "type": "c", "major": 1, "minor": 3},
    ]
    text = outcome(
        tmp_path,
        "ls -ln /dev/mine /dev/queue; echo x > /dev/mine && echo ok; cat /dev/none",
        {"devices": devices},
    )
    assert "crw-r-----    1 5        6           1,   3" in text
    assert "prw-rw-rw-" in text
    assert "ok\n" in text
    assert "No such device or address" in text


def test_seccomp_profile(tmp_path: Path) -> None:
    profile = {
        "defaultAction": "SCMP_ACT_ALLOW",
        "architectures": ["SCMP_ARCH_X86_64"],
        "syscalls": [
            {"names": ["mkdir", "mkdirat", "no_such_call"], "action": "SCMP_ACT_ERRNO", "errnoRet": 95},
            {"names": ["chmod", "fchmodat"], "action": "SCMP_ACT_ERRNO"},
            {"names": ["sethostname"], "action": "SCMP_ACT_KILL_PROCESS"},
            {
                "names": ["kill"],
                "action": "SCMP_ACT_ERRNO",
                "args": [{"index": 1, "value": 10, "op": "SCMP_CMP_EQ"}],
            },
        ],
    }
    script = (
        "mkdir /x; chmod 700 /etc; hostname x; echo $?; trap 'echo usr2' USR2; kill -USR2 $$; kill -USR1 $$; "
    )
    script += "grep Seccomp: /proc/self/status"
    text = outcome(tmp_path, script, {"seccomp": profile})
    assert "mkdir: can't create directory '/x': Operation not supported" in text or "Not supported" in text
    assert "chmod: /etc: Operation not permitted" in text
    assert "159\n" in text
    assert "usr2\n" in text
    assert "can't kill pid 1: Operation not permitted" in text
    assert "Seccomp:\t2" in text


def test_seccomp_allow_list_holds_for_exec(tmp_path: Path) -> None:
    allowed = [
        "read", "write", "open", "openat", "close", "fstat", "newfstatat", "stat", "mmap", "mprotect", "munmap", "brk", "exit",
        "exit_group", "arch_prctl", "set_tid_address", "set_robust_list", "rseq", "prlimit64", "readlink", "readlinkat", "getrandom",
        "getuid", "geteuid", "getgid", "getegid", "execve", "rt_sigaction", "rt_sigprocmask", "clock_nanosleep", "nanosleep",
    ]  # fmt: skip
    profile = {
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": 38,
        "syscalls": [{"names": allowed, "action": "SCMP_ACT_ALLOW"}],
    }
    with Sandbox(tmp_path, IDLE, container={"seccomp": profile}) as s:
        assert s.run(["cat"], b"through\n")[1] == "through\n"
        assert "Function not implemented" in s.run(["mkdir", "/x"])[1]


@pytest.mark.parametrize(
    ("container", "sentence"),
    [
        (
            {"seccomp": {"defaultAction": "SCMP_ACT_NOTIFY"}},
            "seccomp profile: defaultAction cannot be honoured: 'SCMP_ACT_NOTIFY'",
        ),
        (
            {"sysctl": {"kernel.nothing": "1"}},
            "sysctl kernel.nothing: the sandbox does not have this setting",
        ),
        ({"sysctl": {"kernel.shmmax": "x"}}, "sysctl kernel.shmmax: cannot be set to x: invalid argument"),
        (
            {"mounts": [{"type": "tmpfs", "dst": "/tmp", "options": "size=x"}]},
            "cannot mount tmpfs on /tmp: invalid argument",
        ),
        (
            {"mounts": [{"type": "tmpfs", "dst": "/bin/sh/x"}]},
            "cannot mount tmpfs on /bin/sh/x: not a directory",
        ),
        ({"share": {"pid": "other"}}, "spec.container.share: the first container has nobody to share with"),
    ],
)
def test_what_cannot_be_had_is_refused(tmp_path: Path, container: dict[str, Any], sentence: str) -> None:
    with Sandbox(tmp_path, IDLE, container=container, start=False) as s:
        with pytest.raises(ControlError) as e:
            s.line.ready()
        assert sentence in e.value.message
        assert s.sentry.wait(10) == 1


def test_home_and_working_directory(tmp_path: Path) -> None:
    root = make_root(tmp_path / "root")
    (root / "etc/passwd").write_text("bad\nroot:x:0:0::/root:/bin/sh\nuser:x:1000:1000::/home/user:/bin/sh\n")
    with Sandbox(tmp_path, IDLE, process={"cwd": "/a/new/place", "env": ["PATH=/bin"]}) as s:
        s.line.ready()
        assert (
            s.run(["sh", "-c", "pwd; echo $HOME"], cwd="/a/new", env=["PATH=/bin"], uid=1000)[1]
            == "/a/new\n/home/user\n"
        )
        assert (
            s.run(["sh", "-c", "echo $HOME; readlink /proc/1/cwd"], env=["PATH=/bin"])[1]
            == "/root\n/a/new/place\n"
        )
        assert s.run(["sh", "-c", "echo $HOME"], env=["PATH=/bin"], uid=7)[1] == "/\n"
        assert s.run(["sh", "-c", "echo $HOME"], env=["PATH=/bin", "HOME=/x"])[1] == "/x\n"
    assert (root / "a/new/place").is_dir()


def test_settings_and_names(tmp_path: Path) -> None:
    text = outcome(
        tmp_path,
        "hostname; cat /proc/sys/kernel/domainname /proc/sys/fs/pipe-max-size /proc/self/cgroup /proc/self/uid_map; cat /cg/pids.max",
        {
            "hostname": "web",
            "domainname": "example.org",
            "sysctl": {"fs.pipe-max-size": "65536"},
            "cgroup": "/user/web",
            "uid_map": [[0, 100000, 65536]],
            "pids": 50,
            "mounts": [*mounts(), {"type": "cgroup", "dst": "/cg", "flags": ["ro"]}],
        },
    )
    assert text.split() == ["web", "example.org", "65536", "0::/user/web", "0", "100000", "65536", "50"]


# Several containers


class Member:
    """A second container in a sandbox."""

    def __init__(self, s: Sandbox, name: str, args: list[str], **more: Any) -> None:
        self.s = s
        self.gofer = Gofer((s.root, False))
        source = os.open("/dev/null", os.O_RDONLY)
        self.out, write = os.pipe()
        spec = {
            "id": name,
            "hostname": name,
            "root": {"type": "gofer", "fd": 3},
            "mounts": mounts(),
            "process": process(args),
            **more,
        }
        with s.connect() as c:
            self.pid = c.create(spec, [source, write, write, self.gofer.sockets[0].fileno()])
        self.gofer.sockets[0].close()
        os.close(source)
        os.close(write)

    def text(self) -> str:
        out = b""
        while data := os.read(self.out, 4096):
            out += data
        os.close(self.out)
        return out.decode()


def test_a_second_container(tmp_path: Path) -> None:
    with Sandbox(tmp_path, IDLE) as s, s.connect() as c:
        m = Member(s, "second", ["sh", "-c", "hostname; echo $$; echo /proc/[0-9]*; exit 6"])
        assert m.pid == 1
        assert {(k["id"], k["status"]) for k in c.containers()} == {("c", "running"), ("second", "created")}
        c.start("second")
        assert m.text() == "second\n1\n/proc/1\n"
        assert c.wait("second")["exit"] == 6
        assert c.state("second")["status"] == "stopped"
        assert c.state("c")["status"] == "running"
        with pytest.raises(ControlError, match="container not running"):
            s.run(["true"], container="second")
        with pytest.raises(ControlError, match="exists already"):
            Member(s, "second", IDLE)
        c.destroy("second")
        with pytest.raises(ControlError, match="does not exist"):
            c.state("second")
        assert m.gofer.process.wait(10) == 0
        m = Member(s, "second", ["echo", "again"])
        c.start("second")
        assert m.text() == "again\n"
        m.gofer.close()


def test_destroy_kills(tmp_path: Path) -> None:
    with Sandbox(tmp_path, IDLE) as s, s.connect() as c:
        running = Member(s, "running", ["sh", "-c", "sleep 1000 & sleep 1000"])
        c.start("running")
        created = Member(s, "created", IDLE)
        ended = c.request_wait("running")
        c.destroy("created")
        c.destroy("running")
        assert c.answer(ended)["killed"] == 9
        assert [k["id"] for k in c.containers()] == ["c"]
        for m in (running, created):
            assert m.gofer.process.wait(10) == 0


def test_shared_pid_namespace(tmp_path: Path) -> None:
    with Sandbox(tmp_path, IDLE) as s, s.connect() as c:
        m = Member(
            s,
            "second",
            ["sh", "-c", "ps -o pid,comm; sleep 1000"],
            share={"pid": "c", "ipc": "c", "uts": "c"},
        )
        assert m.pid > 1
        c.start("second")
        assert s.run(["hostname"], container="second")[1] == "box\n"
        assert "sleep" in s.run(["sh", "-c", "cat /proc/1/comm; ls -l /proc/1/ns/pid"], container="second")[1]
        links = ["sh", "-c", "readlink /proc/self/ns/pid /proc/self/ns/ipc /proc/self/ns/uts"]
        assert s.run(links, container="second")[1] == s.run(links)[1]
        assert b"PID" in os.read(m.out, 4)
        time.sleep(0.3)
        c.signal("second", signal.SIGKILL)
        assert c.wait("second")["killed"] == 9
        assert c.state("c")["status"] == "running"
        assert "1 sleep" in m.text()
        m.gofer.close()


def test_the_first_container_ends_the_sandbox(tmp_path: Path) -> None:
    with Sandbox(tmp_path, IDLE) as s, s.connect() as c:
        m = Member(s, "second", IDLE)
        c.start("second")
        ended = c.request_wait("second")
        c.signal("c", signal.SIGKILL)
        assert c.answer(ended)["killed"] == 9
        assert s.sentry.wait(10) == 0
        m.gofer.close()


def test_memory_limit_of_one_of_several(tmp_path: Path) -> None:
    hog = ["sh", "-c", "x=xxxxxxxxxxxxxxxx; while :; do x=$x$x; done"]
    with Sandbox(tmp_path, IDLE) as s, s.connect() as c:
        m = Member(s, "second", hog, memory=32 << 20)
        c.start("second")
        how = c.wait("second")
        assert (how["killed"], how["oom"]) == (9, True)
        assert c.stats("second")["memory"]["oom_kills"] == 1
        assert c.state("c")["status"] == "running"
        assert s.run(["true"])[0]["oom"] is False
        m.gofer.close()


def test_a_dead_gofer_ends_its_container_alone(tmp_path: Path) -> None:
    log = os.memfd_create("log")
    with Sandbox(tmp_path, IDLE, spec={"log": log}, fds=[log]) as s, s.connect() as c, s.connect() as e:
        m = Member(s, "second", ["sh", "-c", "while :; do ls /etc > /dev/null; done"])
        c.start("second")
        ident = e.request("events", {"container": "second"})
        c.containers()
        ended = c.request_wait("second")
        m.gofer.process.kill()
        assert c.answer(ended)["killed"] == 9
        assert e.next_for(ident)["event"] == {"event": "gofer", "container": "second"}
        assert s.run(["echo", "alive"])[1] == "alive\n"
        m.gofer.close()
    text = os.pread(log, 4096, 0).decode()
    os.close(log)
    assert 'container "second" is destroyed: the gofer failed: ' in text

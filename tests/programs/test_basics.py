"""How a command ends, what it gets and what it sees."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.harness import Sandbox


@pytest.mark.parametrize(
    "command",
    [
        ["true"],
        ["false"],
        ["sh", "-c", "exit 7"],
        ["sh", "-c", "kill -9 $$"],
        ["sh", "-c", "kill -TERM $$"],
        ["sh", "-c", "kill -SEGV $$"],
        ["sh", "-c", "echo out; echo err >&2; exit 3"],
        ["cat"],
        ["env", "-i", "A=b", "env"],
        ["pwd"],
        ["id"],
        ["echo", "a b", "", "ü", "*"],
    ],
    ids=lambda c: " ".join(c),
)
def test_same(sandbox: Sandbox, command: list[str]) -> None:
    sandbox.same(command, data=b"line 1\nline 2\n")


def test_killed_is_137(sandbox: Sandbox) -> None:
    assert sandbox.run(["sh", "-c", "kill -9 $$"]).status == 137


def test_not_found_is_127(sandbox: Sandbox) -> None:
    done = sandbox.run(["no-such-command"])
    assert done.status == 127
    assert done.out == ""
    assert done.err.count("\n") == 1
    assert "no-such-command" in done.err


@pytest.mark.parametrize("command", ["/etc", "/etc/passwd", "./script"])
def test_not_executable_is_126(sandbox: Sandbox, command: str) -> None:
    (sandbox.cwd / "script").write_text("#!/bin/sh\n")
    done = sandbox.run([command])
    assert done.status == 126
    assert done.err.count("\n") == 1
    assert command in done.err


def test_missing_interpreter(sandbox: Sandbox) -> None:
    script = sandbox.cwd / "script"
    script.write_text("#!/no/such/interpreter\n")
    script.chmod(0o755)
    assert sandbox.run(["./script"]).status in (126, 127)


def test_environment_is_clean(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("API_TOKEN", "secret")
    done = sandbox.run(["env"], ["--env", "MINE=1"])
    assert "secret" not in done.out
    assert sorted(line.partition("=")[0] for line in done.out.splitlines()) == ["HOME", "LANG", "MINE", "PATH"]


def test_stdin_large(sandbox: Sandbox) -> None:
    data = bytes(range(256)) * 40_000
    done = sandbox.run(["sha256sum"], data=data)
    import hashlib

    assert done.out.split()[0] == hashlib.sha256(data).hexdigest()


def test_writes_stay_inside(sandbox: Sandbox) -> None:
    (sandbox.cwd / "file").write_text("old\n")
    done = sandbox.run(["sh", "-c", "echo new > file; echo more > other; rm -rf /usr/share/doc; cat file other"])
    assert (done.status, done.out) == (0, "new\nmore\n")
    assert (sandbox.cwd / "file").read_text() == "old\n"
    assert not (sandbox.cwd / "other").exists()
    assert os.path.isdir("/usr/share/doc")


def test_mount_rw_and_ro(sandbox: Sandbox, tmp_path_factory: pytest.TempPathFactory) -> None:
    rw, ro = tmp_path_factory.mktemp("rw"), tmp_path_factory.mktemp("ro")
    (ro / "given").write_text("given\n")
    script = "cat /ro/given && echo made > /rw/made && mkdir /rw/d && ! touch /ro/x 2>/dev/null && mv /rw/made /rw/d/"
    done = sandbox.run(["sh", "-c", script], ["--mount", f"{rw}:/rw:rw", "--mount", f"{ro}:/ro"])
    assert done == (0, "given\n", "")
    assert (rw / "d" / "made").read_text() == "made\n"
    assert not (ro / "x").exists()


def test_mount_file(sandbox: Sandbox) -> None:
    done = sandbox.run(["cat", "/etc/motto"], ["--mount", f"{__file__}:/etc/motto:ro"])
    assert done.out == Path(__file__).read_text()


def test_hidden_by_default(sandbox: Sandbox) -> None:
    script = """
    for f in /etc/shadow /etc/gshadow /root/* /home/* /run/* /boot/* /etc/ssl/private/* /proc/1/environ; do
        [ -s "$f" ] && [ "$f" != /run/lock ] && [ "$f" != /proc/1/environ ] && cat "$f" && echo "saw $f"
    done
    grep -c . /proc/1/cmdline
    """
    done = sandbox.run(["bash", "-O", "nullglob", "-c", script])
    assert "saw" not in done.out


def test_root_directory(sandbox: Sandbox) -> None:
    root = sandbox.cwd / "root"
    (root / "bin").mkdir(parents=True)
    (root / "bin" / "busybox").write_bytes(Path("/bin/busybox").read_bytes())
    (root / "bin" / "busybox").chmod(0o755)
    done = sandbox.run(["/bin/busybox", "ls", "/"], ["--root", str(root)])
    assert done.status == 0
    assert "bin" in done.out.split()
    assert "usr" not in done.out.split()
    assert sorted(os.listdir(root)) == ["bin"]


def test_root_host(sandbox: Sandbox) -> None:
    assert "bin" in sandbox.run(["ls", "/"], ["--root", "/"]).out.split()


def test_user(sandbox: Sandbox) -> None:
    done = sandbox.run(["sh", "-c", "id -u; id -g; touch /usr/x 2>/dev/null || echo denied"], ["--user", "1234:99"])
    assert done.out == "1234\n99\ndenied\n"


def test_hostname(sandbox: Sandbox) -> None:
    assert sandbox.run(["uname", "-n"], ["--hostname", "box"]).out == "box\n"
    assert sandbox.run(["uname", "-s", "-m"]).out == "Linux x86_64\n"


def test_cwd(sandbox: Sandbox) -> None:
    assert sandbox.run(["pwd"], ["--cwd", "/usr/lib"]).out == "/usr/lib\n"
    assert sandbox.run(["pwd"]).out == f"{sandbox.cwd}\n"


def test_timeout(sandbox: Sandbox) -> None:
    done = sandbox.run(["sh", "-c", "echo begun; sleep 60; echo ended"], ["--timeout", "1"])
    assert (done.status, done.out) == (124, "begun\n")
    assert "time limit" in done.err


def test_strace(sandbox: Sandbox) -> None:
    done = sandbox.run(["true"], ["--strace"])
    assert done.status == 0
    assert "execve(" in done.err or "mmap(" in done.err
    assert "exit_group(0" in done.err


def test_debug_log_takes_strace(sandbox: Sandbox) -> None:
    log = sandbox.cwd / "log"
    done = sandbox.run(["true"], ["--strace", "--debug-log", str(log)])
    assert done == (0, "", "")
    assert "exit_group(0" in log.read_text()


def test_no_network(sandbox: Sandbox) -> None:
    done = sandbox.run(["python3", "-c", "import socket; socket.create_connection(('192.0.2.1', 80), 3)"])
    assert done.status == 1
    assert "Error" in done.err

"""cordon.run: results, verdicts, errors."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

import cordon


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_ok() -> None:
    r = cordon.run(["echo", "hi"], capture_output=True, text=True)
    assert (r.returncode, r.signal, r.stdout, r.stderr, r.verdict) == (0, 0, "hi\n", "", "ok")
    assert r.wall_time > 0
    assert r.cpu_time >= 0
    assert r.peak_memory > 4096
    assert r.exceeded == []


def test_exit_and_input() -> None:
    r = cordon.run(["sh", "-c", "cat; echo err >&2; exit 3"], input=b"data", capture_output=True)
    assert (r.returncode, r.stdout, r.stderr, r.verdict) == (3, b"data", b"err\n", "exit")


def test_signal() -> None:
    r = cordon.run(["sh", "-c", "kill -SEGV $$"])
    assert (r.returncode, r.signal, r.verdict) == (-11, 11, "signal")


def test_timeout_is_a_verdict() -> None:
    r = cordon.run(["sh", "-c", "echo begun; sleep 30"], timeout=1, capture_output=True, text=True)
    assert (r.verdict, r.stdout, r.stderr) == ("timeout", "begun\n", "")
    assert 1 <= r.wall_time < 10


def test_memory_is_a_verdict() -> None:
    r = cordon.run(["python3", "-c", "a = []\nwhile True: a.append(bytearray(1 << 20))"], memory="128M", stderr=subprocess.DEVNULL)
    assert r.verdict == "memory"
    assert "memory" in r.exceeded
    assert r.peak_memory > 64 << 20


def test_env_cwd_mounts(here: Path) -> None:
    (here / "f").write_text("shown\n")
    r = cordon.run(
        ["/bin/sh", "-c", "echo $A $B; pwd; cat /m/f; echo x > /m/g"],
        env={"A": "1", "B": "2"},
        cwd="/usr",
        mounts=[cordon.Mount(str(here), "/m", writable=True)],
        capture_output=True,
        text=True,
    )
    assert r.stdout == "1 2\n/usr\nshown\n"
    assert (here / "g").read_text() == "x\n"


def test_stdout_to_file(here: Path) -> None:
    with open("out", "wb") as f:
        cordon.run(["sh", "-c", "echo a; echo b >&2"], stdout=f, stderr=subprocess.STDOUT)
    assert (here / "out").read_text() == "a\nb\n"


def test_check() -> None:
    with pytest.raises(cordon.SandboxFailed, match="status 7") as e:
        cordon.run(["sh", "-c", "exit 7"], check=True)
    assert e.value.result.returncode == 7


@pytest.mark.parametrize(("command", "status"), [("no-such-command", 127), ("/etc", 126)])
def test_not_started(command: str, status: int) -> None:
    with pytest.raises(cordon.CordonError, match=command) as e:
        cordon.run([command])
    assert e.value.status == status


def test_wrong_arguments() -> None:
    with pytest.raises(TypeError):
        cordon.run("echo hi")
    with pytest.raises(ValueError, match="capture_output"):
        cordon.run(["true"], stdout=subprocess.PIPE, capture_output=True)
    with pytest.raises(ValueError, match="input"):
        cordon.run(["true"], stdin=subprocess.PIPE, input=b"")
    with pytest.raises(cordon.CordonError, match="no command"):
        cordon.run([])


def test_from_threads() -> None:
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda n: cordon.run(["sh", "-c", f"exit {n}"]).returncode, range(12)))
    assert results == list(range(12))


def test_encoding_and_errors() -> None:
    r = cordon.run(["printf", "\\351"], capture_output=True, text=True, encoding="latin-1")
    assert r.stdout == "é"
    r = cordon.run(["printf", "a\\377"], capture_output=True, text=True, errors="replace")
    assert r.stdout == "a\ufffd"

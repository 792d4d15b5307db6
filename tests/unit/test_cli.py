"""Errors of the command line: one sentence that names the object and the cause."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
from pathlib import Path
from typing import IO

import pytest

from tests.harness import CORDON


def cordon(*argv: str, stdout: int | IO[bytes] = subprocess.PIPE) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [CORDON, *argv], stdout=stdout, stderr=subprocess.PIPE, text=True, check=False, timeout=60
    )


@pytest.mark.parametrize(
    ("argv", "status", "text"),
    [
        ([], 2, "no verb given"),
        (["nope"], 2, "'nope'"),
        (["do"], 2, "COMMAND is missing"),
        (["do", "--"], 2, "COMMAND is missing"),
        (["do", "--mount", "x", "--", "true"], 2, "mount 'x'"),
        (["do", "--mount", "/no/such:/x", "--", "true"], 125, "mount /no/such: no such file"),
        (["do", "--mount", "/usr:x", "--", "true"], 2, "not absolute"),
        (["do", "--root", "/no/such", "--", "true"], 125, "root /no/such: no such directory"),
        (["do", "--root", "/etc/passwd", "--", "true"], 125, "root /etc/passwd: not a directory"),
        (["do", "--env", "novalue", "--", "true"], 2, "'novalue'"),
        (["do", "--cwd", "relative", "--", "true"], 2, "'relative'"),
        (["do", "--user", "nobody", "--", "true"], 2, "'nobody'"),
        (["do", "--memory", "lots", "--", "true"], 2, "'lots'"),
        (["do", "--memory", "0", "--", "true"], 2, "'0'"),
        (["do", "--memory", "4k", "--", "true"], 2, "memory 4k: too little"),
        (["do", "--memory", "9999999T", "--", "true"], 2, "'9999999T'"),
        (["do", "--pids", "-3", "--", "true"], 2, "pids -3"),
        (["do", "--pids", "0", "--", "true"], 2, "pids 0"),
        (["do", "--pids", "many", "--", "true"], 2, "--pids 'many': not a number"),
        (["do", "--timeout", "0", "--", "true"], 2, "timeout 0"),
        (["do", "--timeout", "-1", "--", "true"], 2, "timeout -1"),
        (["do", "--timeout", "nan", "--", "true"], 2, "timeout nan"),
        (["do", "--timeout", "inf", "--", "true"], 2, "timeout inf"),
        (["do", "--timeout"], 2, "--timeout needs a value"),
        (["do", "--nope", "--", "true"], 2, "--nope"),
        (["do", "--env", "=x", "--", "true"], 2, "'=x'"),
        (["do", "--env", "A=" + "x" * 130000, "--env", "B=" + "x" * 1000, "--", "/no/such"], 127, "/no/such"),
        (["do", "--cwd", "/etc/passwd", "--", "true"], 125, "/etc/passwd: not a directory"),
        (["do", "--user", "-1", "--", "true"], 2, "user '-1'"),
        (["do", "--user", "4294967295", "--", "true"], 2, "user '4294967295'"),
        (["do", "--mount", "/usr:/etc/passwd", "--", "true"], 125, "/etc/passwd: not a directory"),
        (["do", "--hostname", "", "--", "true"], 2, "hostname ''"),
        (["do", "--", ""], 2, "no command given"),
        (["do", "--", "/etc/passwd"], 126, "/etc/passwd: permission denied"),
        (["do", "--", "/etc/nothing"], 127, "/etc/nothing"),
        (["do", "--", "/etc"], 126, "/etc"),
        (["do", "--platform", "nope", "--", "true"], 125, "platform nope"),
        (["do", "--platform", "kvm", "--", "true"], 125, "platform kvm"),
        (["do", "--debug-log", "/no/such/log", "--", "true"], 125, "debug log /no/such/log: no such file"),
        (["do", "--hostname", "x" * 65, "--", "true"], 2, "64 bytes"),
        (["do", "--cwd", "/no/such", "--", "true"], 125, "/no/such"),
    ],
    ids=lambda v: " ".join(v)[:60] if isinstance(v, list) else "",
)
def test_error(argv: list[str], status: int, text: str) -> None:
    done = cordon(*argv)
    assert done.returncode == status, done.stderr
    assert text in done.stderr
    assert done.stderr.startswith("cordon: ")
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""


def test_help_lists_every_verb() -> None:
    done = cordon("--help")
    assert done.returncode == 0
    for verb in ("do", "doctor", "bench"):
        assert f"\n  {verb} " in done.stdout
        assert cordon(verb, "--help").returncode == 0


@pytest.mark.parametrize("argv", [["--help"], ["do", "--help"], ["features"]])
def test_output_that_nobody_takes(argv: list[str]) -> None:
    """As other programs do: quiet when the reader has gone, a sentence when the disk is full."""
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "wb") as broken, Path("/dev/full").open("wb") as full:
        done = cordon(*argv, stdout=broken)
        assert (done.returncode, done.stderr) == (128 + signal.SIGPIPE, "")
        done = cordon(*argv, stdout=full)
        assert (done.returncode, done.stderr) == (1, "cordon: standard output: no space left on device\n")


def test_version() -> None:
    assert cordon("--version").stdout.startswith("cordon version 0.")


def test_unknown_option() -> None:
    done = cordon("do", "--nope", "--", "true")
    assert done.returncode == 2
    assert "--nope" in done.stderr


def test_doctor_names_every_platform() -> None:
    done = cordon("doctor")
    assert done.returncode == 0
    for platform in ("ptrace", "systrap", "kvm"):
        assert platform in done.stdout
    assert "auto is " in done.stdout


def test_command_after_options_needs_no_dashes(tmp_path: Path) -> None:
    done = cordon("do", "--hostname", "h", "echo", "--version", "-x")
    assert done.stdout == "--version -x\n"


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_standard_descriptors_are_the_null_device(tmp_path: Path, closed: str) -> None:
    script = "cat; stat -Lc %t:%T /proc/self/fd/0 > $OUT; exit 5"
    command = f'exec {shlex.quote(str(CORDON))} do --timeout 20 --mount {tmp_path}:/out:rw --env OUT=/out/said -- sh -c "$1" {closed}'
    p = subprocess.run(["sh", "-c", command, "sh", script], stdin=subprocess.DEVNULL, timeout=60, check=False)
    assert p.returncode == 5
    assert (tmp_path / "said").read_text() == "1:3\n"


def test_removed_working_directory(tmp_path: Path) -> None:
    script = f"mkdir {tmp_path}/gone && cd {tmp_path}/gone && rmdir {tmp_path}/gone && exec {shlex.quote(str(CORDON))} do -- pwd"
    p = subprocess.run(["/bin/sh", "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert (p.returncode, p.stdout) == (0, "/\n")
    assert "cordon" not in p.stderr  # tools/cordon is a script of sh, which complains

"""Runs commands natively and in a sandbox, in the same environment, and compares them."""

from __future__ import annotations

import difflib
import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
#: How tests start cordon: the installed command under `make test`, the tree's launcher otherwise.
CORDON = os.environ.get("CORDON_COMMAND", str(ROOT / "tools" / "cordon"))
#: What `cordon do` gives a command (cordon/specs.py), for the native run.
ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root" if os.geteuid() == 0 else "/tmp",
    "LANG": "C.UTF-8",
}
FULL = os.environ.get("CORDON_FULL") == "1"


class Done(NamedTuple):
    """How a command ended: exit status as a shell says it (128+n for signal n), and what it wrote."""

    status: int
    out: str
    err: str


def done(status: int, out: bytes, err: bytes) -> Done:
    return Done(128 - status if status < 0 else status, out.decode("utf-8", "replace"), err.decode("utf-8", "replace"))


def difference(ours: Done, theirs: Done) -> str:
    """What a sandbox did otherwise, in a few lines."""
    lines = [f"status: {ours.status} in the sandbox, {theirs.status} natively"] if ours.status != theirs.status else []
    for name, a, b in (("stdout", theirs.out, ours.out), ("stderr", theirs.err, ours.err)):
        diff = difflib.unified_diff(a.splitlines(), b.splitlines(), f"{name} natively", f"{name} in the sandbox", "", "", 1, "")
        lines += list(diff)[:40]
    return "\n".join(line[:300] for line in lines)


def native(command: Sequence[str], cwd: Path, data: bytes = b"", timeout: float = 120, **env: str) -> Done:
    p = subprocess.run(
        command, cwd=cwd, input=data, capture_output=True, timeout=timeout, env={**ENVIRONMENT, **env}, check=False
    )
    return done(p.returncode, p.stdout, p.stderr)


class Sandbox:
    """`cordon do` on one platform, in one directory that it shows."""

    def __init__(self, platform: str, cwd: Path) -> None:
        self.platform = platform
        self.cwd = cwd
        #: What its commands are started by: a program that sets something up for them.
        self.prefix: Sequence[str] = ()

    def argv(self, command: Sequence[str], options: Sequence[str] = ()) -> list[str]:
        return [*self.prefix, CORDON, "do", "--platform", self.platform, *options, "--", *command]

    def run(
        self, command: Sequence[str], options: Sequence[str] = (), data: bytes = b"", timeout: float = 120, **env: str
    ) -> Done:
        """Runs a command in a sandbox of its own."""
        options = [*options, *(f"--env={name}={value}" for name, value in env.items())]
        with subprocess.Popen(
            self.argv(command, options),
            cwd=self.cwd,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        ) as p:
            try:
                out, err = p.communicate(data, timeout)
            except subprocess.TimeoutExpired:
                p.kill()
                out, err = p.communicate()
                raise AssertionError(
                    f"{' '.join(command)[:200]}: no end after {timeout} s in the sandbox; it said {out[-2000:]!r} {err[-2000:]!r}"
                ) from None
        return done(p.returncode, out, err)

    def same(
        self, command: Sequence[str], options: Sequence[str] = (), data: bytes = b"", timeout: float = 120, **env: str
    ) -> Done:
        """Runs a command in the sandbox, then natively in the same directory; both must end the same way."""
        ours = self.run(command, options, data, timeout, **env)
        theirs = native(command, self.cwd, data, timeout, **env)
        if ours != theirs:
            raise AssertionError(f"{' '.join(command)[:300]}\n{difference(ours, theirs)}")
        return theirs

    def script(self, text: str, options: Sequence[str] = (), timeout: float = 120, shell: str = "bash") -> Done:
        """`same` for a shell script."""
        return self.same([shell, "-c", text], options, timeout=timeout)


def compile_c(source: Path, target: Path, *flags: str) -> Path:
    """A C or C++ program, built natively."""
    compiler = "g++" if source.suffix == ".cc" else "gcc"
    subprocess.run([compiler, "-O1", "-g", "-Wall", "-o", target, source, *flags], check=True)
    return target


def copy_tree(source: Path, target: Path) -> None:
    shutil.copytree(source, target, symlinks=True)

"""Every example runs and prints what it promises."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.harness import CORDON, ROOT

EXAMPLES = ROOT / "examples"
EXPECTED = {
    "limits": """\
ends well            ok       status 0
says that it failed  exit     status 3
crashes              signal   status -11
does not end         timeout  status 124
takes all memory     memory   status 137, reached: memory
forks for ever       exit     status 1, reached: pids
""",
    "judge": """\
right    accepted, 3 of 3
wrong    wrong answer, 0 of 3
crash    runtime error, 0 of 3
slow     timeout, 0 of 3
greedy   memory, 0 of 3
thief    runtime error, 0 of 3
""",
    "pipeline": "the: 4\ndog: 2\nfox: 2\nand: 1\n",
    "snippet": """\
sum(data): 6
sorted(data)[-2:]: [2, 3]
data[10]: IndexError: list index out of range
[0] * 10**10: memory
all(True for _ in iter(int, 1)): timeout
""",
    "convert": "in the sandbox only\ncannot write to /in\na.txt FIRST\nb.txt SECOND\nsource first\n",
}


def run(name: str, cwd: Path, *arguments: str) -> str:
    """What an example prints, with the installed package under `make test` and the tree's otherwise."""
    env = dict(os.environ)
    if str(ROOT / "tools" / "cordon") == CORDON:
        env["PYTHONPATH"] = str(ROOT)
    command = [sys.executable, str(EXAMPLES / f"{name}.py"), *arguments]
    done = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("name", EXPECTED)
def test_example(name: str, tmp_path: Path) -> None:
    assert run(name, tmp_path) == EXPECTED[name]


def test_judge_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("n = input()\nprint(sum(map(int, n)))\n")
    assert run("judge", tmp_path, str(tmp_path / "mine.py")) == "mine     accepted, 3 of 3\n"


def test_calls(tmp_path: Path) -> None:
    lines = run("calls", tmp_path, "cat", "/etc/passwd", "/no/such/file").splitlines()
    assert re.fullmatch(r"\d+ calls; the commonest:", lines[0])
    assert any(re.fullmatch(r" +\d+ openat", line) for line in lines[1:6])
    assert any(re.fullmatch(r" +\d+ openat ENOENT", line) for line in lines[7:])


def test_every_example_is_here() -> None:
    assert {p.stem for p in EXAMPLES.glob("*.py")} == {*EXPECTED, "calls"}

"""A judge of untrusted submissions: each program reads a number and must print the sum of its digits.

    python3 judge.py [FILE.py ...]     judges these, or a few built-in submissions
"""

import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

import cordon

#: Input and the answer to it.
CASES = [("0\n", "0"), ("12345\n", "15"), ("99999999\n", "72")]

SUBMISSIONS = {
    "right": "print(sum(int(d) for d in input()))",
    "wrong": "print(len(input()))",
    "crash": "print(sum(input()))",
    "slow": "n = int(input())\nwhile True: n += 1",
    "greedy": "input(); print(len('x' * (1 << 30)))",
    "thief": "print(open('/etc/shadow').read())",
}


class Judgement(NamedTuple):
    verdict: str
    passed: int
    cpu_time: float


def judge(program: Path) -> Judgement:
    """Runs a submission on every case, each time in a sandbox of its own that shows nothing but the program."""
    cpu_time = 0.0
    for passed, (question, answer) in enumerate(CASES):
        result = cordon.run(
            ["python3", "-I", "/submission.py"],
            mounts=[cordon.Mount(str(program), "/submission.py")],
            cwd="/tmp",
            user=65534,
            input=question,
            text=True,
            capture_output=True,
            timeout=5,
            memory="128M",
            pids=8,
        )
        cpu_time += result.cpu_time
        if result.verdict in ("timeout", "memory"):
            return Judgement(result.verdict, passed, cpu_time)
        if result.verdict != "ok":
            return Judgement("runtime error", passed, cpu_time)
        if result.stdout is None or result.stdout.strip() != answer:
            return Judgement("wrong answer", passed, cpu_time)
    return Judgement("accepted", len(CASES), cpu_time)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        programs = [Path(name) for name in sys.argv[1:]]
        if not programs:
            for name, text in SUBMISSIONS.items():
                programs.append(Path(folder) / name)
                programs[-1].write_text(text)
        for program in programs:
            judgement = judge(program.resolve())
            print(f"{program.stem:8} {judgement.verdict}, {judgement.passed} of {len(CASES)}")


if __name__ == "__main__":
    main()

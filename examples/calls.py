"""What a program asks of its kernel: the system calls of a command, counted from the sentry's own strace.

    python3 calls.py [COMMAND [ARGUMENT ...]]
"""

import re
import sys
import tempfile
from collections import Counter
from pathlib import Path

import cordon

LINE = re.compile(r"^\[ *\d+\] (?:<\.\.\. )?(\w+)(?:\(| resumed)(.*)$")
FAILED = re.compile(r" = -1 (E\w+)")


def main() -> None:
    command = sys.argv[1:] or ["cat", "/etc/hostname", "/no/such/file"]
    calls: Counter[str] = Counter()
    errors: Counter[tuple[str, str]] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "strace"
        cordon.run(command, strace=True, debug_log=log, capture_output=True)
        for line in log.read_text(errors="replace").splitlines():
            if match := LINE.match(line):
                calls[match[1]] += 1
                if failed := FAILED.search(match[2]):
                    errors[match[1], failed[1]] += 1
    print(f"{sum(calls.values())} calls; the commonest:")
    for name, count in calls.most_common(5):
        print(f"  {count:4} {name}")
    print("failed:")
    for (name, error), count in sorted(errors.items()):
        print(f"  {count:4} {name} {error}")


if __name__ == "__main__":
    main()

"""Builds the C unit tests (native/tests/test_*.c) with AddressSanitizer and UBSan and runs them. Exit status 1 when one fails."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from native import build_native

FLAGS = ["-std=gnu11", "-D_GNU_SOURCE", "-O1", "-g", "-w", "-pthread", "-fsanitize=address,undefined", "-fno-omit-frame-pointer"]
LIMIT = 300  # seconds a program


def main() -> int:
    native = build_native.NATIVE
    work = ROOT / "build" / "native"
    build_native.build(native, allow_missing=True)  # the images
    sources = [str(s) for s in [*build_native.c_sources(), *sorted(work.glob("*_image.c"))]]
    memory_alone = [str(s) for s in [native / "tests" / "mm_fake.c", *sorted((native / "mm").glob("*.c"))]]
    failed = 0
    with tempfile.TemporaryDirectory() as folder:
        for test in sorted((native / "tests").glob("test_*.c")):
            program = f"{folder}/{test.stem}"
            linked = memory_alone if test.stem.startswith("test_mm") else sources
            subprocess.run(["gcc", *FLAGS, "-I", str(native), "-o", program, str(test), *linked], check=True)
            try:
                status = subprocess.run([program], timeout=LIMIT, check=False).returncode
            except subprocess.TimeoutExpired:
                status = -1
            print(f"{test.stem}: {'ok' if status == 0 else f'failed with status {status}'}", flush=True)
            failed += status != 0
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

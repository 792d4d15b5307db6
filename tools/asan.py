"""Builds the C unit tests (native/tests/test_*.c) with AddressSanitizer and UBSan and runs them. Exit status 1 when one fails."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from native import build_native
from platforms import detect

FLAGS = ["-std=gnu11", "-D_GNU_SOURCE", "-O1", "-g", "-w", "-pthread", "-fsanitize=address,undefined", "-fno-omit-frame-pointer"]
LIMIT = 300  # seconds a program
#: Programs that run a guest: on every platform that is built.
ON_PLATFORMS = ("test_run", "test_spaces", "test_stops")
PLATFORMS = [name for name, platform in detect.PLATFORMS.items() if platform is not None]


def compiled(sources: list[Path], native: Path, folder: Path) -> dict[Path, Path]:
    """The objects, each compiled once."""
    objects = {source: folder / f"{n}.o" for n, source in enumerate(sources)}

    def one(source: Path) -> None:
        subprocess.run(["gcc", *FLAGS, "-c", "-I", str(native), "-o", objects[source], source], check=True)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(one, sources))
    return objects


def main() -> int:
    native = build_native.NATIVE
    work = ROOT / "build" / "native"
    build_native.build(native, allow_missing=True)  # the images
    sources = [*build_native.c_sources(), *sorted(work.glob("*_image.c"))]
    memory_alone = [native / "tests" / "mm_fake.c", *sorted((native / "mm").glob("*.c"))]
    failed = 0
    with tempfile.TemporaryDirectory() as folder:
        objects = compiled([*sources, memory_alone[0]], native, Path(folder))
        for test in sorted((native / "tests").glob("test_*.c")):
            program = f"{folder}/{test.stem}"
            linked = memory_alone if test.stem.startswith("test_mm") else sources
            # A program's own stand-ins for functions go first.
            command = ["gcc", *FLAGS, "-Wl,--allow-multiple-definition", "-I", str(native), "-o", program, str(test)]
            subprocess.run([*command, *(str(objects[s]) for s in linked)], check=True)
            for arguments in [[name] for name in PLATFORMS] if test.stem in ON_PLATFORMS else [[]]:
                try:
                    status = subprocess.run([program, *arguments], timeout=LIMIT, check=False).returncode
                except subprocess.TimeoutExpired:
                    status = -1
                what = " ".join([test.stem, *arguments])
                print(f"{what}: {'ok' if status == 0 else f'failed with status {status}'}", flush=True)
                failed += status != 0
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

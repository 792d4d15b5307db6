"""Builds the extension `native._core` (cffi, API mode) and the freestanding images it embeds.

    python native/build_native.py [--out DIR]     build into DIR (default: native/, for running from the tree)

What Python may call stands between `/* cdef begin */` and `/* cdef end */` in the headers; `native/_core.pyi` is made from it.
A folder `native/X/image` holds a freestanding image: all its *.c and *.S linked by X.lds into an ELF file that C code
uses as `const unsigned char cn_X_elf[]` and `const unsigned long cn_X_elf_len`.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import subprocess
import sys
import sysconfig
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cffi

NATIVE = Path(__file__).resolve().parent
ROOT = NATIVE.parent
SKIP = {"tests", "image"}
CFLAGS = ["-std=gnu11", "-D_GNU_SOURCE=", "-O2", "-g", "-fPIC", "-Wall", "-Wextra", "-fvisibility=hidden", "-pthread"]
IMAGE_CFLAGS = [
    "-std=gnu11", "-O2", "-ffreestanding", "-nostdlib", "-fno-stack-protector", "-fno-asynchronous-unwind-tables",
    "-fcf-protection=none", "-mno-red-zone", "-mgeneral-regs-only", "-Wall", "-Wextra", "-fno-builtin",
]
CDEF = re.compile(r"/\* cdef begin \*/(.*?)/\* cdef end \*/", re.S)


class BuildError(Exception):
    """A tool failed; the text is what it said."""


def run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.stderr:
        sys.stderr.write(done.stderr)
    if done.returncode:
        raise BuildError(f"{command[0]} failed with status {done.returncode}: {' '.join(command)}")


def headers() -> list[Path]:
    """native/*.h first, then the subjects' headers, so that a type stands before its users."""
    return sorted(NATIVE.glob("*.h")) + sorted(h for h in NATIVE.glob("*/*.h") if h.parent.name not in SKIP)


def cdefs() -> tuple[str, list[Path]]:
    """All declarations for Python, and the headers they come from."""
    text: list[str] = []
    used: list[Path] = []
    for header in headers():
        parts = CDEF.findall(header.read_text())
        if parts:
            used.append(header)
            text += parts
    return "\n".join(text), used


def newer(target: Path, key: str) -> bool:
    """Is `target` built from exactly the inputs that `key` names?"""
    stamp = target.with_name(target.name + ".key")
    return target.exists() and stamp.exists() and stamp.read_text() == key


def stamp(target: Path, key: str) -> None:
    target.with_name(target.name + ".key").write_text(key)


def digest(paths: list[Path], *extra: str) -> str:
    h = hashlib.sha256("\0".join(extra).encode())
    for p in paths:
        h.update(p.read_bytes())
    return h.hexdigest()


def build_image(folder: Path, work: Path) -> None:
    """native/X/image -> X_image.c in the work folder: the ELF file's bytes as cn_X_elf and cn_X_elf_len."""
    name = folder.parent.name
    sources = sorted(folder.glob("*.c")) + sorted(folder.glob("*.S"))
    script = folder / f"{name}.lds"
    flags_file = folder / "flags"
    flags = flags_file.read_text().split() if flags_file.exists() else ["-static", "-no-pie", "-fPIC"]
    inputs = [*sources, script, *headers(), *sorted(folder.glob("*.h"))]
    key = digest(inputs, *IMAGE_CFLAGS, *flags)
    out = work / f"{name}_image.c"
    if newer(out, key):
        return
    elf = work / f"{name}.image"
    run(["gcc", *IMAGE_CFLAGS, *flags, "-I", str(NATIVE), f"-Wl,-T,{script}", "-Wl,--build-id=none", "-Wl,-z,noexecstack",
         "-o", str(elf), *map(str, sources)])  # fmt: skip
    data = elf.read_bytes()
    out.write_text(
        f"extern const unsigned char cn_{name}_elf[];\nextern const unsigned long cn_{name}_elf_len;\n"
        f"const unsigned long cn_{name}_elf_len = {len(data)};\n"
        f"const unsigned char cn_{name}_elf[] __attribute__((aligned(4096))) = {{{','.join(map(str, data))}}};\n"
    )
    stamp(out, key)


def compile_object(source: Path, work: Path, flags: list[str]) -> Path:
    """One object, compiled again only when the source, a header or an image changed."""
    target = work / (str(source.resolve().relative_to(ROOT)).replace("/", "_") + ".o" if source.is_relative_to(ROOT) else source.name + ".o")
    key = digest([source, *headers()], *flags)
    if not newer(target, key):
        run(["gcc", *flags, "-I", str(NATIVE), "-I", str(work), "-c", str(source), "-o", str(target)])
        stamp(target, key)
    return target


def c_sources() -> list[Path]:
    return sorted(p for p in NATIVE.glob("*/*.c") if p.parent.name not in SKIP)


def build(out: Path) -> Path:
    """Builds the extension into `out`; an older one stays in place when anything fails."""
    work = ROOT / "build" / "native"
    work.mkdir(parents=True, exist_ok=True)
    for folder in sorted(NATIVE.glob("*/image")):
        if (folder / f"{folder.parent.name}.lds").exists():
            build_image(folder, work)
    text, used = cdefs()
    ffi = cffi.FFI()
    ffi.cdef(text)
    includes = "".join(f'#include "{h.relative_to(NATIVE)}"\n' for h in used)
    ffi.set_source("native._core", includes)
    glue = work / "_core.c"
    ffi.emit_c_code(str(glue))
    from native.typestub import write_stub

    write_stub(text, NATIVE / "_core.pyi")
    python = f"-I{sysconfig.get_path('include')}"
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        sources = [*c_sources(), *sorted(work.glob("*_image.c"))]
        jobs = [pool.submit(compile_object, s, work, CFLAGS) for s in sources]
        jobs.append(pool.submit(compile_object, glue, work, [*CFLAGS, "-w", "-fvisibility=default", python]))
        objects = [str(j.result()) for j in jobs]
    name = f"_core{sysconfig.get_config_var('EXT_SUFFIX')}"
    fresh = work / name
    run(["gcc", "-shared", "-pthread", *objects, "-o", str(fresh)])
    target = out / name
    temporary = target.with_name(name + ".new")
    temporary.write_bytes(fresh.read_bytes())
    temporary.chmod(0o755)
    temporary.replace(target)
    return target


def main() -> int:
    parser = argparse.ArgumentParser(description="Builds native._core.")
    parser.add_argument("--out", type=Path, default=NATIVE)
    args = parser.parse_args()
    sys.path.insert(0, str(ROOT))
    try:
        print(build(args.out))
    except BuildError as e:
        print(f"native build: {e}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Builds the extension `native._core` (cffi, API mode) and the freestanding images it embeds.

    python native/build_native.py [--out DIR]     build into DIR (default: native/, for running from the tree)
    python native/build_native.py --check         exit 1 when native/_core.pyi is out of date

What Python may call stands between `/* cdef begin */` and `/* cdef end */` in the headers; `native/_core.pyi` is made from it.
A folder `native/X/image` holds a freestanding image: all its *.c and *.S linked by X.lds into an ELF file that C code
uses as `const unsigned char cn_X_elf[]` and `const unsigned long cn_X_elf_len`.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import hashlib
import io
import os
import re
import subprocess
import sys
import sysconfig
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cffi

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from native.typestub import stub_text

NATIVE = Path(__file__).resolve().parent
ROOT = NATIVE.parent
SKIP = {"tests", "image"}
#: What a warning must not be: it may be a host address taken for one of the guest.
STRICT = ["-Werror=int-conversion", "-Werror=incompatible-pointer-types", "-Werror=implicit-function-declaration", "-Werror=return-type"]
CFLAGS = [
    "-std=gnu11", "-D_GNU_SOURCE=", "-O2", "-g", "-fPIC", "-Wall", "-Wextra", *STRICT, "-fvisibility=hidden", "-pthread",
]  # fmt: skip
IMAGE_CFLAGS = [
    "-std=gnu11", "-O2", "-ffreestanding", "-nostdlib", "-fno-stack-protector", "-fno-asynchronous-unwind-tables",
    "-fcf-protection=none", "-mno-red-zone", "-mgeneral-regs-only", "-Wall", "-Wextra", *STRICT, "-fno-builtin",
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


def dependencies(depfile: Path) -> list[Path]:
    """What an object was made from, as gcc -MMD wrote it down."""
    words = depfile.read_text().replace("\\\n", " ").split()
    return [Path(w) for w in words[1:]]


def object_key(depfile: Path, flags: list[str]) -> str:
    """Names the inputs of an object; "" when they are not all there."""
    try:
        return digest(dependencies(depfile), *flags)
    except OSError:
        return ""


def compile_object(source: Path, work: Path, flags: list[str]) -> Path:
    """One object, compiled again only when its source, a header it includes or the flags changed."""
    target = work / (str(source.relative_to(ROOT)).replace("/", "_") + ".o")
    depfile = target.with_suffix(".d")
    key = object_key(depfile, flags)
    if not key or not newer(target, key):
        run(["gcc", *flags, "-MMD", "-MF", str(depfile), "-I", str(NATIVE), "-c", str(source), "-o", str(target)])
        stamp(target, object_key(depfile, flags))
    return target


def c_sources() -> list[Path]:
    return sorted(p for p in NATIVE.glob("*/*.c") if p.parent.name not in SKIP)


def write_changed(path: Path, text: str) -> None:
    if not path.exists() or path.read_text() != text:
        path.write_text(text)


def undefined(library: Path) -> list[str]:
    """Our own functions that the headers declare to Python and no source defines."""
    done = subprocess.run(["nm", "-D", "--undefined-only", str(library)], capture_output=True, text=True, check=True)
    return sorted(w for w in (line.split()[-1] for line in done.stdout.splitlines()) if w.startswith("cn_"))


def stub_is_current() -> bool:
    """Is native/_core.pyi what the headers make of it?"""
    stub = NATIVE / "_core.pyi"
    return stub.exists() and stub.read_text() == stub_text(cdefs()[0])


def build(out: Path, allow_missing: bool = False) -> Path:
    """Builds the extension into `out`; an older one stays in place when anything fails.

    `allow_missing`: functions that are declared to Python but not written yet abort when called, instead of failing the build.
    """
    work = ROOT / "build" / "native"
    work.mkdir(parents=True, exist_ok=True)
    with open(work / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        return build_locked(out, work, allow_missing)


def build_locked(out: Path, work: Path, allow_missing: bool) -> Path:
    """`build`, alone in the work folder."""
    for folder in sorted(NATIVE.glob("*/image")):
        if (folder / f"{folder.parent.name}.lds").exists():
            build_image(folder, work)
    text, used = cdefs()
    write_changed(NATIVE / "_core.pyi", stub_text(text))
    ffi = cffi.FFI()
    ffi.cdef(text)
    includes = "".join(f'#include "{h.relative_to(NATIVE)}"\n' for h in used)
    ffi.set_source("native._core", includes)
    glue = work / "_core.c"
    with contextlib.redirect_stdout(io.StringIO()):  # it says what it does
        ffi.emit_c_code(str(glue))
    python = f"-I{sysconfig.get_path('include')}"
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        sources = [*c_sources(), *sorted(work.glob("*_image.c"))]
        jobs = [pool.submit(compile_object, s, work, CFLAGS) for s in sources]
        jobs.append(pool.submit(compile_object, glue, work, [*CFLAGS, "-w", "-fvisibility=default", python]))
        objects = [str(j.result()) for j in jobs]
    name = f"_core{sysconfig.get_config_var('EXT_SUFFIX')}"
    fresh = work / name
    run(["gcc", "-shared", "-pthread", *objects, "-o", str(fresh)])
    if missing := undefined(fresh):
        if not allow_missing:
            raise BuildError(f"declared but not defined: {', '.join(missing)}")
        print(f"warning: declared but not defined, calling them aborts: {', '.join(missing)}", file=sys.stderr)
        stubs = work / "missing_stubs.c"
        stubs.write_text("#include <stdlib.h>\n" + "".join(f"void {m}(void);\nvoid {m}(void) {{ abort(); }}\n" for m in missing))
        run(["gcc", "-shared", "-fPIC", "-pthread", *objects, str(stubs), "-o", str(fresh)])
    target = out / name
    out.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(name + ".new")
    temporary.write_bytes(fresh.read_bytes())
    temporary.chmod(0o755)
    temporary.replace(target)
    return target


def main() -> int:
    parser = argparse.ArgumentParser(description="Builds native._core.")
    parser.add_argument("--out", type=Path, default=NATIVE)
    parser.add_argument("--check", action="store_true", help="only check that native/_core.pyi is current")
    parser.add_argument("--allow-missing", action="store_true", help="functions not written yet abort when called")
    args = parser.parse_args()
    if args.check:
        if not stub_is_current():
            print("native/_core.pyi is out of date: run make dev", file=sys.stderr)
            return 1
        return 0
    try:
        print(build(args.out, args.allow_missing))
    except BuildError as e:
        print(f"native build: {e}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

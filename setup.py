"""Builds Cordon: the native extension (native/build_native.py) and the packages compiled by mypyc.

CORDON_PURE=1 leaves the Python interpreted. Both builds keep their objects below build/ and compile only what changed.
"""

from __future__ import annotations

import os
import shutil
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from setuptools import Distribution, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).resolve().parent
sys.path.insert(0, str(ROOT))

from native import build_native

PURE = os.environ.get("CORDON_PURE") == "1"
COMPILED = ("sentry", "gofer")
#: Modules of the compiled packages that stay interpreted, each with its reason.
INTERPRETED: dict[str, str] = {}
OPT_LEVEL = os.environ.get("CORDON_OPT", "1")


def modules() -> list[str]:
    """The Python files that mypyc compiles."""
    files = [p.relative_to(ROOT) for package in COMPILED for p in sorted((ROOT / package).rglob("*.py"))]
    return [str(f) for f in files if str(f) not in INTERPRETED and (f.name != "__init__.py" or f.stat().st_size > 0)]


class Build(build_ext):
    """Native extension first, because mypy reads its stub; then mypyc's, object by object as needed."""

    def finalize_options(self) -> None:
        if not PURE and self.distribution.ext_modules is None:
            from mypyc.build import mypycify

            os.chdir(ROOT)
            stub = build_native.stub_text(build_native.cdefs()[0])
            build_native.write_changed(build_native.NATIVE / "_core.pyi", stub)
            self.distribution.ext_modules = mypycify(
                modules(),
                opt_level=OPT_LEVEL,
                debug_level="1",
                multi_file=True,
                group_name="cordon",
                target_dir=str(ROOT / "build" / "mypyc"),
            )
            for extension in self.distribution.ext_modules:  # 14,000 symbols that need not be looked up at start
                extension.extra_link_args.append("-Wl,-Bsymbolic")
        super().finalize_options()

    def run(self) -> None:
        build_native.build(ROOT / "native" if self.inplace else Path(self.build_lib) / "native")
        if not self.inplace:  # `cordon bench` compiles these
            shutil.copytree(ROOT / "bench" / "guest", Path(self.build_lib) / "cordon" / "guest", dirs_exist_ok=True)
        super().run()

    def build_extensions(self) -> None:
        self.compiler.compile = self.compile_sources
        super().build_extensions()

    def compile_sources(
        self,
        sources: list[str],
        output_dir: str | None = None,
        macros: Any = None,
        include_dirs: list[str] | None = None,
        debug: bool = False,
        extra_preargs: list[str] | None = None,
        extra_postargs: list[str] | None = None,
        depends: Any = None,
    ) -> list[str]:
        """CCompiler.compile, in parallel and only what changed."""
        compiler = self.compiler
        _, objects, extra, pp_opts, build = compiler._setup_compile(
            output_dir, macros, include_dirs, sources, depends, extra_postargs
        )
        arguments = [*compiler._get_cc_args(pp_opts, debug, extra_preargs)]

        def one(target: str) -> None:
            source, extension = build[target]
            depfile = Path(target).with_suffix(".d")
            flags = [*arguments, *extra]
            key = build_native.object_key(depfile, flags)
            if key and build_native.newer(Path(target), key):
                return
            compiler._compile(target, source, extension, [*arguments, "-MMD", "-MF", str(depfile)], extra, pp_opts)
            build_native.stamp(Path(target), build_native.object_key(depfile, flags))

        with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
            list(pool.map(one, objects))
        return list(objects)


class BinaryDistribution(Distribution):
    """There is always something compiled in it."""

    def has_ext_modules(self) -> bool:
        return True


setup(cmdclass={"build_ext": Build}, distclass=BinaryDistribution)

"""Imports go one way (docs/design.md): native <- platforms <- sentry <- cordon; the gofer knows nothing of the sentry."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from tests.harness import ROOT

PACKAGES = ("native", "platforms", "sentry", "gofer", "broker", "cordon")
#: What each package may import of ours. The sentry uses the gofer's client and codec only.
MAY = {
    "native": {"native"},
    "platforms": {"platforms", "native"},
    "sentry": {"sentry", "platforms", "native", "gofer.p9", "gofer.client", "gofer.extension", "broker.client", "broker.wire"},
    "gofer": {"gofer", "native"},
    "broker": {"broker", "native"},
    "cordon": {"cordon", "sentry", "platforms", "gofer", "broker", "native"},
}


def imports(path: Path) -> set[str]:
    """Modules of ours that a file imports, type checking included; `from a import b` counts as a.b."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{path}: relative import"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return {name for name in found if name.split(".")[0] in PACKAGES}


@pytest.mark.parametrize("package", PACKAGES)
def test_directions(package: str) -> None:
    wrong = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in sorted((ROOT / package).rglob("*.py"))
        for name in sorted(imports(path))
        if not any(name == may or name.startswith(may + ".") for may in MAY[package])
    ]
    assert not wrong


def test_abi_imports_nothing() -> None:
    for path in (ROOT / "sentry" / "abi").glob("*.py"):
        assert not imports(path), path


def test_interface_imports_no_kernel() -> None:
    """`import cordon` and cordon.run itself know neither sentry nor gofer nor native code."""
    ours = ("sentry", "gofer", "broker", "native", "platforms")
    code = f"import sys, cordon; cordon.run; print([m for m in sys.modules if m.split('.')[0] in {ours}])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_a_folder_of_the_same_name_does_not_shadow(tmp_path: Path) -> None:
    """A user's folder named like a package or a module of the library is not imported by the command."""
    from tests.harness import CORDON

    for name in ("sentry", "gofer", "broker", "native", "json", "argparse"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise SystemExit('shadowed')\n")
    done = subprocess.run([CORDON, "do", "--", "echo", "fine"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "fine\n"), done.stderr


def test_names_of_caught_exceptions() -> None:
    """In compiled packages a function binds the name of a caught exception to nothing else: mypyc types it by what it is first bound
    to, so that the second ends in a TypeError, and only in the compiled build."""
    wrong = []
    for package in ("sentry", "gofer", "broker"):
        for path in sorted((ROOT / package).rglob("*.py")):
            for function in ast.walk(ast.parse(path.read_text())):
                if not isinstance(function, ast.FunctionDef):
                    continue
                kinds: dict[str, set[str]] = {}
                for h in ast.walk(function):
                    if isinstance(h, ast.ExceptHandler) and h.name and h.type:
                        kinds.setdefault(h.name, set()).add(ast.unparse(h.type))
                for n in ast.walk(function):
                    if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store) and n.id in kinds:
                        kinds[n.id].add("a variable")
                wrong += [f"{path.name}: {function.name}: {n}" for n, k in kinds.items() if len(k) > 1]
    assert not wrong

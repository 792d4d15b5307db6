"""The registries of tests are sorted and name tests that exist."""

from __future__ import annotations

from tests.conftest import known_failures
from tests.harness import ROOT


def test_known_failures_are_sorted_and_have_reasons() -> None:
    names = [f["test"] for f in known_failures()]
    assert names == sorted(set(names))
    assert all(f.get("reason") for f in known_failures())


def test_known_failures_exist() -> None:
    for name in (f["test"] for f in known_failures()):
        path, _, function = name.partition("::")
        assert f"def {function.partition('[')[0]}(" in (ROOT / path).read_text(), name

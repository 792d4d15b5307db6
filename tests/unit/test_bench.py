"""cordon bench: statistics, cases, results, and a short run."""

from __future__ import annotations

import json
import math
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from cordon.bench import cases, page, runner, stats, text
from cordon.bench.results import Results
from cordon.errors import CordonError
from tests.harness import CORDON, native


def sample_results() -> Results:
    r = Results()
    r.machine = {"cpu": "Some <CPU>", "cores": 2, "memory": 1 << 34, "kernel": "6.1", "system": "Linux", "kvm": False, "when": "now"}
    r.launchers = {"native": "", "cordon ptrace": "", "runc": "runc 1.1"}
    r.rounds = 5
    r.busy = [0.01] * 5
    for i in range(5):
        r.add("getpid", "native", 100.0 + i)
        r.add("getpid", "cordon ptrace", 300.0 + 2 * i)
        r.add("stat", "native", 1000.0 + i)
        r.add("stat", "cordon ptrace", 1002.0 - i)
        r.add("threads_1", "native", 100.0)
        r.add("threads_4", "native", 50.0)
        r.add("footprint", "runc", 5e6)
        r.add("start_up", "cordon ptrace", 50e6)
    return r


def test_rank_test() -> None:
    """Values of the exact test by hand: 5 against 5 fully apart is 2 of 252 ways."""
    assert stats.mann_whitney([1, 2, 3, 4, 5], [6, 7, 8, 9, 10]) == pytest.approx(2 / 252)
    assert stats.mann_whitney([1, 3, 5], [2, 4, 6]) == pytest.approx(14 / 20)
    assert stats.mann_whitney([5, 5, 5], [5, 5, 5]) == 1.0
    many = [float(i) for i in range(30)]
    assert stats.mann_whitney(many, [v + 100 for v in many]) < 1e-9
    assert stats.mann_whitney(many, [v + 0.5 for v in many]) > 0.5
    assert stats.mann_whitney([], [1.0]) == 1.0


def test_quartiles_and_ratio() -> None:
    assert stats.quartiles([1, 2, 3, 4, 5]) == (2, 4)
    assert stats.quartiles([7]) == (7, 7)
    assert stats.ratio([2, 6, 9], [1, 2, 3]) == 3
    assert math.isnan(stats.ratio([1], []))


def test_cases() -> None:
    assert len(cases.BY_NAME) == len(cases.ALL)
    assert len(cases.ROWS) == 36
    assert [c.name for c in cases.select(["getpid", "fork*"], False)] == ["getpid", "fork_wait"]
    assert {c.group for c in cases.select(["classes"], False)} == {"classes"}
    with pytest.raises(KeyError):
        cases.select(["no-such"], False)


def test_targets() -> None:
    r = sample_results()
    assert r.meets(cases.BY_NAME["getpid"], "cordon ptrace") is False
    assert r.meets(cases.BY_NAME["stat"], "cordon ptrace") is True
    assert r.meets(cases.BY_NAME["start_up"], "cordon ptrace") is True
    assert r.meets(cases.BY_NAME["getpid"], "runc") is None


def test_json_both_ways() -> None:
    r = sample_results()
    assert vars(Results.from_json(r.to_json())) == vars(r)
    for bad in ("{", "[]", '{"version": 1}', json.dumps({"version": 99})):
        with pytest.raises(CordonError):
            Results.from_json(bad)


def test_text() -> None:
    shown = text.table(sample_results())
    assert re.search(r"getpid +102 ns +±1% +304 ns +±1% +2\.98 ✗ +- +1 x +24 / 20", shown)
    assert re.search(r"stat .*1\.00= ✓", shown)
    lines = [line for line in text.markdown(sample_results()).splitlines() if line.startswith("| ")]
    assert len({line.count("|") for line in lines if "gVisor" in line or "getpid" in line}) == 1
    assert [text.amount(v) for v in (0.5, 12.34, 1234, 5e6, 2e9)] == ["0.5 ns", "12.3 ns", "1.23 us", "5 ms", "2 s"]


class Checker(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        assert not {"src", "href"} & {name for name, _ in attrs}


def test_page_is_self_contained() -> None:
    checker = Checker()
    content = page.page(sample_results())
    checker.feed(content)
    assert {"svg", "table", "style", "polyline"} <= set(checker.tags)
    assert "script" not in checker.tags and "http" not in content and "url(" not in content
    assert "Some &lt;CPU&gt;" in content


def test_no_compiler(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(CordonError, match="no C compiler"):
        runner.compile_guest(str(tmp_path / "guest"))


@pytest.mark.root
def test_guest_knows_every_case(tmp_path: Path) -> None:
    guest = str(tmp_path / "guest")
    runner.compile_guest(guest)
    known = set(native([guest, "list"], tmp_path).out.split())
    assert {c.guest_name for c in cases.ALL if c.kind == "guest"} <= known


@pytest.mark.root
def test_run(tmp_path: Path) -> None:
    out, shown = tmp_path / "r.json", tmp_path / "r.html"
    argv = [CORDON, "bench", "--quick", "--rounds", "1", "--wait", "0", "--platform", "ptrace", "--seed", "5"]
    done = native([*argv, "--json", str(out), "--html", str(shown), "getpid", "python_pass", "start_up"], tmp_path)
    assert done.status == 0, done.err
    r = Results.from_json(out.read_text())
    assert r.seed == 5 and not r.failures
    assert all(set(r.samples[c]) == {"native", "cordon ptrace"} for c in ("getpid", "python_pass", "start_up"))
    assert "seed 5" in done.out and shown.stat().st_size > 2000


def test_bad_arguments(tmp_path: Path) -> None:
    for argv, sentence in (
        (["no-such-case"], "there is no case or group 'no-such-case'"),
        (["--rounds", "0"], "not a positive number"),
        (["--from", "/no/such"], "/no/such: No such file"),
        (["--platform", "kvm9", "getpid"], "platform kvm9: there is no platform of that name"),
    ):
        done = native([CORDON, "bench", *argv], tmp_path)
        assert done.status != 0 and sentence in done.err, (argv, done.err)

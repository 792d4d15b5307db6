"""What was measured: samples by case and launcher, and what they come to. Read and written as JSON."""

from __future__ import annotations

import json
import math
from statistics import median
from typing import Any, NamedTuple

from cordon.bench import stats
from cordon.bench.cases import BY_NAME, Case
from cordon.errors import CordonError

NATIVE = "native"
VERSION = 1
#: A difference counts when the rank test's p is below this.
SIGNIFICANT = 0.05
#: Rounds from which on it can be.
TESTABLE = 4


class Summary(NamedTuple):
    """One case in one launcher."""

    median: float
    low: float
    high: float
    #: To native of the same rounds; nan without a native figure.
    ratio: float
    #: That both have the same distribution (Mann-Whitney, two-sided).
    p: float
    taken: int


class Results:
    def __init__(self) -> None:
        self.machine: dict[str, Any] = {}
        self.seed = 0
        self.rounds = 0
        self.quick = False
        #: Of each round: the share of the machine that others used before it.
        self.busy: list[float] = []
        self.quiet_limit = 0.0
        #: Launcher -> its version.
        self.launchers: dict[str, str] = {}
        #: Case -> launcher -> a sample a round.
        self.samples: dict[str, dict[str, list[float]]] = {}
        #: ns of a bare PTRACE_SYSEMU round trip on one core, a sample a round: the floor of the ptrace platform.
        self.sysemu: list[float] = []
        #: Sentences about what could not be measured.
        self.failures: list[str] = []

    def add(self, case: str, launcher: str, value: float) -> None:
        self.samples.setdefault(case, {}).setdefault(launcher, []).append(value)

    def fail(self, sentence: str) -> None:
        if sentence not in self.failures:
            self.failures.append(sentence)

    def cases(self) -> list[Case]:
        """Those that have samples, in the order of the suite."""
        return [c for c in BY_NAME.values() if c.name in self.samples]

    def summary(self, case: str, launcher: str) -> Summary | None:
        taken = self.samples.get(case, {}).get(launcher)
        if not taken:
            return None
        native = self.samples[case].get(NATIVE, [])
        low, high = stats.quartiles(taken)
        return Summary(
            median(taken), low, high, stats.ratio(taken, native), stats.mann_whitney(taken, native), len(taken)
        )

    def meets(self, case: Case, launcher: str) -> bool | None:
        """Is the target reached? None: the case has none here."""
        s = self.summary(case.name, launcher)
        if s is None or not launcher.startswith("cordon"):
            return None
        if case.target_ns:
            return s.median <= case.target_ns
        if case.target is None or math.isnan(s.ratio):
            return None
        return round(s.ratio, 2) <= case.target

    def quiet(self) -> str:
        """A sentence about the machine's load during the run."""
        from cordon.bench.machine import QUIET

        loud = [b for b in self.busy if b > QUIET]
        if not loud:
            return f"The machine was quiet before each of the {len(self.busy)} rounds."
        return (
            f"The machine was NOT quiet before {len(loud)} of {len(self.busy)} rounds (others used up to {max(loud):.0%} of it, "
            f"waited {self.quiet_limit:.0f} s): take ratios with care."
        )

    def to_json(self) -> str:
        return json.dumps({"version": VERSION, **vars(self)}, indent=1)

    @classmethod
    def from_json(cls, text: str) -> Results:
        try:
            plain = json.loads(text)
        except ValueError as e:
            raise CordonError(f"bench: not JSON: {e}") from None
        results = cls()
        if not isinstance(plain, dict) or plain.pop("version", None) != VERSION or set(plain) != set(vars(results)):
            raise CordonError("bench: not results of cordon bench")
        vars(results).update(plain)
        return results

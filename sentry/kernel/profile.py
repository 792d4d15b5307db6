"""OCI seccomp profiles (config-linux.md, "Seccomp") as a filter of the sentry's own (seccomp.py), by number and arguments.

As libseccomp builds them: a rule with arguments holds when all its comparisons do, rules of one call are tried in order and the first that
holds decides, and a rule without arguments always holds; a call without a rule that holds gets the default action. Names that
this architecture does not have mean nothing. Calls that are allowed whatever their arguments keep their native fast paths.
"""

from __future__ import annotations

from typing import Any, Final

from native._core import lib
from sentry.abi import errno as E
from sentry.abi import seccomp as SC
from sentry.errors import SandboxError
from sentry.kernel.seccomp import M64, Filter
from sentry.syscalls.table import ROWS

ACTIONS: Final = {
    "SCMP_ACT_KILL": SC.SECCOMP_RET_KILL_THREAD,
    "SCMP_ACT_KILL_THREAD": SC.SECCOMP_RET_KILL_THREAD,
    "SCMP_ACT_KILL_PROCESS": SC.SECCOMP_RET_KILL_PROCESS,
    "SCMP_ACT_TRAP": SC.SECCOMP_RET_TRAP,
    "SCMP_ACT_ERRNO": SC.SECCOMP_RET_ERRNO,
    "SCMP_ACT_TRACE": SC.SECCOMP_RET_TRACE,
    "SCMP_ACT_ALLOW": SC.SECCOMP_RET_ALLOW,
    "SCMP_ACT_LOG": SC.SECCOMP_RET_LOG,
}
OPERATORS: Final = ("NE", "LT", "LE", "EQ", "GE", "GT", "MASKED_EQ")
NATIVE: Final = ("SCMP_ARCH_X86_64", "SCMP_ARCH_NATIVE")
WITH_NUMBER: Final = (SC.SECCOMP_RET_ERRNO, SC.SECCOMP_RET_TRACE)
DATA_MAX: Final = 0xFFFF
ARGS: Final = 6
NUMBERS: Final[dict[str, int]] = {row.name: row.number for row in ROWS}


class Comparison:
    """One condition on an argument."""

    def __init__(self, index: int, op: str, value: int, second: int) -> None:
        self.index: int = index
        self.op: str = op
        self.value: int = value
        self.second: int = second

    def holds(self, args: list[int]) -> bool:
        a = args[self.index]
        v = self.value
        if self.op == "EQ":
            return a == v
        if self.op == "NE":
            return a != v
        if self.op == "LT":
            return a < v
        if self.op == "LE":
            return a <= v
        if self.op == "GE":
            return a >= v
        if self.op == "GT":
            return a > v
        return a & v == self.second


class Rule:
    """What happens to a call when all conditions hold."""

    def __init__(self, verdict: int, conditions: list[Comparison]) -> None:
        self.verdict: int = verdict
        self.conditions: list[Comparison] = conditions

    def holds(self, args: list[int]) -> bool:
        return all(c.holds(args) for c in self.conditions)


class Profile(Filter):
    """A compiled profile."""

    def __init__(self, default: int) -> None:
        super().__init__([], None)
        self.default: int = default
        self.rules: dict[int, list[Rule]] = {}

    def verdict(self, number: int, args: list[int], data: bytes) -> int:
        for rule in self.rules.get(number, []):
            if rule.holds(args):
                return rule.verdict
        return self.default

    def always_allows(self, number: int) -> bool:
        """Whatever the arguments?"""
        for rule in self.rules.get(number, []):
            if rule.verdict != SC.SECCOMP_RET_ALLOW:
                return False
            if not rule.conditions:
                return True
        return self.default == SC.SECCOMP_RET_ALLOW

    def watch(self) -> None:
        """Has the calls that may be refused come to the border; the others stay on their fast paths."""
        for number in range(lib.CN_NR_SYSCALLS):
            if not self.always_allows(number):
                lib.cn_watch_set(number, lib.CN_WATCH_HOOK, 1)


def bad(where: str, what: str) -> SandboxError:
    return SandboxError(f"seccomp profile: {where} {what}")


def number_in(value: Any, where: str, most: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= most:
        raise bad(where, f"is not a number from 0 to {most}")
    return int(value)


def action(value: Any, number: Any, where: str) -> int:
    """The verdict of an action with its errno (EPERM when none is given)."""
    verdict = ACTIONS.get(value) if isinstance(value, str) else None
    if verdict is None:
        raise bad(where, f"cannot be honoured: {value!r}")
    if verdict in WITH_NUMBER:
        return verdict | (E.EPERM if number is None else number_in(number, where, DATA_MAX))
    return verdict


def comparison(value: Any, where: str) -> Comparison:
    if not isinstance(value, dict):
        raise bad(where, "is not an object")
    op = value.get("op")
    name = op.removeprefix("SCMP_CMP_") if isinstance(op, str) else ""
    if name not in OPERATORS:
        raise bad(f"{where}.op", f"is no comparison: {op!r}")
    return Comparison(
        number_in(value.get("index", 0), f"{where}.index", ARGS - 1),
        name,
        number_in(value.get("value", 0), f"{where}.value", M64),
        number_in(value.get("valueTwo", 0), f"{where}.valueTwo", M64),
    )


def items(document: dict[str, Any], key: str, where: str) -> list[Any]:
    v = document.get(key)
    if v is None:
        return []
    if not isinstance(v, list):
        raise bad(where, "is not a list")
    return v


def compile_profile(document: dict[str, Any]) -> Profile:
    """The filter; SandboxError names what is wrong. The default action decides for other architectures, which guests can't use."""
    architectures = items(document, "architectures", "architectures")
    default = action(document.get("defaultAction"), document.get("defaultErrnoRet"), "defaultAction")
    profile = Profile(default)
    if architectures and not any(a in NATIVE for a in architectures):
        return profile  # as libseccomp: a call of an architecture without rules
    for i, entry in enumerate(items(document, "syscalls", "syscalls")):
        where = f"syscalls[{i}]"
        if not isinstance(entry, dict):
            raise bad(where, "is not an object")
        verdict = action(entry.get("action"), entry.get("errnoRet"), f"{where}.action")
        args = items(entry, "args", f"{where}.args")
        conditions = [comparison(a, f"{where}.args[{k}]") for k, a in enumerate(args)]
        for name in items(entry, "names", f"{where}.names"):
            if not isinstance(name, str):
                raise bad(f"{where}.names", "is not a list of names")
            number = NUMBERS.get(name)
            if number is not None:
                add(profile, number, verdict, conditions)
    profile.watch()
    return profile


def add(profile: Profile, number: int, verdict: int, conditions: list[Comparison]) -> None:
    """Several conditions on one argument are alternatives, as runc makes them; on different ones they must all hold."""
    rules = profile.rules.setdefault(number, [])
    indexes = [c.index for c in conditions]
    if len(set(indexes)) < len(indexes):
        rules.extend(Rule(verdict, [c]) for c in conditions)
    else:
        rules.append(Rule(verdict, conditions))

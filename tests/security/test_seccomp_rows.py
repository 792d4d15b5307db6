"""Every row of the seccomp tables, executed: what it allows passes, what it forbids and what no row mentions is trapped."""

from __future__ import annotations

import ctypes
import importlib.util
import json
import os
import signal
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
CASES = [
    ("gofer", "ro"),
    ("gofer", "rw"),
    ("sentry", "ptrace"),
    ("sentry", "ptrace-net"),
    ("sentry", "systrap"),
    ("sentry", "systrap-net"),
    ("broker", "broker"),
]
LAST_NR = 460
PROBES = (
    335,
    336,
)  # uretprobe, uprobe: the kernel never asks a filter about them; outside a trampoline they raise SIGILL
M1 = (1 << 64) - 1
# Calls that do not come back, or that wait, with arguments all zero or -1: what makes them harmless, or None to leave them out.
SPECIAL: dict[str, tuple[int, ...] | None] = {
    "exit": None,
    "exit_group": None,
    "rt_sigreturn": None,
    "select": (0, 0, 0, 0, 1),
    "pselect6": (M1, 0, 0, 0, 0, 0),
    "ppoll": (0, M1, 0, 0, 0),
    "poll": (0, 0, 0),
    "ptrace": (M1, 0, 0, 0),
    "kill": (1 << 30, 0),
    "clone": None,  # a thread; test_seal.py starts one
    "rt_sigprocmask": (99, 0, 0, 0),
    "rt_sigaction": (99, 0, 0, 0),
    "brk": (0,),
    "rt_sigtimedwait": (0, 0, 0, 0),
    "rt_sigsuspend": (0, 0),
    "close": (M1,),
    "dup": (M1,),
    "setitimer": (99, 0, 0),
    "mmap": (0, 0, 0, 0, M1, 0),
    "wait4": (M1, 0, 1, 0),
    "waitid": (0, 1 << 30, 0, 1),
    "madvise": (1, 1, 99),
    "sched_setaffinity": (0, 0, 0),
    "memfd_create": (0, 0),
    "eventfd2": (0, M1),
    "epoll_create1": (M1,),
    "pipe2": (0, M1),
    "recvfrom": (M1, 0, 0, 0, 0, 0),
    "sendto": (M1, 0, 0, 0, 0, 0),
}


def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("gen_seccomp", ROOT / "tools" / "gen_seccomp.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["gen_seccomp"] = module
    spec.loader.exec_module(module)
    return module


GEN = generator()


def in_child(body: Any) -> Any:
    """What `body` returns in a forked child (as JSON)."""
    r, w = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.write(w, json.dumps(body()).encode())
        finally:
            os._exit(0)
    os.close(w)
    with os.fdopen(r, "rb") as f:
        text = f.read()
    _, status = os.waitpid(pid, 0)
    assert text, f"the child ended with status {status}"
    return json.loads(text)


def try_calls(program: bytes, calls: list[tuple[int, list[int]]]) -> list[bool]:
    """For each call: was it trapped? Runs under the filter."""
    from native._core import lib

    syscall = ctypes.CDLL(None).syscall
    syscall.restype = ctypes.c_long
    prepared = [(ctypes.c_long(nr), [ctypes.c_ulong(a & M1) for a in args]) for nr, args in calls]
    trapped: list[int] = []
    signal.signal(signal.SIGSYS, lambda *_: trapped.append(1))
    assert lib.cn_seccomp_install(program, len(program)) == 0
    results = []
    for nr, args in prepared:
        trapped.clear()
        syscall(nr, *args)
        results.append(bool(trapped))
    return results


def arguments(name: str, tests: list[Any]) -> list[int] | None:
    args: list[int] | None = [0, 0, 0, 0, 0, 0]
    if name in SPECIAL:
        special = SPECIAL[name]
        args = None if special is None else list(special) + [0] * (6 - len(special))
    elif args is not None:
        args[0] = M1
    if args is not None:
        for t in tests:
            args[t.arg] = args[t.arg] & ~t.mask & M1 | t.value
    return args


def allows(rules: list[Any], args: list[int]) -> bool:
    return any(all(args[t.arg] & t.mask == t.value for t in rule.tests) for rule in rules)


def program_of(name: str, variant: str) -> bytes:
    if name == "gofer":
        from gofer.filter import PROGRAMS
    elif name == "broker":
        from broker.filter import PROGRAMS
    else:
        from sentry.filter import PROGRAMS
    return PROGRAMS[variant]


@pytest.mark.parametrize(("name", "variant"), CASES)
def test_each_row_allows_and_forbids(name: str, variant: str) -> None:
    table = GEN.rules(name, variant)
    names = {GEN.number(c): c for row in GEN.rows(name) for c in row["call"]}
    calls: list[tuple[int, list[int]]] = []
    expected: list[bool] = []
    for nr, rules in table.items():
        for rule in rules:
            harmless = arguments(names[nr], list(rule.tests))
            args = harmless or [rule.tests[i].value if i < len(rule.tests) else 0 for i in range(6)]
            if harmless is not None:
                calls.append((nr, args))
                expected.append(False)
            for t in rule.tests:  # one bit of the condition wrong
                for bit in range(64):
                    wrong = list(args)
                    wrong[t.arg] ^= 1 << bit
                    if t.mask >> bit & 1 and not allows(rules, wrong):
                        calls.append((nr, wrong))
                        expected.append(True)
    got = in_child(lambda: try_calls(program_of(name, variant), calls))
    assert [(names[c[0]], c[1]) for c, g, e in zip(calls, got, expected, strict=True) if g != e] == []


@pytest.mark.parametrize(("name", "variant"), CASES)
def test_everything_else_is_forbidden(name: str, variant: str) -> None:
    table = GEN.rules(name, variant)
    others = [nr for nr in range(LAST_NR) if nr not in table and nr not in PROBES]
    got = in_child(lambda: try_calls(program_of(name, variant), [(nr, [M1] * 6) for nr in others]))
    assert [nr for nr, trapped in zip(others, got, strict=True) if not trapped] == []


@pytest.mark.parametrize(("name", "variant"), CASES)
def test_another_architecture_kills(name: str, variant: str) -> None:
    """x32 numbers end the process at once."""
    from native._core import lib

    pid = os.fork()
    if pid == 0:
        syscall = ctypes.CDLL(None).syscall
        program = program_of(name, variant)
        lib.cn_seccomp_install(program, len(program))
        syscall(ctypes.c_long(0x40000000 + 39))
        os._exit(0)
    assert os.WTERMSIG(os.waitpid(pid, 0)[1]) == signal.SIGSYS


def test_every_row_has_a_reason() -> None:
    for name in ("gofer", "sentry", "broker"):
        for row in GEN.rows(name):
            assert row["reason"].strip(), row

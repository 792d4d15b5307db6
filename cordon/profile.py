"""Turns the records of a profile (native/trace/trace.h) into the Chrome JSON trace format, which Perfetto and chrome://tracing read.

Each task is a thread of its process. A system call is a slice from its stop to the next entry of the guest; within it stand
the phases: rung 1 (C), wait for the kernel lock, rung 2 (Python), gofer, sleep. What stands between the calls is the guest, its
hand-over to the sentry included. The source of the format: "Trace Event Format", Google.
"""

from __future__ import annotations

import json
import mmap
import os
import struct
from collections.abc import Iterator
from typing import Any

from cordon.errors import CordonError

RECORD = struct.Struct("<QIHBB3Qq")
GUEST, STOP, LOCK, KERNEL, BLOCK, GOFER, NAME = range(1, 8)
SYSCALL = 1
REASONS = {2: "page fault", 3: "exception", 4: "interrupt", 5: "end"}
PHASES = {GUEST: "guest", LOCK: "kernel lock", KERNEL: "rung 2 (Python)", BLOCK: "sleep", GOFER: "gofer"}
NO_CALL = 0xFFFF
Event = dict[str, Any]


class Thread:
    """A host thread of the sentry and the task that it runs."""

    def __init__(self, pid: int, tid: int) -> None:
        self.pid = pid
        self.tid = tid
        #: The stop being handled: name, ns when it began, arguments, phases in it (name, from, to).
        self.call = ""
        self.since = 0
        self.args: dict[str, Any] = {}
        self.phases: list[tuple[str, int, int]] = []
        self.phase = ""
        self.phase_since = 0

    def turn(self, phase: str, now: int) -> None:
        if self.phase and self.call:
            self.phases.append((self.phase, self.phase_since, now))
        self.phase, self.phase_since = phase, now


def slice_of(th: Thread, name: str, start: int, end: int, category: str, args: dict[str, Any] | None = None) -> Event:
    event: Event = {
        "ph": "X", "name": name, "cat": category, "pid": th.pid, "tid": th.tid, "ts": start / 1000, "dur": (end - start) / 1000
    }  # fmt: skip
    if args:
        event["args"] = args
    return event


def finish(th: Thread, now: int, result: int | None) -> Iterator[Event]:
    """The stop being handled ends: its slice with its phases inside."""
    th.turn("", now)
    if not th.call:
        return
    totals: dict[str, float] = {}
    for name, start, end in th.phases:
        totals[name] = round(totals.get(name, 0.0) + (end - start) / 1000, 3)
    rung = {} if not th.args else {"rung": 2 if PHASES[KERNEL] in totals else 1}
    answer = {} if result is None or not th.args else {"result": result}
    yield slice_of(th, th.call, th.since, now, "call" if th.args else "stop", {**th.args, **answer, **rung, "us": totals})
    for name, start, end in th.phases:
        yield slice_of(th, name, start, end, "phase")
    th.call = ""
    th.phases = []


def call_names() -> dict[int, str]:
    from sentry.syscalls.table import ROWS

    return {row.number: row.name for row in ROWS}


def events(records: Iterator[tuple[int, ...]], names: dict[int, str]) -> Iterator[Event]:
    """The trace's events, those of one thread properly nested."""
    threads: dict[int, Thread] = {}
    last = 0
    for now, host, nr, phase, reason, a0, a1, a2, result in records:
        last = max(last, now)
        if phase == NAME:
            th = threads.get(host)
            if th is None or (th.pid, th.tid) != (a0, a1):
                th = threads[host] = Thread(a0, a1)
            name = struct.pack("<Qq", a2, result).rstrip(b"\0").decode("utf-8", "replace")
            yield {"ph": "M", "name": "thread_name", "pid": th.pid, "tid": th.tid, "args": {"name": name}}
            if th.pid == th.tid:
                yield {"ph": "M", "name": "process_name", "pid": th.pid, "args": {"name": name}}
            continue
        th = threads.get(host)
        if th is None:  # the sentry's own threads
            continue
        if phase == GUEST:
            yield from finish(th, now, result)
            th.turn(PHASES[GUEST], now)
        elif phase == STOP and reason:
            if th.phase == PHASES[GUEST]:
                yield slice_of(th, PHASES[GUEST], th.phase_since, now, "guest")
            th.phase = ""
            if reason == SYSCALL:
                th.call = names.get(nr, f"syscall {nr}")
                th.args = {"args": [hex(a) for a in (a0, a1, a2)]}
            else:
                th.call, th.args = REASONS.get(reason, f"stop {reason}"), {}
            th.since = now
            th.turn("rung 1 (C)" if reason == SYSCALL else "fault handler", now)
        elif phase == STOP:  # back to it from a phase within
            th.turn("rung 1 (C)", now)
        else:
            th.turn(PHASES.get(phase, f"phase {phase}"), now)
    for th in threads.values():
        yield from finish(th, last, None)


def read(fd: int) -> Iterator[tuple[int, ...]]:
    size = os.fstat(fd).st_size // RECORD.size * RECORD.size
    if size:
        with mmap.mmap(fd, size, prot=mmap.PROT_READ) as data:
            yield from RECORD.iter_unpack(memoryview(data)[:size].tobytes())


def convert(fd: int, path: str) -> None:
    """Writes the trace of the records in `fd`, which is closed."""
    try:
        with open(path, "w", encoding="utf-8") as out:
            out.write('{"displayTimeUnit": "ns", "traceEvents": [\n')
            separator = ""
            for event in events(read(fd), call_names()):
                out.write(separator + json.dumps(event))
                separator = ",\n"
            out.write("\n]}\n")
    except OSError as e:
        raise CordonError(f"profile {path}: {os.strerror(e.errno or 0).lower()}") from None
    finally:
        os.close(fd)

"""Runs one sandbox from its start to its end: forwards signals, keeps the time, says how it ended."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import time
from typing import Any

from cordon import defaults
from cordon.control import Connection, ControlError
from cordon.errors import STATUS_FAILED, STATUS_TIMEOUT, CordonError
from cordon.options import Options
from cordon.spawn import FORWARDED, Processes, start
from cordon.stdio import fill

#: Milliseconds that poll(2) takes.
POLL_MAX = 1e9
#: Seconds that the sentry gets to say how it ended after it was told to end.
GRACE = 2.0
#: Seconds after which a gofer that does not notice the end of its sentry is killed.
GOFER_GRACE = 2.0


def orphaned() -> bool:
    """Has the job that this process belongs to no shell left? (POSIX, "Orphaned Process Group")"""
    group, session, pid = os.getpgrp(), os.getsid(0), os.getppid()
    try:
        while pid and os.getpgid(pid) == group:
            with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as f:
                pid = int(f.read().rpartition(")")[2].split()[1])
        return not pid or os.getsid(pid) != session
    except OSError:
        return True


class Outcome:
    """How a sandbox ended."""

    def __init__(self) -> None:
        #: Exit status for the caller: the command's, 128+n, or one of cordon's own.
        self.status = STATUS_FAILED
        #: ok, exit, signal, timeout, memory, error.
        self.verdict = "error"
        #: Signal that ended the command, 0 for none.
        self.signal = 0
        #: The sentence, when the sandbox failed.
        self.error = ""
        #: Limits that were reached, for the user.
        self.remarks: list[str] = []
        #: Their names: memory, pids.
        self.exceeded: list[str] = []
        self.wall_s = 0.0
        self.cpu_s = 0.0
        self.peak_bytes = 0

    def to_plain(self) -> dict[str, Any]:
        return dict(vars(self))


class Front:
    """The event loop over the lines to sentry and gofer, signals and the clock."""

    def __init__(self, options: Options) -> None:
        self.options = options
        #: Limits that the caller has set; the others are defaults.
        self.given = {"memory": bool(options.memory), "pids": bool(options.pids)}
        options.memory = options.memory or defaults.memory()
        options.pids = options.pids or defaults.pids()
        self.report: dict[str, Any] | None = None
        self.gofer_said = ""
        self.broker_said = ""
        self.statuses: dict[int, int] = {}
        self.timed_out = False
        self.line: Connection
        self.wake_in, self.wake_out = os.pipe()
        self.processes: Processes

    def run(self) -> Outcome:
        began = time.monotonic()
        saved_terminal = terminal_state()
        signal.pthread_sigmask(signal.SIG_BLOCK, FORWARDED)
        try:
            self.processes = start(self.options, not orphaned())
            self.line = Connection(self.processes.control)
            self.ask()
            self.take_signals()
            signal.pthread_sigmask(signal.SIG_UNBLOCK, FORWARDED)
            self.loop(began + self.options.timeout if self.options.timeout else 0.0)
        finally:
            self.end()
        if self.processes.profile >= 0:
            from cordon import profile

            profile.convert(self.processes.profile, self.options.profile)
        outcome = self.outcome()
        outcome.wall_s = time.monotonic() - began
        if saved_terminal is not None and outcome.verdict not in ("ok", "exit"):
            restore_terminal(saved_terminal)
        return outcome

    def take_signals(self) -> None:
        """Signals become bytes in a pipe that the loop reads."""
        os.set_blocking(self.wake_out, False)
        signal.set_wakeup_fd(self.wake_out, warn_on_full_buffer=False)
        for sig in FORWARDED:
            signal.signal(sig, lambda *_: None)

    def loop(self, deadline: float) -> None:
        """Until the sentry has ended."""
        p = self.processes
        poll = select.poll()
        sentry = os.pidfd_open(p.sentry)
        gofer = os.pidfd_open(p.gofer)
        for fd in (sentry, gofer, p.control.fileno(), p.ready, self.wake_in):
            poll.register(fd, select.POLLIN)
        broker = -1
        if p.broker:
            broker = os.pidfd_open(p.broker)
            poll.register(broker, select.POLLIN)
            poll.register(p.broker_ready, select.POLLIN)
        while p.sentry not in self.statuses:
            wait = min(max(0.0, deadline - time.monotonic()) * 1000, POLL_MAX) if deadline else None
            events = poll.poll(wait)
            if not events and deadline and time.monotonic() >= deadline:
                deadline = self.out_of_time()
            for fd, _ in events:
                if fd == self.wake_in:
                    self.forward()
                elif fd == p.control.fileno():
                    if not self.hear():
                        poll.unregister(fd)
                elif fd == p.ready:
                    self.gofer_said = os.read(p.ready, 4096).decode("utf-8", "replace").strip()
                    poll.unregister(fd)
                    if self.gofer_said.startswith("error"):
                        self.kill(p.sentry)
                elif fd == p.broker_ready:
                    self.broker_said = os.read(fd, 4096).decode("utf-8", "replace").strip()
                    poll.unregister(fd)
                    if self.broker_said.startswith("error"):
                        self.kill(p.sentry)
                elif fd == broker:
                    self.reap(p.broker)
                    poll.unregister(fd)
                    if self.statuses[p.broker]:  # 0: the sentry has gone first
                        self.kill(p.sentry)
                elif fd == gofer:
                    self.reap(p.gofer)
                    poll.unregister(fd)
                    if self.report is None:
                        self.kill(p.sentry)
                elif fd == sentry:
                    while self.hear():
                        pass
                    self.reap(p.sentry)
        os.close(sentry)
        os.close(gofer)
        if broker >= 0:
            os.close(broker)

    def out_of_time(self) -> float:
        """First asks the sentry to end, then ends it; the next deadline."""
        if not self.timed_out:
            self.timed_out = True
            self.say("kill", {})
            return time.monotonic() + GRACE
        self.kill(self.processes.sentry)
        return 0.0

    def ask(self) -> None:
        """When the command stops; how it ends is told unasked."""
        with contextlib.suppress(ControlError):
            self.line.request("events", {})

    def say(self, call: str, args: dict[str, Any]) -> None:
        with contextlib.suppress(ControlError):
            self.line.request(call, args)

    def hear(self) -> bool:
        """Takes what the sentry says; False when it has nothing more to say."""
        try:
            more = self.line.fill()
            while (message := self.line.take()) is not None:
                self.heed(message)
        except ControlError as e:
            if e.code == "garbled" and self.report is None:
                self.report = {"error": e.message, "status": STATUS_FAILED}
            return False
        return more

    def heed(self, message: dict[str, Any]) -> None:
        """One message of the sentry."""
        event = message.get("event", {})
        if event.get("event") == "stopped":
            self.stop(event.get("signal", signal.SIGSTOP))
        elif message.get("id") == -1 and self.report is None:
            error = message.get("error")
            if error is not None:
                self.report = {"error": error["message"], "status": error["status"]}
            elif event.get("event") == "exit":
                self.report = event

    def stop(self, sig: int) -> None:
        """The command was stopped: this process stops, and whoever continues it continues the command. Where nobody would, the
        command is told what POSIX has for jobs that lost their shell."""
        if sig == signal.SIGSTOP or not orphaned():
            os.kill(os.getpid(), signal.SIGSTOP)
            return
        if sig != signal.SIGTSTP:
            self.signal(signal.SIGHUP)
        self.signal(signal.SIGCONT)

    def signal(self, sig: int) -> None:
        self.say("signal", {"container": "", "signal": sig, "mode": "foreground"})

    def forward(self) -> None:
        for sig in os.read(self.wake_in, 512):
            self.signal(sig)

    def kill(self, pid: int) -> None:
        if pid not in self.statuses:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def reap(self, pid: int, flags: int = 0) -> bool:
        if pid not in self.statuses:
            done, status = os.waitpid(pid, flags)
            if done:
                self.statuses[pid] = status
        return pid in self.statuses

    def end(self) -> None:
        """Nothing is left when this returns."""
        if not hasattr(self, "processes"):
            return
        p = self.processes
        self.kill(p.sentry)
        self.reap(p.sentry)
        self.wait_for(p.gofer)
        if p.broker:
            self.wait_for(p.broker)
            os.close(p.broker_ready)
        end_orphans()
        p.control.close()
        os.close(p.ready)

    def wait_for(self, pid: int) -> None:
        """A process that ends because its sentry has; helped along when it doesn't."""
        if self.reap(pid, os.WNOHANG):
            return
        fd = os.pidfd_open(pid)
        waiter = select.poll()
        waiter.register(fd, select.POLLIN)
        if not waiter.poll(GOFER_GRACE * 1000):
            self.kill(pid)
        self.reap(pid)
        os.close(fd)

    def outcome(self) -> Outcome:
        o = Outcome()
        report = self.report
        if self.gofer_said.startswith("error: "):
            o.error = self.gofer_said[len("error: ") :]
        elif self.broker_said.startswith("error: "):
            o.error = self.broker_said[len("error: ") :]
        elif report is None:
            o.error = self.silence()
        elif "error" in report:
            o.error = str(report["error"])
            o.status = int(report.get("status", STATUS_FAILED))
        if o.error and not self.timed_out:
            return o
        report = report or {}
        usage = report.get("usage", {})
        o.cpu_s = (usage.get("utime_ns", 0) + usage.get("stime_ns", 0)) / 1e9
        o.peak_bytes = usage.get("peak_bytes", 0)
        exceeded = o.exceeded = [str(name) for name in report.get("exceeded", [])]
        o.signal = int(report.get("killed", 0))
        o.status = 128 + o.signal if o.signal else int(report.get("exit", STATUS_FAILED))
        o.verdict = "signal" if o.signal else "exit" if o.status else "ok"
        name = self.options.args[0]
        if self.timed_out:
            o.error = ""
            o.verdict, o.status = "timeout", STATUS_TIMEOUT
            o.remarks.append(f"{name}: ended after its time limit of {self.options.timeout:g} s")
        elif "memory" in exceeded and o.status:
            o.verdict = "memory"
        if "memory" in exceeded:
            o.remarks.append(f"{name}: memory limit exceeded ({self.options.memory} bytes{self.default_of('memory')})")
        if "pids" in exceeded:
            limit = f"{self.options.pids} processes and threads{self.default_of('pids')}"
            o.remarks.append(f"{name}: reached its limit of {limit}")
        if "host" in exceeded:
            o.remarks.append(f"{name}: processes were killed because the host had no more processes or memory for them")
        return o

    def default_of(self, limit: str) -> str:
        return "" if self.given[limit] else f", the default; --{limit} sets another"

    def silence(self) -> str:
        """Why a sentry ended without a word."""
        p = self.processes
        gofer = self.statuses.get(p.gofer, 0)
        broker = self.statuses.get(p.broker, 0)
        if os.WIFSIGNALED(broker):
            return f"the sandbox was ended because its broker was killed by signal {os.WTERMSIG(broker)}"
        sentry = self.statuses.get(p.sentry, 0)
        if os.WIFSIGNALED(gofer):
            return f"the sandbox was ended because its gofer was killed by signal {os.WTERMSIG(gofer)}"
        if os.WIFSIGNALED(sentry):
            return f"the sandbox was ended because its sentry was killed by signal {os.WTERMSIG(sentry)}"
        if gofer:
            return f"the sandbox was ended because its gofer ended with status {os.waitstatus_to_exitcode(gofer)}"
        return f"the sentry ended with status {os.waitstatus_to_exitcode(sentry)} and did not say why"


def end_orphans() -> None:
    """Ends and reaps what was adopted: the inner gofer or sentry of one whose outer process was killed."""
    while True:
        try:
            if os.waitpid(-1, os.WNOHANG)[0]:
                continue
        except ChildProcessError:
            return
        try:
            with open(f"/proc/self/task/{os.getpid()}/children", "rb") as f:
                left = f.read().split()
        except OSError:  # a kernel without that file; they die with their parent anyway
            left = []
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(-1, 0)


def terminal_state() -> list[Any] | None:
    """The settings of the terminal on descriptor 0, to be put back if the command dies without doing so."""
    if not os.isatty(0):
        return None
    import termios

    try:
        return termios.tcgetattr(0)
    except termios.error:
        return None


def restore_terminal(state: list[Any]) -> None:
    import termios

    old = signal.signal(signal.SIGTTOU, signal.SIG_IGN)
    with contextlib.suppress(termios.error):
        termios.tcsetattr(0, termios.TCSADRAIN, state)
    signal.signal(signal.SIGTTOU, old)


def run(options: Options) -> Outcome:
    """Runs a sandbox to its end. Needs a process with one thread. CordonError when it cannot be started."""
    return Front(options).run()


def main(request_fd: int, report_fd: int) -> int:
    """The isolated child of the Python API: options come as JSON on one descriptor, the outcome goes to another."""
    fill()
    with open(request_fd, "rb") as f:
        options = Options.from_plain(json.load(f))
    os.set_inheritable(report_fd, False)
    try:
        options.check()
        outcome = run(options)
    except CordonError as e:
        outcome = Outcome()
        outcome.error, outcome.status = str(e), e.status
    with open(report_fd, "wb") as f:
        f.write(json.dumps(outcome.to_plain()).encode())
    return outcome.status

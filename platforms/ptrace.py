"""ptrace: a stub process for each guest thread, traced with PTRACE_SYSEMU. Works wherever ptrace(2) does."""

from __future__ import annotations

from platforms.platform import Platform


class Ptrace(Platform):
    """See native/ptrace: a stub process for each guest thread; those of one address space share memory.

    A system call costs two context switches and four host calls: about 3.5 us on one core.
    """

    name = "ptrace"
    summary = "stub processes traced with PTRACE_SYSEMU; works everywhere, slowest"
    shares_core = True
    exact_access = False
    parallel = False

    def host_calls(self) -> dict[str, str]:
        return {
            "ptrace": "run, stop and inspect stubs",
            "wait4": "stops of stubs; burial of dead ones",
            "tgkill": "interrupt a stub that runs guest code",
            "kill": "end a stub",
            "sendmsg": "commands to the mother stub: new stubs, mapped files",
            "recvfrom": "its answers",
            "sched_setaffinity": "stub and tracer on one core",
            "sched_yield": "wait for a new stub to settle; the guest's own sched_yield",
            "futex": "the kernel lock, sleeping tasks",
            "clock_gettime": "CPU time of stubs; the vDSO has no CPU-time clocks",
            "clock_nanosleep": "tick of the core balancer",
        }

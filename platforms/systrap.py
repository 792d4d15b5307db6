"""systrap: stub processes whose system calls trap by seccomp; registers change hands through shared memory."""

from __future__ import annotations

from platforms.platform import Platform


class Systrap(Platform):
    """See native/systrap: guest threads are processes that share memory; a signal handler hands over to the sentry.

    A keeper process of each address space makes the host mappings.
    """

    name = "systrap"
    summary = "stub processes under seccomp RET_TRAP; fast where there is no conventional KVM"
    shares_core = False
    exact_access = True
    parallel = True

    def host_calls(self) -> dict[str, str]:
        return {
            "futex": "hand-over between sentry and stubs; the kernel lock, sleeping tasks",
            "tgkill": "interrupt a stub that runs guest code",
            "kill": "end a stub",
            "wait4": "burial of dead stubs; why a keeper ended",
            "waitid": "is a stub that computes for long still alive",
            "lseek": "the number of a new context, told by the position of an empty file",
            "fallocate": "context areas given back",
            "sendmsg": "commands to the mother stub: new stubs, mapped files",
            "recvfrom": "its answers",
            "sched_setaffinity": "placement of stubs",
            "sched_yield": "the guest's own sched_yield",
            "clock_gettime": "CPU time of stubs; the vDSO has no CPU-time clocks",
        }

"""The platform contract.

A platform runs guest code: it makes address spaces, maps ranges of the memory file and of host files into
them, switches host threads into the guest and says why the guest stopped. The work is done by the C
operations of `struct cn_platform_ops` (`native/platform.h`), which is the contract in full; a `Platform` is
its Python face, for choosing, probing and describing one. Nothing above `platforms/` asks for a platform's
name: it asks the questions below.

What every platform promises:

- **No call reaches the host.** Any way in which guest code may ask a kernel for something (`syscall`, `int
  0x80`, `sysenter`, the vsyscall page) ends in a stop. 64-bit system calls are SYSCALL stops; the 32-bit
  ways are a general protection fault of the guest, as on a kernel built without 32-bit support.
- **Stops.** SYSCALL: `orig_rax` is the number as the guest set it, `rip` stands after the instruction,
  `rax` is not yet set. FAULT: a memory access at `addr` by the instruction at `rip`, which has had no
  effect. EXCEPTION: what Linux would make a signal of, with its `signo`, `code` and `addr`. INTERRUPTED:
  somebody asked for it, nothing else happened. DIED: the place to run is gone; the task must be killed.
- **Registers** come back exactly as the guest left them. Those handed in may be anything:
  `cn_regs_sanitize` makes them fit, and what then makes no sense (a wild `rip`) stops as it would on Linux.
  The host never crashes or hangs over them.
- **Interrupts are never lost**: one that comes while the guest runs ends that run, one that comes before it
  ends the next.
- **Mappings queued** for an address space are in force before guest code of it runs again from the caller's
  next switch on; `as_sync` puts them in force for contexts that run meanwhile.
- **Nothing outlives it**: however the sentry ends, so do all helper processes.
"""

from __future__ import annotations

from typing import Final

from native._core import ffi, lib

WHY_LEN: Final = 256


class PlatformError(Exception):
    """A platform can't be used; the text is one sentence that says which and why."""


class Platform:
    """One way of running guest code. Subclasses set the attributes; there is one instance of each."""

    name: str = ""
    summary: str = ""
    #: First address guest mappings can't reach.
    task_size: int = 0x7FFF_0000_0000
    #: Guest thread and host thread do best on one core, and the host thread is pinned (native/run/place.h).
    shares_core: bool = False
    #: Faults say whether they were reads or writes; without it some writes cost a second fault.
    exact_access: bool = False
    #: Guest code may run at the same time as the sentry works for it.
    parallel: bool = False

    def probe(self) -> str | None:
        """Runs a guest of one system call on it. None when it works, else one sentence that says why not.

        In this process, which must run no platform: `detect.probe` does it in a child.
        """
        why = ffi.new("char[]", WHY_LEN)
        if lib.cn_platform_probe(self.name.encode(), why, WHY_LEN) == 0:
            return None
        text = ffi.string(why)
        assert isinstance(text, bytes)
        return text.decode("utf-8", "replace")

    def host_calls(self) -> dict[str, str]:
        """Host system calls the sealed sentry needs for this platform, each with its reason."""
        raise NotImplementedError

"""What a new platform owes, as a class that owes it still.

To port Cordon to a new way of running guest code:

1. `native/<name>/`: fill in a `struct cn_platform_ops` (every member; native/platform.h says what each
   promises) and list it in native/run/platform.c. `native/stub/mother.h` offers stub processes, a file
   table they share and their burial, if guests run in processes.
2. `platforms/<name>.py`: a subclass like the one below, listed in `detect.PLATFORMS` in the order of
   preference.
3. `tests/platforms` must pass for it: the suite is written against the contract and takes the platform's
   name.

The least that works: init, fini, as_new, as_free, as_queue, ctx_new, ctx_free, ctx_switch, ctx_interrupt
and the xstate pair. `as_sync` may do nothing only when no two contexts of an address space can be in the
guest at once. `vdso_symbol` may return 0: the guest's vDSO then makes system calls. `ctx_cpu_ns` may return
0: CPU times then count the sentry's part alone.
"""

from __future__ import annotations

from platforms.platform import Platform


class Skeleton(Platform):
    """A platform that can't run anything."""

    name = "skeleton"
    summary = "how to write a platform"

    def probe(self) -> str | None:
        return "it is a template for new platforms"

    def host_calls(self) -> dict[str, str]:
        return {}

"""AT_HWCAP and AT_HWCAP2: what the processor can do, as the host's kernel tells this process."""

from __future__ import annotations

from typing import Final

from native._core import lib
from sentry.abi import elf as ELF

HWCAP2_MASK: Final = 0x2  # FSGSBASE: rdfsbase and kin work in user mode; ring3mwait does not pass through


def hwcap() -> int:
    """CPUID leaf 1, register edx."""
    return int(lib.cn_getauxval(ELF.AT_HWCAP))


def hwcap2() -> int:
    return int(lib.cn_getauxval(ELF.AT_HWCAP2)) & HWCAP2_MASK

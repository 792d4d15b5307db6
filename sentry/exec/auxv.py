"""The auxiliary vector and the first contents of the stack (getauxval(3); fs/binfmt_elf.c)."""

from __future__ import annotations

import struct
from typing import Final

from sentry.abi import elf as ELF

PLATFORM: Final = b"x86_64\0"
CLOCK_TICKS: Final = 100
PAGE: Final = 4096
POINTER: Final = 8


class Stack:
    """Builds the top of a new stack downwards in Python memory: `data` will lie right below `top`."""

    def __init__(self, top: int) -> None:
        self.top: int = top
        self.chunks: list[bytes] = []
        self.sp: int = top

    def push(self, data: bytes) -> int:
        """Puts bytes below what is there; their address."""
        self.chunks.append(data)
        self.sp -= len(data)
        return self.sp

    def align(self, sp: int) -> None:
        """Moves down to an address."""
        self.push(bytes(self.sp - sp))

    def data(self) -> bytes:
        return b"".join(reversed(self.chunks))


class Strings:
    """Addresses of the strings on the new stack, kept by the address space for /proc/PID/cmdline and environ."""

    def __init__(self) -> None:
        self.arg_start: int = 0
        self.arg_end: int = 0
        self.env_start: int = 0
        self.env_end: int = 0
        self.auxv: bytes = b""


def build(
    stack: Stack,
    filename: bytes,
    argv: list[bytes],
    envp: list[bytes],
    auxv: list[tuple[int, int]],
    random: bytes,
    shift: int,
) -> Strings:
    """Lays out strings, auxiliary vector and pointers, as Linux does; the stack pointer is `stack.sp` then.

    auxv lacks the entries that are addresses here: AT_EXECFN, AT_PLATFORM, AT_RANDOM. random: the 16 bytes of AT_RANDOM. shift: bytes
    (0..8191) by which the rest is moved down.
    """
    where = Strings()
    stack.push(bytes(POINTER))
    execfn = stack.push(filename + b"\0")
    where.env_end = stack.sp
    env = push_strings(stack, envp)
    where.env_start = stack.sp
    where.arg_end = stack.sp
    args = push_strings(stack, argv)
    where.arg_start = stack.sp
    stack.align((stack.sp - shift) & ~15)
    platform = stack.push(PLATFORM)
    at_random = stack.push(random)
    entries = [
        *auxv,
        (ELF.AT_RANDOM, at_random),
        (ELF.AT_EXECFN, execfn),
        (ELF.AT_PLATFORM, platform),
        (ELF.AT_NULL, 0),
    ]
    words: list[int] = [len(args), *args, 0, *env, 0]
    for kind, value in entries:
        words.append(kind)
        words.append(value)
    stack.align((stack.sp - POINTER * len(words) & ~15) + POINTER * len(words))
    stack.push(struct.pack(f"<{len(words)}Q", *words))
    where.auxv = b"".join(struct.pack("<QQ", kind, value) for kind, value in entries)
    return where


def push_strings(stack: Stack, strings: list[bytes]) -> list[int]:
    """Strings in ascending order of address; their addresses."""
    blob = b"\0".join(strings) + b"\0" if strings else b""
    base = stack.push(blob)
    out: list[int] = []
    for s in strings:
        out.append(base)
        base += len(s) + 1
    return out

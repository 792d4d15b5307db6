"""Patched call sites: a place that calls often becomes a jump on systrap, unless patching is off."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.harness import Done, Sandbox, compile_c

ANSWERS = Path(__file__).parent.parent / "guest" / "answers.c"

SOURCE = r"""
#include <stdio.h>
#include <sys/syscall.h>

extern unsigned char site[];
long call(void);
__asm__("call: .globl call, site\nsite: mov $110, %eax\nsyscall\nret\n"); /* getppid */

int main(void)
{
    long first = call(), same = 1;
    for (int i = 0; i < 1000; i++)
        same &= call() == first;
    printf("%d %02x %02x%02x\n", (int)same, site[0], site[5], site[6]);
    return 0;
}
"""


def run_source(sandbox: Sandbox, text: str, off: bool, *flags: str) -> tuple[Done, bool]:
    """Compiles a program and runs it; how that ended, and are its call sites patched?"""
    source = sandbox.cwd / "site.c"
    source.write_text(text)
    compile_c(source, sandbox.cwd / "site", *flags)
    done = sandbox.run(["./site"], ["--no-patch"] if off else [])
    return done, sandbox.platform == "systrap" and not off


@pytest.mark.parametrize("off", [False, True])
def test_patch(sandbox: Sandbox, off: bool) -> None:
    done, patched = run_source(sandbox, SOURCE, off)
    assert done == (0, f"1 {'e9' if patched else 'b8'} 0f05\n", "")


RESTORER = r"""
#define _GNU_SOURCE
#include <execinfo.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static volatile int hits, missed;

static void handler(int sig)
{
    void *pcs[32];
    int n = backtrace(pcs, 32);

    hits++;
    missed += n <= 3; /* through the signal's frame into main */
    __asm__ volatile("pxor %xmm5, %xmm5; fldz; fstp %st(0); std");
}

static void *other(void *arg)
{
    long bad = 0;
    for (int i = 0; i < 2000; i++) {
        double in = i * 0.5, out;
        long r12;
        __asm__ volatile("movq %2, %%xmm5; mov %2, %%r12; mov %3, %%edi; mov %4, %%esi; mov $10, %%edx; mov $234, %%eax\n"
                         "syscall; movq %%xmm5, %0; mov %%r12, %1"
                         : "=x"(out), "=r"(r12)
                         : "r"(in), "r"(getpid()), "r"(gettid())
                         : "rax", "rcx", "r11", "rdi", "rsi", "rdx", "r12", "xmm5", "memory");
        bad += memcmp(&in, &out, 8) != 0 || memcmp(&in, &r12, 8) != 0;
    }
    return (void *)bad;
}

int main(void)
{
    pthread_t thread;
    void *bad, *mine, *warm[4];
    unsigned long action[4];
    unsigned char *restorer;

    backtrace(warm, 4);
    signal(SIGUSR1, handler);
    mine = other(NULL);
    printf("%ld %d %d\n", (long)mine, hits, missed);
    pthread_create(&thread, NULL, other, NULL);
    mine = other(NULL);
    pthread_join(thread, &bad);
    printf("%ld %ld %d\n", (long)mine, (long)bad, missed);
    syscall(SYS_rt_sigaction, SIGUSR1, NULL, action, 8);
    restorer = (unsigned char *)action[2];
    printf("%02x %02x%02x\n", restorer[0], restorer[7], restorer[8]);
    return 0;
}
"""


@pytest.mark.parametrize("off", [False, True])
def test_restorer(sandbox: Sandbox, off: bool) -> None:
    """The return from signal handlers is such a place; registers and backtraces survive it."""
    done, patched = run_source(sandbox, RESTORER, off, "-O1", "-pthread", "-fno-omit-frame-pointer")
    assert done == (0, f"0 2000 0\n0 0 0\n{'e9' if patched else '48'} 0f05\n", "")


#: As glibc's read(2) has it: the long jump goes into the padding before the next function.
READ = r"""
#include <fcntl.h>
#include <stdio.h>

extern unsigned char site[]; /* nothing else refers to the padding, or it would be left alone */
long one(int fd, void *buf, long len);
__asm__(".p2align 4\none: .globl one, site\n jmp site\n nop\n nop\n nop\n nop\n nop\n nop\n nop\n"
        "site: xor %eax, %eax\n syscall\n cmp $-4096, %rax\n ja 1f\n ret\n"
        ".byte 0x66, 0x2e, 0x0f, 0x1f, 0x84, 0, 0, 0, 0, 0\n .p2align 4\n1: mov $-1, %eax\n ret\n");

int main(void)
{
    unsigned char *volatile at = site;
    int fd = open("/dev/zero", O_RDONLY), good = 1;
    char c = 1;

    for (int i = 0; i < 1000; i++, c = 1)
        good &= one(fd, &c, 1) == 1 && !c && (int)one(-1, &c, 1) == -1;
    printf("%d %d %02x %02x%02x %02x\n", (int)((long)at + 13 & 15), good, at[0], at[2], at[3], at[13]);
    return 0;
}
"""


@pytest.mark.parametrize("off", [False, True])
def test_patch_read(sandbox: Sandbox, off: bool) -> None:
    done, patched = run_source(sandbox, READ, off)
    assert done == (0, f"6 1 {'eb' if patched else '31'} 0f05 {'e9' if patched else '66'}\n", "")


#: Sites of other shapes: name, code up to the call and behind it, offset and first byte of what becomes a jump.
SHAPES = {
    # glibc's and musl's inlined calls: the number, then the arguments.
    "numbered": ("mov $0, %eax\n mov %rdx, %r8\n movslq %edi, %rdi\n xor %r10d, %r10d\n mov %r8, %rdx\n", "ret\n", 0, "b8", "e9"),
    # Go's stack calls: the number is loaded last.
    "loaded": ("push $0\n push %rax\n mov 8(%rsp), %rax\n", "lea 16(%rsp), %rsp\n ret\n", 3, "48", "e9"),
    # musl's cancellation points.
    "returned": ("mov %rdx, %rcx\n xor %eax, %eax\n mov %rcx, %rdx\n",
                 "ret\n .byte 0x66, 0x0f, 0x1f, 0x44, 0, 0\n", 5, "48", "eb"),
    # Go's Syscall6: room is behind the function.
    "compared": ("xor %eax, %eax\n mov %rdx, %rcx\n mov %rdx, %r9\n mov %rcx, %rdx\n",
                 ".byte 0x48, 0x3d, 1, 0xf0, 0xff, 0xff\n jbe 1f\n mov $-1, %rax\n ret\n1: nop\n ret\n"
                 "int3\n", 8, "48", "eb"),
}  # fmt: skip

SHAPE = r"""
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

extern unsigned char site[];
long shape(long fd, void *buf, long len);
__asm__(".p2align 5\n .skip SKIP, 0x90\nshape: .globl shape, site\nsite:"
        BEFORE "syscall\n" AFTER ".p2align 4, 0xcc\n .skip 64, 0x90\n");

int main(void)
{
    int fd = open("/dev/zero", O_RDONLY), good = 1;
    char c[3];
    for (int i = 0; i < 1000; i++) {
        memset(c, 1, 3);
        good &= shape(fd, c, 2) == 2 && !c[0] && !c[1] && c[2] == 1 && shape(-1, c, 1) < 0;
    }
    printf("%d %02x\n", good, site[AT]);
    return 0;
}
"""


@pytest.mark.parametrize("off", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
def test_patch_shapes(sandbox: Sandbox, shape: str, off: bool) -> None:
    before, after, at, plain, jump = SHAPES[shape]
    skip = 15 if shape == "returned" else 6  # so that the padding ends at an aligned address
    text = SHAPE.replace("BEFORE", json.dumps(before)).replace("AFTER", json.dumps(after)).replace("AT", str(at)).replace("SKIP", str(skip))
    done, patched = run_source(sandbox, text, off, "-fcf-protection=none", "-mno-red-zone")
    assert done == (0, f"1 {jump if patched else plain}\n", "")


@pytest.mark.parametrize("off", [False, True])
def test_answers(sandbox: Sandbox, off: bool) -> None:
    """Rung 0: who a thread is, after fork, vfork, clone, exec, setresuid, and when its parent ends or a signal comes."""
    compile_c(ANSWERS, sandbox.cwd / "answers", "-pthread")
    done = sandbox.run(["./answers"], ["--no-patch"] if off else [])
    assert done == (0, "good\n", "")


def test_watched_calls_are_not_answered(sandbox: Sandbox) -> None:
    compile_c(ANSWERS, sandbox.cwd / "answers", "-pthread")
    done = sandbox.run(["./answers", "again"], ["--strace"])
    assert done.status == 0
    assert [sum(f" {name}(" in line for line in done.err.splitlines()) for name in ("getpid", "getppid", "getegid")] == [600] * 3

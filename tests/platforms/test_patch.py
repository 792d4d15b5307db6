"""Patched call sites: a place that calls often becomes a jump on systrap, unless patching is off."""

from __future__ import annotations

import pytest

from tests.harness import Sandbox, compile_c

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


@pytest.mark.parametrize("off", [False, True])
def test_patch(sandbox: Sandbox, off: bool) -> None:
    source = sandbox.cwd / "site.c"
    source.write_text(SOURCE)
    compile_c(source, sandbox.cwd / "site")
    patched = sandbox.platform == "systrap" and not off
    done = sandbox.run(["./site"], ["--no-patch"] if off else [])
    assert done == (0, f"1 {'e9' if patched else 'b8'} 0f05\n", "")

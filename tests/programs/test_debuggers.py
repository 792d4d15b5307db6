"""strace and gdb in the sandbox: the guest's own ptrace(2)."""

from __future__ import annotations

import re

import pytest

from tests.harness import Sandbox, compile_c, native

C = r"""
#include <pthread.h>
#include <stdio.h>
static int twice(int n) { int k = n * 2; return k + 1; }
static void *thread(void *p) { return p; }
int main(void) {
    pthread_t t; pthread_create(&t, 0, thread, 0); pthread_join(t, 0);
    int sum = 0;
    for (int i = 0; i < 5; i++) sum += twice(i);
    printf("%d\n", sum);
    *(volatile int *)0 = 1;
}
"""
GDB = (
    "set can-use-hw-watchpoints 0", "break twice if n == 3", "run", "backtrace", "info locals", "finish", "print $xmm0", "stepi",
    "next", "watch sum", "continue", "delete", "continue", "info threads", "x/i $rip",
)  # fmt: skip


def plain(text: str) -> list[str]:
    """Without addresses, numbers of threads and what gdb says of libraries."""
    lines = [re.sub(r"0x[0-9a-f]+|LWP \d+", "N", line) for line in text.splitlines()]
    return [line for line in lines if "debuginfod" not in line and "libthread_db" not in line]


@pytest.mark.needs("gdb", "gcc")
def test_gdb(sandbox: Sandbox) -> None:
    (sandbox.cwd / "p.c").write_text(C)
    compile_c(sandbox.cwd / "p.c", sandbox.cwd / "p", "-g", "-O0", "-pthread")
    command = ["gdb", "-q", "-nx", "-batch", *(word for line in GDB for word in ("-ex", line)), "./p"]
    ours, theirs = sandbox.run(command, timeout=60), native(command, sandbox.cwd)
    assert plain(ours.out) == plain(theirs.out)
    assert ours.status == theirs.status
    assert "SIGSEGV" in ours.out


@pytest.mark.needs("gdb")
def test_gdb_of_a_running_process(sandbox: Sandbox) -> None:
    script = "sleep 30 & gdb -q -nx -batch -p $! -ex backtrace -ex detach 2>&1 | grep -c '^#'; kill $!; wait $!; echo $?"
    frames, status = sandbox.run(["bash", "-c", script], timeout=60).out.split()
    assert int(frames) > 2
    assert status == "143"


@pytest.mark.needs("strace")
@pytest.mark.parametrize(
    "script",
    [
        "strace -f -o log sh -c 'echo a | cat; (exit 3)'; echo $?; grep -c 'execve(' log; grep -c 'exited with' log",
        "strace -f -e trace=none -qq -o log bash -c '(kill -STOP $BASHPID; echo on) & sleep 0.3; kill -CONT $!; wait'; grep -c '[-] SIGSTOP\\|[-] SIGCONT\\|stopped by' log",
        "strace -e trace=none sh -c 'kill -TERM $$' 2>&1 | tail -1",
        "strace -e inject=geteuid:retval=77 id -u 2>/dev/null",
        "strace -c true 2>&1 | grep -c total",
        "sleep 9 & strace -p $! -o log 2>/dev/null & sleep 0.5; kill %2; wait %2; kill %1; grep -c 'nanosleep\\|restart' log",
    ],
)
def test_strace(sandbox: Sandbox, script: str) -> None:
    sandbox.same(["bash", "-c", script])

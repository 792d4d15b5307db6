/*
 * One stub thread under its tracer: attaching, running the stub's own code, letting go. ptrace(2).
 *
 * A stub is run in two ways. PTRACE_SYSEMU runs guest code: every system call instruction stops
 * before the kernel looks at it. PTRACE_CONT runs the stub's text, which may make the host calls
 * its seccomp filter allows; the registers are ours from start to end, so the guest has no say in
 * it.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#include "ptrace.h"

#define USER_CS 0x33
#define USER_SS 0x2b
#define EFLAGS_DEFAULT 0x202

pid_t cn_gettid(void)
{
    static _Thread_local pid_t tid;
    if (!tid)
        tid = (pid_t)syscall(SYS_gettid);
    return tid;
}

int trace_wait(pid_t pid, int *status)
{
    pid_t got;
    do
        got = waitpid(pid, status, __WALL);
    while (got < 0 && errno == EINTR);
    if (got < 0 || !WIFSTOPPED(*status))
        return -ESRCH;
    return 0;
}

/* 1: it sleeps in its park loop, or is about to. -errno. */
static int at_park(pid_t pid)
{
    struct user_regs_struct r;

    if (ptrace(PTRACE_GETREGS, pid, 0, &r) < 0)
        return -errno;
    return r.rip >= STUB_PARK && r.rip < STUB_PARK_END && r.orig_rax == SYS_pause;
}

static int interrupt(pid_t pid)
{
    int status;

    return ptrace(PTRACE_INTERRUPT, pid, 0, 0) < 0 ? -errno : trace_wait(pid, &status);
}

/*
 * Lets a stub that is still on its way to the park loop get there. It goes from call to call:
 * letting it run and interrupting it again may stop it each time before its first instruction, for
 * ever when tracer and stub share a core.
 */
static int walk_to_park(pid_t pid)
{
    int status, rc;

    do {
        if (ptrace(PTRACE_SYSCALL, pid, 0, 0) < 0)
            return -errno;
        if ((rc = trace_wait(pid, &status)) < 0)
            return rc;
        rc = status >> 8 == STOP_SYSCALL ? at_park(pid) : 0;
    } while (rc == 0);
    if (rc < 0)
        return rc;
    /* At the call's entry, where its filter would see what the tracer makes of the registers. */
    return ptrace(PTRACE_CONT, pid, 0, 0) < 0 ? -errno : interrupt(pid);
}

int trace_seize(pid_t pid)
{
    int rc;

    if (ptrace(PTRACE_SEIZE, pid, 0, PTRACE_O_TRACESYSGOOD | PTRACE_O_EXITKILL) < 0)
        return -errno;
    if ((rc = interrupt(pid)) < 0 || (rc = at_park(pid)) < 0)
        return rc;
    return rc ? 0 : walk_to_park(pid);
}

static void stub_regs(struct user_regs_struct *r, u64 entry)
{
    memset(r, 0, sizeof(*r));
    r->rip = entry;
    r->cs = USER_CS;
    r->ss = USER_SS;
    r->eflags = EFLAGS_DEFAULT;
    r->orig_rax = (unsigned long long)-1;
}

/* Runs the stub's code from *r to its int3. */
static int run_stub(pid_t pid, struct user_regs_struct *r)
{
    int status, rc;

    if (ptrace(PTRACE_SETREGS, pid, 0, r) < 0)
        return -errno;
    for (;;) {
        if (ptrace(PTRACE_CONT, pid, 0, 0) < 0)
            return -errno;
        if ((rc = trace_wait(pid, &status)) < 0)
            return rc;
        /* Interrupts meant for the guest may arrive here; the caller looks at its flag afterwards.
         */
        if (status >> 8 == SIGTRAP)
            break;
        if (WSTOPSIG(status) == SIGSEGV || WSTOPSIG(status) == SIGILL || WSTOPSIG(status) == SIGSYS)
            return -EFAULT; /* the stub's text is gone or its filter forbids a call: can't happen to
                               a sound one */
    }
    return ptrace(PTRACE_GETREGS, pid, 0, r) < 0 ? -errno : 0;
}

int trace_call(pid_t pid, u64 entry, u64 r12, u64 r13)
{
    struct user_regs_struct r;
    int rc;

    stub_regs(&r, entry);
    r.r12 = r12;
    r.r13 = r13;
    rc = run_stub(pid, &r);
    if (rc < 0)
        return rc;
    return r.r13 ? (int)r.rax : 0;
}

long trace_clone(pid_t pid)
{
    struct user_regs_struct r;
    int rc;

    stub_regs(&r, STUB_CLONE);
    rc = run_stub(pid, &r);
    return rc < 0 ? rc : (long)r.rax;
}

int trace_detach_parked(pid_t pid)
{
    struct user_regs_struct r;

    stub_regs(&r, STUB_PARK);
    if (ptrace(PTRACE_SETREGS, pid, 0, &r) < 0 || ptrace(PTRACE_DETACH, pid, 0, 0) < 0)
        return -errno;
    return 0;
}

/* Contexts of the ptrace platform: the switch into the guest and what its stops mean. */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/elf.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "../run/place.h"
#include "../run/xstate.h"
#include "ptrace.h"

#ifndef PTRACE_SYSEMU
#define PTRACE_SYSEMU 31
#endif
#define USER_CS 0x33
#define MAX_INSN 15
/* glibc has no name for the ones newer than its siginfo documentation. */
#define SYS_SECCOMP_CODE 1

_Static_assert(sizeof(struct cn_regs) == sizeof(struct user_regs_struct), "PTRACE_SETREGS layout");

/* Makes the thread that a new context of an address space with contexts will run on: a clone of a
 * stub the caller may steer. as->lock held. */
static int clone_stub(struct cn_as *as, pid_t *pid)
{
    struct cn_ctx *c, *fresh = NULL;
    pid_t me = cn_gettid(), from = 0;
    long rc;

    for (c = as->ctxs; c; c = c->next) {
        if (c->state == CTX_LIVE && c->owner == me)
            from = c->pid;
        else if (c->state == CTX_NEW)
            fresh = c;
    }
    if (from) {
        rc = trace_clone(from);
    } else if (fresh) {
        if (!fresh->pid) {
            pid_t got;
            if ((rc = as_get_stub(as, &got)) < 0)
                return (int)rc;
            fresh->pid = got;
        }
        if ((rc = trace_seize(fresh->pid)) < 0)
            return (int)rc;
        rc = trace_clone(fresh->pid);
        if (trace_detach_parked(fresh->pid) < 0 && rc > 0) {
            cn_mother_bury(as->p->mother, (pid_t)rc);
            rc = -ESRCH;
        }
    } else {
        return -EAGAIN;
    }
    if (rc < 0)
        return (int)rc;
    *pid = (pid_t)rc;
    return 0;
}

int ptrace_ctx_new(struct cn_as *as, struct cn_ctx **out)
{
    struct cn_ctx *c = calloc(1, sizeof(*c));
    int rc = 0;

    if (!c)
        return -ENOMEM;
    c->as = as;
    c->cpu = -1;
    c->fault_level = -1;
    pthread_mutex_lock(&as->lock);
    if (as->ctxs) {
        pid_t pid = 0;
        rc = clone_stub(as, &pid);
        c->pid = pid;
        c->cloned = 1;
    }
    if (rc == 0) {
        c->next = as->ctxs;
        as->ctxs = c;
        *out = c;
    }
    pthread_mutex_unlock(&as->lock);
    if (rc < 0)
        free(c);
    return rc;
}

void ptrace_ctx_free(struct cn_ctx *c)
{
    struct cn_as *as = c->as;
    struct cn_ctx **link;
    pid_t pid = c->pid;

    if (cn_place_self && cn_place_self->companion == pid)
        cn_place_self->companion = 0;
    pthread_mutex_lock(&as->lock);
    for (link = &as->ctxs; *link != c; link = &(*link)->next)
        ;
    *link = c->next;
    /* The last stub holds the address space's mappings: it is kept, asleep, in case a context is
     * made again. */
    if (pid && !as->ctxs && !as->spare && c->state != CTX_DEAD &&
        (c->state == CTX_NEW || trace_detach_parked(pid) == 0)) {
        as->spare = pid;
        pid = 0;
    }
    pthread_mutex_unlock(&as->lock);
    if (pid)
        cn_mother_bury(as->p->mother, pid);
    free(c->xstate);
    free(c);
}

static int set_xstate(pid_t pid, const void *full)
{
    struct iovec iov = {(void *)full, cn_xstate_host_size()};
    return ptrace(PTRACE_SETREGSET, pid, NT_X86_XSTATE, &iov) < 0 ? -errno : 0;
}

/* The stub runs on its tracer's core: a wake-up across cores costs five times one on the same
 * core. */
static void follow_core(struct cn_ctx *c)
{
    int cpu = cn_place_cpu();
    if (CN_LIKELY(cpu == c->cpu) || cpu < 0)
        return;
    cn_place_pin(c->pid, cpu);
    c->cpu = cpu;
    cn_place_self->companion = c->pid;
}

/* First switch: the calling thread becomes the tracer. */
static int attach(struct cn_ctx *c)
{
    struct cn_as *as = c->as;
    int rc = 0;

    pthread_mutex_lock(&as->lock);
    if (!c->pid) {
        pid_t pid = 0;
        rc = as_get_stub(as, &pid);
        c->pid = pid;
    }
    pthread_mutex_unlock(&as->lock);
    if (rc < 0)
        return rc;
    follow_core(c); /* while it sleeps, so that it wakes up on the right one */
    if ((rc = trace_seize(c->pid)) < 0)
        return rc;
    if (c->xstate || c->cloned) {
        u8 init[cn_xstate_host_size()];
        cn_xstate_initial(init, sizeof(init));
        rc = set_xstate(c->pid, c->xstate ? c->xstate : init);
        free(c->xstate);
        c->xstate = NULL;
    }
    c->owner = cn_gettid();
    c->state = CTX_LIVE;
    return rc;
}

/*
 * ptrace tells a fault's address, not what the access was. The first report of a fault is the
 * likeliest kind; when the very same instruction faults again at the same address, nothing was
 * remapped meanwhile and the memory manager had answered "should work now", then that kind is ruled
 * out and the next one is reported.
 */
static u32 fault_access(struct cn_ctx *c, u64 rip, u64 addr)
{
    static const u32 fetch[] = {CN_ACCESS_EXEC | CN_ACCESS_GUESS, CN_ACCESS_READ | CN_ACCESS_GUESS,
                                CN_ACCESS_WRITE};
    static const u32 data[] = {CN_ACCESS_READ | CN_ACCESS_GUESS, CN_ACCESS_WRITE, CN_ACCESS_WRITE};
    static const u32 cross[] = {CN_ACCESS_READ | CN_ACCESS_GUESS, CN_ACCESS_WRITE, CN_ACCESS_EXEC};
    const u32 *kinds = data;

    if (c->fault_level >= 0 && c->fault_addr == addr && c->fault_rip == rip) {
        if (c->resume_flushes == atomic_load(&c->as->flushes) && c->fault_level < 2)
            c->fault_level++;
    } else {
        c->fault_level = 0;
    }
    c->fault_addr = addr;
    c->fault_rip = rip;
    if (addr - rip < MAX_INSN)
        kinds = (addr ^ rip) & CN_PAGE_MASK ? cross : fetch;
    return kinds[c->fault_level];
}

/* x86 trap numbers, for sigcontext.trapno; see arch/x86/include/asm/trapnr.h. */
enum {
    TRAP_DE = 0,
    TRAP_DB = 1,
    TRAP_BP = 3,
    TRAP_UD = 6,
    TRAP_GP = 13,
    TRAP_PF = 14,
    TRAP_MF = 16,
    TRAP_AC = 17
};

/* A stop by a signal the stub's own execution raised. 0 when it came from elsewhere and means
 * nothing. */
static int classify_signal(struct cn_ctx *c, int signo, struct cn_regs *regs, struct cn_stop *stop)
{
    siginfo_t si;
    u64 addr;

    if (ptrace(PTRACE_GETSIGINFO, c->pid, 0, &si) < 0 || si.si_code <= 0)
        return 0; /* kill(2) and its kin from outside the sandbox */
    addr = (u64)si.si_addr;
    switch (signo) {
    case SIGSEGV:
        if (si.si_code == SI_KERNEL) {
            cn_stop_exception(stop, signo, si.si_code, 0, TRAP_GP, 0);
        } else {
            stop->reason = CN_STOP_FAULT;
            stop->addr = addr;
            stop->access = fault_access(c, regs->rip, addr);
            stop->trapno = TRAP_PF;
        }
        return 1;
    case SIGBUS:
        cn_stop_exception(stop, signo, si.si_code, addr,
                          si.si_code == BUS_ADRALN ? TRAP_AC : TRAP_PF, 0);
        return 1;
    case SIGFPE: /* #MF and #XF differ in a way siginfo doesn't tell; integer division is #DE */
        cn_stop_exception(stop, signo, si.si_code, addr,
                          si.si_code == FPE_INTDIV || si.si_code == FPE_INTOVF ? TRAP_DE : TRAP_MF,
                          0);
        return 1;
    case SIGILL:
        cn_stop_exception(stop, signo, si.si_code, addr, TRAP_UD, 0);
        return 1;
    case SIGTRAP:
        cn_stop_exception(stop, signo, si.si_code, si.si_code == SI_KERNEL ? 0 : addr,
                          si.si_code == SI_KERNEL ? TRAP_BP : TRAP_DB, 0);
        return 1;
    case SIGSYS: /* a vsyscall, which the host emulates without a system call instruction; it is a
                    call like any other */
        if (si.si_code != SYS_SECCOMP_CODE)
            return 0;
        stop->reason = CN_STOP_SYSCALL;
        regs->orig_rax = (u32)si.si_syscall;
        return 1;
    }
    return 0;
}

/* Fills *stop from a wait status; 0 when the guest is to go on. */
static int classify(struct cn_ctx *c, int status, struct cn_regs *regs, struct cn_stop *stop)
{
    int signo = WSTOPSIG(status);
    int found = 0;

    if (signo == STOP_SYSCALL) {
        /* The syscall instruction leaves rip in rcx. int 0x80 and sysenter don't: a kernel without
         * 32-bit support (as we are) answers them with a general protection fault at the
         * instruction. */
        if (CN_LIKELY(regs->rcx == regs->rip && regs->cs == USER_CS)) {
            stop->reason = CN_STOP_SYSCALL;
        } else {
            if (regs->cs == USER_CS)
                regs->rip -= 2;
            regs->rax = (u32)regs->orig_rax;
            cn_stop_exception(stop, SIGSEGV, SI_KERNEL, 0, TRAP_GP, 0x80 * 8 + 2);
        }
        found = 1;
    } else if (status >> 16 == 0) {
        found = classify_signal(c, signo, regs, stop);
    }
    if (stop->reason != CN_STOP_FAULT)
        c->fault_level = -1;
    /* Guests have no 32-bit code segment: whatever stopped them there, it is over. */
    if (found && CN_UNLIKELY(regs->cs != USER_CS))
        cn_stop_exception(stop, SIGSEGV, SI_KERNEL, 0, TRAP_GP, 0);
    if (!found && atomic_exchange(&c->irq, 0)) {
        stop->reason = CN_STOP_INTERRUPTED;
        found = 1;
    }
    return found;
}

/* The stub was killed from outside. Its pid may be another process's once it was waited for. */
static int died(struct cn_ctx *c, struct cn_stop *stop, int buried)
{
    c->state = CTX_DEAD;
    if (buried)
        c->pid = 0;
    stop->reason = CN_STOP_DIED;
    return 0;
}

static int run_guest(struct cn_ctx *c, struct cn_regs *regs, struct cn_stop *stop)
{
    int status, rc;

    for (;;) {
        rc = as_flush(c->as, c->pid);
        if (CN_UNLIKELY(rc < 0))
            return rc == -ESRCH ? died(c, stop, 0) : rc;
        if (CN_UNLIKELY(atomic_load(&c->irq)) && atomic_exchange(&c->irq, 0)) {
            stop->reason = CN_STOP_INTERRUPTED;
            return 0;
        }
        cn_regs_sanitize(regs);
        regs->orig_rax = (u64)-1; /* the host kernel must see no call to restart */
        c->resume_flushes = atomic_load(&c->as->flushes);
        if (ptrace(PTRACE_SETREGS, c->pid, 0, regs) < 0 || ptrace(PTRACE_SYSEMU, c->pid, 0, 0) < 0)
            return errno == ESRCH ? died(c, stop, 0) : -errno;
        if (trace_wait(c->pid, &status) < 0)
            return died(c, stop, 1);
        if (ptrace(PTRACE_GETREGS, c->pid, 0, regs) < 0)
            return died(c, stop, 0);
        if (classify(c, status, regs, stop))
            return 0;
    }
}

int ptrace_ctx_switch(struct cn_ctx *c, struct cn_regs *regs, struct cn_stop *stop)
{
    int rc = 0;

    memset(stop, 0, sizeof(*stop));
    if (CN_UNLIKELY(c->state != CTX_LIVE)) {
        if (c->state == CTX_NEW && (rc = attach(c)) == -ESRCH)
            c->state = CTX_DEAD;
        if (c->state == CTX_DEAD)
            return died(c, stop, 0);
        if (rc < 0)
            return rc;
    }
    follow_core(c);
    atomic_store(&c->in_guest, 1);
    rc = run_guest(c, regs, stop);
    atomic_store(&c->in_guest, 0);
    as_left_guest(c->as);
    return rc;
}

void ptrace_ctx_interrupt(struct cn_ctx *c)
{
    pid_t pid;

    atomic_store(&c->irq, 1);
    /* SIGURG: ignored by default, so it can't kill a stub that was detached meanwhile. */
    if (atomic_load(&c->in_guest) && (pid = c->pid) > 0)
        syscall(SYS_tgkill, pid, pid, SIGURG);
}

int ptrace_ctx_get_xstate(struct cn_ctx *c, void *buf, u32 len)
{
    u8 full[cn_xstate_host_size()];
    struct iovec iov = {full, sizeof(full)};

    if (c->state == CTX_DEAD)
        return -ESRCH;
    if (c->state != CTX_LIVE && c->xstate)
        return cn_xstate_export(c->xstate, buf, len);
    cn_xstate_initial(full, sizeof(full));
    if (c->state == CTX_LIVE && ptrace(PTRACE_GETREGSET, c->pid, NT_X86_XSTATE, &iov) < 0)
        return -errno;
    return cn_xstate_export(full, buf, len);
}

int ptrace_ctx_set_xstate(struct cn_ctx *c, const void *buf, u32 len)
{
    u8 full[cn_xstate_host_size()];
    int rc;

    if (c->state == CTX_DEAD)
        return -ESRCH;
    rc = cn_xstate_import(buf, len, full, sizeof(full));
    if (rc < 0)
        return rc;
    if (c->state != CTX_NEW)
        return set_xstate(c->pid, full);
    if (!c->xstate && !(c->xstate = malloc(sizeof(full))))
        return -ENOMEM;
    memcpy(c->xstate, full, sizeof(full));
    return 0;
}

u64 ptrace_ctx_cpu_ns(struct cn_ctx *c)
{
    /* The CPU clock of a process, clock_getcpuclockid(3). */
    clockid_t clock = (clockid_t)(~(unsigned)c->pid << 3 | 2);
    struct timespec ts;

    if (!c->pid || c->state != CTX_LIVE || clock_gettime(clock, &ts) < 0)
        return 0;
    return (u64)ts.tv_sec * 1000000000 + (u64)ts.tv_nsec;
}

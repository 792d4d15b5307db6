/*
 * What a stop of a context means. Registers and siginfo lie in its area, as the host kernel wrote
 * them into the signal frame, or as some thread of the guest would have them: each is copied once
 * and the copy looked at. Nonsense there can only describe a guest that fools itself.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/audit.h>
#include <signal.h>
#include <string.h>
#include <ucontext.h>

#include "systrap.h"

#define USER_CS 0x33
#define USER_SS 0x2b
#define SYS_SECCOMP_CODE 1 /* si_code of seccomp's SIGSYS */
#define ERESTARTNOINTR 513
#define STUB_PAGE 0x1000
/* x86 trap numbers (arch/x86/include/asm/trapnr.h) and page fault error bits. */
enum { TRAP_GP = 13, TRAP_PF = 14 };
enum { PF_WRITE = 2, PF_FETCH = 16 };

/* The kernel's struct ucontext up to the end of the sigcontext's fields that matter. */
struct frame {
    u64 flags, link, stack[3];
    u64 gregs[23];
    u64 fpstate;
};

struct info {
    i32 signo, error, code, pad;
    u64 addr; /* SIGSYS: of the call */
    i32 syscall;
    u32 arch;
};

_Static_assert(offsetof(struct frame, gregs) == offsetof(ucontext_t, uc_mcontext.gregs), "");
_Static_assert(offsetof(struct frame, fpstate) == offsetof(ucontext_t, uc_mcontext.fpregs), "");

static int copy(struct cn_ctx *c, u32 off, void *to, u32 len)
{
    if (off < STUB_AREA_STACK || off > STUB_AREA_ANSWERS - len)
        return -1;
    memcpy(to, (const u8 *)c->area + off, len);
    return 0;
}

static void read_regs(struct cn_ctx *c, const struct frame *f, struct cn_regs *r)
{
    const u64 *g = f->gregs;

    r->r8 = g[REG_R8];
    r->r9 = g[REG_R9];
    r->r10 = g[REG_R10];
    r->r11 = g[REG_R11];
    r->r12 = g[REG_R12];
    r->r13 = g[REG_R13];
    r->r14 = g[REG_R14];
    r->r15 = g[REG_R15];
    r->rdi = g[REG_RDI];
    r->rsi = g[REG_RSI];
    r->rbp = g[REG_RBP];
    r->rbx = g[REG_RBX];
    r->rdx = g[REG_RDX];
    r->rax = g[REG_RAX];
    r->rcx = g[REG_RCX];
    r->rsp = g[REG_RSP];
    r->rip = g[REG_RIP];
    r->eflags = g[REG_EFL];
    r->cs = g[REG_CSGSFS] & 0xffff;
    r->gs = g[REG_CSGSFS] >> 16 & 0xffff;
    r->fs = g[REG_CSGSFS] >> 32 & 0xffff;
    r->ss = g[REG_CSGSFS] >> 48;
    r->ds = r->es = 0;
    r->orig_rax = (u64)-1;
    c->fs_base = r->fs_base = c->area->stop_fs_base;
    c->gs_base = c->area->stop_gs_base;
    r->gs_base = c->gs_base == c->area_addr ? 0 : c->gs_base;
}

/* A patched call site: what a system call instruction would have left in the registers that are no
 * arguments. */
void stop_read_rest(struct cn_ctx *c, struct cn_regs *r)
{
    volatile struct stub_ctx *a = c->area;

    r->r12 = a->r12;
    r->r13 = a->r13;
    r->r14 = a->r14;
    r->r15 = a->r15;
    r->rbp = a->rbp;
    r->rbx = a->rbx;
    r->rip = r->rcx = a->rcx;
    r->eflags = r->r11 = a->eflags;
    r->rsp = a->rsp;
    r->cs = USER_CS;
    r->ss = USER_SS;
    r->ds = r->es = r->fs = r->gs = 0;
    c->fs_base = r->fs_base = a->stop_fs_base;
    c->gs_base = c->area_addr; /* else it would not have come this way */
    r->gs_base = 0;
    c->call = *r;
    c->brief = 0;
}

static void read_call(struct cn_ctx *c, struct cn_regs *r, struct cn_stop *stop, u32 xsave)
{
    volatile struct stub_ctx *a = c->area;

    r->r8 = a->r8;
    r->r9 = a->r9;
    r->r10 = a->r10;
    r->rdi = a->rdi;
    r->rsi = a->rsi;
    r->rdx = a->rdx;
    r->rax = r->orig_rax = a->rax;
    c->xsave = xsave;
    c->called = 1;
    stop_read_rest(c, r);
    stop->reason = CN_STOP_SYSCALL;
}

static void read_brief(struct cn_ctx *c, struct cn_regs *r, struct cn_stop *stop, u32 nr)
{
    volatile struct stub_ctx *a = c->area;

    r->rdi = a->arg[0];
    r->rsi = a->arg[1];
    r->rdx = a->arg[2];
    r->r10 = a->arg[3];
    r->r8 = a->arg[4];
    r->r9 = a->arg[5];
    r->rax = r->orig_rax = nr;
    c->xsave = 0;
    c->called = c->brief = 1;
    stop->reason = CN_STOP_SYSCALL;
    stop->brief = 1;
}

static void segfault(struct cn_stop *stop, const struct frame *f, const struct info *si)
{
    u64 trapno = f->gregs[REG_TRAPNO], err = f->gregs[REG_ERR];

    if (si->code == SI_KERNEL || trapno != TRAP_PF) {
        cn_stop_exception(stop, SIGSEGV, SI_KERNEL, 0, trapno, err);
        return;
    }
    stop->reason = CN_STOP_FAULT;
    stop->addr = si->addr;
    stop->access = err & PF_FETCH   ? CN_ACCESS_EXEC
                   : err & PF_WRITE ? CN_ACCESS_WRITE
                                    : CN_ACCESS_READ;
    stop->trapno = TRAP_PF;
}

/* The host kernel took a number that looks like one of its restart codes for a call to be restarted:
 * -ERESTARTNOINTR moved rip back, the others made rax -EINTR (handle_signal in
 * arch/x86/kernel/signal.c). */
static void undo_restart(const struct info *si, struct cn_regs *regs)
{
    if (CN_UNLIKELY(si->syscall == -ERESTARTNOINTR && regs->rax == (u64)-ERESTARTNOINTR))
        regs->rip += 2;
    else if (CN_UNLIKELY((i32)regs->rax != si->syscall))
        regs->rax = (u64)(i64)si->syscall;
}

static int classify(const struct frame *f, const struct info *si, struct cn_regs *regs,
                    struct cn_stop *stop)
{
    u64 trapno = f->gregs[REG_TRAPNO], err = f->gregs[REG_ERR];

    if (si->signo == SIGURG) {
        stop->reason = CN_STOP_INTERRUPTED;
        return 1;
    }
    if (si->code <= 0)
        return 0; /* kill(2) and its kin from outside the sandbox */
    switch (si->signo) {
    case SIGSYS:
        if (si->code != SYS_SECCOMP_CODE)
            return 0;
        if (si->arch == AUDIT_ARCH_X86_64 && regs->cs == USER_CS) {
            stop->reason = CN_STOP_SYSCALL;
            undo_restart(si, regs);
            regs->orig_rax = regs->rax;
        } else { /* int 0x80: no such gate for a 64-bit kernel without 32-bit support */
            regs->rip -= 2;
            cn_stop_exception(stop, SIGSEGV, SI_KERNEL, 0, TRAP_GP, 0);
        }
        break;
    case SIGSEGV:
        segfault(stop, f, si);
        break;
    case SIGTRAP:
        cn_stop_exception(stop, SIGTRAP, si->code, si->code == SI_KERNEL ? 0 : si->addr, trapno,
                          err);
        break;
    case SIGBUS:
    case SIGFPE:
    case SIGILL:
        cn_stop_exception(stop, si->signo, si->code, si->addr, trapno, err);
        break;
    default:
        return -1;
    }
    /* Guests have no 32-bit code segment: whatever stopped them there, it is over. */
    if (CN_UNLIKELY(regs->cs != USER_CS)) {
        stop->access = 0;
        cn_stop_exception(stop, SIGSEGV, SI_KERNEL, 0, TRAP_GP, 0);
    }
    return 1;
}

/* Where the extended state lies; -1 when that can't be. */
static int set_xsave(struct cn_ctx *c, u32 off)
{
    if (off & 63 || off < STUB_AREA_STACK || off > STUB_AREA_ANSWERS - cn_xstate_size())
        return -1;
    c->xsave = off;
    return 0;
}

int stop_read(struct cn_ctx *c, struct cn_regs *regs, struct cn_stop *stop)
{
    volatile struct stub_ctx *a = c->area;
    struct frame f;
    struct info si;
    u32 kind = a->kind, xsave;
    int brief = c->brief;

    c->trapped = 0;
    c->brief = 0;
    if (CN_LIKELY((kind & 0xff) == STUB_CALL_BRIEF)) {
        read_brief(c, regs, stop, kind >> 8);
        return 1;
    }
    if (kind == STUB_CALL || kind == STUB_CALL_SAVED) {
        read_call(c, regs, stop, kind == STUB_CALL ? 0 : STUB_AREA_XSAVE);
        return 1;
    }
    if (kind == STUB_SAVED) {
        c->xsave = STUB_AREA_XSAVE;
        return 0;
    }
    if (kind == STUB_EARLY) { /* *regs is still what the guest has */
        if (brief) /* ... as far as it was read */
            stop_read_rest(c, regs);
        xsave = a->xsave;
        if (xsave && set_xsave(c, xsave) < 0)
            return -1;
        c->fs_base = c->gs_base = UNKNOWN_BASE; /* it may not have come to load them */
        stop->reason = CN_STOP_INTERRUPTED;
        return 1;
    }
    if (kind != STUB_SIGNAL || copy(c, a->frame, &f, sizeof(f)) < 0 ||
        copy(c, a->info, &si, sizeof(si)) < 0 || set_xsave(c, (u32)(f.fpstate - c->area_addr)) < 0)
        return -1;
    if (CN_UNLIKELY(f.gregs[REG_RIP] - STUB_CTX_TEXT < STUB_PAGE) && si.signo != SIGURG) {
        /* Entering the guest failed (a wild rip), or the guest jumped to where only the stub goes. */
        cn_stop_exception(stop, SIGSEGV, SI_KERNEL, 0, TRAP_GP, 0);
        c->fs_base = c->gs_base = UNKNOWN_BASE;
        return 1;
    }
    read_regs(c, &f, regs);
    c->trapped = 1;
    return classify(&f, &si, regs, stop);
}

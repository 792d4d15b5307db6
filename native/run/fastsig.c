/*
 * Signals that a thread sends to itself or raises by a fault, with a handler, and its own masks and
 * actions: without Python, which would queue the signal, find that this very thread takes it, and
 * take it.
 */
#define _GNU_SOURCE
#include "fastsig.h"

#include <errno.h>
#include <stdatomic.h>
#include <string.h>

#include "../mm/mm.h"
#include "sigset.h"
#include "task.h"

/* siginfo_t of kill(2), and of a fault. */
struct info {
    i32 signo, error, code, pad;
    union {
        struct {
            i32 pid;
            u32 uid;
        };
        u64 addr;
    };
    u8 rest[CN_SIGINFO_SIZE - 24];
};

_Static_assert(sizeof(struct info) == CN_SIGINFO_SIZE, "");

/* Signals with a payload in any queue; no user can have more. */
static _Atomic i64 queued;

void cn_signals_queued(int n)
{
    atomic_fetch_add(&queued, n);
}

static enum cn_fast done(struct cn_task *t, i64 result)
{
    t->regs.rax = (u64)result;
    return CN_DONE;
}

/* Takes the signal at once if it has a handler and nothing stands in the way: not blocked, nothing
 * else to take first. One-shot handlers need K. 0: nothing was done. */
static int handle(struct cn_task *t, struct info *info)
{
    struct cn_sigtask *s = t->signals;
    struct cn_sigaction action;
    int sig = info->signo;

    if (s->blocked & SIG_BIT(sig) || signals_due(s))
        return 0;
    cn_sighand_get(s->actions, sig, &action);
    if (action.handler <= SIG_HANDLER_IGN || action.flags & (u32)SA_RESETHAND)
        return 0;
    return cn_signal_enter(t, sig, &action, (const u8 *)info, s->blocked) == 0;
}

static enum cn_fast send_to_self(struct cn_task *t, int sig, int code)
{
    struct info info = {.signo = sig, .code = code, .pid = t->ids.pid, .uid = t->ids.uid};
    u64 rax;

    if (sig == 0)
        return done(t, 0);
    task_regs(t);
    if (sig < 0 || sig > CN_NSIG || SIG_BIT(sig) & (SIG_STOPS | SIG_BIT(SIGCONT)) ||
        atomic_load_explicit(&queued, memory_order_relaxed) >= (i64)t->signals->limit)
        return CN_UPCALL;
    rax = t->regs.rax;
    t->regs.rax = 0; /* what the call returns, in the frame */
    if (handle(t, &info))
        return CN_DONE;
    t->regs.rax = rax;
    return CN_UPCALL;
}

int signal_fault(struct cn_task *t)
{
    struct cn_sigtask *s = t->signals;
    const struct cn_stop *stop = &t->stop;
    struct info info = {.signo = stop->signo, .code = stop->code, .addr = stop->addr};

    if (!s || t->slow || stop->signo < 1 || stop->signo > CN_NSIG)
        return 0;
    s->fault_addr = stop->addr;
    s->fault_trapno = stop->trapno;
    s->fault_err = stop->err;
    return handle(t, &info);
}

enum cn_fast fast_kill(struct cn_task *t)
{
    const struct cn_ids *me = &t->ids;

    /* The first thread takes the signals of its process, if it can. */
    if (!t->signals || !me->known || (i32)t->regs.rdi != me->pid || me->pid != me->tid)
        return CN_UPCALL;
    return send_to_self(t, (i32)t->regs.rsi, SI_USER);
}

enum cn_fast fast_tkill(struct cn_task *t)
{
    if (!t->signals || !t->ids.known || (i32)t->regs.rdi != t->ids.tid)
        return CN_UPCALL;
    return send_to_self(t, (i32)t->regs.rsi, SI_TKILL);
}

enum cn_fast fast_tgkill(struct cn_task *t)
{
    if (!t->signals || !t->ids.known || (i32)t->regs.rdi != t->ids.pid ||
        (i32)t->regs.rsi != t->ids.tid)
        return CN_UPCALL;
    return send_to_self(t, (i32)t->regs.rdx, SI_TKILL);
}

/* Python drops what is pending when a signal comes to be ignored. */
enum cn_fast fast_rt_sigaction(struct cn_task *t)
{
    const struct cn_regs *r = &t->regs;
    int rc;

    if (!t->signals)
        return CN_UPCALL;
    rc = cn_rt_sigaction(t, (i32)r->rdi, r->rsi, r->rdx, r->r10, 0);
    return rc == CN_SIGNAL_IGNORED ? CN_UPCALL : done(t, rc);
}

enum cn_fast fast_rt_sigprocmask(struct cn_task *t)
{
    const struct cn_regs *r = &t->regs;

    if (!t->signals)
        return CN_UPCALL;
    return done(t, cn_rt_sigprocmask(t, (i32)r->rdi, r->rsi, r->rdx, r->r10));
}

enum cn_fast fast_sigaltstack(struct cn_task *t)
{
    task_regs(t);
    return t->signals ? done(t, cn_sigaltstack(t, t->regs.rdi, t->regs.rsi)) : CN_UPCALL;
}

enum cn_fast fast_rt_sigreturn(struct cn_task *t)
{
    task_regs(t);
    return t->signals && cn_rt_sigreturn(t) == 0 ? CN_DONE : CN_UPCALL;
}

/* Actions, masks and alternate stacks. See signals.h; frames: sigframe.c; what needs no Python: fastsig.c. */
#define _GNU_SOURCE
#include "signals.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <string.h>

#include "../mm/mm.h"
#include "sigset.h"
#include "task.h"

#define SIGSET_SIZE 8

/* What is kept of sa_flags (include/uapi/asm-generic/signal-defs.h). */
#define SA_EXPOSE_TAGBITS 0x800UL
#define KNOWN_FLAGS                                                                               \
    (SA_NOCLDSTOP | SA_NOCLDWAIT | SA_SIGINFO | SA_ONSTACK | SA_RESTART | SA_NODEFER |            \
     (u64)(u32)SA_RESETHAND | SA_EXPOSE_TAGBITS | SIG_SA_RESTORER)

static void lock(struct cn_sighand *h)
{
    while (__atomic_exchange_n(&h->lock, 1, __ATOMIC_ACQUIRE))
        sched_yield();
}

static void unlock(struct cn_sighand *h)
{
    __atomic_store_n(&h->lock, 0, __ATOMIC_RELEASE);
}

void cn_sighand_get(struct cn_sighand *h, int sig, struct cn_sigaction *out)
{
    lock(h);
    *out = h->action[sig];
    unlock(h);
}

void cn_sighand_copy(struct cn_sighand *to, struct cn_sighand *from)
{
    lock(from);
    memcpy(to->action, from->action, sizeof(to->action));
    unlock(from);
}

void cn_sighand_reset(struct cn_sighand *h, int sig)
{
    lock(h);
    h->action[sig] = (struct cn_sigaction){0};
    unlock(h);
}

void cn_sighand_reset_handled(struct cn_sighand *h)
{
    lock(h);
    for (int sig = 1; sig <= CN_NSIG; sig++)
        h->action[sig] = (struct cn_sigaction){
            .handler = h->action[sig].handler == SIG_HANDLER_IGN ? SIG_HANDLER_IGN : 0};
    unlock(h);
}

void cn_pending_set(uint64_t *set, uint64_t value)
{
    __atomic_exchange_n(set, value, __ATOMIC_SEQ_CST);
}

void signal_block(struct cn_task *t, u64 set)
{
    struct cn_sigtask *s = t->signals;

    __atomic_exchange_n(&s->blocked, set & ~SIG_UNBLOCKABLE, __ATOMIC_SEQ_CST);
    if (CN_UNLIKELY(signals_due(s)))
        cn_task_interrupt(t);
}

int cn_rt_sigaction(struct cn_task *t, int sig, uint64_t act, uint64_t old, uint64_t size,
                    int locked)
{
    struct cn_sighand *h = t->signals->actions;
    struct cn_sigaction new, before;

    if (size != SIGSET_SIZE || sig < 1 || sig > CN_NSIG || (act && SIG_BIT(sig) & SIG_UNBLOCKABLE))
        return -EINVAL;
    if (act && cn_mm_copy_in(cn_task_mm(t), act, &new, sizeof(new)) < 0)
        return -EFAULT;
    if (act && !locked &&
        (new.handler == SIG_HANDLER_IGN || (new.handler == 0 && SIG_BIT(sig) & SIG_IGNORED)))
        return CN_SIGNAL_IGNORED;
    lock(h);
    before = h->action[sig];
    if (act) {
        new.flags &= KNOWN_FLAGS;
        new.mask &= ~SIG_UNBLOCKABLE;
        h->action[sig] = new;
    }
    unlock(h);
    return old ? cn_mm_copy_out(cn_task_mm(t), old, &before, sizeof(before)) : 0;
}

int cn_rt_sigprocmask(struct cn_task *t, int how, uint64_t set, uint64_t old, uint64_t size)
{
    u64 before = t->signals->blocked, mask;

    if (size != SIGSET_SIZE)
        return -EINVAL;
    if (set) {
        if (cn_mm_copy_in(cn_task_mm(t), set, &mask, sizeof(mask)) < 0)
            return -EFAULT;
        switch (how) {
        case SIG_BLOCK:
            mask = before | mask;
            break;
        case SIG_UNBLOCK:
            mask = before & ~mask;
            break;
        case SIG_SETMASK:
            break;
        default:
            return -EINVAL;
        }
        if (mask != before)
            signal_block(t, mask);
    }
    return old ? cn_mm_copy_out(cn_task_mm(t), old, &before, sizeof(before)) : 0;
}

/* Never, as far as it goes, while SS_AUTODISARM is set. */
u32 signal_on_stack(const struct cn_sigtask *s, u64 sp)
{
    return !(s->stack_flags & SIG_SS_AUTODISARM) && sp > s->stack && sp - s->stack <= s->stack_size
               ? SS_ONSTACK
               : 0;
}

int signal_set_stack(struct cn_sigtask *s, u64 sp, u64 base, u32 flags, u64 size)
{
    u32 mode = flags & ~SIG_SS_AUTODISARM;

    if (signal_on_stack(s, sp))
        return -EPERM;
    if (mode != 0 && mode != SS_ONSTACK && mode != SS_DISABLE)
        return -EINVAL;
    if (mode == SS_DISABLE)
        base = size = 0;
    else if (size < 2048) /* MINSIGSTKSZ of the kernel's headers */
        return -ENOMEM;
    s->stack = base;
    s->stack_size = size;
    s->stack_flags = flags;
    return 0;
}

int cn_sigaltstack(struct cn_task *t, uint64_t ss, uint64_t old)
{
    struct cn_sigtask *s = t->signals;
    u64 sp = t->regs.rsp;
    struct cn_stack in, before = {s->stack, SS_DISABLE, 0, s->stack_size};
    int rc;

    if (s->stack_size)
        before.flags = signal_on_stack(s, sp) | (s->stack_flags & SIG_SS_AUTODISARM);
    if (ss) {
        if (cn_mm_copy_in(cn_task_mm(t), ss, &in, sizeof(in)) < 0)
            return -EFAULT;
        rc = signal_set_stack(s, sp, in.base, in.flags, in.size);
        if (rc < 0)
            return rc;
    }
    return old ? cn_mm_copy_out(cn_task_mm(t), old, &before, sizeof(before)) : 0;
}

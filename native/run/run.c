/* Tasks: running them in the guest, putting them to sleep, waking and interrupting them. See run.h.
 */
#define _GNU_SOURCE
#include "run.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "../mm/memfile.h"
#include "../mm/mm.h"
#include "../mm/patch.h"
#include "../trace/trace.h"
#include "answers.h"
#include "fast.h"
#include "klock.h"
#include "names.h"
#include "place.h"
#include "reopen.h"
#include "signals.h"
#include "stats.h"
#include "task.h"
#include "xstate.h"

/* Bits of the task's word, its only state shared with other threads. */
enum { WAKE = 1, INTERRUPT = 2, SLEEPING = 4 };

struct cn_task_priv {
    struct cn_mm *mm;
    struct cn_ctx *ctx; /* changes with K held, by the own host thread */
    struct cn_place *place; /* the host thread's, once it has run */
    struct answers answers;
    _Atomic u32 word;
    _Atomic u32 wakers; /* that hold the task (task.h) */
    u64 user_ns; /* of contexts dropped */
    int has_clock;
    clockid_t clock; /* CPU clock of the host thread */
    u64 clock_base; /* its reading when the thread took the task up */
    u64 sys_ns; /* kept after release */
    u64 waited_ns; /* of that, waiting for contexts dropped */
};

struct cn_run_stats cn_stats;

const struct cn_run_stats *cn_run_stats(void)
{
    return &cn_stats;
}

int cn_task_new(struct cn_mm *mm, struct cn_task **out)
{
    struct cn_task *t = calloc(1, sizeof(*t));
    struct cn_task_priv *p = calloc(1, sizeof(*p));
    int rc = -ENOMEM;

    if (!t || !p)
        goto fail;
    t->priv = p;
    p->mm = mm;
    rc = cn_ops->ctx_new(cn_mm_as(mm), &p->ctx);
    if (rc < 0)
        goto fail;
    answers_begin(&p->answers, t, p->ctx);
    *out = t;
    return 0;
fail:
    free(p);
    free(t);
    return rc;
}

struct cn_mm *cn_task_mm(const struct cn_task *t)
{
    return t->priv->mm;
}

void cn_task_set_ids(struct cn_task *t, int32_t pid, int32_t tid, int32_t ppid, uint32_t uid,
                     uint32_t euid, uint32_t gid, uint32_t egid)
{
    t->ids = (struct cn_ids){pid, tid, ppid, uid, euid, gid, egid, 1};
    answers_publish(&t->priv->answers);
}

void cn_task_set_fds(struct cn_task *t, struct cn_fdt *fds)
{
    t->fds = fds;
    answers_publish(&t->priv->answers);
}

void cn_task_set_slow(struct cn_task *t, int slow)
{
    t->slow = (u32)slow;
    answers_publish(&t->priv->answers);
}

static u64 clock_ns(clockid_t clock)
{
    struct timespec ts;
    return clock_gettime(clock, &ts) < 0 ? 0 : (u64)ts.tv_sec * 1000000000 + (u64)ts.tv_nsec;
}

static u64 waited_ns(struct cn_ctx *c)
{
    return c && cn_ops->ctx_waited_ns ? cn_ops->ctx_waited_ns(c) : 0;
}

static void drop_ctx(struct cn_task_priv *p)
{
    if (!p->ctx)
        return;
    answers_end(&p->answers);
    p->user_ns += cn_ops->ctx_cpu_ns(p->ctx);
    p->waited_ns += waited_ns(p->ctx);
    cn_ops->ctx_free(p->ctx);
    p->ctx = NULL;
}

void cn_task_release_ctx(struct cn_task *t)
{
    struct cn_task_priv *p = t->priv;

    while (atomic_load(&p->wakers))
        sched_yield();
    drop_ctx(p);
    p->mm = NULL;
    if (p->has_clock)
        p->sys_ns += clock_ns(p->clock) - p->clock_base;
    p->has_clock = 0;
    if (p->place && p->place == cn_place_self)
        cn_place_leave();
    p->place = NULL;
}

void cn_task_free(struct cn_task *t)
{
    if (!t)
        return;
    cn_task_release_ctx(t);
    names_forget(t);
    free(t->priv);
    free(t);
}

int cn_task_set_mm(struct cn_task *t, struct cn_mm *mm)
{
    struct cn_ctx *fresh;
    int rc = cn_ops->ctx_new(cn_mm_as(mm), &fresh);

    if (rc < 0)
        return rc;
    drop_ctx(t->priv);
    t->priv->ctx = fresh;
    t->priv->mm = mm;
    answers_begin(&t->priv->answers, t, fresh);
    return 0;
}

/* The host thread is seen for the first time: its core and its CPU clock. */
static void adopt_thread(struct cn_task_priv *p)
{
    cn_place_enter();
    p->place = cn_place_self;
    p->has_clock = pthread_getcpuclockid(pthread_self(), &p->clock) == 0;
    p->clock_base = clock_ns(p->clock);
}

/* Error code of a page fault as the processor would push it (Intel SDM vol. 3, 4.7). */
static u64 fault_error(const struct cn_stop *s)
{
    return 4 | (s->signo == SIGSEGV && s->code == SEGV_ACCERR ? 1 : 0) |
           (s->access & CN_ACCESS_WRITE ? 2 : 0) | (s->access & CN_ACCESS_EXEC ? 16 : 0);
}

/* 1: the memory manager served it, go on. 0: *s says which signal is due. -errno: the host is out
 * of something. */
static int serve_fault(struct cn_task_priv *p, struct cn_stop *s)
{
    int rc = s->addr < cn_ops->task_size ? cn_mm_fault(p->mm, s->addr, s->access) : -EFAULT;

    switch (rc) {
    case 0:
        cn_count(&cn_stats.faults_served);
        return 1;
    case -EFAULT:
        s->signo = SIGSEGV;
        s->code = SEGV_MAPERR;
        break;
    case -EACCES:
        s->signo = SIGSEGV;
        s->code = SEGV_ACCERR;
        break;
    case -ENXIO: /* beyond the end of what is mapped */
        s->signo = SIGBUS;
        s->code = BUS_ADRERR;
        break;
    default:
        return rc;
    }
    s->err = fault_error(s);
    return 0;
}

/* This place makes many calls. Whether it can be patched or not: it is tried once for a while. */
static void patch_site(struct cn_task *t)
{
    if (!cn_ops->patch_entry || !cn_patch_enabled())
        return;
    cn_klock();
    cn_mm_patch_site(t->priv->mm, t->regs.rip, t->regs.orig_rax, cn_ops->patch_entry);
    cn_kunlock();
}

void task_regs(struct cn_task *t)
{
    if (t->stop.brief)
        cn_ops->ctx_regs(t->priv->ctx, &t->regs);
    t->stop.brief = 0;
}

static int run(struct cn_task *t)
{
    struct cn_task_priv *p = t->priv;
    int rc;

    for (;;) {
        if (CN_UNLIKELY(atomic_load_explicit(&p->word, memory_order_relaxed) & INTERRUPT)) {
            task_regs(t);
            memset(&t->stop, 0, sizeof(t->stop));
            t->stop.reason = CN_STOP_INTERRUPTED;
            return CN_STOP_INTERRUPTED;
        }
        if (CN_UNLIKELY(cn_memfile_denied())) {
            task_regs(t);
            return -ENOMEM;
        }
        if (CN_UNLIKELY(cn_trace_on))
            cn_trace_mark(t, CN_TRACE_GUEST);
        rc = cn_ops->ctx_switch(p->ctx, &t->regs, &t->stop);
        if (CN_UNLIKELY(cn_trace_on))
            cn_trace_mark(t, CN_TRACE_STOP);
        if (CN_UNLIKELY(rc < 0))
            return rc;
        cn_count(&cn_stats.stops[t->stop.reason & 7]);
        switch (t->stop.reason) {
        case CN_STOP_SYSCALL:
            t->waited = 0;
            if (CN_UNLIKELY(t->stop.code))
                patch_site(t);
            if (cn_fast_syscall(t) == CN_UPCALL) {
                task_regs(t);
                return CN_STOP_SYSCALL;
            }
            break;
        case CN_STOP_FAULT:
        case CN_STOP_EXCEPTION:
            if (t->stop.reason == CN_STOP_FAULT)
                rc = serve_fault(p, &t->stop);
            else
                rc = t->stop.signo == SIGBUS ? cn_mm_no_page(p->mm, t->stop.addr) : 0;
            if (rc < 0)
                return rc;
            if (rc == 0 && !signal_fault(t))
                return t->stop.reason;
            break;
        case CN_STOP_INTERRUPTED: /* the flag decides: a kick may come after it was answered */
            break;
        default:
            return t->stop.reason;
        }
    }
}

int cn_task_run(struct cn_task *t)
{
    struct cn_task_priv *p = t->priv;
    int rc;

    if (CN_UNLIKELY(!p->ctx))
        return -ESRCH;
    if (CN_UNLIKELY(!p->has_clock))
        adopt_thread(p);
    cn_kunlock();
    rc = run(t);
    if (CN_UNLIKELY(cn_trace_on))
        cn_trace_mark(t, CN_TRACE_LOCK);
    cn_klock();
    if (CN_UNLIKELY(cn_trace_on))
        cn_trace_mark(t, CN_TRACE_KERNEL);
    return rc;
}

int cn_task_go(struct cn_task *t, int has_result, int64_t result)
{
    const struct cn_regs *r = &t->regs;
    int rc;

    if (CN_UNLIKELY(reopen_pending()))
        return CN_ENDED;
    names_answered(t, has_result, result);
    if (has_result)
        t->regs.rax = (u64)result;
    rc = cn_task_run(t);
    if (rc != CN_STOP_SYSCALL || r->orig_rax >= CN_NR_SYSCALLS)
        return rc;
    t->args[0] = r->rdi;
    t->args[1] = r->rsi;
    t->args[2] = r->rdx;
    t->args[3] = r->r10;
    t->args[4] = r->r8;
    t->args[5] = r->r9;
    return (CN_CALL + (int)r->orig_rax) | (CN_UNLIKELY(reopen_pending()) ? CN_ENDED : 0);
}

/* Takes what happened out of the word: CN_WOKEN, CN_INTERRUPTED or -1. */
static int take_event(struct cn_task_priv *p)
{
    u32 w = atomic_fetch_and(&p->word, (u32) ~(WAKE | SLEEPING));
    return w & WAKE ? CN_WOKEN : w & INTERRUPT ? CN_INTERRUPTED : -1;
}

/* 1: the word now says that the task sleeps. */
static int fall_asleep(struct cn_task_priv *p)
{
    u32 idle = 0;

    return atomic_compare_exchange_strong(&p->word, &idle, SLEEPING);
}

static void sleep_on(struct cn_task_priv *p, i64 deadline_ns)
{
    struct timespec ts = {deadline_ns / 1000000000, deadline_ns % 1000000000};
    int rc;

    if (CN_UNLIKELY(cn_trace_on))
        cn_trace_begin(CN_TRACE_BLOCK);
    do
        rc = cn_futex_wait(&p->word, SLEEPING, deadline_ns < 0 ? NULL : &ts);
    while (rc != -ETIMEDOUT && atomic_load(&p->word) == SLEEPING);
    if (CN_UNLIKELY(cn_trace_on))
        cn_trace_end();
}

int cn_task_block(struct cn_task *t, int64_t deadline_ns)
{
    struct cn_task_priv *p = t->priv;
    int event;

    if (!fall_asleep(p))
        return take_event(p);
    cn_place_block();
    cn_kunlock();
    sleep_on(p, deadline_ns);
    cn_place_unblock();
    cn_klock();
    event = take_event(p);
    return event < 0 ? CN_TIMEOUT : event;
}

int task_sleep(struct cn_task *t, i64 deadline_ns)
{
    struct cn_task_priv *p = t->priv;
    int event;

    if (!fall_asleep(p))
        return take_event(p);
    t->sleeps++;
    __atomic_store_n(&t->asleep, 1, __ATOMIC_RELAXED);
    cn_place_block();
    sleep_on(p, deadline_ns);
    cn_place_unblock();
    __atomic_store_n(&t->asleep, 0, __ATOMIC_RELAXED);
    event = take_event(p);
    return event < 0 ? CN_TIMEOUT : event;
}

static void signal_task(struct cn_task_priv *p, u32 bit)
{
    u32 before = atomic_fetch_or(&p->word, bit);

    if (before & SLEEPING && !(before & (WAKE | INTERRUPT))) {
        cn_place_pull(p->place);
        cn_futex_wake(&p->word, 1);
    }
}

void cn_task_wake(struct cn_task *t)
{
    signal_task(t->priv, WAKE);
}

void task_hold(struct cn_task *t)
{
    atomic_fetch_add(&t->priv->wakers, 1);
}

void task_wake_held(struct cn_task *t)
{
    signal_task(t->priv, WAKE);
    atomic_fetch_sub(&t->priv->wakers, 1);
}

void cn_task_interrupt(struct cn_task *t)
{
    struct cn_task_priv *p = t->priv;

    signal_task(p, INTERRUPT);
    if (p->ctx)
        cn_ops->ctx_interrupt(p->ctx);
}

void cn_task_clear_interrupt(struct cn_task *t)
{
    atomic_fetch_and(&t->priv->word, (u32)~INTERRUPT);
}

int cn_task_interrupted(struct cn_task *t)
{
    return atomic_load(&t->priv->word) & INTERRUPT ? 1 : 0;
}

int cn_task_get_xstate(struct cn_task *t, void *buf, uint32_t len)
{
    return t->priv->ctx ? cn_ops->ctx_get_xstate(t->priv->ctx, buf, len) : -ESRCH;
}

int cn_task_set_xstate(struct cn_task *t, const void *buf, uint32_t len)
{
    return t->priv->ctx ? cn_ops->ctx_set_xstate(t->priv->ctx, buf, len) : -ESRCH;
}

int cn_task_reset_xstate(struct cn_task *t)
{
    u8 legacy[CN_XSTATE_LEGACY];

    cn_xstate_initial(legacy, sizeof(legacy));
    return cn_task_set_xstate(t, legacy, sizeof(legacy));
}

int cn_task_copy_xstate(struct cn_task *child, struct cn_task *parent)
{
    u8 image[cn_xstate_size()];
    int rc = cn_task_get_xstate(parent, image, sizeof(image));

    return rc < 0 ? rc : cn_task_set_xstate(child, image, (u32)rc);
}

void cn_task_cpu_ns(struct cn_task *t, uint64_t *user, uint64_t *sys)
{
    struct cn_task_priv *p = t->priv;
    u64 waited;

    *user = p->user_ns + (p->ctx ? cn_ops->ctx_cpu_ns(p->ctx) : 0);
    *sys = p->sys_ns + (p->has_clock ? clock_ns(p->clock) - p->clock_base : 0);
    waited = p->waited_ns + waited_ns(p->ctx);
    *sys -= waited < *sys ? waited : *sys;
}

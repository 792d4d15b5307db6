/* Contexts of the systrap platform: the hand-over between sentry and stub. */
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "../run/place.h"
#include "../run/xstate.h"
#include "systrap.h"

#define SLOW_FLAGS 0x54100UL /* TF, NT, RF, AC: iretq sets them without a side effect on the way */
#define SAVE_TRIES 100
#define SAVE_WAIT_NS 20000000L
#define SITE_HOT 16 /* trapped calls of one place before it is worth patching */

static _Atomic u64 *answers(struct cn_ctx *c)
{
    return (_Atomic u64 *)((u8 *)c->area + STUB_AREA_ANSWERS);
}

int systrap_ctx_new(struct cn_as *as, struct cn_ctx **out)
{
    struct cn_ctx *c = NULL;
    int rc;

    pthread_mutex_lock(&as->lock);
    rc = space_context(as, &c);
    if (rc == 0) {
        memset(answers(c), 0, STUB_AREA_SIZE - STUB_AREA_ANSWERS);
        c->state = CTX_NEW;
        c->called = c->brief = 0;
        c->irq = 0;
        c->fs_base = c->gs_base = UNKNOWN_BASE;
        cn_xstate_initial((u8 *)c->area + STUB_AREA_XSAVE, cn_xstate_size());
        c->xsave = STUB_AREA_XSAVE;
        c->area->save_nr = ~0U;
        c->stub_spun = c->host_spun = 0;
        c->area->spin = c->told_spin = 0;
        c->cpu_base = 0;
        c->cpu_base = systrap_ctx_cpu_ns(c);
        *out = c;
    }
    pthread_mutex_unlock(&as->lock);
    return rc;
}

void systrap_ctx_free(struct cn_ctx *c)
{
    struct cn_as *as = c->as;

    if (cn_place_self && cn_place_self->companion == c->pid)
        cn_place_self->companion = 0;
    pthread_mutex_lock(&as->lock);
    if (c->state != CTX_DEAD)
        c->state = CTX_SPARE; /* it is stopped; a thread to come can have it */
    pthread_mutex_unlock(&as->lock);
}

static int died(struct cn_ctx *c, struct cn_stop *stop)
{
    c->state = CTX_DEAD;
    if (c->pid > 0)
        kill(c->pid, SIGKILL);
    memset(stop, 0, sizeof(*stop));
    stop->reason = CN_STOP_DIED;
    return 0;
}

static void kick(struct cn_ctx *c)
{
    if (atomic_exchange(&c->kicked, 1))
        return;
    c->area->kick = 1;
    syscall(SYS_tgkill, c->pid, c->pid, SIGURG);
}

static void no_kick(volatile struct stub_ctx *a)
{
    if (CN_UNLIKELY(a->kick))
        a->kick = 0;
}

/* A patched call goes on where it was, with a result and nothing else changed? That is said in the
 * one cache line that the stub looks at; its registers stay in its own cache. They need no
 * sanitizing: they are still those that it loads by itself, as guest code can. */
static int write_result(struct cn_ctx *c, struct cn_regs *r)
{
    volatile struct stub_ctx *a = c->area;

    if (!c->called)
        return 0;
    c->called = 0;
    if (!c->brief || c->xrestore) { /* a brief one has no extended state, nor odd flags */
        systrap_ctx_regs(c, r);
        c->call.rax = r->rax;
        if (c->xsave || c->xrestore || r->eflags & SLOW_FLAGS ||
            memcmp(&c->call, r, sizeof(*r)) != 0)
            return 0;
    }
    no_kick(a);
    a->result = r->rax;
    a->flags = STUB_RESULT | STUB_FAST;
    return 1;
}

static void write_regs(struct cn_ctx *c, struct cn_regs *r)
{
    volatile struct stub_ctx *a = c->area;
    u32 flags = 0;
    u64 gs_base;

    cn_regs_sanitize(r);
    a->r8 = r->r8;
    a->r9 = r->r9;
    a->r10 = r->r10;
    a->r11 = r->r11;
    a->r12 = r->r12;
    a->r13 = r->r13;
    a->r14 = r->r14;
    a->r15 = r->r15;
    a->rdi = r->rdi;
    a->rsi = r->rsi;
    a->rbp = r->rbp;
    a->rbx = r->rbx;
    a->rdx = r->rdx;
    a->rax = r->rax;
    a->rcx = r->rcx;
    a->rip = r->rip;
    a->cs = r->cs;
    a->eflags = r->eflags;
    a->rsp = r->rsp;
    a->ss = r->ss;
    a->xrestore = c->xrestore = c->xsave;
    no_kick(a);
    /* A guest that has no use for gs_base has its area there, for patched call sites. */
    gs_base = r->gs_base || !c->as->p->can_patch ? r->gs_base : c->area_addr;
    if (r->fs_base != c->fs_base || gs_base != c->gs_base) {
        a->fs_base = c->fs_base = r->fs_base;
        a->gs_base = c->gs_base = gs_base;
        flags = STUB_SET_BASES;
    }
    if (r->rcx == r->rip && r->r11 == r->eflags && !(r->eflags & SLOW_FLAGS))
        flags |= STUB_FAST;
    a->flags = flags;
}

/*
 * An interrupt is not lost: whoever sets `irq` sees in_guest and kicks, or `irq` is seen here after
 * the turn was handed over, which is when a kick counts.
 */
static int enter(struct cn_ctx *c)
{
    int rc;

    atomic_store_explicit(&c->kicked, 0, memory_order_relaxed);
    atomic_store_explicit(&c->in_guest, 1, memory_order_relaxed);
    handover_give(c);
    if (CN_UNLIKELY(atomic_load(&c->irq))) {
        atomic_store(&c->kicked, 0); /* an earlier one may have come too early */
        kick(c);
    }
    rc = handover_wait(c);
    atomic_store_explicit(&c->in_guest, 0, memory_order_relaxed);
    return rc;
}

/* It was stopped, maybe before it came to what it was asked to take away. */
static void not_taken(struct cn_ctx *c)
{
    if (c->takes)
        c->as->unsure = 1;
    c->takes = 0;
}

/* Counts calls that trapped by where they came from; 1 when it is time to patch that place. */
static int is_hot(struct cn_ctx *c, u64 rip)
{
    struct hot_site *h = &c->hot[(rip ^ rip >> 6) % HOT_SITES];

    if (h->rip != rip) {
        h->rip = rip;
        h->calls = 0;
    }
    return ++h->calls == SITE_HOT;
}

int systrap_ctx_switch(struct cn_ctx *c, struct cn_regs *regs, struct cn_stop *stop)
{
    int rc;

    memset(stop, 0, sizeof(*stop));
    if (CN_UNLIKELY(c->state != CTX_LIVE)) {
        if (c->state == CTX_DEAD)
            return died(c, stop);
        c->state = CTX_LIVE;
    }
    handover_place(c);
    if (atomic_load_explicit(&c->as->queue.n, memory_order_relaxed) && !space_ask(c))
        handover_flushes(c);
    for (;;) {
        rc = space_flush(c->as);
        if (CN_UNLIKELY(rc < 0))
            return rc == -ESRCH ? died(c, stop) : rc;
        if (CN_UNLIKELY(atomic_load_explicit(&c->irq, memory_order_relaxed)) &&
            atomic_exchange(&c->irq, 0)) {
            not_taken(c);
            systrap_ctx_regs(c, regs);
            stop->reason = CN_STOP_INTERRUPTED;
            return 0;
        }
        if (!write_result(c, regs))
            write_regs(c, regs);
        if (c->takes)
            c->area->flags |= STUB_TAKE;
        if (CN_UNLIKELY(enter(c) < 0))
            return died(c, stop);
        rc = stop_read(c, regs, stop);
        if (CN_UNLIKELY(rc < 0))
            return died(c, stop);
        if (rc == 0 || stop->reason == CN_STOP_INTERRUPTED)
            not_taken(c);
        c->takes = 0;
        if (rc == 0 || (stop->reason == CN_STOP_INTERRUPTED && !atomic_exchange(&c->irq, 0))) {
            memset(stop, 0, sizeof(*stop)); /* a late kick, which another stop has answered */
            continue;
        }
        if (stop->reason == CN_STOP_SYSCALL && c->trapped)
            stop->code = c->as->p->can_patch && is_hot(c, regs->rip);
        return 0;
    }
}

void systrap_ctx_regs(struct cn_ctx *c, struct cn_regs *regs)
{
    if (c->brief)
        stop_read_rest(c, regs);
}

void systrap_ctx_interrupt(struct cn_ctx *c)
{
    atomic_store(&c->irq, 1);
    if (atomic_load(&c->in_guest))
        kick(c);
}

void systrap_ctx_answer(struct cn_ctx *c, u32 nr, int known, u32 value)
{
    if (nr == SYS_clock_gettime)
        atomic_store((_Atomic u64 *)((u8 *)c->area + STUB_AREA_CLOCK), known ? c->as->p->clock : 0);
    else if (nr < STUB_NR_ANSWERS)
        atomic_store(&answers(c)[nr], known ? STUB_ANSWER + value : 0);
}

void systrap_ctx_devices(struct cn_ctx *c, u64 nulls, u64 zeros)
{
    atomic_store((_Atomic u64 *)((u8 *)c->area + STUB_AREA_NULLS), nulls);
    atomic_store((_Atomic u64 *)((u8 *)c->area + STUB_AREA_ZEROS), zeros);
}

/*
 * Brings the extended state into the area: the stub saves it and stops again; when the same call
 * comes again it saves it by itself. The caller may hold K, so this never waits for guest code: a
 * context that only seemed to have stopped (its siblings can make it look so) is kicked out of it,
 * or dies.
 */
static int save_xstate(struct cn_ctx *c)
{
    struct cn_regs regs = {0};
    struct cn_stop stop;

    for (int i = 0; i < SAVE_TRIES; i++) { /* a late kick may come between */
        c->area->xrestore = c->xrestore = 0;
        c->area->kick = 0;
        c->area->flags = STUB_SAVE;
        c->area->save_nr = (u32)c->area->rax;
        handover_give(c);
        while (handover_wait_briefly(c, SAVE_WAIT_NS) < 0 && ++i < SAVE_TRIES)
            syscall(SYS_tgkill, c->pid, c->pid, SIGURG);
        if (stop_read(c, &regs, &stop) < 0)
            break;
        if (c->xsave)
            return 0;
    }
    died(c, &stop);
    return -ESRCH;
}

int systrap_ctx_get_xstate(struct cn_ctx *c, void *buf, u32 len)
{
    int rc;

    if (c->state == CTX_DEAD)
        return -ESRCH;
    if (!c->xsave && (rc = save_xstate(c)) < 0)
        return rc;
    return cn_xstate_export((const u8 *)c->area + c->xsave, buf, len);
}

int systrap_ctx_set_xstate(struct cn_ctx *c, const void *buf, u32 len)
{
    int rc;

    if (c->state == CTX_DEAD)
        return -ESRCH;
    rc = cn_xstate_import(buf, len, (u8 *)c->area + STUB_AREA_XSAVE, cn_xstate_size());
    if (rc == 0)
        c->xsave = STUB_AREA_XSAVE;
    return rc;
}

u64 systrap_ctx_cpu_ns(struct cn_ctx *c)
{
    /* The CPU clock of a process, clock_getcpuclockid(3). */
    clockid_t clock = (clockid_t)(~(unsigned)c->pid << 3 | 2);
    struct timespec ts;
    u64 ns, spun;

    if (c->pid <= 0 || c->state == CTX_DEAD || clock_gettime(clock, &ts) < 0)
        return 0;
    ns = (u64)ts.tv_sec * 1000000000 + (u64)ts.tv_nsec - c->cpu_base;
    spun = handover_ns(c->stub_spun);
    return ns - (spun < ns ? spun : ns);
}

u64 systrap_ctx_waited_ns(struct cn_ctx *c)
{
    return handover_ns(c->host_spun);
}

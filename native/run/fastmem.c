/*
 * Memory calls, futexes, sleeping, clocks and identity without Python. See fastmem.h.
 *
 * A sleep that is interrupted goes to Python with its deadline in the task (cn_task.waited), where
 * it becomes what a restart needs.
 */
#define _GNU_SOURCE
#include "fastmem.h"

#include <errno.h>
#include <linux/futex.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>

#include "../mm/mm.h"
#include "futex.h"
#include "task.h"

#define NS      1000000000L
#define FOREVER (-1)

/* Flags of an mmap that is left to C: private and anonymous. */
#define PLAIN_FLAGS                                                                                \
    ((u64)(MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_FIXED_NOREPLACE | MAP_NORESERVE |         \
           MAP_STACK | MAP_POPULATE | MAP_NONBLOCK | MAP_DENYWRITE | MAP_EXECUTABLE))
#define PROT_ALL (PROT_READ | PROT_WRITE | PROT_EXEC)

static enum cn_fast done(struct cn_task *t, i64 result)
{
    t->regs.rax = (u64)result;
    return CN_DONE;
}

/* Memory */

enum cn_fast fast_mmap(struct cn_task *t)
{
    const struct cn_regs *r = &t->regs;
    u64 flags = r->r10 & UINT32_MAX;

    if (flags & ~PLAIN_FLAGS || !(flags & MAP_ANONYMOUS) || !(flags & MAP_PRIVATE) || !r->rsi ||
        r->r9 & ~CN_PAGE_MASK)
        return CN_UPCALL;
    return done(t, cn_mm_mmap(cn_task_mm(t), r->rdi, r->rsi, (u32)r->rdx & PROT_ALL, PROT_ALL,
                              (u32)flags, 0, NULL, 0, 0));
}

enum cn_fast fast_munmap(struct cn_task *t)
{
    return done(t, cn_mm_munmap(cn_task_mm(t), t->regs.rdi, t->regs.rsi));
}

enum cn_fast fast_mprotect(struct cn_task *t)
{
    if (t->regs.rdx & ~(u64)PROT_ALL)
        return CN_UPCALL;
    return done(t, cn_mm_mprotect(cn_task_mm(t), t->regs.rdi, t->regs.rsi, (u32)t->regs.rdx));
}

enum cn_fast fast_madvise(struct cn_task *t)
{
    int advice = (int)t->regs.rdx;

    if (advice != MADV_DONTNEED && advice != MADV_FREE && advice != MADV_NORMAL &&
        advice != MADV_HUGEPAGE && advice != MADV_NOHUGEPAGE)
        return CN_UPCALL;
    return done(t, cn_mm_madvise(cn_task_mm(t), t->regs.rdi, t->regs.rsi, advice));
}

enum cn_fast fast_brk(struct cn_task *t)
{
    return done(t, (i64)cn_mm_brk(cn_task_mm(t), t->regs.rdi));
}

/* Time */

static i64 now(clockid_t clock)
{
    struct timespec ts;

    clock_gettime(clock, &ts);
    return (i64)ts.tv_sec * NS + ts.tv_nsec;
}

/* The guest's struct timespec at addr in ns, at most INT64_MAX. 0: Python has to say what is wrong
 * with it. */
static int timespec_at(struct cn_task *t, u64 addr, i64 *ns)
{
    i64 ts[2];

    if (cn_mm_copy_in(cn_task_mm(t), addr, ts, sizeof(ts)) < 0 || ts[0] < 0 || ts[1] < 0 ||
        ts[1] >= NS)
        return 0;
    if (__builtin_mul_overflow(ts[0], NS, ns) || __builtin_add_overflow(*ns, ts[1], ns))
        *ns = INT64_MAX;
    return 1;
}

static i64 later(i64 ns)
{
    i64 at;

    return __builtin_add_overflow(now(CLOCK_MONOTONIC), ns, &at) ? INT64_MAX : at;
}

enum cn_fast fast_clock_gettime(struct cn_task *t)
{
    clockid_t clock = (clockid_t)t->regs.rdi;
    struct timespec ts;

    switch (clock) {
    case CLOCK_REALTIME:
    case CLOCK_MONOTONIC:
    case CLOCK_MONOTONIC_RAW:
    case CLOCK_REALTIME_COARSE:
    case CLOCK_MONOTONIC_COARSE:
    case CLOCK_BOOTTIME:
    case CLOCK_TAI:
        break;
    default:
        return CN_UPCALL;
    }
    if (clock_gettime(clock, &ts) < 0 ||
        cn_mm_copy_out(cn_task_mm(t), t->regs.rsi, &ts, sizeof(ts)) < 0)
        return CN_UPCALL;
    return done(t, 0);
}

enum cn_fast fast_gettimeofday(struct cn_task *t)
{
    struct timeval tv;

    if (!t->regs.rdi || t->regs.rsi)
        return CN_UPCALL;
    gettimeofday(&tv, NULL);
    if (cn_mm_copy_out(cn_task_mm(t), t->regs.rdi, &tv, sizeof(tv)) < 0)
        return CN_UPCALL;
    return done(t, 0);
}

static enum cn_fast interrupted(struct cn_task *t, i64 deadline)
{
    t->waited = 1;
    t->wait_deadline = deadline;
    return CN_UPCALL;
}

static enum cn_fast sleep_until(struct cn_task *t, i64 deadline)
{
    while (now(CLOCK_MONOTONIC) < deadline)
        if (task_sleep(t, deadline) == CN_INTERRUPTED)
            return interrupted(t, deadline);
    return done(t, 0);
}

enum cn_fast fast_nanosleep(struct cn_task *t)
{
    i64 ns;

    return timespec_at(t, t->regs.rdi, &ns) ? sleep_until(t, later(ns)) : CN_UPCALL;
}

enum cn_fast fast_clock_nanosleep(struct cn_task *t)
{
    clockid_t clock = (clockid_t)t->regs.rdi;
    u32 flags = (u32)t->regs.rsi;
    i64 ns;

    if ((clock != CLOCK_MONOTONIC && (clock != CLOCK_REALTIME || flags & TIMER_ABSTIME)) ||
        !timespec_at(t, t->regs.rdx, &ns))
        return CN_UPCALL;
    return sleep_until(t, flags & TIMER_ABSTIME ? ns : later(ns));
}

enum cn_fast fast_sched_yield(struct cn_task *t)
{
    sched_yield(); /* the host thread stands for the guest thread */
    return done(t, 0);
}

/* Futexes */

static enum cn_fast futex_wait(struct cn_task *t, int shared, u32 bits, i64 deadline)
{
    struct cn_futex_waiter w;
    int rc = cn_futex_add(&w, t, t->regs.rdi, shared, (u32)t->regs.rdx, bits), event;

    if (rc < 0)
        return rc == -EAGAIN ? done(t, rc) : CN_UPCALL;
    for (;;) {
        event = task_sleep(t, deadline);
        if (__atomic_load_n(&w.woken, __ATOMIC_ACQUIRE))
            return done(t, 0);
        if (event == CN_WOKEN)
            continue;
        if (cn_futex_remove(&w))
            return done(t, 0);
        return event == CN_TIMEOUT ? done(t, -ETIMEDOUT) : interrupted(t, deadline);
    }
}

static enum cn_fast futex_requeue(struct cn_task *t, int shared, int check)
{
    const struct cn_regs *r = &t->regs;
    i32 wake = (i32)r->rdx, move = (i32)r->r10;
    i64 n;

    if (futex_elsewhere() || wake < 0 || move < 0)
        return CN_UPCALL;
    n = cn_futex_requeue(cn_task_mm(t), r->rdi, shared, r->r8, shared, wake, move, check,
                         (u32)r->r9);
    if (n < 0 && n != -EAGAIN)
        return CN_UPCALL;
    return done(t, n < 0 ? n : (n >> 32) + (n & UINT32_MAX));
}

enum cn_fast fast_futex(struct cn_task *t)
{
    const struct cn_regs *r = &t->regs;
    u32 op = (u32)r->rsi, bits = FUTEX_BITSET_MATCH_ANY;
    int shared = !(op & FUTEX_PRIVATE_FLAG), count = (i32)r->rdx;
    i64 n, ns, deadline = FOREVER;

    switch (op & ~(u32)FUTEX_PRIVATE_FLAG) { /* on CLOCK_REALTIME: Python */
    case FUTEX_WAIT_BITSET:
        bits = (u32)r->r9;
        /* fall through */
    case FUTEX_WAIT:
        if (!bits || (r->r10 && !timespec_at(t, r->r10, &ns)))
            return CN_UPCALL;
        if (r->r10)
            deadline = (op & FUTEX_CMD_MASK) == FUTEX_WAIT ? later(ns) : ns;
        return futex_wait(t, shared, bits, deadline);
    case FUTEX_WAKE_BITSET:
        bits = (u32)r->r9;
        /* fall through */
    case FUTEX_WAKE:
        if (!bits || futex_elsewhere())
            return CN_UPCALL;
        n = cn_futex_wake_at(cn_task_mm(t), r->rdi, shared, count > 1 ? count : 1, bits);
        return n < 0 ? CN_UPCALL : done(t, n);
    case FUTEX_REQUEUE:
        return futex_requeue(t, shared, 0);
    case FUTEX_CMP_REQUEUE:
        return futex_requeue(t, shared, 1);
    }
    return CN_UPCALL;
}

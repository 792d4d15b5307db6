/*
 * Waiting for each other, and on which core.
 *
 * Together: stub and host thread are pinned to one core (run/place.h), nobody spins, each hand-over
 * is a futex wake and a sleep. That costs two context switches and suits all guests that compute, or
 * whose calls block, or that are many. Apart: the stub is on another core and both spin, which is
 * several times faster, and leaves each its caches, as long as each has its core and the other side
 * answers soon. So a pair is put apart when its task is the only one that runs and makes one short
 * stretch of guest code and one short call after the other. It is brought together again when a call
 * blocks, and, for longer each time, when spinning is in vain (the core is not ours alone) or the
 * mappings change all the time.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/futex.h>
#include <signal.h>
#include <sys/wait.h>
#include <time.h>

#include "../run/place.h"
#include "systrap.h"

#define SPIN 400000U /* TSC cycles, 100 to 200 us: an idle core needs 30 to 60 to wake up */
#define DENSE_ENOUGH 64 /* short stretches in a row before trying apart */
#define MISS 8  /* a sleep weighs as many spins that were not in vain */
#define FLUSH 4 /* ... and a change of mappings, for which the other core is interrupted */
#define MISSES_MAX 256
#define PATIENCE_MIN (1UL << 21)  /* about 1 ms */
#define PATIENCE_MAX (1UL << 31)  /* about 1 s */
#define HITS_GOOD 2000            /* so many hits: being apart was right */
#define LIFE_CHECK_NS 1000000000L /* between looks at a guest that computes: is it alive? */

static u64 tsc(void)
{
    return __builtin_ia32_rdtsc();
}

static u64 base_tsc, base_ns;

static u64 monotonic(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (u64)ts.tv_sec * 1000000000 + (u64)ts.tv_nsec;
}

void handover_start(void)
{
    base_tsc = tsc();
    base_ns = monotonic();
}

u64 handover_ns(u64 cycles)
{
    u64 passed = tsc() - base_tsc;

    return passed ? (u64)((unsigned __int128)cycles * (monotonic() - base_ns) / passed) : 0;
}

static void pin(struct cn_ctx *c, int cpu)
{
    if (CN_LIKELY(cpu == c->cpu))
        return;
    cn_place_pin(c->pid, cpu);
    c->cpu = cpu;
}

static void together(struct cn_ctx *c)
{
    c->apart = 0;
    c->dense = 0;
    if (c->hits > HITS_GOOD || !c->patience)
        c->patience = PATIENCE_MIN;
    else if (c->patience < PATIENCE_MAX)
        c->patience *= 2;
    c->together_until = tsc() + c->patience;
}

void handover_place(struct cn_ctx *c)
{
    int home = cn_place_cpu(), other;
    u32 blocks = cn_place_blocks();

    if (blocks != c->blocks) {
        c->blocks = blocks;
        c->apart = 0;
        c->dense = 0;
    }
    if (c->apart) {
        if (c->misses > MISSES_MAX || cn_place_running() > 1)
            together(c);
        else if (CN_UNLIKELY(home == c->cpu)) /* the host thread was moved */
            pin(c, cn_place_other(home));
    } else if (c->dense >= DENSE_ENOUGH && cn_place_running() == 1 && tsc() > c->together_until &&
               (other = cn_place_other(home)) >= 0) {
        c->apart = 1;
        c->misses = 0;
        c->hits = 0;
        pin(c, other);
        cn_place_self->companion = 0;
    }
    if (!c->apart && CN_UNLIKELY(home != c->cpu)) {
        pin(c, home);
        if (cn_place_self)
            cn_place_self->companion = c->pid;
    }
}

void handover_flushes(struct cn_ctx *c)
{
    c->dense /= 2;
    if (c->apart)
        c->misses += FLUSH;
}

void handover_give(struct cn_ctx *c)
{
    volatile struct stub_ctx *a = c->area;
    u32 spin = c->apart ? SPIN : 0;
    u64 now = tsc();

    if (c->told_spin) /* so it has spun since it stopped */
        c->stub_spun += now - c->left < SPIN ? now - c->left : SPIN;
    if (c->told_spin != spin)
        a->spin = c->told_spin = spin;
    __atomic_exchange_n(&a->turn, STUB_RUNS, __ATOMIC_SEQ_CST);
    if (!c->apart && now - c->left > SPIN)
        c->dense /= 2;
    c->entered = now;
    if (__atomic_load_n(&a->stub_sleeps, __ATOMIC_RELAXED)) {
        if (c->apart)
            c->misses += MISS;
        stub_futex(&a->turn, FUTEX_WAKE, 1, -1);
    }
}

static int is_dead(struct cn_ctx *c)
{
    siginfo_t si = {0};

    return waitid(P_PID, (id_t)c->pid, &si, WEXITED | WNOHANG | WNOWAIT | __WALL) < 0 ||
           si.si_pid == c->pid;
}

static int spin(struct cn_ctx *c)
{
    volatile struct stub_ctx *a = c->area;

    do {
        for (int i = 0; i < 8; i++) {
            if (__atomic_load_n(&a->turn, __ATOMIC_ACQUIRE) != STUB_RUNS) {
                c->hits++;
                if (c->misses)
                    c->misses--;
                return 1;
            }
            __builtin_ia32_pause();
        }
    } while (tsc() - c->entered < SPIN);
    c->misses += MISS;
    return 0;
}

int handover_wait_briefly(struct cn_ctx *c, i64 ns)
{
    volatile struct stub_ctx *a = c->area;

    if (!c->apart || !spin(c)) {
        __atomic_store_n(&a->sentry_sleeps, 1, __ATOMIC_SEQ_CST);
        if (__atomic_load_n(&a->turn, __ATOMIC_SEQ_CST) == STUB_RUNS)
            stub_futex(&a->turn, FUTEX_WAIT, STUB_RUNS, ns);
        __atomic_store_n(&a->sentry_sleeps, 0, __ATOMIC_RELAXED);
    }
    return __atomic_load_n(&a->turn, __ATOMIC_ACQUIRE) == STUB_STOPPED ? 0 : -EAGAIN;
}

int handover_wait(struct cn_ctx *c)
{
    volatile struct stub_ctx *a = c->area;

    if (!c->apart || !spin(c)) {
        __atomic_store_n(&a->sentry_sleeps, 1, __ATOMIC_SEQ_CST);
        while (__atomic_load_n(&a->turn, __ATOMIC_SEQ_CST) == STUB_RUNS)
            if (stub_futex(&a->turn, FUTEX_WAIT, STUB_RUNS, LIFE_CHECK_NS) == -ETIMEDOUT &&
                is_dead(c))
                return -ESRCH;
        __atomic_store_n(&a->sentry_sleeps, 0, __ATOMIC_RELAXED);
        c->left = tsc();
        if (!c->apart && c->left - c->entered < SPIN)
            c->dense++;
        else
            c->dense /= 2;
    } else {
        c->left = tsc();
    }
    if (c->apart)
        c->host_spun += c->left - c->entered < SPIN ? c->left - c->entered : SPIN;
    return __atomic_load_n(&a->turn, __ATOMIC_ACQUIRE) == STUB_STOPPED ? 0 : -ESRCH;
}

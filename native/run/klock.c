/*
 * The kernel lock K: a futex mutex that spins a little first and hands over directly to a waiter
 * that starves.
 *
 * word: 0 free, 1 held, 2 held and somebody may sleep. Who has slept for STARVED_NS counts itself
 * in `starving`; the next unlock then leaves the word held and puts a grant down for it, so that a
 * thread that locks in a loop can't win for ever.
 */
#define _GNU_SOURCE
#include "klock.h"

#include <errno.h>
#include <linux/futex.h>
#include <stdatomic.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "place.h"
#include "run.h"

#define SPINS 2000 /* about 20 us: less than the sleeping wake-up it may save */
#define STARVED_NS 1000000L
#define PATIENT_NS 1000000000L

static struct {
    _Atomic u32 word;
    _Atomic u32 starving;
    _Atomic u32 grant;
    _Atomic int owner_cpu; /* -1 unknown */
} k;
static _Thread_local int held;

int cn_futex_wait(void *word, u32 value, const struct timespec *deadline)
{
    long rc = syscall(SYS_futex, word, FUTEX_WAIT_BITSET_PRIVATE, value, deadline, NULL,
                      FUTEX_BITSET_MATCH_ANY);
    return rc < 0 ? -errno : 0;
}

void cn_futex_wake(void *word, int n)
{
    syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, n, NULL, NULL, 0);
}

static int try_lock(void)
{
    u32 free = 0;
    return atomic_compare_exchange_strong_explicit(&k.word, &free, 1, memory_order_acquire,
                                                   memory_order_relaxed);
}

/* Spinning is of no use when the owner waits for the core we spin on. */
static int spin(void)
{
    int cpu = cn_place_cpu();

    for (int i = 0; i < SPINS; i++) {
        if (cpu >= 0 && atomic_load_explicit(&k.owner_cpu, memory_order_relaxed) == cpu)
            return 0;
        if (atomic_load_explicit(&k.word, memory_order_relaxed) == 0 && try_lock())
            return 1;
        __builtin_ia32_pause();
    }
    return 0;
}

static struct timespec from_now(i64 ns)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    ns += t.tv_nsec;
    t.tv_sec += ns / 1000000000;
    t.tv_nsec = ns % 1000000000;
    return t;
}

static void sleep_for_it(void)
{
    struct timespec deadline = from_now(STARVED_NS);
    i64 patience = STARVED_NS;
    u32 one = 1;

    for (;;) {
        if (atomic_exchange(&k.word, 2) == 0)
            return;
        if (cn_futex_wait(&k.word, 2, &deadline) == -ETIMEDOUT)
            break;
    }
    atomic_fetch_add(&k.starving, 1);
    for (;;) {
        one = 1;
        if (atomic_compare_exchange_strong(&k.grant, &one, 0))
            break; /* the word was left held for us */
        if (atomic_exchange(&k.word, 2) == 0)
            break;
        /* An unlock that came before `starving` rose wakes a sleeper on the word, later ones wake
         * the grant. Looking again after STARVED_NS covers the gap between the two; it can't come
         * back, so that a crowd of the starving need not keep the cores busy with looking. */
        deadline = from_now(patience);
        patience = patience < PATIENT_NS / 2 ? patience * 2 : PATIENT_NS;
        cn_futex_wait(&k.grant, 0, &deadline);
    }
    atomic_fetch_sub(&k.starving, 1);
}

void cn_klock(void)
{
    if (CN_UNLIKELY(!try_lock()) && !spin())
        sleep_for_it();
    atomic_store_explicit(&k.owner_cpu, cn_place_cpu(), memory_order_relaxed);
    held = 1;
}

void cn_kunlock(void)
{
    held = 0;
    atomic_store_explicit(&k.owner_cpu, -1, memory_order_relaxed);
    if (CN_UNLIKELY(atomic_load(&k.starving))) {
        atomic_store(&k.grant, 1);
        cn_futex_wake(&k.grant, 1);
        return;
    }
    if (atomic_exchange_explicit(&k.word, 0, memory_order_release) == 2)
        cn_futex_wake(&k.word, 1);
}

int cn_kheld(void)
{
    return held;
}

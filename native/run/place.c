/* Placement of host threads on cores. See place.h. */
#define _GNU_SOURCE
#include "place.h"

#include <errno.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "run.h"

#define TICK_NS 4000000L
#define QUIET_TICKS 25 /* the balancer sleeps after so many with nothing to balance */

_Thread_local struct cn_place *cn_place_self;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct cn_place *places;
static cpu_set_t allowed;
static int ncpu, apart = 1;
static pthread_t balancer;
static int have_balancer;
static _Atomic u32 nrunning;
/* The balancer's futex. ASLEEP is set by itself only, so a waker's exchange finds it or it sees the
 * waker's count. */
enum { AWAKE = 0, ASLEEP = 1, STOPPING = 2 };
static _Atomic u32 balancer_state;

void cn_place_pin(pid_t tid, int cpu)
{
    cpu_set_t set;

    if (cpu < 0) {
        set = allowed;
    } else {
        CPU_ZERO(&set);
        CPU_SET(cpu, &set);
    }
    sched_setaffinity(tid, sizeof(set), &set);
}

int cn_place_now(void)
{
    int cpu = sched_getcpu();

    return cpu < 0 ? 0 : cpu;
}

void cn_place_apart(int on)
{
    apart = on;
}

u32 cn_place_running(void)
{
    return atomic_load_explicit(&nrunning, memory_order_relaxed);
}

int cn_place_other(int cpu)
{
    if (cpu < 0 || ncpu < 2 || !apart)
        return -1;
    for (int i = 1; i < CPU_SETSIZE; i++)
        if (CPU_ISSET((cpu + i) % CPU_SETSIZE, &allowed))
            return (cpu + i) % CPU_SETSIZE;
    return -1;
}

void cn_thread_unpin(void)
{
    if (ncpu > 1)
        sched_setaffinity(0, sizeof(allowed), &allowed);
}

/* One tick: what ran on each core since the last one, and one hog moved if that helps. lock held.
 */
static void balance(void)
{
    u8 active[CPU_SETSIZE] = {0};
    struct cn_place *p;

    for (p = places; p; p = p->next) {
        u32 blocks = atomic_load(&p->blocks);
        int hog = atomic_load(&p->running) && blocks == p->seen_blocks;
        if ((hog || blocks != p->seen_blocks) && active[p->cpu] < 2)
            active[p->cpu]++;
        p->seen_blocks = blocks;
        atomic_store(&p->hog, (u32)hog);
    }
    for (p = places; p; p = p->next) {
        if (!p->hog || active[p->cpu] < 2)
            continue;
        for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
            if (!CPU_ISSET(cpu, &allowed) || active[cpu])
                continue;
            atomic_store(&p->cpu, cpu);
            cn_place_pin(p->tid, cpu);
            if (p->companion)
                cn_place_pin(p->companion, cpu);
            return;
        }
    }
}

static void *balancer_main(void *arg)
{
    const struct timespec tick = {0, TICK_NS};
    int quiet = 0;

    (void)arg;
    cn_thread_unpin();
    while (atomic_load(&balancer_state) != STOPPING) {
        if (quiet >= QUIET_TICKS) {
            u32 awake = AWAKE;
            quiet = 0;
            if (!atomic_compare_exchange_strong(&balancer_state, &awake, ASLEEP))
                break;
            if (atomic_load(&nrunning) < 2)
                syscall(SYS_futex, &balancer_state, FUTEX_WAIT_PRIVATE, ASLEEP, NULL, NULL, 0);
            awake = ASLEEP;
            atomic_compare_exchange_strong(&balancer_state, &awake, AWAKE);
            continue;
        }
        clock_nanosleep(CLOCK_MONOTONIC, 0, &tick, NULL);
        quiet = atomic_load(&nrunning) < 2 ? quiet + 1 : 0;
        pthread_mutex_lock(&lock);
        balance();
        pthread_mutex_unlock(&lock);
    }
    return NULL;
}

static void wake_balancer(u32 state)
{
    if (atomic_exchange(&balancer_state, state) == ASLEEP)
        syscall(SYS_futex, &balancer_state, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
}

int cn_place_start(void)
{
    if (sched_getaffinity(0, sizeof(allowed), &allowed) < 0)
        return -errno;
    ncpu = CPU_COUNT(&allowed);
    return 0;
}

/* With the second task, not before: the sentry drops capabilities thread by thread while it has
 * only one. lock held. */
static void start_balancer(void)
{
    sigset_t all, old;

    atomic_store(&balancer_state, AWAKE);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    have_balancer = pthread_create(&balancer, NULL, balancer_main, NULL) == 0;
    pthread_sigmask(SIG_SETMASK, &old, NULL);
}

void cn_place_stop(void)
{
    if (have_balancer) {
        wake_balancer(STOPPING);
        pthread_join(balancer, NULL);
        have_balancer = 0;
    }
    ncpu = 0;
}

static void now_running(struct cn_place *p)
{
    atomic_store(&p->running, 1);
    if (atomic_fetch_add(&nrunning, 1) >= 1 && atomic_load(&balancer_state) == ASLEEP)
        wake_balancer(AWAKE);
}

void cn_place_enter(void)
{
    struct cn_place *p;
    int cpu;

    if (ncpu < 2 || cn_place_self || !(p = calloc(1, sizeof(*p))))
        return; /* without memory it merely stays unpinned */
    p->tid = (pid_t)syscall(SYS_gettid);
    cpu = sched_getcpu(); /* a thread made by a pinned one starts on that one's core */
    p->cpu = cpu >= 0 && CPU_ISSET(cpu, &allowed) ? cpu : 0;
    pthread_mutex_lock(&lock);
    if (places && !have_balancer)
        start_balancer();
    cn_place_pin(p->tid, p->cpu);
    p->next = places;
    places = p;
    pthread_mutex_unlock(&lock);
    cn_place_self = p;
    now_running(p);
}

void cn_place_leave(void)
{
    struct cn_place *p = cn_place_self, **link;

    if (!p)
        return;
    if (atomic_load(&p->running))
        atomic_fetch_sub(&nrunning, 1);
    pthread_mutex_lock(&lock);
    for (link = &places; *link != p; link = &(*link)->next)
        ;
    *link = p->next;
    pthread_mutex_unlock(&lock);
    cn_place_self = NULL;
    free(p);
    cn_thread_unpin();
}

void cn_place_block(void)
{
    struct cn_place *p = cn_place_self;

    if (!p)
        return;
    atomic_fetch_add(&p->blocks, 1);
    atomic_store(&p->hog, 0);
    atomic_store(&p->running, 0);
    atomic_fetch_sub(&nrunning, 1);
}

void cn_place_unblock(void)
{
    if (cn_place_self)
        now_running(cn_place_self);
}

void cn_place_pull(struct cn_place *p)
{
    struct cn_place *self = cn_place_self;
    int cpu;

    if (!p || !self || p == self || atomic_load(&self->hog))
        return;
    cpu = atomic_load(&self->cpu);
    if (atomic_load(&p->cpu) == cpu)
        return;
    atomic_store(&p->cpu, cpu);
    cn_place_pin(p->tid, cpu);
}

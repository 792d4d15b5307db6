/*
 * Placement of host threads on cores. A platform whose contexts share their host thread's core
 * (ops.shares_core) wants that thread pinned: a wake-up across cores costs 5 to 10 times one on the
 * same core. This module says where, and moves threads so that busy ones don't share a core while
 * another core the process may use is idle.
 *
 * A thread that is woken moves to its waker's core (ping-pongs stay cheap) unless the waker is a
 * "hog": a thread that has not blocked for a whole tick of the balancer. The balancer (a thread,
 * asleep while at most one task runs) moves a hog away from a core it shares to one where nothing
 * ran.
 */
#ifndef CORDON_PLACE_H
#define CORDON_PLACE_H

#include <stdatomic.h>
#include <sys/types.h>

#include "../cordon.h"

struct cn_place {
    struct cn_place *next;
    pid_t tid;
    _Atomic int cpu;         /* where the thread is pinned */
    _Atomic pid_t companion; /* the stub thread that goes with it, 0 none */
    _Atomic u32 running;
    _Atomic u32 blocks;      /* times it blocked */
    u32 seen_blocks;         /* balancer: at its last tick */
    _Atomic u32 hog;
};

/* The calling thread's; NULL when it runs no task or placement is off (one core, or not wanted). */
extern _Thread_local struct cn_place *cn_place_self;

/* Learns the cores the process may use. The balancer starts with the second task. 0 or -errno. */
int cn_place_start(void);
void cn_place_stop(void);

/* The calling thread starts or ends running a task. */
void cn_place_enter(void);
void cn_place_leave(void);
/* The calling thread goes to sleep, was woken. */
void cn_place_block(void);
void cn_place_unblock(void);
/* The calling thread is about to wake p (NULL: nothing): draws it to the caller's core if that is
 * wise. */
void cn_place_pull(struct cn_place *p);

static inline int cn_place_cpu(void)
{
    struct cn_place *p = cn_place_self;
    return p ? atomic_load_explicit(&p->cpu, memory_order_relaxed) : -1;
}

/* How often the calling thread has blocked. */
static inline u32 cn_place_blocks(void)
{
    struct cn_place *p = cn_place_self;
    return p ? atomic_load_explicit(&p->blocks, memory_order_relaxed) : 0;
}

/* cdef begin */
/* May a guest run on another core than the host thread that answers it, and both spin (on = 1, the
 * default)? Not where a quota of CPU time counts that. Before the first guest runs. */
void cn_place_apart(int on);
/* The core that the calling thread runs on. */
int cn_place_now(void);
/* cdef end */

/* Tasks that run, in the guest or in the sentry, as of now. */
u32 cn_place_running(void);
/* An allowed core that is not `cpu`, -1 when there is none, or none is wanted, or `cpu` is -1. */
int cn_place_other(int cpu);

/* Pins another thread or process of ours (cpu -1: to all allowed cores); failures (it is gone, the
 * cpuset changed) change speed only. */
void cn_place_pin(pid_t tid, int cpu);

#endif

/*
 * Inside of the systrap platform: stub processes that trap by seccomp.
 *
 * Each address space is shared by a keeper, which makes its host calls, and contexts, which run guest
 * code (native/stub/image/systrap.S). Contexts hand over to the sentry through areas that the guest
 * can write to: nothing in them is believed (ctx.c), and nothing that protects others hangs on them.
 */
#ifndef CORDON_SYSTRAP_H
#define CORDON_SYSTRAP_H

#include <pthread.h>
#include <stdatomic.h>
#include <sys/types.h>

#include "../platform.h"
#include "../stub/queue.h"

/* The first context of a keeper in the mother's pool, made with it. */
struct birth {
    u32 area;
    int channel; /* its keeper says the pid there; -1: none was made */
};

struct cn_platform {
    struct cn_mother *mother;
    struct stub_files files;
    int area_fd;
    u8 *areas; /* the file of context areas */
    struct birth *births; /* by control slot */
    /* Locks, in this order; the mother's own comes after the first. */
    pthread_mutex_t grave_lock;
    struct cn_as *graves; /* address spaces whose processes were killed, not all waited for */
    pthread_mutex_t lock; /* all below */
    u32 nfree, next_slot; /* of areas: freed ones first, then never used ones */
    u32 *free_slots;
    pthread_cond_t channel_freed;
    int event[STUB_CHANNELS], number[STUB_CHANNELS]; /* our ends of the channels */
    int channels[STUB_CHANNELS];                     /* free ones */
    u32 nchannels;
    int can_patch; /* the processor has what patched call sites need */
    u64 clock; /* clock_gettime of the host's vDSO, where contexts see it; 0: none */
};

#define CTX_ASKED 16 /* calls before the keeper makes sure of them */

struct cn_as {
    struct cn_platform *p;
    struct cn_as *next; /* grave */
    pthread_mutex_t lock; /* all below */
    struct cn_ctx *ctxs;   /* every context ever made */
    pid_t keeper;          /* 0: none yet */
    int keeper_cpu;        /* core it is pinned to, -1 none */
    u32 ctrl_slot;
    struct cn_waiters *waiters; /* in its control pages, as soon as there is a keeper */
    int broken; /* -errno of a host mapping that failed: no guest code may run here any more */
    struct stub_queue queue; /* its count is peeked at without the lock */
    /* What the only context there is was asked to take away by itself: no proof that it did. */
    struct stub_op asked[CTX_ASKED];
    u32 nasked;
    _Atomic int unsure; /* it may have been stopped before it did */
};

enum ctx_state {
    CTX_SPARE, /* nobody's: its thread is gone, the process waits for another */
    CTX_NEW,   /* not switched yet */
    CTX_LIVE,
    CTX_DEAD
};

#define HOT_SITES 32
struct hot_site {
    u64 rip;
    u32 calls;
};

#define UNKNOWN_BASE ~0UL

struct cn_ctx {
    struct cn_as *as;
    struct cn_ctx *next;
    pid_t pid;
    u32 slot;
    volatile struct stub_ctx *area;
    u64 area_addr; /* in the stub */
    enum ctx_state state;
    _Atomic u32 in_guest, irq, kicked;
    int trapped; /* it stopped by a signal, not at a patched call */
    u32 xsave; /* offset in the area of the guest's extended state; 0: in the processor */
    struct hot_site hot[HOT_SITES]; /* by hash: where calls that trapped came from */
    u32 xrestore; /* what the stub was last told to load */
    int called;   /* the last stop was a patched call, with these registers (unless it was brief) */
    int brief;
    struct cn_regs call;
    int takes;    /* the stub is to make `take` of its area on its way to the guest */
    u64 fs_base, gs_base; /* what the stub has loaded, or UNKNOWN_BASE */
    u64 cpu_base;
    /* handover.c */
    int cpu;              /* core the stub is pinned to, -1 none */
    int apart;            /* it runs on another core than its host thread, and both sides spin */
    u32 blocks;           /* of its host thread, when it was last placed */
    int dense;            /* how short its last stretches of guest code were */
    int misses;           /* spinning in vain, of late */
    u32 hits;             /* ... and not, since they were put apart */
    u32 told_spin;        /* what the stub was told the last time */
    u64 stub_spun, host_spun; /* TSC cycles, since it was made */
    u64 entered, left;    /* TSC of the last hand-over to the stub, and of its last stop */
    u64 together_until;   /* TSC before which they stay on one core */
    u64 patience;         /* how long the next time, in TSC cycles */
};

long stub_futex(volatile void *word, int op, u32 value, i64 timeout_ns);

/* as.c */

/* Puts the queue in force. 0 or -errno. */
int space_flush(struct cn_as *as);
/* 1: c's stub is about to be asked for all that the queue held. */
int space_ask(struct cn_ctx *c);
/* Waits for dead processes of freed address spaces; flags: WNOHANG or 0. grave_lock held. */
void space_reap(struct cn_platform *p, int flags);
/* A context with a process and no thread. as->lock held. 0 or -errno. */
int space_context(struct cn_as *as, struct cn_ctx **out);

int systrap_as_new(struct cn_platform *p, struct cn_as **out);
void systrap_as_free(struct cn_as *as);
int systrap_as_queue(struct cn_as *as, const struct cn_hostop *op);
int systrap_as_sync(struct cn_as *as);
struct cn_waiters *systrap_as_waiters(struct cn_as *as);

/* Kills and waits for the first contexts of keepers nobody took. */
void space_end_births(struct cn_platform *p);

/* pools.c: areas and channels */
int area_get(struct cn_platform *p, u32 *slot); /* one for a context to start with, or -EAGAIN */
void area_put(struct cn_platform *p, u32 slot);
static inline u64 area_addr(u32 slot)
{
    return STUB_AREA + (u64)slot * STUB_AREA_SIZE;
}

/* A channel; -1 when there is none and one should not wait. */
int channel_get(struct cn_platform *p, int wait);
void channel_put(struct cn_platform *p, int channel);
/* The calls that map an area and make a context on it. */
#define BIRTH_OPS 3
void birth_ops(struct stub_op op[BIRTH_OPS], u32 area);
/* Of cn_mother_extra. */
void birth_prepare(void *p, u32 slot, struct stub_ctrl *ctrl);

/* handover.c: where a stub runs and how it and its host thread wait for each other. */

/* Before a hand-over to the stub. */
void handover_place(struct cn_ctx *c);
/* The next one comes with changed mappings. */
void handover_flushes(struct cn_ctx *c);
/* TSC cycles in ns; start: before the first. */
void handover_start(void);
u64 handover_ns(u64 cycles);
/* Gives the turn to the stub. */
void handover_give(struct cn_ctx *c);
/* Until the turn is the sentry's again: 0, or -ESRCH when the process is gone. */
int handover_wait(struct cn_ctx *c);
/* ... or some time has passed: -EAGAIN. */
int handover_wait_briefly(struct cn_ctx *c, i64 ns);

/* stop.c: what a stop of the stub means, from a copy of what it left in its area. */

/* 1: *regs and *stop say. 0: go on as if nothing had been. -1: nonsense, which a sound stub never
 * leaves. */
int stop_read(struct cn_ctx *c, struct cn_regs *regs, struct cn_stop *stop);
/* The rest of a brief one. */
void stop_read_rest(struct cn_ctx *c, struct cn_regs *regs);

/* ctx.c */
int systrap_ctx_new(struct cn_as *as, struct cn_ctx **out);
void systrap_ctx_free(struct cn_ctx *c);
int systrap_ctx_switch(struct cn_ctx *c, struct cn_regs *regs, struct cn_stop *stop);
void systrap_ctx_regs(struct cn_ctx *c, struct cn_regs *regs);
void systrap_ctx_interrupt(struct cn_ctx *c);
void systrap_ctx_answer(struct cn_ctx *c, u32 nr, int known, u32 value);
void systrap_ctx_devices(struct cn_ctx *c, u64 nulls, u64 zeros);
int systrap_ctx_get_xstate(struct cn_ctx *c, void *buf, u32 len);
int systrap_ctx_set_xstate(struct cn_ctx *c, const void *buf, u32 len);
u64 systrap_ctx_cpu_ns(struct cn_ctx *c);
u64 systrap_ctx_waited_ns(struct cn_ctx *c);

#endif

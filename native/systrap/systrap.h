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

struct cn_platform {
    struct cn_mother *mother;
    struct stub_files files;
    int area_fd;
    u8 *areas; /* the file of context areas */
    pthread_mutex_t lock; /* all below */
    u32 nfree, next_slot; /* of areas: freed ones first, then never used ones */
    u32 *free_slots;
    struct cn_as *graves; /* address spaces whose processes were killed, not all waited for */
    pthread_mutex_t clone_lock; /* the position of the control file */
};

struct cn_as {
    struct cn_platform *p;
    struct cn_as *next; /* grave */
    pthread_mutex_t lock; /* all below */
    struct cn_ctx *ctxs;   /* every context ever made */
    pid_t keeper;          /* 0: none yet */
    u32 ctrl_slot;
    int broken; /* -errno of a host mapping that failed: no guest code may run here any more */
    struct stub_queue queue; /* its count is peeked at without the lock */
};

enum ctx_state {
    CTX_SPARE, /* nobody's: its thread is gone, the process waits for another */
    CTX_NEW,   /* not switched yet */
    CTX_LIVE,
    CTX_DEAD
};

struct cn_ctx {
    struct cn_as *as;
    struct cn_ctx *next;
    pid_t pid;
    u32 slot;
    volatile struct stub_ctx *area;
    u64 area_addr; /* in the stub */
    enum ctx_state state;
    _Atomic u32 in_guest, irq, kicked;
    u32 xsave; /* offset in the area of the guest's extended state */
    u64 fs_base, gs_base; /* what the stub has loaded */
    u64 cpu_base;
};

long stub_futex(volatile void *word, int op, u32 value, i64 timeout_ns);

/* as.c */

/* Puts the queue in force. 0 or -errno. */
int space_flush(struct cn_as *as);
/* Waits for dead processes of freed address spaces; flags: WNOHANG or 0. p->lock held. */
void space_reap(struct cn_platform *p, int flags);
/* Makes a context's process: fills in pid. as->lock held. */
int space_clone(struct cn_as *as, struct cn_ctx *c);

int systrap_as_new(struct cn_platform *p, struct cn_as **out);
void systrap_as_free(struct cn_as *as);
int systrap_as_queue(struct cn_as *as, const struct cn_hostop *op);
int systrap_as_sync(struct cn_as *as);

/* area.c */
int area_get(struct cn_platform *p, u32 *slot); /* a zeroed area */
void area_put(struct cn_platform *p, u32 slot); /* p->lock held */

/* stop.c: what a stop of the stub means, from a copy of what it left in its area. */

/* 1: *regs and *stop say. 0: go on as if nothing had been. -1: nonsense, which a sound stub never
 * leaves. */
int stop_read(struct cn_ctx *c, struct cn_regs *regs, struct cn_stop *stop);

/* ctx.c */
int systrap_ctx_new(struct cn_as *as, struct cn_ctx **out);
void systrap_ctx_free(struct cn_ctx *c);
int systrap_ctx_switch(struct cn_ctx *c, struct cn_regs *regs, struct cn_stop *stop);
void systrap_ctx_interrupt(struct cn_ctx *c);
int systrap_ctx_get_xstate(struct cn_ctx *c, void *buf, u32 len);
int systrap_ctx_set_xstate(struct cn_ctx *c, const void *buf, u32 len);
u64 systrap_ctx_cpu_ns(struct cn_ctx *c);

#endif

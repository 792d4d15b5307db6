/* Inside of the ptrace platform: address spaces and contexts over traced stubs. */
#ifndef CORDON_PTRACE_H
#define CORDON_PTRACE_H

#include <pthread.h>
#include <stdatomic.h>
#include <sys/types.h>

#include "../platform.h"
#include "../stub/queue.h"

struct cn_platform {
    struct cn_mother *mother;
    struct stub_files files;
};

struct cn_as {
    struct cn_platform *p;
    pthread_mutex_t lock;      /* all below */
    struct cn_ctx *ctxs;
    pid_t spare;               /* parked stub nobody owns, 0 if none */
    int has_slot;
    u32 slot;
    int broken; /* -errno of a host mapping that failed: no guest code may run here any more */
    struct stub_queue queue; /* its count is peeked at without the lock */
    _Atomic u32 flushes; /* times the queue was put in force; a futex for as_sync */
    _Atomic u32 sync_waiters;
};

enum ctx_state { CTX_NEW, CTX_LIVE, CTX_DEAD };

struct cn_ctx {
    struct cn_as *as;
    struct cn_ctx *next;
    _Atomic pid_t pid; /* 0: takes a stub at its first switch */
    _Atomic pid_t owner; /* host thread id of the tracer; 0 before the first switch */
    enum ctx_state state;
    _Atomic u32 in_guest;
    _Atomic u32 irq;
    int cpu; /* core the stub is pinned to, -1 none */
    void *xstate; /* set before the first switch */
    u32 cloned; /* stub made by cloning a running one: its xstate is not the initial one */
    /* The last fault, to tell reads from writes (see fault_access). */
    int fault_level; /* -1: the last stop was no fault */
    u64 fault_addr, fault_rip;
    u32 resume_flushes;
};

/* Wait status of a system call stop, shifted. */
#define STOP_SYSCALL (SIGTRAP | 0x80)

/* trace.c: one stub thread and its tracer. 0 or -errno; -ESRCH: it died. */

/* Attaches to a parked stub and leaves it stopped. */
int trace_seize(pid_t pid);
/* Runs the stub's own code from `entry` to its int3. */
int trace_call(pid_t pid, u64 entry, u64 r12, u64 r13);
/* Detaches; it sleeps in its park loop then. */
int trace_detach_parked(pid_t pid);
/* The next stop. */
int trace_wait(pid_t pid, int *status);
/* A new parked thread in this stub's address space: its pid. */
long trace_clone(pid_t pid);

/* as.c */

/* Puts the queue in force. By the tracer of a stopped stub; takes as->lock. */
int as_flush(struct cn_as *as, pid_t traced);
/* The spare stub, or one from the mother. as->lock held. */
int as_get_stub(struct cn_as *as, pid_t *pid);
/* A context is no longer in the guest. */
void as_left_guest(struct cn_as *as);

/* as_* operations of the contract */
int ptrace_as_new(struct cn_platform *p, struct cn_as **out);
void ptrace_as_free(struct cn_as *as);
int ptrace_as_queue(struct cn_as *as, const struct cn_hostop *op);
int ptrace_as_sync(struct cn_as *as);

/* ctx_* operations of the contract */
int ptrace_ctx_new(struct cn_as *as, struct cn_ctx **out);
void ptrace_ctx_free(struct cn_ctx *c);
int ptrace_ctx_switch(struct cn_ctx *c, struct cn_regs *regs, struct cn_stop *stop);
void ptrace_ctx_interrupt(struct cn_ctx *c);
int ptrace_ctx_get_xstate(struct cn_ctx *c, void *buf, u32 len);
int ptrace_ctx_set_xstate(struct cn_ctx *c, const void *buf, u32 len);
u64 ptrace_ctx_cpu_ns(struct cn_ctx *c);

/* The caller's host thread id, cached. */
pid_t cn_gettid(void);

#endif

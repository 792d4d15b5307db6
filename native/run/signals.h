/*
 * Signals as far as C deals with them: actions, masks, frames, and what a thread does to itself.
 *
 * Python owns the queues and says who gets a signal (sentry/kernel/signals.py); here lie the words
 * that both look at. A thread changes its mask and actions without K. Whoever queues a signal (with
 * K) first makes it pending and then looks at masks; a thread that changes its mask first does so
 * and then looks at what is pending: so none is lost. All other words change with K held only.
 */
#ifndef CORDON_SIGNALS_H
#define CORDON_SIGNALS_H

#include "run.h"

/* cdef begin */
enum { CN_NSIG = 64, CN_SIGINFO_SIZE = 128 };

/* struct sigaction of rt_sigaction(2). */
struct cn_sigaction {
    uint64_t handler, flags, restorer, mask;
};

/* The actions of a process, index n for signal n; CLONE_SIGHAND shares them. Zeroed: all defaults. */
struct cn_sighand {
    struct cn_sigaction action[65];
    uint32_t lock; /* for what must be seen whole */
};

/* A thread's own (cn_task.signals). pending and shared_pending are the sets of Python's queues. */
struct cn_sigtask {
    uint64_t blocked; /* bit n-1 for signal n */
    const uint64_t *pending, *shared_pending;
    struct cn_sighand *actions;
    uint64_t limit; /* soft RLIMIT_SIGPENDING of its process */
    uint64_t stack, stack_size; /* alternate stack; size 0: none */
    uint32_t stack_flags;       /* SS_* */
    uint32_t pad;
    uint64_t fault_addr, fault_trapno, fault_err; /* of the last fault, for the sigcontext */
};

void cn_sighand_get(struct cn_sighand *h, int sig, struct cn_sigaction *out);
void cn_sighand_copy(struct cn_sighand *to, struct cn_sighand *from);
/* One signal, or all but those that are ignored (exec, CLONE_CLEAR_SIGHAND), gets its default. */
void cn_sighand_reset(struct cn_sighand *h, int sig);
void cn_sighand_reset_handled(struct cn_sighand *h);
/* A set of pending signals is this from now on, for everyone who looks at it after. */
void cn_pending_set(uint64_t *set, uint64_t value);
/* n more signals are queued, in all queues together. */
void cn_signals_queued(int n);

/* System calls, by the task's own host thread: the result or -errno. A mask that lets a pending
 * signal through interrupts the task. rt_sigaction without K (locked 0) refuses to let a signal be
 * ignored, with CN_SIGNAL_IGNORED; who has K drops what is pending of it. rt_sigreturn has no
 * result: 0, or -errno when there is no such frame. */
enum { CN_SIGNAL_IGNORED = 1 };
int cn_rt_sigaction(struct cn_task *t, int sig, uint64_t act, uint64_t old, uint64_t size,
                    int locked);
int cn_rt_sigprocmask(struct cn_task *t, int how, uint64_t set, uint64_t old, uint64_t size);
int cn_sigaltstack(struct cn_task *t, uint64_t ss, uint64_t old);
int cn_rt_sigreturn(struct cn_task *t);

/* Enters the handler of an action: writes the frame, sets registers and mask. info: siginfo_t.
 * saved: the mask that rt_sigreturn puts back. -errno when the stack can't take it; nothing has
 * changed then. */
int cn_signal_enter(struct cn_task *t, int sig, const struct cn_sigaction *action,
                    const uint8_t *info, uint64_t saved);
/* AT_MINSIGSTKSZ: the greatest frame. */
uint32_t cn_signal_frame_max(void);
/* cdef end */

/* The task stopped by a fault or exception (t->stop). 1: it is in its handler now. 0: Python's. */
int signal_fault(struct cn_task *t);
/* Blocks exactly these signals; a pending one that is not blocked interrupts the task. */
void signal_block(struct cn_task *t, u64 set);
/* sigaltstack(2) of a task whose stack pointer is sp: 0 or -errno. */
int signal_set_stack(struct cn_sigtask *s, u64 sp, u64 base, u32 flags, u64 size);
/* SS_ONSTACK or 0. */
u32 signal_on_stack(const struct cn_sigtask *s, u64 sp);

#endif

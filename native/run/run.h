/*
 * The run loop: guest tasks, the kernel lock K, blocking.
 *
 * One host thread runs one cn_task. Whatever touches a cn_task from another thread (wake,
 * interrupt, cpu time) does so with K held. Python sees the structure's public fields and may read
 * and write regs while the task is stopped.
 */
#ifndef CORDON_RUN_H
#define CORDON_RUN_H

#include "../platform.h"

/* cdef begin */
struct cn_mm;
struct cn_fdt;
struct cn_fs;
struct cn_ask;
struct cn_sigtask;
struct cn_task_priv;

/* Who a task is, as its own process sees it: what getpid(2) and kin answer. Kept by Python. */
struct cn_ids {
    int32_t pid, tid, ppid;
    uint32_t uid, euid, gid, egid;
    uint32_t known; /* 0: nothing of this is right, Python must answer */
};

struct cn_task {
    struct cn_regs regs;
    struct cn_stop stop;
    uint32_t slow; /* 1: no native fast path for this task (guest seccomp, guest ptrace, strace of
                      one task) */
    uint32_t asleep; /* 1: sleeps in a call that C answers (to others: a hint, as it may end) */
    uint32_t waited; /* 1: the call that Python gets has slept already, till wait_deadline (as for
                        cn_task_block) at most, and was interrupted */
    uint32_t pad;
    uint64_t args[6]; /* of the call that cn_task_go returned for */
    int64_t wait_deadline;
    uint64_t sleeps; /* times that it slept in C */
    struct cn_ids ids;
    uint64_t fsize; /* soft RLIMIT_FSIZE of its process */
    uint64_t nofile; /* soft RLIMIT_NOFILE of its process */
    struct cn_fdt *fds; /* its descriptors (fdt.h); borrowed; may be NULL */
    struct cn_fs *fs; /* where its paths start (names.h); borrowed; may be NULL */
    uint64_t creds; /* a number of its credentials' own */
    struct cn_ask *ask; /* names.c's */
    struct cn_sigtask *signals; /* signals.h; borrowed; NULL: all of it is Python's */
    struct cn_task_priv *priv;
};

enum { CN_WOKEN = 0, CN_TIMEOUT = 1, CN_INTERRUPTED = 2 };

/* Bits of the per-number watch word; any bit set sends the call to Python. */
enum { CN_WATCH_STRACE = 1, CN_WATCH_HOOK = 2, CN_WATCH_FAULT = 4, CN_WATCH_OFF = 8 };
enum { CN_NR_SYSCALLS = 512 };

/* The kernel lock. Not recursive. */
void cn_klock(void);
void cn_kunlock(void);
int cn_kheld(void); /* 1 when the calling thread holds K */

/* A task that will run in mm (borrowed: the caller keeps mm alive until cn_task_set_mm, release_ctx
 * or free). For a thread or vfork child (mm shared) call it from the parent's host thread. K held.
 */
int cn_task_new(struct cn_mm *mm, struct cn_task **out);
/* Frees it, with its context when release_ctx was not called. By its own host thread, or before it
 * ever ran. K held. */
void cn_task_free(struct cn_task *t);
/* Who it is from now on (cn_ids). K held. */
void cn_task_set_ids(struct cn_task *t, int32_t pid, int32_t tid, int32_t ppid, uint32_t uid,
                     uint32_t euid, uint32_t gid, uint32_t egid);
/* Its descriptor table from now on. K held. */
void cn_task_set_fds(struct cn_task *t, struct cn_fdt *fds);
/* From now on all its calls go to Python (1), or only those that need it (0). Any thread. K held. */
void cn_task_set_slow(struct cn_task *t, int slow);
/* exec: drops the old context and makes one in mm. By the task's own host thread. K held. 0 or
 * -errno. */
int cn_task_set_mm(struct cn_task *t, struct cn_mm *mm);
/* Exit: drops the context; the task can't run any more, its CPU times stay readable. By its own
 * host thread. K held. */
void cn_task_release_ctx(struct cn_task *t);

/* Runs the guest until something needs the kernel. Called with K, drops it, returns with K. Returns
 * t->stop.reason: SYSCALL; FAULT: cn_mm_fault refused, stop.signo, code, addr hold the signal to
 * deliver; EXCEPTION; INTERRUPTED (at once while the interrupt flag is set); DIED. -errno: the host
 * refused a mapping or ran out of something; kill the task. */
int cn_task_run(struct cn_task *t);

/* The same with less to do for Python: first sets rax to `result` if has_result, and returns
 * CN_CALL + number for a system call whose number is below CN_NR_SYSCALLS, with args filled. */
enum { CN_CALL = 16 };
/* With this bit: there is something for cn_files_ended, which is to be done first. Alone: nothing was
 * done yet. */
enum { CN_ENDED = 65536 };
int cn_task_go(struct cn_task *t, int has_result, int64_t result);

/* Sleeps until cn_task_wake, cn_task_interrupt or the deadline (CLOCK_MONOTONIC ns; -1 none; a past
 * one polls). Called and returns with K; dropped meanwhile. A wake since the last block counts, so
 * none is lost. CN_WOKEN wins over CN_INTERRUPTED over CN_TIMEOUT. Own host thread. */
int cn_task_block(struct cn_task *t, int64_t deadline_ns);
void cn_task_wake(struct cn_task *t);
/* Sets the sticky interrupt flag and kicks the task out of the guest or out of cn_task_block. */
void cn_task_interrupt(struct cn_task *t);
void cn_task_clear_interrupt(struct cn_task *t);
int cn_task_interrupted(struct cn_task *t); /* the flag */

/* Extended state in the standard XSAVE layout (see platform.h for its size). Own host thread. get
 * returns the bytes written; set takes the legacy 512 bytes or a full image: -EINVAL for reserved
 * bits in mxcsr or the header. */
int cn_task_get_xstate(struct cn_task *t, void *buf, uint32_t len);
int cn_task_set_xstate(struct cn_task *t, const void *buf, uint32_t len);
/* Puts it back to the processor's initial state (exec). */
int cn_task_reset_xstate(struct cn_task *t);
/* The child of fork or clone starts with the parent's. By the parent's host thread before the child
 * first runs. */
int cn_task_copy_xstate(struct cn_task *child, struct cn_task *parent);

/* CPU time in ns: user is what guest code used, sys what its host thread used for it. */
void cn_task_cpu_ns(struct cn_task *t, uint64_t *user, uint64_t *sys);

/* Per-number watch word: turns the native fast paths of one call (rungs 0 and 1) off for all tasks
 * while any bit is set, also for those that run in the guest just now. */
int cn_watch_set(uint32_t nr, uint32_t bits, int on);

/* Counters since start, for --profile: stops[reason], calls[nr] that reached Python, fast[nr]
 * answered natively. */
struct cn_run_stats {
    uint64_t stops[8];
    uint64_t faults_served;
    uint64_t calls[512];
    uint64_t fast[512];
};
const struct cn_run_stats *cn_run_stats(void);

/* A thread started by a pinned thread inherits its one core: helper threads (timers, fd notifier)
 * call this first. */
void cn_thread_unpin(void);
/* cdef end */

#endif

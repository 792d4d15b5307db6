/*
 * The platform contract: what a way of running guest code owes the rest of Cordon.
 *
 * A platform makes address spaces (cn_as) and contexts (cn_ctx: one guest thread's place to run).
 * The run loop (native/run) switches a context into the guest and gets a stop; the memory manager
 * (native/mm) asks for mappings of the memory file or of host files. Nothing above this header
 * knows about stubs, tracers or vCPUs.
 *
 * Threads: ctx_switch, ctx xstate calls and ctx_free of one context are made by one host thread,
 * the one that first switched it. as_* may be called by any thread; the caller (mm) serialises them
 * with its own lock. ctx_interrupt may be called by any thread at any time and makes a running or
 * the next ctx_switch return CN_STOP_INTERRUPTED.
 */
#ifndef CORDON_PLATFORM_H
#define CORDON_PLATFORM_H

#include "cordon.h"

/* cdef begin */
/* Registers of a guest thread, in the layout of struct user_regs_struct. */
struct cn_regs {
    uint64_t r15, r14, r13, r12, rbp, rbx, r11, r10, r9, r8, rax, rcx, rdx, rsi, rdi, orig_rax, rip,
        cs, eflags, rsp, ss, fs_base, gs_base, ds, es, fs, gs;
};

/* Why a context left the guest. */
enum {
    CN_STOP_NONE = 0,
    CN_STOP_SYSCALL = 1, /* orig_rax is the number; rip is after the instruction; rax not yet set;
                            code 1: this place calls often and is worth patching (mm/patch.h) */
    CN_STOP_FAULT = 2, /* memory access at addr: access is CN_ACCESS_* bits */
    CN_STOP_EXCEPTION = 3, /* signo, code, addr as the host kernel would put them into a siginfo */
    CN_STOP_INTERRUPTED = 4, /* ctx_interrupt, nothing else happened */
    CN_STOP_DIED = 5 /* the place to run is gone (stub killed): the task must be killed */
};

/* How memory was accessed. GUESS: the host gave no error code (ptrace), so READ only means "not an
 * instruction fetch, as far as one can tell". Whoever answers such a fault makes the page readable
 * or, where it is readable already and the VMA may be written, writable; 0 means "try again". A
 * second identical fault comes with a definite WRITE, so an answer of 0 with nothing to do is
 * always safe. */
enum { CN_ACCESS_READ = 1, CN_ACCESS_WRITE = 2, CN_ACCESS_EXEC = 4, CN_ACCESS_GUESS = 8 };

struct cn_stop {
    int32_t reason;
    int32_t signo;
    int32_t code;
    uint32_t access;
    uint64_t addr;
    uint64_t trapno, err; /* x86 trap number and error code, for the sigcontext; 0 when unknown */
    uint32_t brief; /* SYSCALL: of the registers only the call's number and arguments are known yet */
    uint32_t pad;
};

/* The platform of this process. Starts it (name: "ptrace"); memfd is the memory file, which stays
 * the caller's. The calling thread must live as long as the platform (helpers die with it): call it
 * from the main thread, before the seal. Returns 0, -ENOENT for an unknown name, -EBUSY when one
 * runs already, or the platform's -errno. */
int cn_platform_start(const char *name, int memfd);
/* Kills every helper and waits for it. All tasks and address spaces must be freed before. */
void cn_platform_stop(void);
/* A descriptor that becomes readable (poll) when a helper process that the platform can't go on
 * without has died; -1 when there is none. The platform's own. */
int cn_platform_failure_fd(void);
/* Tries a platform for real: starts it, runs a guest of one system call, stops it. 0, or -errno
 * with one sentence in `why`. In a process where no platform runs; best in a child of its own. */
int cn_platform_probe(const char *name, char *why, uint32_t len);
/* Makes registers that came from the guest (sigreturn, ptrace, core restore) fit to run: user
 * selectors, no privileged flag, canonical bases. Never fails; what the guest may not set is put
 * back to what Linux would have there. */
void cn_regs_sanitize(struct cn_regs *regs);
/* Bytes of extended state (standard XSAVE layout, legacy area and header included) of this machine.
 */
uint32_t cn_xstate_size(void);
/* The XCR0 bits guests may see in it. */
uint64_t cn_xstate_features(void);
/* cdef end */

/* For platforms: fills in a stop by an exception. */
static inline void cn_stop_exception(struct cn_stop *stop, int signo, int code, u64 addr,
                                     u64 trapno, u64 err)
{
    stop->reason = CN_STOP_EXCEPTION;
    stop->signo = signo;
    stop->code = code;
    stop->addr = addr;
    stop->trapno = trapno;
    stop->err = err;
}

struct cn_platform;
struct cn_as;
struct cn_ctx;

/* One change of an address space's host mappings. */
struct cn_hostop {
    enum { CN_OP_MAP = 1, CN_OP_UNMAP = 2, CN_OP_PROTECT = 3 } kind;
    u32 prot; /* PROT_* */
    u64 addr, len;
    int fd; /* MAP: platform fd handle from fd_install; 0 is the memory file */
    u32 shared; /* MAP: MAP_SHARED if 1, MAP_PRIVATE (host page cache, read-only use) if 0 */
    u32 populate; /* MAP: 1 when the pages are there already and will be touched soon: a hint */
    u32 taken; /* UNMAP, PROTECT without PROT_WRITE, of private memory (anonymous or a host file's): it is
                  the guest's own affair until as_sync, so its own processes may be trusted to make it */
    u64 off;
};

/* How many tasks wait on private futexes of an address space, by cn_waiters_index of the word. Call
 * sites of the guest look here, so that a wake-up of nobody needs no stop. */
#define CN_WAITERS 1024
struct cn_waiters {
    _Atomic u16 count[CN_WAITERS];
    u32 always; /* 1: all counts are 1 too high, for good: the sentry is always asked */
};

static inline u32 cn_waiters_index(u64 addr)
{
    return (u32)(addr >> 2) % CN_WAITERS;
}

struct cn_platform_ops {
    const char *name;
    u64 task_size; /* first address a guest mapping may not reach */
    u32 shares_core; /* a context runs best on the core of its host thread: run/place.c pins the
                        thread */
    u32 exact_access; /* faults say READ, WRITE or EXEC; no CN_ACCESS_GUESS */
    /* memfd: the memory file. Called before the process is sealed; may spawn helpers. */
    int (*init)(struct cn_platform **out, int memfd);
    void (*fini)(struct cn_platform *);
    /* Makes a host file mappable in every address space. Returns a handle > 0 or -errno. */
    int (*fd_install)(struct cn_platform *, int host_fd);
    /* Operations queued with the handle before are still carried out. */
    void (*fd_remove)(struct cn_platform *, int handle);

    int (*as_new)(struct cn_platform *, struct cn_as **out);
    /* After all its contexts. No guest code of it runs when this returns, so its pages may be
     * reused at once. */
    void (*as_free)(struct cn_as *);
    /* Queues a change. It is in force before any context of this address space runs guest code
     * again after the caller's own next ctx_switch; contexts running meanwhile see it at the latest
     * then. */
    int (*as_queue)(struct cn_as *, const struct cn_hostop *op);
    /* Forces the queue into effect now, also for running contexts (used before pages are freed for
     * reuse). The caller may be any thread, with or without a context of this address space. -errno:
     * it could not be, and no context of it runs any more. */
    int (*as_sync)(struct cn_as *);
    /* The counts of waiters that the guest reads. For a thread that owns a context of the address
     * space; good until as_free, before which they are back at 0. NULL: none. */
    struct cn_waiters *(*as_waiters)(struct cn_as *);

    /* The first context of an address space may be made by any thread. A further one (a guest
     * thread, a vfork child) is made by a thread that owns a live context of the same address
     * space, or while none of them was ever switched; -EAGAIN otherwise. The new context belongs to
     * the thread that first switches it. */
    int (*ctx_new)(struct cn_as *, struct cn_ctx **out);
    void (*ctx_free)(struct cn_ctx *);
    /* Runs guest code from *regs until it stops; *regs then holds the guest's registers. Returns 0
     * or -errno: a queued host mapping could not be made, and this address space can't run any
     * more. */
    int (*ctx_switch)(struct cn_ctx *, struct cn_regs *regs, struct cn_stop *stop);
    /* After a stop that was `brief`: fills in the registers that the call's number and arguments are
     * not in. The result that rax holds by now stays. NULL: no stop is. */
    void (*ctx_regs)(struct cn_ctx *, struct cn_regs *regs);
    void (*ctx_interrupt)(struct cn_ctx *);
    /* Patched call sites of this context answer call `nr` by `value` from now on, without a stop
     * (known), or hand it over, as they all do in a new context. Any thread. NULL: they never
     * answer. For SYS_futex known means: waits on a word that holds another value, and wakes of
     * words that nobody waits on (as_waiters); for SYS_clock_gettime: what the host's vDSO tells. */
    void (*ctx_answer)(struct cn_ctx *, u32 nr, int known, u32 value);
    /* ... and answer write(2) to descriptors whose bit is in nulls, and read(2) from those in zeros, as
     * /dev/null and /dev/zero do. Any thread. NULL: they never answer. */
    void (*ctx_devices)(struct cn_ctx *, u64 nulls, u64 zeros);
    /* Extended state in the standard (non-compacted) XSAVE layout, as it stands in a signal frame.
     * Before the first switch set is allowed and get returns the initial state. */
    int (*ctx_get_xstate)(struct cn_ctx *, void *buf, u32 len);
    int (*ctx_set_xstate)(struct cn_ctx *, const void *buf, u32 len);
    /* CPU time the guest code of this context has used, in ns. Any thread. */
    u64 (*ctx_cpu_ns)(struct cn_ctx *);
    /* CPU time that host threads have used up waiting for it, which is nobody's work. NULL: none. */
    u64 (*ctx_waited_ns)(struct cn_ctx *);
    /* Address of the host's vDSO function (__vdso_clock_gettime ...) in every address space, 0 when
     * there is none. */
    u64 (*vdso_symbol)(struct cn_platform *, const char *name);
    u64 patch_entry; /* where trampolines of patched call sites go (mm/patch.h); 0: it has no use for
                        them */
    /* See cn_platform_failure_fd. NULL: nothing to watch. */
    int (*failure_fd)(struct cn_platform *);
};

/* The registry: native/<platform>/ defines one each; NULL from cn_platform_find when unknown. */
extern const struct cn_platform_ops cn_ptrace_ops;
extern const struct cn_platform_ops cn_systrap_ops;
const struct cn_platform_ops *cn_platform_find(const char *name);

/* Set by cn_platform_start; constant until cn_platform_stop. */
extern const struct cn_platform_ops *cn_ops;
extern struct cn_platform *cn_plat;

#endif

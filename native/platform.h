/*
 * The platform contract: what a way of running guest code owes the rest of Cordon.
 *
 * A platform makes address spaces (cn_as) and contexts (cn_ctx: one guest thread's place to run). The run loop
 * (native/run) switches a context into the guest and gets a stop; the memory manager (native/mm) asks for
 * mappings of the memory file or of host files. Nothing above this header knows about stubs, tracers or vCPUs.
 *
 * Threads: ctx_switch, ctx xstate calls and ctx_free of one context are made by one host thread, the one that first
 * switched it. as_* may be called by any thread; the caller (mm) serialises them with its own lock. ctx_interrupt may be
 * called by any thread at any time and makes a running or the next ctx_switch return CN_STOP_INTERRUPTED.
 */
#ifndef CORDON_PLATFORM_H
#define CORDON_PLATFORM_H

#include "cordon.h"

/* cdef begin */
/* Registers of a guest thread, in the layout of struct user_regs_struct. */
struct cn_regs {
    uint64_t r15, r14, r13, r12, rbp, rbx, r11, r10, r9, r8, rax, rcx, rdx, rsi, rdi, orig_rax,
        rip, cs, eflags, rsp, ss, fs_base, gs_base, ds, es, fs, gs;
};

/* Why a context left the guest. */
enum {
    CN_STOP_NONE = 0,
    CN_STOP_SYSCALL = 1,     /* orig_rax is the number; rip is after the instruction; rax not yet set */
    CN_STOP_FAULT = 2,       /* memory access: addr, access (1 read, 2 write, 4 exec) */
    CN_STOP_EXCEPTION = 3,   /* signo, code, addr as the host kernel would put them into a siginfo */
    CN_STOP_INTERRUPTED = 4, /* ctx_interrupt, nothing else happened */
    CN_STOP_DIED = 5         /* the place to run is gone (stub killed): the task must be killed */
};

struct cn_stop {
    int32_t reason;
    int32_t signo;
    int32_t code;
    uint32_t access;
    uint64_t addr;
    uint64_t trapno, err; /* x86 trap number and error code, for the sigcontext; 0 when unknown */
};
/* cdef end */

struct cn_platform;
struct cn_as;
struct cn_ctx;

/* One change of an address space's host mappings. */
struct cn_hostop {
    enum { CN_OP_MAP = 1, CN_OP_UNMAP = 2, CN_OP_PROTECT = 3 } kind;
    u32 prot;    /* PROT_* */
    u64 addr, len;
    int fd;      /* MAP: platform fd handle from fd_install; 0 is the memory file */
    u32 shared;  /* MAP: MAP_SHARED if 1, MAP_PRIVATE (host page cache, read-only use) if 0 */
    u64 off;
};

struct cn_platform_ops {
    const char *name;
    /* memfd: the memory file. Called before the process is sealed; may spawn helpers. */
    int (*init)(struct cn_platform **out, int memfd);
    void (*fini)(struct cn_platform *);
    /* Makes a host file mappable in every address space. Returns a handle > 0 or -errno. */
    int (*fd_install)(struct cn_platform *, int host_fd);
    void (*fd_remove)(struct cn_platform *, int handle);

    int (*as_new)(struct cn_platform *, struct cn_as **out);
    void (*as_free)(struct cn_as *);
    /* Queues a change. It is in force before any context of this address space runs guest code again
     * after the caller's own next ctx_switch; contexts running meanwhile see it at the latest then. */
    int (*as_queue)(struct cn_as *, const struct cn_hostop *op);
    /* Forces the queue into effect now, also for running contexts (used before pages are freed for reuse). The caller may
     * be any thread, with or without a context of this address space. */
    int (*as_sync)(struct cn_as *);

    int (*ctx_new)(struct cn_as *, struct cn_ctx **out);
    void (*ctx_free)(struct cn_ctx *);
    /* Runs guest code from *regs until it stops; *regs then holds the guest's registers. Returns 0 or -errno. */
    int (*ctx_switch)(struct cn_ctx *, struct cn_regs *regs, struct cn_stop *stop);
    void (*ctx_interrupt)(struct cn_ctx *);
    /* Extended state in the standard (non-compacted) XSAVE layout, as it stands in a signal frame. Before the first
     * switch set is allowed and get returns the initial state. */
    int (*ctx_get_xstate)(struct cn_ctx *, void *buf, u32 len);
    int (*ctx_set_xstate)(struct cn_ctx *, const void *buf, u32 len);
};

/* The registry: native/<platform>/ defines one each; NULL from cn_platform_find when unknown. */
extern const struct cn_platform_ops cn_ptrace_ops;
const struct cn_platform_ops *cn_platform_find(const char *name);

#endif

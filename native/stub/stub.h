/*
 * What the freestanding stub image and the sentry agree on: addresses, the control page, the
 * mother's messages.
 *
 * The mother is exec'ed once from the image (native/stub/image) and clones every stub. A stub is a
 * process whose whole address space below CN_TASK_SIZE belongs to the guest. Above it lie only the
 * stub's text, its control page (both read-only), on systrap the context areas, and the host's vvar
 * and vDSO. Stubs hold no secrets: the guest may read all of that.
 */
#ifndef CORDON_STUB_H
#define CORDON_STUB_H

#ifndef __ASSEMBLER__
#include "../cordon.h"
#endif

/* The stub's text: one page of assembly, all that is left of the image in a stub. */
#define STUB_TEXT 0x7fff10000000
#define STUB_TEXT_SIZE 0x1000
/* The mother's own code, unmapped in stubs. */
#define MOTHER_TEXT 0x7fff10010000
#define MOTHER_TEXT_SIZE 0x4000
/* Entry points, placed by stub.lds. */
#define STUB_BATCH \
    (STUB_TEXT +   \
     0x000) /* r12: first op, r13: count; ends with int3, r13 ops left, rax last result */
#define STUB_CLONE \
    (STUB_TEXT + 0x080) /* clones a thread that parks; ends with int3, rax the new thread's id */
#define STUB_PARK (STUB_TEXT + 0x100)  /* sets up its death signal and sleeps for ever */
#define STUB_PARK_END (STUB_TEXT + 0x180)

/* systrap. The keeper's text: a process of each address space that makes host calls and never runs
 * guest code. The contexts' text: signal handler, hand-over to the sentry, entry into the guest. */
#define STUB_KEEPER_TEXT 0x7fff10001000
#define STUB_CTX_TEXT 0x7fff10002000
/* Context areas: shared by a context and the sentry (struct stub_ctx, an XSAVE image, the alternate
 * stack, answers); a slot of the context file each. The guest can write to those of its address
 * space, except for the answers. */
#define STUB_AREA 0x7fff30000000
#define STUB_AREA_SIZE 0x10000
#define STUB_AREA_XSAVE 0x1000
#define STUB_AREA_SCRATCH 0x3000 /* for clock_gettime: saved registers, the result, a stack down from ... */
#define STUB_AREA_STACK 0x4000
#define STUB_AREA_ANSWERS 0xf000 /* to the end of the area: what calls return, by number, as 64-bit
                                    words: STUB_ANSWER + the value, or 0 for ask the sentry; for
                                    futex(2) not 0: what can be told from its word and the waiters */
#define STUB_ANSWER (1UL << 32)
#define STUB_NR_ANSWERS 256
#define STUB_AREA_CLOCK (STUB_AREA_ANSWERS + 8 * STUB_NR_ANSWERS) /* a word: where the host's vDSO has
                                    its clock_gettime, 0 for ask the sentry */
#define STUB_AREA_NULLS (STUB_AREA_CLOCK + 8) /* a word: bits of the descriptors below 64 that take whatever
                                    is written, as /dev/null does */
#define STUB_AREA_ZEROS (STUB_AREA_CLOCK + 16) /* ... and that read as /dev/zero does */
#define STUB_AREA_SLOTS 32768

/* One control page set per address space, a slot of the control file: written by the sentry, read
 * by the stub: a struct stub_ctrl, then a page with a struct cn_waiters (platform.h). */
#define STUB_CTRL 0x7fff20000000
#define STUB_CTRL_OPS 8192
#define STUB_WAITERS (STUB_CTRL + STUB_CTRL_OPS)
#define STUB_CTRL_SIZE 12288
#define STUB_SLOTS 32768

/* Stubs of one address space share memory and the fd table and are otherwise processes of their
 * own, children of the sentry: each dies alone and can be waited for alone. */
#define STUB_CLONE_FILES 0x400
#define STUB_CLONE_VM 0x100
#define STUB_CLONE_PARENT 0x8000
#define STUB_FORK_FLAGS (STUB_CLONE_FILES | STUB_CLONE_PARENT)
#define STUB_THREAD_FLAGS (STUB_CLONE_VM | STUB_CLONE_FILES | STUB_CLONE_PARENT)
#define STUB_CLONE_CHILD_CLEARTID 0x200000
#define STUB_CTX_FLAGS (STUB_THREAD_FLAGS | STUB_CLONE_CHILD_CLEARTID)

/* Numbers in the stub fd table. */
#define STUB_FD_MEM 0  /* the memory file */
#define STUB_FD_SOCK 1 /* the mother's end of the socketpair */
#define STUB_FD_CTRL 2 /* the control file */
#define STUB_FD_AREA 3 /* systrap: the file of context areas */
/* systrap: channels from a keeper to the sentry, two descriptors each. It makes the eventfd readable
 * when a batch is done. A number it tells as the position of the other one, an empty file (errors as
 * 2^32 + errno). Registers are enough for both, and no guest thread can reach either. */
#define STUB_FD_CHANNEL 4
#define STUB_CHANNELS 16
#define STUB_FD_SYSTRAP_END (STUB_FD_CHANNEL + 2 * STUB_CHANNELS)

/* Who has a context: stub_ctx.turn. The host kernel writes STUB_GONE when its process dies. */
#define STUB_GONE 0
#define STUB_RUNS 1
#define STUB_STOPPED 2
/* stub_ctx.kind: why it stopped. */
#define STUB_SIGNAL 1 /* frame and info say where the kernel put registers and siginfo */
#define STUB_EARLY 2 /* a SIGURG came before it entered the guest: nothing has changed */
#define STUB_CALL 3 /* a patched call site: registers are in r8 to rcx and rip to rsp, with the return
                       address in rcx; the extended state is still in the processor */
#define STUB_SAVED 4 /* STUB_SAVE is done */
#define STUB_CALL_SAVED 5 /* as STUB_CALL, with the extended state at STUB_AREA_XSAVE */
#define STUB_CALL_BRIEF 6 /* as STUB_CALL, and number (in the bits of `kind` from 8 on) and arguments are beside
                             it: all that most calls need, in the one cache line that both sides look at */
/* stub_ctx.flags: what the sentry asks for. */
#define STUB_SET_BASES 1 /* load fs_base and gs_base */
#define STUB_FAST 2 /* rcx holds rip and r11 eflags, as after a system call: no iretq needed */
#define STUB_SAVE 4 /* do not enter the guest: put its extended state at STUB_AREA_XSAVE and stop */
#define STUB_RESULT 8 /* with FAST, after a CALL: the registers are as they were but for rax, the
                         result: lines of the cache that do not come and go */
#define STUB_TAKE 16 /* make the host calls of `take` first; when one fails: STUB_EARLY */
/* What a context may take away from its own address space by itself: as long as from anywhere below
 * CN_TASK_SIZE it does not reach the stub. */
#define STUB_TAKE_OPS 4
#define STUB_TAKE_MAX (STUB_TEXT - CN_TASK_SIZE)
/* Where a patched call site goes: r11 holds the return address, gs_base the area. */
#define STUB_CALL_ENTRY STUB_CTX_TEXT

#ifndef __ASSEMBLER__
struct stub_op {
    u64 nr, arg[6];
};

#define STUB_MAX_OPS ((STUB_CTRL_OPS - 64) / sizeof(struct stub_op))

struct stub_ctrl {
    u64 sentry_pid;
    u32 seq;   /* systrap: the keeper makes a batch for each new value; its futex */
    u32 count; /* ops of it */
    u32 channel; /* the eventfd to answer through */
    u32 pad1;
    u64 one; /* always 1: what is written there */
    u64 pad[4];
    struct stub_op op[STUB_MAX_OPS];
};

/* The first page of a context area. Whatever the stub writes here, other threads of the guest can
 * write as well: to the sentry all of it is hostile, and nobody else's memory depends on it. */
struct stub_ctx {
    /* The cache line that every hand-over needs. */
    u32 turn; /* the futex of both sides */
    u32 kind;
    u32 sentry_sleeps, stub_sleeps;
    union {
        u64 arg[6]; /* stub to sentry: CALL_BRIEF, in the order of a call */
        struct {    /* sentry to stub */
            u64 result;
            u32 flags;
        };
    };
    /* What rarely changes: written only when it does. */
    u32 frame, info; /* SIGNAL: offsets of ucontext and siginfo in the area */
    u32 xsave; /* EARLY: offset of the XSAVE image when it has moved, else 0 */
    u32 spin; /* TSC cycles the stub spins before it sleeps */
    u32 kick; /* set before SIGURG is sent */
    u32 save_nr; /* patched calls of this number come as STUB_CALL_SAVED */
    u32 xrestore; /* offset of the XSAVE image to load, 0: none */
    u32 pad1;
    u64 fs_base, gs_base;
    u64 pad2[2];
    /* What the stub saves at each call. In the order of a sigcontext, then of iretq. */
    u64 r8, r9, r10, r11, r12, r13, r14, r15, rdi, rsi, rbp, rbx, rdx, rax, rcx;
    u64 rip, cs, eflags, rsp, ss;
    u64 stop_fs_base, stop_gs_base;
    u64 ret; /* the return address of a patched call whose register is in use */
    u64 pad3;
    u64 altstack[3]; /* stack_t */
    u64 pad4[5];
    struct stub_op take[STUB_TAKE_OPS + 1]; /* the first one with nr 0 ends them */
};

enum { STUB_INIT = 1, STUB_NEW = 2, STUB_FD_INSTALL = 3, STUB_FD_REMOVE = 4 };

/* Sentry -> mother; FD_INSTALL carries one fd as SCM_RIGHTS. */
struct stub_cmd {
    u32 op;
    u32 arg;      /* INIT: 1 for systrap; NEW: slot; FD_REMOVE: fd */
    u64 pid;      /* INIT: the sentry */
    u64 below;    /* INIT: bytes of vvar mapped before the vDSO's ELF header ... */
    u64 above;    /* ... and of the vDSO from it on; 0: keep none of them */
};

/* Mother -> sentry, one for each command but FD_REMOVE, in order. */
struct stub_reply {
    u32 op;
    u32 arg;   /* as in the command */
    i64 value; /* INIT: address of the vDSO or 0; NEW: pid; FD_INSTALL: fd; -errno */
};
#endif

#endif

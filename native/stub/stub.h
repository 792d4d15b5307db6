/*
 * What the freestanding stub image and the sentry agree on: addresses, the control page, the
 * mother's messages.
 *
 * The mother is exec'ed once from the image (native/stub/image) and clones every stub. A stub is a
 * process whose whole address space below CN_TASK_SIZE belongs to the guest. Above it lie only the
 * stub's text, its control page (both read-only) and the host's vvar and vDSO. Stubs hold no
 * secrets: the guest may read all of that.
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

/* One control page set per address space, a slot of the control file: written by the sentry, read
 * by the stub. */
#define STUB_CTRL 0x7fff20000000
#define STUB_CTRL_SIZE 8192
#define STUB_SLOTS 32768

/* Stubs of one address space share memory and the fd table and are otherwise processes of their
 * own, children of the sentry: each dies alone and can be waited for alone. */
#define STUB_CLONE_FILES 0x400
#define STUB_CLONE_VM 0x100
#define STUB_CLONE_PARENT 0x8000
#define STUB_FORK_FLAGS (STUB_CLONE_FILES | STUB_CLONE_PARENT)
#define STUB_THREAD_FLAGS (STUB_CLONE_VM | STUB_CLONE_FILES | STUB_CLONE_PARENT)

/* Numbers in the stub fd table. */
#define STUB_FD_MEM 0  /* the memory file */
#define STUB_FD_SOCK 1 /* the mother's end of the socketpair */
#define STUB_FD_CTRL 2 /* the control file */

#ifndef __ASSEMBLER__
struct stub_op {
    u64 nr, arg[6];
};

#define STUB_MAX_OPS ((STUB_CTRL_SIZE - 64) / sizeof(struct stub_op))

struct stub_ctrl {
    u64 sentry_pid;
    u64 pad[7];
    struct stub_op op[STUB_MAX_OPS];
};

enum { STUB_INIT = 1, STUB_NEW = 2, STUB_FD_INSTALL = 3, STUB_FD_REMOVE = 4 };

/* Sentry -> mother; FD_INSTALL carries one fd as SCM_RIGHTS. */
struct stub_cmd {
    u32 op;
    u32 arg;      /* NEW: slot; FD_REMOVE: fd */
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

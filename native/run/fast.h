/*
 * Rung 1: system calls answered in C, without the kernel lock and the GIL.
 *
 * A fast function completes the call exactly as the sentry's Python would, or returns CN_UPCALL
 * having changed nothing. It gets the task stopped at the call: number in regs.orig_rax, arguments
 * in rdi, rsi, rdx, r10, r8, r9; for other registers it calls task_regs first.
 */
#ifndef CORDON_FAST_H
#define CORDON_FAST_H

#include "run.h"

enum cn_fast { CN_UPCALL = 0, CN_DONE = 1 };

/* The address space that the task runs in. */
struct cn_mm *cn_task_mm(const struct cn_task *t);

/* Answers the call by setting regs.rax (CN_DONE), or leaves it to Python. */
enum cn_fast cn_fast_syscall(struct cn_task *t);

/* Is the call with this number, below CN_NR_SYSCALLS, for Python's eyes? */
int cn_fast_watched(u32 nr);

#endif

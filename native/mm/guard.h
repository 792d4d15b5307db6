/*
 * Accesses that survive SIGBUS and SIGSEGV: to memory whose host pages may be gone (a truncated
 * host file) or can't be had (the memory file's limit). The accesses are a few assembly functions;
 * the signal handler knows their instructions.
 */
#ifndef CORDON_GUARD_H
#define CORDON_GUARD_H

#include "../cordon.h"

/* Installs the handler; others' faults go to the one that was there. 0 or -errno. */
int guard_install(void);
/* Bytes that could not be moved: 0 is success. The ranges must not overlap. */
u64 guard_copy(void *dst, const void *src, u64 n);
u64 guard_zero(void *dst, u64 n);
/* 0 or -EFAULT. The word is aligned. */
int guard_load32(const u32 *p, u32 *value);
int guard_store32(u32 *p, u32 value);
int guard_cmpxchg32(u32 *p, u32 expected, u32 desired, u32 *old);

#endif

/*
 * The memory file: one sparse file that holds all guest memory which is not a host file's, mapped once in the sentry.
 *
 * Pages are counted; an allocated page reads as zeros. Thread-safe.
 */
#ifndef CORDON_MEMFILE_H
#define CORDON_MEMFILE_H

#include "../cordon.h"

/* cdef begin */
/* Takes the file (which stays the caller's) as this process's memory file. limit: bytes of host memory that it may come to
 * hold, 0 for none (the file's own file system enforces it). 0 or -errno. */
int cn_memfile_start(int fd, uint64_t limit);
/* Host memory that the file holds now and its greatest value seen, in bytes. */
uint64_t cn_memfile_used(void);
uint64_t cn_memfile_peak(void);
/* 1 when the limit is reached: a SIGBUS on guest memory then means "out of memory". */
int cn_memfile_full(void);
/* cdef end */

extern u8 *cn_memfile_base;
extern int cn_memfile_fd;

/* n pages with one reference each: index of the first, or -ENOMEM. */
i64 memfile_alloc(u64 n);
void memfile_ref(u64 page, u64 n);
/* Drops one reference of each page; pages without any lose their contents and may be allocated again. */
void memfile_unref(u64 page, u64 n);
u32 memfile_refs(u64 page);
/* The contents become zeros and give their memory back; references stay. */
void memfile_punch(u64 page, u64 n);

static inline u8 *memfile_ptr(u64 page)
{
    return cn_memfile_base + (page << CN_PAGE_SHIFT);
}

/* Copies where either side may raise SIGBUS (limit reached): 0 or -EFAULT. */
int guarded_copy(void *dst, const void *src, u64 n);
/* Runs fn(arg) so; its result, or -EFAULT. */
int guarded_call(int (*fn)(void *), void *arg);

#endif

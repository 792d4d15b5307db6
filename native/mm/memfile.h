/*
 * The memory file: one sparse file that holds all guest memory which is not a host file's, mapped
 * once in the sentry.
 *
 * Its pages are counted. Pages are named by their index in the file; 0 is never handed out.
 * Thread-safe.
 */
#ifndef CORDON_MEMFILE_H
#define CORDON_MEMFILE_H

#include "../cordon.h"

/* cdef begin */
/* Takes the file (which stays the caller's) as this process's memory file. limit: bytes of host
 * memory that it may come to hold, 0 for none (the file's own file system enforces it). Its file
 * system must allow executable mappings. 0 or -errno. */
int cn_memfile_start(int fd, uint64_t limit);
/* Host memory that the file holds now and its greatest value seen, in bytes. */
uint64_t cn_memfile_used(void);
uint64_t cn_memfile_peak(void);
/* The limit in bytes that the file's file system has now (0: none), which counts from here on. */
uint64_t cn_memfile_limit(void);
/* 1 when the limit is reached (but for a few pages). */
int cn_memfile_full(void);
/* 1 once a page of guest memory could not be had: the sandbox can't go on. */
int cn_memfile_denied(void);
/* cdef end */

extern u8 *cn_memfile_base;
extern int cn_memfile_fd;

/* n pages of zeros with one reference each: index of the first, or -ENOMEM. near: a page index to
 * continue at if that is free, 0 for none. like: guest page number; extents of 2 MiB and more get
 * an index congruent to it. */
i64 memfile_alloc(u64 n, u64 near, u64 like);
/* Pages of zeros as from memfile_alloc, made of ones that had an owner; their memory is there, so
 * that using them costs less. -ENOMEM when none are at hand. */
i64 memfile_alloc_used(u64 n, u64 near);
/* Pages with a copy of src, bytes of them (whole pages): -ENOMEM, -ENOSPC (limit) or -EFAULT (source). */
i64 memfile_alloc_copy(u64 n, u64 near, const void *src, u64 bytes);
void memfile_ref(u64 page, u64 n);
/* Drops one reference of each page; pages without any may be allocated again. */
void memfile_unref(u64 page, u64 n);
/* The contents become zeros and give their memory back; references stay. */
void memfile_punch(u64 page, u64 n);
/* Overwrites pages from anywhere in the sentry, without faulting the destination in: bytes written
 * before the first failure, or -errno (-ENOSPC: limit; -EFAULT: source). */
i64 memfile_write(u64 page, const void *src, u64 bytes);
/* A page of the file could not be had. Gives back what free pages hold: 1 when there is room now
 * (try again), 0 when there is none, which cn_memfile_denied tells from then on. */
int memfile_relieve(void);
/* Is there room for n more pages of files? Files leave some of the memory to programs. */
int memfile_room(u64 n);
/* Is it an address in the sentry's mapping of the file? */
int memfile_covers(const void *p);
/* 0 when the range surely holds no data (it was never written). */
int memfile_has_data(u64 page, u64 n);

extern u32 *memfile_counts;

static inline u32 memfile_refs(u64 page)
{
    return __atomic_load_n(&memfile_counts[page], __ATOMIC_RELAXED);
}

static inline u8 *memfile_ptr(u64 page)
{
    return cn_memfile_base + (page << CN_PAGE_SHIFT);
}

#endif

/*
 * Memory objects: what a mapping maps and a memory file system stores.
 *
 * MEM objects keep sparse pages in the memory file (tmpfs files, shared anonymous memory, SysV shm, memfd). HOST objects stand
 * for a host file by a descriptor. Reference counted; calls are made with K held except where a fault handler reads them.
 */
#ifndef CORDON_MOBJ_H
#define CORDON_MOBJ_H

#include <pthread.h>

#include "../cordon.h"

/* cdef begin */
struct cn_mobj;

/* An empty MEM object, one reference. NULL when out of memory. */
struct cn_mobj *cn_mobj_new_mem(void);
/* An object for a host file; duplicates the descriptor. NULL when that fails. */
struct cn_mobj *cn_mobj_new_host(int fd);
void cn_mobj_ref(struct cn_mobj *o);
void cn_mobj_unref(struct cn_mobj *o);
/* A number no other living object has. */
uint64_t cn_mobj_id(struct cn_mobj *o);
/* Size in bytes (HOST: of the file now) or -errno. */
int64_t cn_mobj_size(struct cn_mobj *o);
/* Bytes of memory that a MEM object holds. */
uint64_t cn_mobj_allocated(struct cn_mobj *o);
/* Like pread(2) and pwrite(2) on the data; MEM objects grow by writing. Bytes moved or -errno. */
int64_t cn_mobj_pread(struct cn_mobj *o, void *buf, uint64_t n, uint64_t off);
int64_t cn_mobj_pwrite(struct cn_mobj *o, const void *buf, uint64_t n, uint64_t off);
/* MEM: sets the size; pages beyond it are dropped from every mapping. 0 or -errno. */
int cn_mobj_truncate(struct cn_mobj *o, uint64_t size);
/* MEM: the range reads as zeros and gives its memory back. */
int cn_mobj_punch(struct cn_mobj *o, uint64_t off, uint64_t n);
/* MEM: allocates the pages of the range now (fallocate); does not change the size. */
int cn_mobj_allocate(struct cn_mobj *o, uint64_t off, uint64_t n);
/* MEM: next data (hole = 0) or hole (1) at or after off, as lseek(2) SEEK_DATA and SEEK_HOLE: position or -ENXIO. */
int64_t cn_mobj_seek(struct cn_mobj *o, uint64_t off, int hole);
/* cdef end */

/* A run of pages of a MEM object. */
struct run {
    u64 index, n, page; /* object pages [index, index + n) are memory file pages [page, page + n) */
};

struct cn_mm;

struct mapper {
    struct cn_mm *mm;
    struct mapper *next;
};

struct cn_mobj {
    pthread_mutex_t lock; /* runs, size */
    u32 refs;
    u64 id;
    int fd;     /* host descriptor, -1 for MEM */
    int handle; /* platform's handle, 0: not installed */
    u64 size;
    struct run *runs; /* sorted by index */
    u32 nruns, cruns;
    struct mapper *mappers; /* address spaces that (may) map a MEM object; under K */
};

static inline int mobj_is_host(const struct cn_mobj *o)
{
    return o->fd >= 0;
}

/* The memory file page of an object page, 0 when there is none; *n: pages that follow it contiguously (hole length for 0). */
u64 mobj_page(struct cn_mobj *o, u64 index, u64 *n);
/* Makes pages [index, index + n) exist. 0 or -errno. */
int mobj_populate(struct cn_mobj *o, u64 index, u64 n);
int mobj_handle(struct cn_mobj *o);
int mobj_add_mapper(struct cn_mobj *o, struct cn_mm *mm);
void mobj_remove_mapper(struct cn_mobj *o, struct cn_mm *mm);

#endif

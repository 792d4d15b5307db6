/*
 * Memory objects: what a mapping maps and a memory file system stores.
 *
 * MEM objects keep sparse pages in the memory file (tmpfs files, shared anonymous memory, SysV shm,
 * memfd). HOST objects stand for a host file by a descriptor. Reference counted; thread-safe.
 */
#ifndef CORDON_MOBJ_H
#define CORDON_MOBJ_H

#include <pthread.h>

#include "../cordon.h"
#include "rtree.h"

/* cdef begin */
struct cn_mobj;

/* An empty MEM object, one reference. NULL when out of memory. */
struct cn_mobj *cn_mobj_new_mem(void);
/* An object for a host file; duplicates the descriptor. NULL when that fails. */
struct cn_mobj *cn_mobj_new_host(int fd);
void cn_mobj_ref(struct cn_mobj *o);
void cn_mobj_unref(struct cn_mobj *o);
/* A number no other object or address space has. */
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
/* MEM: next data (hole = 0) or hole (1) at or after off, as lseek(2) SEEK_DATA and SEEK_HOLE:
 * position or -ENXIO. */
int64_t cn_mobj_seek(struct cn_mobj *o, uint64_t off, int hole);
/* cdef end */

struct vma;

/* Part of a host file mapped in the sentry. */
struct window {
    u64 index; /* in units of MOBJ_WINDOW */
    u8 *base;
};

#define MOBJ_WINDOW (16UL << 20)

/* Pages [n.start, n.end) of a MEM object are memory file pages page... Each run holds one reference
 * of its pages. */
struct run {
    struct rnode n;
    u64 page;
};

struct cn_mobj {
    pthread_mutex_t lock; /* everything below but refs and the constants */
    u32 refs;
    u64 id;       /* constant */
    int fd;       /* constant: host descriptor, -1 for MEM */
    int writable; /* constant: the host descriptor may be written */
    int noexec;   /* constant: the host file lies on a file system mounted noexec */
    int handle;   /* platform's handle of fd, 0: not installed */
    u64 size;     /* MEM */
    u64 npages;   /* MEM: in runs */
    struct rtree runs;
    u64 spare, nspare; /* MEM: pages reserved for growth, so that a growing file stays one run */
    struct vma *maps;  /* MEM: mappings of it, linked by vma.onext */
    struct window *windows; /* HOST: sorted by index */
    u32 nwindows, cwindows;
};

static inline int mobj_is_host(const struct cn_mobj *o)
{
    return o->fd >= 0;
}

/* MEM: the memory file page of an object page, 0 for a hole; *n: pages from there to the end of the
 * run or hole. */
u64 mobj_page(struct cn_mobj *o, u64 index, u64 *n);
/* MEM: makes pages [index, index + n) exist. 0 or -errno. */
int mobj_populate(struct cn_mobj *o, u64 index, u64 n);
u64 mobj_size(struct cn_mobj *o);
/* HOST: the platform's handle, installed once; or -errno. */
int mobj_handle(struct cn_mobj *o);
/* HOST: sentry's view of the file at off, *n: bytes of it (beyond the end of file they raise
 * SIGBUS). NULL: not mappable. */
u8 *mobj_window(struct cn_mobj *o, u64 off, u64 *n);
void mobj_link(struct cn_mobj *o, struct vma *v);
void mobj_unlink(struct cn_mobj *o, struct vma *v);

#endif

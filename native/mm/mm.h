/*
 * Address spaces: VMAs, private pages, faults, copies between sentry and guest.
 *
 * Calls that change the layout are made with K held (one at a time for all address spaces); faults
 * come without K. The address space's own lock guards its tables. Addresses are guest addresses.
 * Results are >= 0 or -errno.
 */
#ifndef CORDON_MM_H
#define CORDON_MM_H

#include "mobj.h"

/* cdef begin */
struct cn_mm;

enum {
    CN_VMA_SHARED = 1,
    CN_VMA_GROWSDOWN = 2,
    CN_VMA_NORESERVE = 4,
    CN_VMA_LOCKED = 8,
    CN_VMA_DONTFORK = 16,
    CN_VMA_WIPEONFORK = 32,
    CN_VMA_HEAP = 64,
    CN_VMA_STACK = 128,
    CN_VMA_VDSO = 256,
    CN_VMA_DONTDUMP = 512
};

struct cn_vma_info {
    uint64_t start, end, offset, cookie, object;
    uint32_t prot, flags; /* PROT_*, CN_VMA_* */
    uint64_t anon_pages;  /* private pages of its own */
};

/* Limits in bytes (RLIMIT_AS, DATA, STACK, MEMLOCK); UINT64_MAX for none. */
struct cn_mm_limits {
    uint64_t address_space, data, stack, memlock;
};

/* An empty address space, one reference; on the platform that runs. */
int cn_mm_new(struct cn_mm **out);
/* A copy for fork(2): private pages shared until written. */
int cn_mm_fork(struct cn_mm *parent, struct cn_mm **out);
/* The same for a parent that only the calling task uses, with its stack pointer: what the two will
 * write to soon is copied at once. */
int cn_mm_fork_alone(struct cn_mm *parent, uint64_t sp, struct cn_mm **out);
void cn_mm_ref(struct cn_mm *mm);
/* The last one frees it; no task may have a context in it by then. */
void cn_mm_unref(struct cn_mm *mm);
void cn_mm_set_limits(struct cn_mm *mm, const struct cn_mm_limits *limits);
void cn_mm_set_base(struct cn_mm *mm, uint64_t mmap_top, uint64_t brk_start);

/* mmap(2). object NULL: anonymous. flags: MAP_*; vma_flags: CN_VMA_* to add; maxprot: what mprotect
 * may ever give. cookie: the caller's name for what is mapped. The address, or -errno. */
int64_t cn_mm_mmap(struct cn_mm *mm, uint64_t addr, uint64_t len, uint32_t prot, uint32_t maxprot,
                   uint32_t flags, uint32_t vma_flags, struct cn_mobj *object, uint64_t off,
                   uint64_t cookie);
int cn_mm_munmap(struct cn_mm *mm, uint64_t addr, uint64_t len);
int cn_mm_mprotect(struct cn_mm *mm, uint64_t addr, uint64_t len, uint32_t prot);
int64_t cn_mm_mremap(struct cn_mm *mm, uint64_t old, uint64_t old_len, uint64_t new_len,
                     uint32_t flags, uint64_t new_addr);
int cn_mm_madvise(struct cn_mm *mm, uint64_t addr, uint64_t len, int advice);
/* The new break, or the old one when it can't move. */
uint64_t cn_mm_brk(struct cn_mm *mm, uint64_t addr);
int cn_mm_msync(struct cn_mm *mm, uint64_t addr, uint64_t len, int flags);
/* Whether RLIMIT_MEMLOCK does not count for what is locked from now on (CAP_IPC_LOCK). */
void cn_mm_lock_freely(struct cn_mm *mm, int freely);
/* Locked pages are resident, those that come when touched (MLOCK_ONFAULT) excepted. */
int cn_mm_mlock(struct cn_mm *mm, uint64_t addr, uint64_t len, int on_fault);
int cn_mm_munlock(struct cn_mm *mm, uint64_t addr, uint64_t len);
/* MCL_*; 0 unlocks everything. */
int cn_mm_mlockall(struct cn_mm *mm, int flags);
/* One byte a page: 1 resident. -ENOMEM when a page is not mapped. */
int cn_mm_mincore(struct cn_mm *mm, uint64_t addr, uint64_t len, uint8_t *vec);

/* 0: try again. -EFAULT no mapping, -EACCES forbidden, -ENXIO beyond the end of the object,
 * -ENOMEM. access: CN_ACCESS_*. */
int cn_mm_fault(struct cn_mm *mm, uint64_t addr, uint32_t access);

/* The host had no page for an access of the guest at addr (SIGBUS). 1: the access may be tried
 * again, there is memory now. 0: the address shows a host file, the fault is the guest's own.
 * -ENOMEM: the limit is reached. */
int cn_mm_no_page(struct cn_mm *mm, uint64_t addr);

/* All or nothing: 0 or -EFAULT. Protections count as they do for the guest; the force variants
 * ignore them (ptrace). */
int cn_mm_copy_in(struct cn_mm *mm, uint64_t addr, void *buf, uint64_t n);
int cn_mm_copy_out(struct cn_mm *mm, uint64_t addr, const void *buf, uint64_t n);
int cn_mm_force_in(struct cn_mm *mm, uint64_t addr, void *buf, uint64_t n);
int cn_mm_force_out(struct cn_mm *mm, uint64_t addr, const void *buf, uint64_t n);
/* As much as there is: bytes or -EFAULT for none. */
int64_t cn_mm_read_some(struct cn_mm *mm, uint64_t addr, void *buf, uint64_t n);
int64_t cn_mm_write_some(struct cn_mm *mm, uint64_t addr, const void *buf, uint64_t n);
/* A string with its NUL: length without it; -ENAMETOOLONG when there is no NUL in max bytes. */
int64_t cn_mm_copy_str(struct cn_mm *mm, uint64_t addr, char *buf, uint64_t max);
int cn_mm_zero(struct cn_mm *mm, uint64_t addr, uint64_t n);

int cn_mm_store32(struct cn_mm *mm, uint64_t addr, uint32_t value);
/* Atomic operations on an aligned 32-bit word of the guest. old: value before. */
int cn_mm_load32(struct cn_mm *mm, uint64_t addr, uint32_t *value);
int cn_mm_cmpxchg32(struct cn_mm *mm, uint64_t addr, uint32_t expected, uint32_t desired,
                    uint32_t *old);
/* FUTEX_OP_*: op 0 set, 1 add, 2 or, 3 andn, 4 xor. */
int cn_mm_op32(struct cn_mm *mm, uint64_t addr, int op, uint32_t arg, uint32_t *old);
/* Identity of a word for futexes: (object id, offset) in a shared mapping, (address space id,
 * address) else. */
int cn_mm_futex_key(struct cn_mm *mm, uint64_t addr, int shared, uint64_t *object, uint64_t *off);

/* read(2)-like calls on a host descriptor straight to and from guest memory. off -1: at the file
 * position, and a short count after the first megabyte, because more may block; -2: at the file
 * position of a regular file. */
int64_t cn_mm_host_read(struct cn_mm *mm, int fd, uint64_t addr, uint64_t n, int64_t off);
int64_t cn_mm_host_write(struct cn_mm *mm, int fd, uint64_t addr, uint64_t n, int64_t off);
/* ... with the guest's array of count struct iovec at vec. */
int64_t cn_mm_host_readv(struct cn_mm *mm, int fd, uint64_t vec, uint32_t count, int64_t off);
int64_t cn_mm_host_writev(struct cn_mm *mm, int fd, uint64_t vec, uint32_t count, int64_t off);
/* The same for a MEM object. */
int64_t cn_mm_mobj_read(struct cn_mm *mm, struct cn_mobj *o, uint64_t addr, uint64_t n,
                        uint64_t off);
int64_t cn_mm_mobj_write(struct cn_mm *mm, struct cn_mobj *o, uint64_t addr, uint64_t n,
                         uint64_t off);
int64_t cn_mm_mobj_readv(struct cn_mm *mm, struct cn_mobj *o, uint64_t vec, uint32_t count,
                         uint64_t off);
int64_t cn_mm_mobj_writev(struct cn_mm *mm, struct cn_mobj *o, uint64_t vec, uint32_t count,
                          uint64_t off);

/* Fills up to max entries; the number there are. */
int cn_mm_vmas(struct cn_mm *mm, struct cn_vma_info *out, int max);
/* The VMA that holds addr: 0 or -ENOENT. */
int cn_mm_find(struct cn_mm *mm, uint64_t addr, struct cn_vma_info *out);
struct cn_mm_stats {
    uint64_t total, data, stack, locked, shared, anon; /* bytes */
    uint64_t brk_start, brk, peak_total;
    uint64_t id;
};
void cn_mm_get_stats(struct cn_mm *mm, struct cn_mm_stats *out);
/* Memory that is really there for the VMAs in [start, end), in bytes, by kind of page (as RssAnon,
 * RssFile, RssShmem). Asks the host page by page: for /proc, not for hot paths. */
struct cn_mm_rss {
    uint64_t anon, file, shmem;
    uint64_t peak; /* greatest sum that a call for the whole address space has seen */
};
void cn_mm_get_rss(struct cn_mm *mm, uint64_t start, uint64_t end, struct cn_mm_rss *out);
/* The anon part of that for the whole address space: cheaper, for the end of a process. */
uint64_t cn_mm_private_resident(struct cn_mm *mm);
/* cdef end */

struct cn_as *cn_mm_as(struct cn_mm *mm);

#endif

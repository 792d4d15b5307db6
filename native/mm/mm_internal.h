/* What the files of the memory manager share. Locks: mm->lock, then mobj->lock, then the memory
 * file's. */
#ifndef CORDON_MM_INTERNAL_H
#define CORDON_MM_INTERNAL_H

#include <sys/uio.h>

#include "../platform.h"
#include "mm.h"
#include "rtree.h"

/* A mapping. In the tree of VMAs the value of a node is the free space below it. */
struct vma {
    struct rnode n; /* in bytes */
    struct cn_mm *mm;
    struct cn_mobj *obj; /* NULL: private anonymous */
    u64 off, cookie;
    u32 prot, maxprot, flags;
    struct vma *onext, **olink; /* other mappings of a MEM object, under its lock */
};

/* Private pages of the guest range [n.start, n.end): memory file pages page... Each is inside a
 * private VMA, holds a reference of its pages, and is mapped in the guest with the VMA's
 * protection, without PROT_WRITE while cow. */
struct pma {
    struct rnode n; /* in bytes */
    u64 page;
    u32 cow; /* the pages may have other owners */
};

/* Pages the guest no longer has, but its host mappings may still show. */
struct limbo {
    u64 page, n;
};

/* Beyond either they are freed at the end of an operation. */
#define LIMBO_MAX   32
#define LIMBO_PAGES 128

/* Guest memory that the host works on while the lock is not held. */
struct pin {
    u64 page, n;
    struct cn_mobj *host;
};

#define BATCH_VECS 64

struct batch {
    struct iovec iov[BATCH_VECS];
    struct pin pin[BATCH_VECS];
    u32 count;
    u64 bytes;
    struct batch *next,
        **link; /* in mm->reads while guest memory is being written; link NULL: not */
};

/* Memory of the guest with trampolines of patched call sites (patch.h). */
#define TRAMPOLINE_REGIONS 8
struct trampolines {
    u64 addr;
    u32 used; /* bytes */
};

struct cn_mm {
    pthread_mutex_t lock;
    u32 refs;
    u64 id;
    struct cn_as *as;
    struct rtree vmas, pmas;
    struct limbo *limbo;
    u32 nlimbo, climbo;
    u64 limbo_pages;
    struct cn_mm_limits limits;
    u64 top, brk_start, brk;
    u64 total, locked, data, peak_total, peak_rss; /* bytes */
    struct batch *reads;
    u32 lock_future; /* what is mapped from now on is locked */
    u32 lock_lazily; /* and its pages come when they are touched (MCL_ONFAULT) */
    u32 lock_freely; /* RLIMIT_MEMLOCK does not count: CAP_IPC_LOCK, as of the last call that locks */
    u64 guessed[8];  /* pages of objects that were last mapped on a guess (see cn_mm_fault); a ring
                      */
    u32 nguessed;
    int broken; /* -errno of a host mapping that could not be queued */
    struct trampolines trampolines[TRAMPOLINE_REGIONS]; /* with K */
    u32 nregions;
};

#define MAX_VMAS   65530
#define STACK_GAP  (256 * CN_PAGE_SIZE)
#define MIN_ADDR   0x10000UL    /* vm.mmap_min_addr */
#define EAGER_MAX  (64UL << 20) /* a longer anonymous mapping gets its pages by faults */
#define CHUNK      (2UL << 20)  /* of so much at a time */
#define COW_WINDOW (64UL << 10)

static inline u64 page_down(u64 x)
{
    return x & CN_PAGE_MASK;
}

static inline u64 page_up(u64 x)
{
    return (x + CN_PAGE_SIZE - 1) & CN_PAGE_MASK;
}

static inline u64 min64(u64 a, u64 b)
{
    return a < b ? a : b;
}

static inline u64 max64(u64 a, u64 b)
{
    return a > b ? a : b;
}

static inline u64 pages(u64 bytes)
{
    return bytes >> CN_PAGE_SHIFT;
}

static inline int is_shared(const struct vma *v)
{
    return (v->flags & CN_VMA_SHARED) != 0;
}

static inline int maps_mem(const struct vma *v)
{
    return v->obj && !mobj_is_host(v->obj);
}

static inline int maps_host(const struct vma *v)
{
    return v->obj && mobj_is_host(v->obj);
}

/* Where addr lies in the VMA's object, in bytes. */
static inline u64 obj_off(const struct vma *v, u64 addr)
{
    return v->off + (addr - v->n.start);
}

static inline u64 pma_page(const struct pma *p, u64 addr)
{
    return p->page + pages(addr - p->n.start);
}

static inline struct vma *vma_next(const struct vma *v)
{
    return (struct vma *)rt_next(&v->n);
}

static inline struct pma *pma_next(const struct pma *p)
{
    return (struct pma *)rt_next(&p->n);
}

/* First one that ends after addr. */
static inline struct vma *vma_from(const struct cn_mm *mm, u64 addr)
{
    return (struct vma *)rt_find(&mm->vmas, addr);
}

static inline struct pma *pma_from(const struct cn_mm *mm, u64 addr)
{
    return (struct pma *)rt_find(&mm->pmas, addr);
}

static inline struct vma *vma_at(const struct cn_mm *mm, u64 addr)
{
    struct vma *v = vma_from(mm, addr);
    return v && v->n.start <= addr ? v : NULL;
}

static inline struct pma *pma_at(const struct cn_mm *mm, u64 addr)
{
    struct pma *p = pma_from(mm, addr);
    return p && p->n.start <= addr ? p : NULL;
}

u64 mm_new_id(void);
int mm_tryref(struct cn_mm *mm); /* 0 when it is being freed */
/* Unmaps pages [first, end) of a MEM object from the guest; even_private: private copies of them,
 * too. Lock not held. */
void mm_zap_object(struct cn_mm *mm, struct cn_mobj *o, u64 first, u64 end, int even_private);

/* Everything below: mm->lock held. */

/* vma.c */
struct vma *vma_new(struct cn_mm *mm, const struct vma *like, u64 start, u64 end);
/* Into and out of the tree and the counters. vma_free unlinks from the object and frees. */
void vma_insert(struct vma *v);
void vma_erase(struct vma *v);
void vma_free(struct vma *v);
void vma_resize(struct vma *v, u64 start, u64 end);
void vma_account(struct vma *v, i64 bytes);
int vma_split(struct cn_mm *mm, u64 addr);
/* Splits the VMAs that cross either end: 0 or -ENOMEM. */
int vma_isolate(struct cn_mm *mm, u64 start, u64 end);
/* Joins it with its neighbours where nothing tells them apart; the VMA that is left. */
struct vma *vma_merge(struct vma *v);
void vma_merge_range(struct cn_mm *mm, u64 start, u64 end);
/* Every page of the range is mapped. */
int vma_covers(struct cn_mm *mm, u64 start, u64 end);
/* Free space for len bytes in [low, high), as high as possible; 0 when there is none. */
u64 vma_gap(struct cn_mm *mm, u64 len, u64 low, u64 high);
int vma_range_free(struct cn_mm *mm, u64 start, u64 end);

/* pma.c */
/* New pages, one reference each (taken over): 0 or -ENOMEM. */
int pma_add(struct cn_mm *mm, u64 start, u64 end, u64 page, u32 cow);
/* Forgets the private pages of the range; they are freed when the host mappings no longer show
 * them. */
int pma_remove(struct cn_mm *mm, u64 start, u64 end);
/* Marks the part of p in [start, end) as cow or not; p may be gone afterwards. */
int pma_set_cow(struct cn_mm *mm, struct pma *p, u64 start, u64 end, u32 cow);
int pma_move(struct cn_mm *mm, u64 from, u64 to, u64 len);
void limbo_add(struct cn_mm *mm, u64 page, u64 n);
/* Frees them: the operations that unmap them are queued. */
void limbo_flush(struct cn_mm *mm);
/* Accessible anonymous memory without pages in the range gets them, if the VMA is not too big. 0 or
 * -ENOMEM. */
int pma_populate(struct cn_mm *mm, struct vma *v, u64 start, u64 end);
static inline void limbo_trim(struct cn_mm *mm)
{
    if (mm->nlimbo > LIMBO_MAX || mm->limbo_pages > LIMBO_PAGES)
        limbo_flush(mm);
}

/* Gives [start, end) of an anonymous VMA, which has no pages there, new ones and maps them. */
int pma_fill(struct cn_mm *mm, struct vma *v, u64 start, u64 end);

/* host.c: host mappings follow the tables. They queue; a failure is kept in mm->broken. */
u32 host_prot(u32 prot, int cow);
void host_map_pages(struct cn_mm *mm, u64 start, u64 end, u64 page, u32 prot);
/* The same for pages whose memory is there, and which the guest will touch soon. */
void host_map_present(struct cn_mm *mm, u64 start, u64 end, u64 page, u32 prot);
void host_unmap(struct cn_mm *mm, u64 start, u64 end);
/* ... of private memory that is anonymous or a host file's. */
void host_unmap_private(struct cn_mm *mm, u64 start, u64 end);
void host_protect(struct cn_mm *mm, u64 start, u64 end, u32 prot);
/* Maps everything of v that exists in the range. stale: something else may be mapped there now. */
int host_sync(struct cn_mm *mm, struct vma *v, u64 start, u64 end, int stale);
/* v->prot changed in the range: the same, cheaper. */
int host_reprotect(struct cn_mm *mm, struct vma *v, u64 start, u64 end);

/* map.c */
int mm_unmap(struct cn_mm *mm, u64 start, u64 end, int host);
/* May the address space grow by so many bytes of such mappings? 0, -ENOMEM or -EAGAIN. */
int mm_may_grow(struct cn_mm *mm, u64 bytes, u32 prot, u32 flags);
int mm_may_lock(const struct cn_mm *mm, u64 bytes);

/* fault.c */
/* Fresh private pages for [start, end), filled from src (sentry memory; NULL: zeros). */
int private_copy(struct cn_mm *mm, struct vma *v, u64 start, u64 end, const u8 *src);
/* Makes the page at addr of v fit for reading or writing by the guest. 0, -ENXIO beyond the end,
 * -ENOMEM. */
int fault_in(struct cn_mm *mm, struct vma *v, u64 addr, int write);
void forget_guesses(struct cn_mm *mm);
/* Does so for every page of the range: MAP_POPULATE. */
int fault_range(struct cn_mm *mm, u64 start, u64 end, int write);
/* The stack below which addr lies grows down to it: the VMA, or NULL. */
struct vma *stack_grow(struct cn_mm *mm, u64 addr);

/* query.c */
/* Makes what is mapped in the range resident, for mlock. 0 or -errno, -EFAULT beyond a file's end.
 */
int make_resident(struct cn_mm *mm, u64 start, u64 end);

/* copy.c */
/* A piece of guest memory in the sentry. */
struct piece {
    u8 *ptr;
    u64 n;
    u64 page;             /* memory file page of ptr, 0: none */
    struct cn_mobj *host; /* ptr is in a window of it (borrowed), or NULL */
};

/* The piece at addr, at most n bytes; force: whatever the protection says. 0 or -EFAULT. */
int piece_get(struct cn_mm *mm, u64 addr, u64 n, int write, int force, struct piece *out);

#endif

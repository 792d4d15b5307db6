/* What the files of the memory manager share. */
#ifndef CORDON_MM_INTERNAL_H
#define CORDON_MM_INTERNAL_H

#include "../platform.h"
#include "mm.h"

struct vma {
    u64 start, end, off, cookie;
    struct cn_mobj *obj; /* NULL: private anonymous */
    u32 prot, maxprot, flags;
};

/* Private pages: guest range -> memory file pages. */
struct pma {
    u64 start, end, page;
    u32 cow; /* may be shared: write-protected in the guest */
};

struct limbo {
    u64 page, n;
};

struct cn_mm {
    pthread_mutex_t lock;
    u32 refs;
    u64 id;
    struct cn_as *as;
    struct vma *v; /* sorted, disjoint */
    u32 nv, cv;
    struct pma *p; /* sorted, disjoint, each inside one or more private VMAs */
    u32 np, cp;
    struct limbo *limbo; /* pages unmapped here that the host mappings may still show */
    u32 nlimbo, climbo;
    u64 limbo_pages;
    struct cn_mm_limits limits;
    u64 top, brk_start, brk;
    u64 total, locked, peak_total;
    u32 lock_future;
};

#define MAX_VMAS 65530
#define STACK_GAP (256 * CN_PAGE_SIZE)

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

static inline int is_private_anon(const struct vma *v)
{
    return !v->obj;
}

static inline int is_shared(const struct vma *v)
{
    return (v->flags & CN_VMA_SHARED) != 0;
}

static inline u64 obj_index(const struct vma *v, u64 addr)
{
    return (v->off + (addr - v->start)) >> CN_PAGE_SHIFT;
}

/* tables.c: index of the first entry that ends after addr */
u32 vma_find(const struct cn_mm *mm, u64 addr);
u32 pma_find(const struct cn_mm *mm, u64 addr);
/* The VMA that holds addr, or NULL. */
struct vma *vma_at(const struct cn_mm *mm, u64 addr);
int vma_insert(struct cn_mm *mm, struct vma v);
int vma_split(struct cn_mm *mm, u64 addr);
void vma_merge(struct cn_mm *mm, u64 start, u64 end);
void vma_delete(struct cn_mm *mm, u32 from, u32 to);
int pma_insert(struct cn_mm *mm, struct pma p);
int pma_split(struct cn_mm *mm, u64 addr);
void pma_merge(struct cn_mm *mm, u64 start, u64 end);
/* Forgets private pages in [start, end); they are freed when the host mappings no longer show them. */
int pma_remove(struct cn_mm *mm, u64 start, u64 end);
void limbo_flush(struct cn_mm *mm, int force);
int limbo_add(struct cn_mm *mm, u64 page, u64 n);

/* host.c: host mappings follow the tables */
int host_map(struct cn_mm *mm, u64 start, u64 end);
int host_unmap(struct cn_mm *mm, u64 start, u64 end);
int host_protect(struct cn_mm *mm, u64 start, u64 end);

/* fault.c, under the lock: makes the page at addr present (and private for write). On success *p is the sentry's pointer to
 * addr, or NULL with *obj set for pages of a host file that are only there to read; *n bytes follow contiguously (<= n). */
int page_in(struct cn_mm *mm, u64 addr, u32 access, int force, u8 **p, struct vma **v, u64 *n);
/* Anonymous memory that becomes accessible: gives it pages now if the range is small. */
int populate_anon(struct cn_mm *mm, struct vma *v, u64 start, u64 end);

void mm_object_dropped(struct cn_mm *mm, struct cn_mobj *o, u64 first, u64 end);
int vma_growable(struct cn_mm *mm, u64 addr);

#endif

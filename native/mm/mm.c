/* Address spaces: life, fork, objects whose pages go away. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "memfile.h"
#include "mm_internal.h"

static int mm_alloc(struct cn_mm **out)
{
    struct cn_mm *mm = calloc(1, sizeof(*mm));
    int rc;

    if (!mm)
        return -ENOMEM;
    rc = cn_ops->as_new(cn_plat, &mm->as);
    if (rc < 0) {
        free(mm);
        return rc;
    }
    pthread_mutex_init(&mm->lock, NULL);
    mm->refs = 1;
    mm->id = mm_new_id();
    mm->limits = (struct cn_mm_limits){UINT64_MAX, UINT64_MAX, UINT64_MAX, UINT64_MAX};
    *out = mm;
    return 0;
}

int cn_mm_new(struct cn_mm **out)
{
    return mm_alloc(out);
}

void cn_mm_ref(struct cn_mm *mm)
{
    __atomic_add_fetch(&mm->refs, 1, __ATOMIC_RELAXED);
}

int mm_tryref(struct cn_mm *mm)
{
    u32 refs = __atomic_load_n(&mm->refs, __ATOMIC_RELAXED);

    while (refs)
        if (__atomic_compare_exchange_n(&mm->refs, &refs, refs + 1, 0, __ATOMIC_ACQ_REL,
                                        __ATOMIC_RELAXED))
            return 1;
    return 0;
}

void cn_mm_unref(struct cn_mm *mm)
{
    struct rnode *n;

    if (__atomic_sub_fetch(&mm->refs, 1, __ATOMIC_ACQ_REL))
        return;
    cn_ops->as_free(mm->as); /* no guest code runs on the pages any more */
    while ((n = mm->pmas.root)) {
        rt_erase(&mm->pmas, n);
        memfile_unref(((struct pma *)n)->page, pages(n->end - n->start));
        free(n);
    }
    for (u32 i = 0; i < mm->nlimbo; i++)
        memfile_unref(mm->limbo[i].page, mm->limbo[i].n);
    while ((n = mm->vmas.root)) {
        rt_erase(&mm->vmas, n);
        vma_free((struct vma *)n);
    }
    pthread_mutex_destroy(&mm->lock);
    free(mm->limbo);
    free(mm);
}

struct cn_as *cn_mm_as(struct cn_mm *mm)
{
    return mm->as;
}

void cn_mm_set_limits(struct cn_mm *mm, const struct cn_mm_limits *limits)
{
    pthread_mutex_lock(&mm->lock);
    mm->limits = *limits;
    pthread_mutex_unlock(&mm->lock);
}

void cn_mm_set_base(struct cn_mm *mm, u64 mmap_top, u64 brk_start)
{
    pthread_mutex_lock(&mm->lock);
    mm->top = page_down(mmap_top);
    mm->brk_start = mm->brk = brk_start;
    pthread_mutex_unlock(&mm->lock);
}

#define COPY_RUN    16UL /* a shorter run of writable pages is copied at fork, for so many in all */
#define COPY_TOTAL  64UL
#define STACK_BELOW (1 * CN_PAGE_SIZE)
#define STACK_ABOVE (3 * CN_PAGE_SIZE)

/* What a fork copies at once. */
struct early {
    u64 pages; /* that may still be copied */
    u64 sp;
};

/* How much of the parent's pages [at, *end) the child gets a copy of, instead of sharing them: all,
 * or none of [at, *end), which is cut so. Each copy saves two faults, if both write. */
static int copy_early(struct early *e, u64 at, u64 *end)
{
    u64 n = pages(*end - at), low, high;

    if (n <= COPY_RUN)
        return n <= e->pages;
    if (e->sp < at || e->sp >= *end || e->pages < pages(STACK_BELOW + STACK_ABOVE))
        return 0;
    low = max64(at, page_down(e->sp) - STACK_BELOW);
    high = min64(*end, page_down(e->sp) + STACK_ABOVE);
    *end = at < low ? low : high;
    return at >= low;
}

/* 1: done, 0: it can't be. */
static int copy_pages(struct cn_mm *child, u64 at, u64 end, u64 from, struct early *e)
{
    u64 n = pages(end - at);
    i64 page;

    if (!memfile_has_data(from, n)) {
        page = memfile_alloc(n, 0, pages(at));
    } else {
        page = memfile_alloc_copy(n, 0, memfile_ptr(from), end - at);
    }
    if (page < 0)
        return 0;
    if (pma_add(child, at, end, (u64)page, 0) < 0) {
        memfile_unref((u64)page, n);
        return 0;
    }
    e->pages -= n;
    return 1;
}

/* The private pages of v become shared with the child. The parent loses write access to them. */
static int share_pages(struct cn_mm *parent, struct cn_mm *child, struct vma *v, struct early *e)
{
    u64 at = v->n.start, end;
    struct pma *p;
    int rc;

    while (at < v->n.end && (p = pma_from(parent, at)) && p->n.start < v->n.end) {
        at = max64(p->n.start, at);
        end = min64(p->n.end, v->n.end);
        u64 page = pma_page(p, at);
        if (e && !p->cow && v->prot & PROT_WRITE && copy_early(e, at, &end) &&
            copy_pages(child, at, end, page, e)) {
            at = end;
            continue;
        }
        rc = pma_add(child, at, end, page, 1);
        if (rc < 0)
            return rc;
        memfile_ref(page, pages(end - at));
        if (!p->cow) {
            rc = pma_set_cow(parent, p, at, end, 1);
            if (rc < 0)
                return rc;
            if (v->prot & PROT_WRITE)
                host_protect(parent, at, end, host_prot(v->prot, 1));
        }
        at = end;
    }
    return 0;
}

static int fork_vma(struct cn_mm *parent, struct cn_mm *child, struct vma *v, struct early *e)
{
    struct vma *copy;
    int rc = 0;

    if (v->flags & CN_VMA_DONTFORK)
        return 0;
    copy = vma_new(child, v, v->n.start, v->n.end);
    if (!copy)
        return -ENOMEM;
    copy->flags &= ~(u32)CN_VMA_LOCKED;
    vma_insert(copy);
    if (v->flags & CN_VMA_WIPEONFORK)
        return pma_populate(child, copy, copy->n.start, copy->n.end);
    if (!is_shared(v))
        rc = share_pages(parent, child, v, e);
    return rc < 0 ? rc : host_sync(child, copy, copy->n.start, copy->n.end, 0);
}

/*
 * A read that is under way writes to pages of the parent. They stay the parent's own, writable, and
 * the child gets a copy now: otherwise a write of the parent's would move it to another page, and
 * what is read later would be lost.
 */
static int unshare_pinned(struct cn_mm *parent, struct cn_mm *child, const struct pin *pin)
{
    struct pma *p = pma_from(child, 0), *own;
    int rc = 0;

    while (p && !rc) {
        u64 n = pages(p->n.end - p->n.start), end = p->n.end;
        if (p->page < pin->page + pin->n && pin->page < p->page + n) {
            u64 first = max64(p->page, pin->page), stop = min64(p->page + n, pin->page + pin->n);
            u64 from = p->n.start + ((first - p->page) << CN_PAGE_SHIFT);
            u64 to = from + ((stop - first) << CN_PAGE_SHIFT);
            struct vma *v = vma_at(parent, from), *copy = vma_at(child, from);
            to = min64(to, v->n.end); /* the rest, if any, is found in the next round */
            end = to;
            rc = private_copy(child, copy, from, to, memfile_ptr(first));
            own = pma_at(parent, from);
            if (!rc && own && own->cow) {
                rc = pma_set_cow(parent, own, from, to, 0);
                host_protect(parent, from, to, v->prot);
            }
        }
        p = pma_from(child, end);
    }
    return rc;
}

static int fork_mm(struct cn_mm *parent, struct early *e, struct cn_mm **out)
{
    struct cn_mm *child;
    int rc = mm_alloc(&child);

    if (rc < 0)
        return rc;
    pthread_mutex_lock(&parent->lock);
    child->limits = parent->limits;
    child->top = parent->top;
    child->brk_start = parent->brk_start;
    child->brk = parent->brk;
    memcpy(child->trampolines, parent->trampolines, sizeof(child->trampolines));
    child->nregions = parent->nregions;
    for (struct vma *v = vma_from(parent, 0); v && !rc; v = vma_next(v))
        rc = fork_vma(parent, child, v, e);
    for (struct batch *b = parent->reads; b && !rc; b = b->next)
        for (u32 i = 0; i < b->count && !rc; i++)
            if (b->pin[i].page)
                rc = unshare_pinned(parent, child, &b->pin[i]);
    limbo_flush(child);
    /* Other threads of the parent must not write to pages that the child sees. */
    cn_ops->as_sync(parent->as);
    limbo_flush(parent);
    pthread_mutex_unlock(&parent->lock);
    if (rc < 0) {
        cn_mm_unref(child);
        return rc;
    }
    *out = child;
    return 0;
}

int cn_mm_fork(struct cn_mm *parent, struct cn_mm **out)
{
    return fork_mm(parent, NULL, out);
}

int cn_mm_fork_alone(struct cn_mm *parent, u64 sp, struct cn_mm **out)
{
    struct early e = {COPY_TOTAL, sp};

    return fork_mm(parent, &e, out);
}

/* Unmaps the part of v that shows pages [first, end) of its object. */
static void zap(struct cn_mm *mm, struct vma *v, u64 first, u64 end, int even_private)
{
    u64 base = pages(v->off), n = pages(v->n.end - v->n.start);
    u64 from = max64(first, base), to = min64(end, base + n);
    u64 start = v->n.start + ((from - base) << CN_PAGE_SHIFT),
        stop = v->n.start + ((to - base) << CN_PAGE_SHIFT);

    if (from >= to)
        return;
    if (!is_shared(v) && even_private)
        pma_remove(mm, start, stop);
    for (u64 at = start; at < stop;) {
        struct pma *p = is_shared(v) ? NULL : pma_from(mm, at);
        u64 gap = p && p->n.start < stop ? p->n.start : stop;
        if (at < gap)
            host_unmap(mm, at, gap);
        at = p && p->n.start < stop ? p->n.end : stop;
    }
}

void mm_zap_object(struct cn_mm *mm, struct cn_mobj *o, u64 first, u64 end, int even_private)
{
    pthread_mutex_lock(&mm->lock);
    for (struct vma *v = vma_from(mm, 0); v; v = vma_next(v))
        if (v->obj == o)
            zap(mm, v, first, end, even_private);
    cn_ops->as_sync(mm->as);
    limbo_flush(mm);
    pthread_mutex_unlock(&mm->lock);
}

/* The tree of VMAs. */
#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "mm_internal.h"

/* Free space below a VMA, the guard gap of a stack not counted. */
static void fix_gap(struct vma *v)
{
    struct rnode *below = rt_prev(&v->n);
    u64 from = below ? below->end : 0, guard = v->flags & CN_VMA_GROWSDOWN ? STACK_GAP : 0;
    u64 gap = v->n.start - from;

    rt_set_val(&v->n, gap > guard ? gap - guard : 0);
}

struct vma *vma_new(struct cn_mm *mm, const struct vma *like, u64 start, u64 end)
{
    struct vma *v = malloc(sizeof(*v));

    if (!v)
        return NULL;
    *v = *like;
    v->mm = mm;
    v->n.start = start;
    v->n.end = end;
    v->n.val = 0;
    if (like->n.end && v->obj)
        v->off = like->off + (start - like->n.start);
    if (v->obj) {
        cn_mobj_ref(v->obj);
        mobj_link(v->obj, v);
    }
    return v;
}

void vma_free(struct vma *v)
{
    if (v->obj) {
        mobj_unlink(v->obj, v);
        cn_mobj_unref(v->obj);
    }
    free(v);
}

/* As is_data_mapping() counts for RLIMIT_DATA: private, writable, no stack. */
static int is_data(u32 prot, u32 flags)
{
    return prot & PROT_WRITE && !(flags & (CN_VMA_SHARED | CN_VMA_GROWSDOWN));
}

void vma_account(struct vma *v, i64 bytes)
{
    struct cn_mm *mm = v->mm;

    mm->total += (u64)bytes;
    mm->peak_total = max64(mm->total, mm->peak_total);
    if (is_data(v->prot, v->flags))
        mm->data += (u64)bytes;
    if (v->flags & CN_VMA_LOCKED)
        mm->locked += (u64)bytes;
}

void vma_insert(struct vma *v)
{
    struct vma *next;

    rt_insert(&v->mm->vmas, &v->n);
    fix_gap(v);
    next = vma_next(v);
    if (next)
        fix_gap(next);
    vma_account(v, (i64)(v->n.end - v->n.start));
}

void vma_erase(struct vma *v)
{
    struct vma *next = vma_next(v);

    vma_account(v, -(i64)(v->n.end - v->n.start));
    rt_erase(&v->mm->vmas, &v->n);
    if (next)
        fix_gap(next);
}

void vma_resize(struct vma *v, u64 start, u64 end)
{
    struct vma *next = vma_next(v);

    vma_account(v, (i64)(end - start) - (i64)(v->n.end - v->n.start));
    if (v->obj)
        v->off += start - v->n.start;
    v->n.start = start;
    v->n.end = end;
    fix_gap(v);
    if (next)
        fix_gap(next);
}

int vma_split(struct cn_mm *mm, u64 addr)
{
    struct vma *v = vma_at(mm, addr), *upper;

    if (!v || v->n.start == addr)
        return 0;
    if (mm->vmas.count >= MAX_VMAS)
        return -ENOMEM;
    upper = vma_new(mm, v, addr, v->n.end);
    if (!upper)
        return -ENOMEM;
    vma_resize(v, v->n.start, addr);
    vma_insert(upper);
    return 0;
}

int vma_isolate(struct cn_mm *mm, u64 start, u64 end)
{
    int rc = vma_split(mm, start);

    return rc < 0 ? rc : vma_split(mm, end);
}

static int mergeable(const struct vma *a, const struct vma *b)
{
    return a->n.end == b->n.start && a->obj == b->obj && a->prot == b->prot &&
           a->maxprot == b->maxprot && a->flags == b->flags && a->cookie == b->cookie &&
           (!a->obj || a->off + (a->n.end - a->n.start) == b->off);
}

struct vma *vma_merge(struct vma *v)
{
    struct vma *next = vma_next(v), *prev = (struct vma *)rt_prev(&v->n);
    u64 end;

    if (next && mergeable(v, next)) {
        end = next->n.end;
        vma_erase(next);
        vma_free(next);
        vma_resize(v, v->n.start, end);
    }
    if (prev && mergeable(prev, v)) {
        end = v->n.end;
        vma_erase(v);
        vma_free(v);
        vma_resize(prev, prev->n.start, end);
        v = prev;
    }
    return v;
}

void vma_merge_range(struct cn_mm *mm, u64 start, u64 end)
{
    struct vma *v = vma_from(mm, start ? start - 1 : 0);

    while (v && v->n.start <= end)
        v = vma_next(vma_merge(v));
}

int vma_covers(struct cn_mm *mm, u64 start, u64 end)
{
    struct vma *v = vma_from(mm, start);

    while (v && v->n.start <= start) {
        start = v->n.end;
        if (start >= end)
            return 1;
        v = vma_next(v);
    }
    return start >= end;
}

/* The part of [from, to) in [low, high) holds len bytes: where, as high as possible, or 0. */
static u64 fit(u64 from, u64 to, u64 len, u64 low, u64 high)
{
    from = max64(from, low);
    to = min64(to, high);
    return from < to && to - from >= len ? to - len : 0;
}

u64 vma_gap(struct cn_mm *mm, u64 len, u64 low, u64 high)
{
    struct vma *v = vma_from(mm, high - 1);
    struct rnode *below = v ? rt_prev(&v->n) : rt_last(&mm->vmas);
    u64 addr;

    /* The space under high itself: between what is below it and high or the VMA that crosses or
     * follows it. */
    if (v)
        addr = fit(below ? below->end : 0, (below ? below->end : 0) + v->n.val, len, low, high);
    else
        addr = fit(below ? below->end : 0, high, len, low, high);
    for (below = v ? &v->n : below; !addr && below; below = rt_before(below, len)) {
        struct rnode *under = rt_prev(below);
        u64 from = under ? under->end : 0;
        addr = fit(from, from + below->val, len, low, high);
        if (below->start <= low)
            break;
    }
    return addr;
}

int vma_range_free(struct cn_mm *mm, u64 start, u64 end)
{
    struct vma *v = vma_from(mm, start);

    return !v || v->n.start >= end;
}

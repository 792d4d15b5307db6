/* The sorted tables of an address space: VMAs and private pages. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "memfile.h"
#include "mm_internal.h"

u32 vma_find(const struct cn_mm *mm, u64 addr)
{
    u32 lo = 0, hi = mm->nv;

    while (lo < hi) {
        u32 mid = (lo + hi) / 2;
        if (mm->v[mid].end <= addr)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

u32 pma_find(const struct cn_mm *mm, u64 addr)
{
    u32 lo = 0, hi = mm->np;

    while (lo < hi) {
        u32 mid = (lo + hi) / 2;
        if (mm->p[mid].end <= addr)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

struct vma *vma_at(const struct cn_mm *mm, u64 addr)
{
    u32 i = vma_find(mm, addr);
    return i < mm->nv && mm->v[i].start <= addr ? &mm->v[i] : NULL;
}

int vma_insert(struct cn_mm *mm, struct vma v)
{
    if (mm->nv == mm->cv) {
        u32 c = mm->cv ? 2 * mm->cv : 32;
        struct vma *bigger = realloc(mm->v, c * sizeof(*bigger));
        if (!bigger)
            return -ENOMEM;
        mm->v = bigger;
        mm->cv = c;
    }
    u32 at = vma_find(mm, v.start);
    memmove(&mm->v[at + 1], &mm->v[at], (mm->nv - at) * sizeof(v));
    mm->v[at] = v;
    mm->nv++;
    return 0;
}

int vma_split(struct cn_mm *mm, u64 addr)
{
    struct vma *v = vma_at(mm, addr);

    if (!v || v->start == addr)
        return 0;
    struct vma upper = *v;
    upper.start = addr;
    upper.off += upper.obj ? addr - v->start : 0;
    v->end = addr;
    int rc = vma_insert(mm, upper);
    if (rc < 0)
        vma_at(mm, addr - 1)->end = upper.end;
    else if (upper.obj)
        cn_mobj_ref(upper.obj);
    return rc;
}

static int mergeable(const struct vma *a, const struct vma *b)
{
    return a->end == b->start && a->obj == b->obj && a->prot == b->prot && a->maxprot == b->maxprot &&
           a->flags == b->flags && a->cookie == b->cookie && (!a->obj || a->off + (a->end - a->start) == b->off);
}

void vma_merge(struct cn_mm *mm, u64 start, u64 end)
{
    u32 i = vma_find(mm, start ? start - 1 : 0);

    while (i + 1 < mm->nv && mm->v[i].start <= end) {
        if (!mergeable(&mm->v[i], &mm->v[i + 1])) {
            i++;
            continue;
        }
        mm->v[i].end = mm->v[i + 1].end;
        if (mm->v[i + 1].obj)
            cn_mobj_unref(mm->v[i + 1].obj);
        memmove(&mm->v[i + 1], &mm->v[i + 2], (mm->nv - i - 2) * sizeof(*mm->v));
        mm->nv--;
    }
}

void vma_delete(struct cn_mm *mm, u32 from, u32 to)
{
    for (u32 i = from; i < to; i++) {
        mm->total -= mm->v[i].end - mm->v[i].start;
        if (mm->v[i].flags & CN_VMA_LOCKED)
            mm->locked -= mm->v[i].end - mm->v[i].start;
    }
    for (u32 i = from; i < to; i++) {
        struct cn_mobj *o = mm->v[i].obj;
        if (!o)
            continue;
        if (!mobj_is_host(o)) {
            int others = 0;
            for (u32 k = 0; k < mm->nv && !others; k++)
                others = (k < from || k >= to) && mm->v[k].obj == o;
            if (!others)
                mobj_remove_mapper(o, mm);
        }
        cn_mobj_unref(o);
    }
    memmove(&mm->v[from], &mm->v[to], (mm->nv - to) * sizeof(*mm->v));
    mm->nv -= to - from;
}

int pma_insert(struct cn_mm *mm, struct pma p)
{
    if (mm->np == mm->cp) {
        u32 c = mm->cp ? 2 * mm->cp : 32;
        struct pma *bigger = realloc(mm->p, c * sizeof(*bigger));
        if (!bigger)
            return -ENOMEM;
        mm->p = bigger;
        mm->cp = c;
    }
    u32 at = pma_find(mm, p.start);
    memmove(&mm->p[at + 1], &mm->p[at], (mm->np - at) * sizeof(p));
    mm->p[at] = p;
    mm->np++;
    return 0;
}

int pma_split(struct cn_mm *mm, u64 addr)
{
    u32 i = pma_find(mm, addr);

    if (i == mm->np || mm->p[i].start >= addr)
        return 0;
    struct pma upper = mm->p[i];
    upper.page += (addr - upper.start) >> CN_PAGE_SHIFT;
    upper.start = addr;
    mm->p[i].end = addr;
    int rc = pma_insert(mm, upper);
    if (rc < 0)
        mm->p[i].end = upper.end;
    return rc;
}

void pma_merge(struct cn_mm *mm, u64 start, u64 end)
{
    u32 i = pma_find(mm, start ? start - 1 : 0);

    while (i + 1 < mm->np && mm->p[i].start <= end) {
        struct pma *a = &mm->p[i], *b = a + 1;
        if (a->end != b->start || a->cow != b->cow || a->page + ((a->end - a->start) >> CN_PAGE_SHIFT) != b->page) {
            i++;
            continue;
        }
        a->end = b->end;
        memmove(b, b + 1, (mm->np - i - 2) * sizeof(*b));
        mm->np--;
    }
}

int limbo_add(struct cn_mm *mm, u64 page, u64 n)
{
    if (mm->nlimbo == mm->climbo) {
        u32 c = mm->climbo ? 2 * mm->climbo : 16;
        struct limbo *bigger = realloc(mm->limbo, c * sizeof(*bigger));
        if (!bigger)
            return -ENOMEM;
        mm->limbo = bigger;
        mm->climbo = c;
    }
    mm->limbo[mm->nlimbo++] = (struct limbo){page, n};
    mm->limbo_pages += n;
    return 0;
}

/* Frees the pages in limbo, after the host mappings that showed them are gone. */
void limbo_flush(struct cn_mm *mm, int force)
{
    if (!mm->nlimbo || (!force && mm->nlimbo < 64 && mm->limbo_pages < 256))
        return;
    if (cn_ops->as_sync(mm->as) < 0 && !force)
        return;
    for (u32 i = 0; i < mm->nlimbo; i++)
        memfile_unref(mm->limbo[i].page, mm->limbo[i].n);
    mm->nlimbo = 0;
    mm->limbo_pages = 0;
}

int pma_remove(struct cn_mm *mm, u64 start, u64 end)
{
    int rc = pma_split(mm, start);

    if (!rc)
        rc = pma_split(mm, end);
    if (rc < 0)
        return rc;
    u32 i = pma_find(mm, start), j = i;
    for (; j < mm->np && mm->p[j].start < end; j++)
        if ((rc = limbo_add(mm, mm->p[j].page, (mm->p[j].end - mm->p[j].start) >> CN_PAGE_SHIFT)) < 0)
            break;
    memmove(&mm->p[i], &mm->p[j], (mm->np - j) * sizeof(*mm->p));
    mm->np -= j - i;
    return rc;
}

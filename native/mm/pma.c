/* Private pages of an address space, and those that left it. */
#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "memfile.h"
#include "mm_internal.h"

static struct pma *pma_new(u64 start, u64 end, u64 page, u32 cow)
{
    struct pma *p = malloc(sizeof(*p));

    if (!p)
        return NULL;
    p->n.start = start;
    p->n.end = end;
    p->n.val = 0;
    p->page = page;
    p->cow = cow;
    return p;
}

static int continues(const struct pma *a, const struct pma *b)
{
    return a->n.end == b->n.start && a->cow == b->cow &&
           a->page + pages(a->n.end - a->n.start) == b->page;
}

static void merge(struct cn_mm *mm, struct pma *p)
{
    struct pma *next = pma_next(p), *prev = (struct pma *)rt_prev(&p->n);

    if (next && continues(p, next)) {
        p->n.end = next->n.end;
        rt_erase(&mm->pmas, &next->n);
        free(next);
    }
    if (prev && continues(prev, p)) {
        prev->n.end = p->n.end;
        rt_erase(&mm->pmas, &p->n);
        free(p);
    }
}

int pma_add(struct cn_mm *mm, u64 start, u64 end, u64 page, u32 cow)
{
    struct pma *next = pma_from(mm, start);
    struct pma *prev = (struct pma *)(next ? rt_prev(&next->n) : rt_last(&mm->pmas));
    struct pma *p;

    if (prev && prev->n.end == start && prev->cow == cow &&
        prev->page + pages(start - prev->n.start) == page) {
        prev->n.end = end;
        merge(mm, prev);
        return 0;
    }
    if (next && end == next->n.start && cow == next->cow &&
        page + pages(end - start) == next->page) {
        next->n.start = start;
        next->page = page;
        return 0;
    }
    p = pma_new(start, end, page, cow);
    if (!p)
        return -ENOMEM;
    rt_insert(&mm->pmas, &p->n);
    return 0;
}

static int split(struct cn_mm *mm, u64 addr)
{
    struct pma *p = pma_at(mm, addr), *upper;

    if (!p || p->n.start == addr)
        return 0;
    upper = pma_new(addr, p->n.end, pma_page(p, addr), p->cow);
    if (!upper)
        return -ENOMEM;
    p->n.end = addr;
    rt_insert(&mm->pmas, &upper->n);
    return 0;
}

void limbo_flush(struct cn_mm *mm)
{
    if (!mm->nlimbo)
        return;
    cn_ops->as_sync(mm->as);
    while (mm->nlimbo) {
        mm->nlimbo--;
        memfile_unref(mm->limbo[mm->nlimbo].page, mm->limbo[mm->nlimbo].n);
    }
    mm->limbo_pages = 0;
}

/* Out of memory, the pages are lost until the sandbox ends. */
void limbo_add(struct cn_mm *mm, u64 page, u64 n)
{
    struct limbo *last = mm->nlimbo ? &mm->limbo[mm->nlimbo - 1] : NULL;

    if (last && last->page + last->n == page) {
        last->n += n;
    } else {
        if (mm->nlimbo == mm->climbo) {
            u32 c = mm->climbo ? 2 * mm->climbo : LIMBO_MAX;
            struct limbo *bigger = realloc(mm->limbo, c * sizeof(*bigger));
            if (!bigger)
                return;
            mm->limbo = bigger;
            mm->climbo = c;
        }
        mm->limbo[mm->nlimbo++] = (struct limbo){page, n};
    }
    mm->limbo_pages += n;
}

int pma_remove(struct cn_mm *mm, u64 start, u64 end)
{
    int rc = split(mm, start);
    struct pma *p, *next;

    if (!rc)
        rc = split(mm, end);
    if (rc < 0)
        return rc;
    for (p = pma_from(mm, start); p && p->n.start < end; p = next) {
        next = pma_next(p);
        rt_erase(&mm->pmas, &p->n);
        limbo_add(mm, p->page, pages(p->n.end - p->n.start));
        free(p);
    }
    return 0;
}

int pma_set_cow(struct cn_mm *mm, struct pma *p, u64 start, u64 end, u32 cow)
{
    int rc = 0;

    start = max64(start, p->n.start);
    end = min64(end, p->n.end);
    if (p->cow == cow)
        return 0;
    if (p->n.start < start)
        rc = split(mm, start);
    if (!rc && end < pma_at(mm, start)->n.end)
        rc = split(mm, end);
    if (rc < 0)
        return rc;
    p = pma_at(mm, start);
    p->cow = cow;
    merge(mm, p);
    return 0;
}

int pma_move(struct cn_mm *mm, u64 from, u64 to, u64 len)
{
    int rc = split(mm, from);
    struct pma *p;

    if (!rc)
        rc = split(mm, from + len);
    if (rc < 0)
        return rc;
    while ((p = pma_from(mm, from)) && p->n.start < from + len) {
        rt_erase(&mm->pmas, &p->n);
        p->n.start += to - from;
        p->n.end += to - from;
        rt_insert(&mm->pmas, &p->n);
        merge(mm, p);
    }
    return 0;
}

int pma_fill(struct cn_mm *mm, struct vma *v, u64 start, u64 end)
{
    struct pma *next = pma_from(mm, start);
    struct pma *prev = (struct pma *)(next ? rt_prev(&next->n) : rt_last(&mm->pmas));
    u64 near = prev && prev->n.end == start ? pma_page(prev, start) : 0;
    i64 page = memfile_alloc_used(pages(end - start), near);
    int present = page >= 0;

    if (!present)
        page = memfile_alloc(pages(end - start), near, pages(start));
    if (page < 0)
        return (int)page;
    if (pma_add(mm, start, end, (u64)page, 0) < 0) {
        memfile_unref((u64)page, pages(end - start));
        return -ENOMEM;
    }
    if (present)
        host_map_present(mm, start, end, (u64)page, host_prot(v->prot, 0));
    else
        host_map_pages(mm, start, end, (u64)page, host_prot(v->prot, 0));
    return 0;
}

int pma_populate(struct cn_mm *mm, struct vma *v, u64 start, u64 end)
{
    int rc;

    if (v->obj || v->prot == PROT_NONE || end - start > EAGER_MAX)
        return 0;
    while (start < end) {
        struct pma *p = pma_from(mm, start);
        u64 stop = p && p->n.start < end ? p->n.start : end;
        if (start < stop) {
            rc = pma_fill(mm, v, start, stop);
            if (rc < 0)
                return rc;
        }
        start = p && p->n.start < end ? p->n.end : end;
    }
    return 0;
}

/*
 * The host mappings of an address space follow its tables.
 *
 * Invariant: host-mapped are exactly the private pages (write-protected when cow), the parts of host files that no private
 * page covers, and those pages of MEM objects that existed when they were last looked at here.
 */
#include <errno.h>
#include <sys/mman.h>

#include "memfile.h"
#include "mm_internal.h"

struct pending {
    struct cn_hostop op;
    int valid;
};

/* Queues *next after joining it with the operation before it where both are one. */
static int push(struct cn_mm *mm, struct pending *last, struct cn_hostop next)
{
    struct cn_hostop *op = &last->op;
    int rc = 0;

    if (last->valid && op->kind == next.kind && op->addr + op->len == next.addr && op->prot == next.prot &&
        (op->kind != CN_OP_MAP || (op->fd == next.fd && op->shared == next.shared && op->off + op->len == next.off))) {
        op->len += next.len;
        return 0;
    }
    if (last->valid)
        rc = cn_ops->as_queue(mm->as, op);
    *op = next;
    last->valid = 1;
    return rc;
}

static int finish(struct cn_mm *mm, struct pending *last)
{
    return last->valid ? cn_ops->as_queue(mm->as, &last->op) : 0;
}

static u32 host_prot(const struct vma *v, int cow)
{
    return cow ? v->prot & ~(u32)PROT_WRITE : v->prot;
}

/* Pages of the object in [start, end) of the VMA that are not private here. */
static int map_object(struct cn_mm *mm, struct vma *v, u64 start, u64 end, struct pending *last)
{
    struct cn_hostop op = {.kind = CN_OP_MAP, .addr = start, .len = end - start, .shared = 1};
    int rc = 0;

    if (mobj_is_host(v->obj)) {
        op.fd = mobj_handle(v->obj);
        if (op.fd < 0)
            return op.fd;
        op.shared = is_shared(v);
        op.prot = host_prot(v, !is_shared(v));
        op.off = v->off + (start - v->start);
        return push(mm, last, op);
    }
    op.prot = host_prot(v, !is_shared(v));
    while (start < end && !rc) {
        u64 n;
        u64 page = mobj_page(v->obj, obj_index(v, start), &n);
        u64 len = n < (end - start) >> CN_PAGE_SHIFT ? n << CN_PAGE_SHIFT : end - start;
        if (page) {
            op.addr = start;
            op.len = len;
            op.off = page << CN_PAGE_SHIFT;
            rc = push(mm, last, op);
        }
        start += len;
    }
    return rc;
}

int host_map(struct cn_mm *mm, u64 start, u64 end)
{
    struct pending last = {.valid = 0};
    int rc = 0;

    for (u32 i = vma_find(mm, start); i < mm->nv && mm->v[i].start < end && !rc; i++) {
        struct vma *v = &mm->v[i];
        u64 at = max64(start, v->start), stop = min64(end, v->end);
        u32 k = pma_find(mm, at);
        while (at < stop && !rc) {
            struct pma *p = k < mm->np && mm->p[k].start < stop ? &mm->p[k] : NULL;
            u64 gap = p ? max64(at, p->start) : stop;
            if (at < gap && v->obj)
                rc = map_object(mm, v, at, gap, &last);
            at = gap;
            if (p && !rc && !is_shared(v)) {
                u64 until = min64(stop, p->end);
                struct cn_hostop op = {.kind = CN_OP_MAP, .addr = at, .len = until - at, .shared = 1,
                                       .prot = host_prot(v, (int)p->cow),
                                       .off = (p->page << CN_PAGE_SHIFT) + (at - p->start)};
                rc = push(mm, &last, op);
                at = until;
                k++;
            }
        }
    }
    if (!rc)
        rc = finish(mm, &last);
    return rc;
}

int host_unmap(struct cn_mm *mm, u64 start, u64 end)
{
    struct cn_hostop op = {.kind = CN_OP_UNMAP, .addr = start, .len = end - start};
    return cn_ops->as_queue(mm->as, &op);
}

int host_protect(struct cn_mm *mm, u64 start, u64 end)
{
    struct pending last = {.valid = 0};
    int rc = 0;

    for (u32 i = vma_find(mm, start); i < mm->nv && mm->v[i].start < end && !rc; i++) {
        struct vma *v = &mm->v[i];
        u64 at = max64(start, v->start), stop = min64(end, v->end);
        if (is_shared(v) || (v->obj && !mobj_is_host(v->obj))) { /* pages may have come since: map anew */
            rc = finish(mm, &last);
            last.valid = 0;
            if (!rc)
                rc = host_map(mm, at, stop);
            continue;
        }
        u32 k = pma_find(mm, at);
        while (at < stop && !rc) {
            struct pma *p = k < mm->np && mm->p[k].start < stop ? &mm->p[k] : NULL;
            u64 gap = p ? max64(at, p->start) : stop;
            struct cn_hostop op = {.kind = CN_OP_PROTECT, .addr = at, .len = gap - at, .prot = host_prot(v, 1)};
            if (at < gap && v->obj)
                rc = push(mm, &last, op);
            at = gap;
            if (p && !rc) {
                u64 until = min64(stop, p->end);
                op = (struct cn_hostop){.kind = CN_OP_PROTECT, .addr = at, .len = until - at,
                                        .prot = host_prot(v, (int)p->cow)};
                rc = push(mm, &last, op);
                at = until;
                k++;
            }
        }
    }
    if (!rc)
        rc = finish(mm, &last);
    return rc;
}

/* Pages [first, end) of the object are gone: they must not be seen any more. Called with K, before they are freed. */
void mm_object_dropped(struct cn_mm *mm, struct cn_mobj *o, u64 first, u64 end)
{
    pthread_mutex_lock(&mm->lock);
    for (u32 i = 0; i < mm->nv; i++) {
        struct vma *v = &mm->v[i];
        if (v->obj != o)
            continue;
        u64 v_first = v->off >> CN_PAGE_SHIFT, v_end = v_first + ((v->end - v->start) >> CN_PAGE_SHIFT);
        u64 lo = max64(first, v_first), hi = min64(end, v_end);
        if (lo >= hi)
            continue;
        u64 start = v->start + ((lo - v_first) << CN_PAGE_SHIFT), stop = v->start + ((hi - v_first) << CN_PAGE_SHIFT);
        host_unmap(mm, start, stop);
        if (!is_shared(v))
            host_map(mm, start, stop); /* private copies stay */
    }
    cn_ops->as_sync(mm->as);
    pthread_mutex_unlock(&mm->lock);
}

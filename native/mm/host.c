/* The guest's host mappings follow the tables: this file turns them into operations of the
 * platform. */
#include <sys/mman.h>

#include "mm_internal.h"

static void queue(struct cn_mm *mm, const struct cn_hostop *op)
{
    int rc = cn_ops->as_queue(mm->as, op);

    if (CN_UNLIKELY(rc < 0))
        mm->broken = rc;
}

/* What the host is told: pages with other owners are not writable, but readable if they were
 * writable, as x86 has it. */
u32 host_prot(u32 prot, int cow)
{
    return cow && prot & PROT_WRITE ? (prot & ~(u32)PROT_WRITE) | PROT_READ : prot;
}

static void map_pages(struct cn_mm *mm, u64 start, u64 end, u64 page, u32 prot, u32 populate)
{
    struct cn_hostop op = {.kind = CN_OP_MAP,
                           .prot = prot,
                           .addr = start,
                           .len = end - start,
                           .shared = 1,
                           .populate = populate,
                           .off = page << CN_PAGE_SHIFT};

    queue(mm, &op);
}

void host_map_pages(struct cn_mm *mm, u64 start, u64 end, u64 page, u32 prot)
{
    map_pages(mm, start, end, page, prot, 0);
}

void host_map_present(struct cn_mm *mm, u64 start, u64 end, u64 page, u32 prot)
{
    map_pages(mm, start, end, page, prot, 1);
}

static int map_file(struct cn_mm *mm, struct vma *v, u64 start, u64 end)
{
    struct cn_hostop op = {.kind = CN_OP_MAP,
                           .prot = host_prot(v->prot, !is_shared(v)),
                           .addr = start,
                           .len = end - start,
                           .shared = (u32)is_shared(v),
                           .off = obj_off(v, start)};

    op.fd = mobj_handle(v->obj);
    if (op.fd < 0)
        return op.fd;
    queue(mm, &op);
    return 0;
}

static void unmap(struct cn_mm *mm, u64 start, u64 end, int taken)
{
    struct cn_hostop op = {
        .kind = CN_OP_UNMAP, .addr = start, .len = end - start, .taken = (u32)taken};

    forget_guesses(mm);
    queue(mm, &op);
}

void host_unmap(struct cn_mm *mm, u64 start, u64 end)
{
    unmap(mm, start, end, 0);
}

void host_unmap_private(struct cn_mm *mm, u64 start, u64 end)
{
    unmap(mm, start, end, 1);
}

static void protect(struct cn_mm *mm, u64 start, u64 end, u32 prot, int taken)
{
    struct cn_hostop op = {.kind = CN_OP_PROTECT,
                           .prot = prot,
                           .addr = start,
                           .len = end - start,
                           .taken = (u32)taken};

    queue(mm, &op);
}

void host_protect(struct cn_mm *mm, u64 start, u64 end, u32 prot)
{
    protect(mm, start, end, prot, 0);
}

/* [start, end) has no private pages: maps what the object has there. */
static int sync_gap(struct cn_mm *mm, struct vma *v, u64 start, u64 end, int stale)
{
    u64 size, len;

    if (maps_host(v))
        return map_file(mm, v, start, end);
    if (stale)
        host_unmap(mm, start, end);
    if (!v->obj)
        return 0;
    size = page_up(mobj_size(v->obj));
    while (start < end && obj_off(v, start) < size) {
        u64 page = mobj_page(v->obj, pages(obj_off(v, start)), &len);
        len = min64(len, pages(min64(end - start, size - obj_off(v, start)))) << CN_PAGE_SHIFT;
        if (page)
            host_map_pages(mm, start, start + len, page, host_prot(v->prot, !is_shared(v)));
        start += len;
    }
    return 0;
}

int host_sync(struct cn_mm *mm, struct vma *v, u64 start, u64 end, int stale)
{
    struct pma *p = is_shared(v) ? NULL : pma_from(mm, start);
    int rc;

    while (start < end) {
        u64 stop = p && p->n.start < end ? max64(p->n.start, start) : end;
        if (start < stop) {
            rc = sync_gap(mm, v, start, stop, stale);
            if (rc < 0)
                return rc;
        }
        start = stop;
        if (start == end)
            break;
        stop = min64(p->n.end, end);
        map_pages(mm, start, stop, pma_page(p, start), host_prot(v->prot, p->cow != 0),
                  !p->cow && stop - start <= COW_WINDOW);
        start = stop;
        p = pma_next(p);
    }
    return 0;
}

int host_reprotect(struct cn_mm *mm, struct vma *v, u64 start, u64 end)
{
    struct pma *p = is_shared(v) ? NULL : pma_from(mm, start);
    int rc;

    while (start < end) {
        u64 stop = p && p->n.start < end ? max64(p->n.start, start) : end;
        if (start < stop && maps_host(v)) {
            protect(mm, start, stop, host_prot(v->prot, !is_shared(v)), !is_shared(v));
        } else if (start < stop && v->obj) { /* not all of it may be mapped */
            rc = sync_gap(mm, v, start, stop, 1);
            if (rc < 0)
                return rc;
        }
        start = stop;
        if (start == end)
            break;
        stop = min64(p->n.end, end);
        protect(mm, start, stop, host_prot(v->prot, p->cow != 0), !(v->prot & PROT_WRITE));
        start = stop;
        p = pma_next(p);
    }
    return 0;
}

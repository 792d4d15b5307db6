/* Faults: what a page needs before the guest may go on, and stacks that grow. */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "memfile.h"
#include "mm_internal.h"

#define UPGRADE_MAX (8UL << 20) /* pages made writable at once when their other owners are gone */
#define STACK_STEP  (64UL << 10)

/* The part of [addr's window of size bytes] that lies in v. */
static void window(const struct vma *v, u64 addr, u64 size, u64 *start, u64 *end)
{
    *start = max64(addr & ~(size - 1), v->n.start);
    *end = min64((addr & ~(size - 1)) + size, v->n.end);
}

/* ... and has no private pages, as addr has none. */
static void window_gap(struct cn_mm *mm, const struct vma *v, u64 addr, u64 size, u64 *start,
                       u64 *end)
{
    struct pma *next = pma_from(mm, addr);
    struct pma *prev = (struct pma *)(next ? rt_prev(&next->n) : rt_last(&mm->pmas));

    window(v, addr, size, start, end);
    if (next)
        *end = min64(*end, next->n.start);
    if (prev)
        *start = max64(*start, prev->n.end);
}

static u64 page_before(struct cn_mm *mm, u64 addr)
{
    struct pma *p = addr ? pma_at(mm, addr - 1) : NULL;

    return p ? pma_page(p, addr) : 0;
}

int private_copy(struct cn_mm *mm, struct vma *v, u64 start, u64 end, const u8 *src)
{
    u64 near = page_before(mm, start), n = pages(end - start);
    i64 page = src ? memfile_alloc_copy(n, near, src, end - start)
                   : memfile_alloc(n, near, pages(start));
    int rc;

    if (page == -ENOSPC)
        return memfile_relieve() ? 0 : -ENOMEM; /* 0: others gave memory back, the access faults again */
    if (page < 0)
        return page == -EFAULT ? -ENXIO : (int)page;
    /* Forget what was there only now that nothing can fail but the sentry's own memory. */
    rc = pma_remove(mm, start, end);
    if (!rc)
        rc = pma_add(mm, start, end, (u64)page, 0);
    if (rc) {
        memfile_unref((u64)page, n);
        return rc;
    }
    if (src)
        host_map_present(mm, start, end, (u64)page, host_prot(v->prot, 0));
    else
        host_map_pages(mm, start, end, (u64)page, host_prot(v->prot, 0));
    return 0;
}

/* Makes the run of pages around addr that nobody else refers to any more writable where they are.
 */
static int upgrade(struct cn_mm *mm, struct vma *v, struct pma *p, u64 addr)
{
    u64 start, end, from = page_down(addr), to = from + CN_PAGE_SIZE;
    int rc;

    window(v, addr, UPGRADE_MAX, &start, &end);
    start = max64(start, p->n.start);
    end = min64(end, p->n.end);
    while (from > start && memfile_refs(pma_page(p, from) - 1) == 1)
        from -= CN_PAGE_SIZE;
    while (to < end && memfile_refs(pma_page(p, to)) == 1)
        to += CN_PAGE_SIZE;
    rc = pma_set_cow(mm, p, from, to, 0);
    if (!rc)
        host_protect(mm, from, to, v->prot);
    return rc;
}

/* A write to shared private pages. */
static int break_cow(struct cn_mm *mm, struct vma *v, struct pma *p, u64 addr)
{
    u64 start, end, from = page_down(addr), to = from + CN_PAGE_SIZE, first;

    if (memfile_refs(pma_page(p, addr)) == 1)
        return upgrade(mm, v, p, addr);
    window(v, addr, COW_WINDOW, &start, &end);
    start = max64(start, p->n.start);
    end = min64(end, p->n.end);
    while (from > start && memfile_refs(pma_page(p, from) - 1) > 1)
        from -= CN_PAGE_SIZE;
    while (to < end && memfile_refs(pma_page(p, to)) > 1)
        to += CN_PAGE_SIZE;
    first = pma_page(p, from);
    return private_copy(mm, v, from, to,
                        memfile_has_data(first, pages(to - from)) ? memfile_ptr(first) : NULL);
}

/* The first write to a private page of a host file. */
static int copy_host(struct cn_mm *mm, struct vma *v, u64 addr)
{
    i64 size = cn_mobj_size(v->obj);
    u64 start, end, n, off = obj_off(v, page_down(addr));
    u8 *src = mobj_window(v->obj, off, &n);

    if (size < 0 || !src || off >= page_up((u64)size))
        return -ENXIO;
    window_gap(mm, v, addr, COW_WINDOW, &start, &end);
    start = max64(start, page_down(addr) - (off & (MOBJ_WINDOW - 1)));
    end = min64(end, page_down(addr) + min64(n, page_up((u64)size) - off));
    return private_copy(mm, v, start, end, src - (page_down(addr) - start));
}

/* The first write to a private page of a memory object. */
static int copy_mem(struct cn_mm *mm, struct vma *v, u64 addr)
{
    u64 start, end, n, at = page_down(addr), off = obj_off(v, at),
                       size = page_up(mobj_size(v->obj));
    u64 page;

    if (off >= size)
        return -ENXIO;
    page = mobj_page(v->obj, pages(off), &n);
    window_gap(mm, v, addr, COW_WINDOW, &start, &end);
    end = min64(end, at + min64(n << CN_PAGE_SHIFT, size - off));
    return private_copy(mm, v, at, end, page ? memfile_ptr(page) : NULL);
}

/* A page of a memory object itself: makes it exist and maps it with what lies around it. */
static int share_mem(struct cn_mm *mm, struct vma *v, u64 addr)
{
    u64 start, end, n, at = page_down(addr), off = obj_off(v, at),
                       size = page_up(mobj_size(v->obj));
    u64 page;
    int rc;

    if (off >= size)
        return -ENXIO;
    page = mobj_page(v->obj, pages(off), &n);
    if (is_shared(v))
        window(v, addr, page ? CHUNK : COW_WINDOW, &start, &end);
    else
        window_gap(mm, v, addr, page ? CHUNK : COW_WINDOW, &start, &end);
    end = min64(end, at + (size - off));
    if (!page) {
        start = at;
        end = min64(end, at + (n << CN_PAGE_SHIFT));
        rc = mobj_populate(v->obj, pages(off), pages(end - at));
        if (rc < 0)
            return rc;
    }
    for (at = start; at < end; at += n) {
        page = mobj_page(v->obj, pages(obj_off(v, at)), &n);
        n = min64(n << CN_PAGE_SHIFT, end - at);
        if (page)
            host_map_pages(mm, at, at + n, page, host_prot(v->prot, !is_shared(v)));
    }
    return 0;
}

static int fill_anon(struct cn_mm *mm, struct vma *v, u64 addr)
{
    u64 start, end;

    window_gap(mm, v, addr, CHUNK, &start, &end);
    return pma_fill(mm, v, start, end);
}

int fault_in(struct cn_mm *mm, struct vma *v, u64 addr, int write)
{
    struct pma *p = is_shared(v) ? NULL : pma_at(mm, addr);

    if (p)
        return write && p->cow ? break_cow(mm, v, p, addr) : 0;
    if (!v->obj)
        return fill_anon(mm, v, addr);
    if (maps_host(v)) {
        i64 size = write && !is_shared(v) ? 0 : cn_mobj_size(v->obj);
        if (write && !is_shared(v))
            return copy_host(mm, v, addr);
        return size >= 0 && obj_off(v, page_down(addr)) < page_up((u64)size) ? 0 : -ENXIO;
    }
    return write && !is_shared(v) ? copy_mem(mm, v, addr) : share_mem(mm, v, addr);
}

/* All pages of the object in the range, itself mapped. */
static int share_range(struct cn_mm *mm, struct vma *v, u64 start, u64 end)
{
    u64 size = page_up(mobj_size(v->obj)), off = obj_off(v, start);
    int rc;

    if (off >= size)
        return -ENXIO;
    rc = mobj_populate(v->obj, pages(off), pages(min64(end - start, size - off)));
    return rc < 0 ? rc : host_sync(mm, v, start, end, 0);
}

int fault_range(struct cn_mm *mm, u64 start, u64 end, int write)
{
    int rc;

    for (struct vma *v = vma_from(mm, start); v && v->n.start < end; v = vma_next(v)) {
        u64 at = max64(v->n.start, start), stop = min64(v->n.end, end);
        if (v->prot == PROT_NONE || (write && !(v->prot & PROT_WRITE)) || (maps_host(v) && !write))
            continue; /* pages of host files come by themselves */
        if (maps_mem(v) && (is_shared(v) || !write)) {
            rc = share_range(mm, v, at, stop);
            if (rc < 0)
                return rc;
            continue;
        }
        while (at < stop && !is_shared(v)) {
            struct pma *p = pma_at(mm, at);
            if (p && !(write && p->cow)) {
                at = p->n.end;
                continue;
            }
            rc = fault_in(mm, v, at, write);
            if (rc < 0)
                return rc;
        }
    }
    return 0;
}

struct vma *stack_grow(struct cn_mm *mm, u64 addr)
{
    struct vma *v = vma_from(mm, addr);
    struct rnode *below = v ? rt_prev(&v->n) : NULL;
    u64 start = page_down(addr), lowest;

    if (!v || !(v->flags & CN_VMA_GROWSDOWN) || v->prot == PROT_NONE)
        return NULL;
    lowest = mm->limits.stack < v->n.end ? page_up(v->n.end - mm->limits.stack) : MIN_ADDR;
    lowest = max64(lowest, MIN_ADDR);
    if (below)
        lowest = max64(lowest, below->end + STACK_GAP);
    if (start < lowest)
        return NULL;
    start = max64(min64(start, v->n.start - min64(STACK_STEP, v->n.start)), lowest);
    if (mm_may_grow(mm, v->n.start - start, v->prot, v->flags) < 0) {
        start = page_down(addr);
        if (mm_may_grow(mm, v->n.start - start, v->prot, v->flags) < 0)
            return NULL;
    }
    lowest = v->n.start;
    vma_resize(v, start, v->n.end);
    pma_populate(mm, v, start, lowest);
    return v;
}

/* Is the page mapped in the guest for reading, as far as the tables tell? */
static int present(struct cn_mm *mm, struct vma *v, u64 addr)
{
    return maps_host(v) || maps_mem(v) || pma_at(mm, addr) != NULL;
}

/*
 * A platform that doesn't know what the access was tries "read" first and goes on to "write" when
 * it is told that all is well and no mapping changed. What is mapped of an object is not recorded,
 * so mapping it again each time would go on for ever; so it is done once for a page.
 */
static int guessed_before(struct cn_mm *mm, u64 addr)
{
    for (u32 i = 0; i < 8; i++)
        if (mm->guessed[i] == page_down(addr))
            return 1;
    return 0;
}

void forget_guesses(struct cn_mm *mm)
{
    for (u32 i = 0; i < 8; i++)
        mm->guessed[i] = 0;
}

int cn_mm_fault(struct cn_mm *mm, u64 addr, u32 access)
{
    struct vma *v;
    int rc, write;

    pthread_mutex_lock(&mm->lock);
    v = vma_at(mm, addr);
    if (!v)
        v = stack_grow(mm, addr);
    if (!v) {
        rc = -EFAULT;
    } else if (v->prot == PROT_NONE || (access & CN_ACCESS_WRITE && !(v->prot & PROT_WRITE)) ||
               (access & CN_ACCESS_EXEC && !(v->prot & PROT_EXEC))) {
        rc = -EACCES;
    } else {
        write = (access & CN_ACCESS_WRITE) != 0;
        /* The host gave no error code: a page that can be read already must have been written to.
         */
        if (access == (CN_ACCESS_READ | CN_ACCESS_GUESS) && v->prot & PROT_WRITE && !is_shared(v))
            write = present(mm, v, addr);
        if (access & CN_ACCESS_GUESS && !write && maps_mem(v) && guessed_before(mm, addr))
            rc = 0;
        else
            rc = fault_in(mm, v, addr, write);
        if (access & CN_ACCESS_GUESS && !rc)
            mm->guessed[mm->nguessed++ % 8] = page_down(addr);
    }
    limbo_trim(mm);
    if (CN_UNLIKELY(mm->broken) && !rc)
        rc = mm->broken;
    pthread_mutex_unlock(&mm->lock);
    return rc;
}

int cn_mm_no_page(struct cn_mm *mm, uint64_t addr)
{
    struct vma *v;
    int memory;

    pthread_mutex_lock(&mm->lock);
    v = vma_at(mm, addr);
    memory = v && !maps_host(v);
    if (v && maps_host(v) && !is_shared(v))
        memory = pma_at(mm, addr) != NULL;
    pthread_mutex_unlock(&mm->lock);
    if (!memory)
        return 0;
    return memfile_relieve() ? 1 : -ENOMEM;
}

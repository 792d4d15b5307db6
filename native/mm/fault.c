/* Faults: what brings a page into an address space, copies it on write, grows the stack. */
#define _GNU_SOURCE
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "memfile.h"
#include "mm_internal.h"

#define WINDOW (16 * CN_PAGE_SIZE)
#define ANON_WINDOW (4UL << 20)  /* of mappings too large to be populated at once */
#define EAGER_MAX (256UL << 20)

/* The window of the given size around addr, inside [lo, hi). */
static void window(u64 addr, u64 size, u64 *lo, u64 *hi)
{
    u64 start = addr & ~(size - 1);
    *lo = max64(*lo, start);
    *hi = min64(*hi, start + size);
}

/* Private pages for [lo, hi), which has none; contents are zeros. */
static int give_pages(struct cn_mm *mm, u64 lo, u64 hi)
{
    i64 page = memfile_alloc((hi - lo) >> CN_PAGE_SHIFT);

    if (page < 0)
        return -ENOMEM;
    int rc = pma_insert(mm, (struct pma){lo, hi, (u64)page, 0});
    if (rc < 0)
        memfile_unref((u64)page, (hi - lo) >> CN_PAGE_SHIFT);
    return rc;
}

/* The part of [*lo, *hi) around addr that has no private page. */
static void clip_to_gap(struct cn_mm *mm, u64 addr, u64 *lo, u64 *hi)
{
    u32 k = pma_find(mm, addr);

    if (k < mm->np)
        *hi = min64(*hi, mm->p[k].start);
    if (k > 0)
        *lo = max64(*lo, mm->p[k - 1].end);
}

int populate_anon(struct cn_mm *mm, struct vma *v, u64 start, u64 end)
{
    if (!v->prot || !is_private_anon(v) || end - start > EAGER_MAX)
        return 0;
    while (start < end) {
        u64 lo = start, hi = end;
        u32 k = pma_find(mm, start);
        if (k < mm->np && mm->p[k].start <= start) {
            start = mm->p[k].end;
            continue;
        }
        clip_to_gap(mm, start, &lo, &hi);
        int rc = give_pages(mm, lo, hi);
        if (rc < 0)
            return rc;
        start = hi;
    }
    return 0;
}

/* Writes to a page that may be shared: the window around it becomes our own. */
static int break_cow(struct cn_mm *mm, u64 addr, struct vma *v)
{
    struct pma p = mm->p[pma_find(mm, addr)];
    u64 lo = max64(p.start, v->start), hi = min64(p.end, v->end);
    int mine = memfile_refs(p.page + ((addr - p.start) >> CN_PAGE_SHIFT)) == 1;
    int rc;

    window(addr, mine ? 16 * WINDOW : WINDOW, &lo, &hi);
    /* the run of pages around addr in the same situation */
    u64 first = page_down(addr), last = first + CN_PAGE_SIZE;
    while (first > lo && (memfile_refs(p.page + ((first - CN_PAGE_SIZE - p.start) >> CN_PAGE_SHIFT)) == 1) == mine)
        first -= CN_PAGE_SIZE;
    while (last < hi && (memfile_refs(p.page + ((last - p.start) >> CN_PAGE_SHIFT)) == 1) == mine)
        last += CN_PAGE_SIZE;
    if ((rc = pma_split(mm, first)) < 0 || (rc = pma_split(mm, last)) < 0)
        return rc;
    struct pma *own = &mm->p[pma_find(mm, first)];
    if (mine) {
        own->cow = 0;
    } else {
        u64 n = (last - first) >> CN_PAGE_SHIFT, old = own->page;
        i64 fresh = memfile_alloc(n);
        if (fresh < 0)
            return -ENOMEM;
        if (guarded_copy(memfile_ptr((u64)fresh), memfile_ptr(old), last - first) < 0 ||
            limbo_add(mm, old, n) < 0) {
            memfile_unref((u64)fresh, n);
            return -ENOMEM;
        }
        own->page = (u64)fresh;
        own->cow = 0;
    }
    rc = mine ? host_protect(mm, first, last) : host_map(mm, first, last);
    pma_merge(mm, first, last);
    return rc;
}

/* A private copy of the object's pages around addr. */
static int copy_object(struct cn_mm *mm, u64 addr, struct vma *v)
{
    u64 lo = v->start, hi = v->end;
    i64 size = cn_mobj_size(v->obj);
    int rc;

    if (size < 0)
        return -ENXIO;
    if (v->off + (page_down(addr) - v->start) >= (u64)size)
        return -ENXIO;
    if (page_up((u64)size) < v->off + (v->end - v->start))
        hi = v->start + (page_up((u64)size) - v->off);
    window(addr, WINDOW, &lo, &hi);
    clip_to_gap(mm, addr, &lo, &hi);
    if ((rc = give_pages(mm, lo, hi)) < 0)
        return rc;
    struct pma *p = &mm->p[pma_find(mm, addr)];
    u64 done = 0, want = hi - lo;
    while (done < want) {
        i64 n = cn_mobj_pread(v->obj, memfile_ptr(p->page) + done, want - done, v->off + (lo - v->start) + done);
        if (n == -EINTR)
            continue;
        if (n <= 0) {
            rc = n < 0 ? -ENXIO : 0;
            break;
        }
        done += (u64)n;
    }
    if (rc < 0) {
        pma_remove(mm, lo, hi);
        return rc;
    }
    rc = host_map(mm, lo, hi);
    pma_merge(mm, lo, hi);
    return rc;
}

/* A MEM object's pages around addr exist and are mapped. */
static int map_mem_object(struct cn_mm *mm, u64 addr, struct vma *v)
{
    u64 lo = v->start, hi = v->end, size = (u64)cn_mobj_size(v->obj);
    int rc;

    if (v->off + (page_down(addr) - v->start) >= page_up(size))
        return -ENXIO;
    if (page_up(size) < v->off + (v->end - v->start))
        hi = v->start + (page_up(size) - v->off);
    window(addr, WINDOW, &lo, &hi);
    if (!is_shared(v))
        clip_to_gap(mm, addr, &lo, &hi);
    if ((rc = mobj_populate(v->obj, obj_index(v, lo), (hi - lo) >> CN_PAGE_SHIFT)) < 0)
        return rc;
    return host_map(mm, lo, hi);
}

int vma_growable(struct cn_mm *mm, u64 addr)
{
    u32 i = vma_find(mm, addr);

    if (i == mm->nv)
        return -EFAULT;
    struct vma *v = &mm->v[i];
    u64 start = page_down(addr);
    if (!(v->flags & CN_VMA_GROWSDOWN) || v->end - start > mm->limits.stack || v->start <= addr)
        return -EFAULT;
    if (i > 0 && mm->v[i - 1].end + (mm->v[i - 1].flags & CN_VMA_GROWSDOWN ? 0 : STACK_GAP) > start &&
        mm->v[i - 1].prot)
        return -EFAULT;
    if (i > 0 && mm->v[i - 1].end > start)
        return -EFAULT;
    /* grow by a window where there is room */
    u64 wide = start & ~(2 * WINDOW - 1);
    if ((i == 0 || mm->v[i - 1].end + STACK_GAP <= wide) && v->end - wide <= mm->limits.stack)
        start = wide;
    u64 grown = v->start - start;
    if (mm->total + grown > mm->limits.address_space)
        return -EFAULT;
    v->start = start;
    mm->total += grown;
    if (v->flags & CN_VMA_LOCKED)
        mm->locked += grown;
    return 0;
}

static int allowed(const struct vma *v, u32 access)
{
    if (access & CN_ACCESS_WRITE)
        return (v->prot & PROT_WRITE) != 0;
    if (access & CN_ACCESS_EXEC)
        return (v->prot & PROT_EXEC) != 0;
    return v->prot != 0;
}

static int fault_locked(struct cn_mm *mm, u64 addr, u32 access)
{
    struct vma *v = vma_at(mm, addr);
    int rc;

    if (!v) {
        if ((rc = vma_growable(mm, addr)) < 0)
            return rc;
        v = vma_at(mm, addr);
    }
    if (!allowed(v, access))
        return -EACCES;
    u32 k = pma_find(mm, addr);
    int have = k < mm->np && mm->p[k].start <= addr && !is_shared(v);
    int write = (access & CN_ACCESS_WRITE) || ((access & CN_ACCESS_GUESS) && (v->prot & PROT_WRITE));
    if (have)
        return write && mm->p[k].cow ? break_cow(mm, addr, v) : 0;
    if (is_private_anon(v)) {
        u64 lo = v->start, hi = v->end;
        window(addr, v->end - v->start > EAGER_MAX ? ANON_WINDOW : 2 * WINDOW, &lo, &hi);
        clip_to_gap(mm, addr, &lo, &hi);
        if ((rc = give_pages(mm, lo, hi)) < 0)
            return rc;
        rc = host_map(mm, lo, hi);
        pma_merge(mm, lo, hi);
        return rc;
    }
    if (mobj_is_host(v->obj)) {
        if (is_shared(v) || !write) {
            i64 size = cn_mobj_size(v->obj);
            return size < 0 || v->off + (page_down(addr) - v->start) >= (u64)size ? -ENXIO : 0;
        }
        return copy_object(mm, addr, v);
    }
    if (!is_shared(v) && write) {
        u64 n;
        if (!(access & CN_ACCESS_WRITE) && !mobj_page(v->obj, obj_index(v, addr), &n))
            return map_mem_object(mm, addr, v);
        return copy_object(mm, addr, v);
    }
    return map_mem_object(mm, addr, v);
}

int cn_mm_fault(struct cn_mm *mm, u64 addr, u32 access)
{
    pthread_mutex_lock(&mm->lock);
    int rc = fault_locked(mm, addr, access);
    limbo_flush(mm, 0);
    pthread_mutex_unlock(&mm->lock);
    return rc;
}

int page_in(struct cn_mm *mm, u64 addr, u32 access, int force, u8 **ptr, struct vma **out, u64 *n)
{
    struct vma *v = vma_at(mm, addr);
    int write = (access & CN_ACCESS_WRITE) != 0, rc;

    if (!v) {
        if ((rc = vma_growable(mm, addr)) < 0)
            return rc;
        v = vma_at(mm, addr);
    }
    if (force ? !(v->maxprot & (write ? PROT_WRITE : PROT_READ)) : !(v->prot & (write ? PROT_WRITE : PROT_READ)))
        return -EFAULT;
    for (int tries = 0; tries < 3; tries++) {
        v = vma_at(mm, addr);
        u64 limit = v->end - addr;
        *out = v;
        if (is_shared(v)) {
            if (mobj_is_host(v->obj)) {
                *ptr = NULL;
                *n = min64(*n, limit);
                return 0;
            }
            u64 pages;
            u64 page = mobj_page(v->obj, obj_index(v, addr), &pages);
            if (page) {
                *ptr = memfile_ptr(page) + (addr & ~CN_PAGE_MASK);
                *n = min64(*n, min64(limit, (pages << CN_PAGE_SHIFT) - (addr & ~CN_PAGE_MASK)));
                return 0;
            }
            if ((rc = map_mem_object(mm, addr, v)) < 0)
                return rc;
            continue;
        }
        u32 k = pma_find(mm, addr);
        struct pma *p = k < mm->np && mm->p[k].start <= addr ? &mm->p[k] : NULL;
        if (p && !(write && p->cow)) {
            *ptr = memfile_ptr(p->page) + (addr - p->start);
            *n = min64(*n, min64(limit, p->end - addr));
            return 0;
        }
        if (!p && !write && v->obj) { /* read the object itself, through copy.c */
            u64 next = k < mm->np ? mm->p[k].start : UINT64_MAX;
            *ptr = NULL;
            *n = min64(*n, min64(limit, next - addr));
            return 0;
        }
        if (p)
            rc = break_cow(mm, addr, v);
        else if (v->obj)
            rc = copy_object(mm, addr, v);
        else {
            u64 lo = v->start, hi = v->end;
            window(addr, 2 * WINDOW, &lo, &hi);
            clip_to_gap(mm, addr, &lo, &hi);
            rc = give_pages(mm, lo, hi);
            if (!rc)
                rc = host_map(mm, lo, hi);
            pma_merge(mm, lo, hi);
        }
        if (rc < 0)
            return rc;
    }
    return -EFAULT;
}

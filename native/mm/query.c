/* What /proc and mincore(2) tell of an address space. */
#define _GNU_SOURCE
#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "memfile.h"
#include "mm_internal.h"

static u64 private_pages(struct cn_mm *mm, const struct vma *v)
{
    u64 n = 0;

    if (is_shared(v))
        return 0;
    for (struct pma *p = pma_from(mm, v->n.start); p && p->n.start < v->n.end; p = pma_next(p))
        n += min64(v->n.end, p->n.end) - max64(v->n.start, p->n.start);
    return pages(n);
}

static void describe(struct cn_mm *mm, const struct vma *v, struct cn_vma_info *out)
{
    *out = (struct cn_vma_info){.start = v->n.start,
                                .end = v->n.end,
                                .offset = v->off,
                                .cookie = v->cookie,
                                .object = v->obj ? v->obj->id : 0,
                                .prot = v->prot,
                                .flags = v->flags,
                                .anon_pages = private_pages(mm, v)};
}

int cn_mm_vmas(struct cn_mm *mm, struct cn_vma_info *out, int max)
{
    int n = 0;

    pthread_mutex_lock(&mm->lock);
    for (struct vma *v = vma_from(mm, 0); v && n < max; v = vma_next(v))
        describe(mm, v, &out[n++]);
    n = (int)mm->vmas.count;
    pthread_mutex_unlock(&mm->lock);
    return n;
}

int cn_mm_find(struct cn_mm *mm, u64 addr, struct cn_vma_info *out)
{
    struct vma *v;

    pthread_mutex_lock(&mm->lock);
    v = vma_at(mm, addr);
    if (v)
        describe(mm, v, out);
    pthread_mutex_unlock(&mm->lock);
    return v ? 0 : -ENOENT;
}

void cn_mm_get_stats(struct cn_mm *mm, struct cn_mm_stats *out)
{
    memset(out, 0, sizeof(*out));
    pthread_mutex_lock(&mm->lock);
    for (struct vma *v = vma_from(mm, 0); v; v = vma_next(v)) {
        if (is_shared(v))
            out->shared += v->n.end - v->n.start;
        else if (v->flags & (CN_VMA_GROWSDOWN | CN_VMA_STACK))
            out->stack += v->n.end - v->n.start;
    }
    for (struct pma *p = pma_from(mm, 0); p; p = pma_next(p))
        out->anon += p->n.end - p->n.start;
    out->data = mm->data;
    out->total = mm->total;
    out->locked = mm->locked;
    out->brk_start = mm->brk_start;
    out->brk = mm->brk;
    out->peak_total = mm->peak_total;
    out->id = mm->id;
    pthread_mutex_unlock(&mm->lock);
}

/* Where the sentry has [addr, end) of v, as far as one piece of backing reaches: its bytes. NULL
 * where there is none yet. */
static u64 backing(struct cn_mm *mm, struct vma *v, u64 addr, u64 end, u8 **ptr, int *kind)
{
    struct pma *p = is_shared(v) ? NULL : pma_from(mm, addr);
    u64 len, page = 0, n;

    *ptr = NULL;
    *kind = p && p->n.start <= addr ? 0 : maps_host(v) ? 1 : 2;
    if (p && p->n.start <= addr) {
        len = min64(end, p->n.end) - addr;
        page = pma_page(p, addr);
    } else {
        len = (p ? min64(end, p->n.start) : end) - addr;
        if (maps_mem(v)) {
            page = mobj_page(v->obj, pages(obj_off(v, addr)), &n);
            len = min64(len, n << CN_PAGE_SHIFT);
        } else if (v->obj) {
            *ptr = mobj_window(v->obj, obj_off(v, addr), &n);
            len = min64(len, n);
        }
    }
    if (page)
        *ptr = memfile_ptr(page);
    return len;
}

/* Residency of [addr, end) of v, one byte a page, as far as one piece of backing reaches; its
 * bytes. */
static u64 residency(struct cn_mm *mm, struct vma *v, u64 addr, u64 end, u8 *vec, int *kind)
{
    u8 *ptr;
    u64 len = backing(mm, v, addr, end, &ptr, kind);

    if (!ptr || mincore(ptr, len, vec) < 0)
        memset(vec, 0, pages(len));
    return len;
}

int make_resident(struct cn_mm *mm, u64 start, u64 end)
{
    int rc = fault_range(mm, start, end, 0), kind;
    u8 *ptr;

    for (struct vma *v = vma_from(mm, start); !rc && v && v->n.start < end; v = vma_next(v)) {
        u64 at = max64(v->n.start, start), stop = min64(v->n.end, end), n;
        for (; v->prot != PROT_NONE && at < stop; at += n) {
            n = backing(mm, v, at, stop, &ptr, &kind);
            if (ptr && madvise(ptr, n, MADV_POPULATE_READ) < 0 && errno != EINVAL)
                rc = -errno;
        }
    }
    return rc;
}

#define BATCH (1024 * CN_PAGE_SIZE)

int cn_mm_mincore(struct cn_mm *mm, u64 addr, u64 len, u8 *vec)
{
    u64 end = addr + page_up(len);
    int rc = 0, kind;

    if (addr & ~CN_PAGE_MASK)
        return -EINVAL;
    if (page_up(len) < len || end < addr || end > cn_ops->task_size)
        return -ENOMEM;
    pthread_mutex_lock(&mm->lock);
    while (addr < end) {
        struct vma *v = vma_at(mm, addr);
        u64 n;
        if (!v) {
            rc = -ENOMEM;
            break;
        }
        n = residency(mm, v, addr, min64(min64(end, v->n.end), addr + BATCH), vec, &kind);
        for (u64 i = 0; i < pages(n); i++)
            vec[i] &= 1;
        vec += pages(n);
        addr += n;
    }
    pthread_mutex_unlock(&mm->lock);
    return rc;
}

u64 cn_mm_private_resident(struct cn_mm *mm)
{
    u64 sum = 0, n;
    u8 vec[BATCH / CN_PAGE_SIZE];

    pthread_mutex_lock(&mm->lock);
    for (struct pma *p = pma_from(mm, 0); p; p = pma_next(p)) {
        for (u64 at = p->n.start; at < p->n.end; at += n) {
            n = min64(p->n.end - at, BATCH);
            if (mincore(memfile_ptr(pma_page(p, at)), n, vec) < 0)
                continue;
            for (u64 i = 0; i < pages(n); i++)
                sum += (u64)(vec[i] & 1) << CN_PAGE_SHIFT;
        }
    }
    pthread_mutex_unlock(&mm->lock);
    return sum;
}

void cn_mm_get_rss(struct cn_mm *mm, u64 start, u64 end, struct cn_mm_rss *out)
{
    u64 sum[3] = {0, 0, 0}, n;
    u8 vec[BATCH / CN_PAGE_SIZE];
    int kind;

    pthread_mutex_lock(&mm->lock);
    for (struct vma *v = vma_from(mm, start); v && v->n.start < end; v = vma_next(v)) {
        u64 stop = min64(v->n.end, end);
        for (u64 at = max64(v->n.start, start); at < stop; at += n) {
            struct pma *p = v->obj ? NULL : pma_from(mm, at);
            if (!v->obj && (!p || p->n.start > at)) { /* nothing there, however much */
                n = (p ? min64(p->n.start, stop) : stop) - at;
                continue;
            }
            n = residency(mm, v, at, min64(stop, at + BATCH), vec, &kind);
            for (u64 i = 0; i < pages(n); i++)
                sum[kind] += (u64)(vec[i] & 1) << CN_PAGE_SHIFT;
        }
    }
    if (start == 0 && end >= cn_ops->task_size)
        mm->peak_rss = max64(mm->peak_rss, sum[0] + sum[1] + sum[2]);
    *out = (struct cn_mm_rss){sum[0], sum[1], sum[2], mm->peak_rss};
    pthread_mutex_unlock(&mm->lock);
}

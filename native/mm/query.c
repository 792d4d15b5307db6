/* What /proc and mincore(2) tell of an address space. */
#define _GNU_SOURCE
#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "memfile.h"
#include "mm_internal.h"

static u64 anon_pages(const struct cn_mm *mm, u64 start, u64 end)
{
    u64 n = 0;

    for (u32 k = pma_find(mm, start); k < mm->np && mm->p[k].start < end; k++)
        n += (min64(end, mm->p[k].end) - max64(start, mm->p[k].start)) >> CN_PAGE_SHIFT;
    return n;
}

static void describe(const struct cn_mm *mm, const struct vma *v, struct cn_vma_info *out)
{
    *out = (struct cn_vma_info){v->start, v->end, v->off, v->cookie, v->obj ? v->obj->id : 0, v->prot, v->flags,
                                is_shared(v) ? 0 : anon_pages(mm, v->start, v->end)};
}

int cn_mm_vmas(struct cn_mm *mm, struct cn_vma_info *out, int max)
{
    pthread_mutex_lock(&mm->lock);
    int n = (int)mm->nv;
    for (int i = 0; i < n && i < max; i++)
        describe(mm, &mm->v[i], &out[i]);
    pthread_mutex_unlock(&mm->lock);
    return n;
}

int cn_mm_find(struct cn_mm *mm, u64 addr, struct cn_vma_info *out)
{
    pthread_mutex_lock(&mm->lock);
    struct vma *v = vma_at(mm, addr);
    if (v)
        describe(mm, v, out);
    pthread_mutex_unlock(&mm->lock);
    return v ? 0 : -ENOENT;
}

void cn_mm_get_stats(struct cn_mm *mm, struct cn_mm_stats *out)
{
    memset(out, 0, sizeof(*out));
    pthread_mutex_lock(&mm->lock);
    for (u32 i = 0; i < mm->nv; i++) {
        struct vma *v = &mm->v[i];
        u64 n = v->end - v->start;
        if (is_shared(v))
            out->shared += n;
        else if (v->flags & (CN_VMA_GROWSDOWN | CN_VMA_STACK))
            out->stack += n;
        else if (v->prot & PROT_WRITE)
            out->data += n;
    }
    for (u32 k = 0; k < mm->np; k++)
        out->anon += mm->p[k].end - mm->p[k].start;
    out->total = mm->total;
    out->locked = mm->locked;
    out->brk_start = mm->brk_start;
    out->brk = mm->brk;
    out->peak_total = mm->peak_total;
    out->id = mm->id;
    pthread_mutex_unlock(&mm->lock);
}

int cn_mm_mincore(struct cn_mm *mm, u64 addr, u64 len, u8 *vec)
{
    u64 end = page_up(addr + len);
    int rc = 0;

    if ((addr & ~CN_PAGE_MASK))
        return -EINVAL;
    if (addr + len < addr || end > cn_ops->task_size)
        return -ENOMEM;
    pthread_mutex_lock(&mm->lock);
    for (u64 at = addr; at < end && !rc; at += CN_PAGE_SIZE) {
        struct vma *v = vma_at(mm, at);
        if (!v) {
            rc = -ENOMEM;
            break;
        }
        u64 n = 0;
        u32 k = pma_find(mm, at);
        u64 page = k < mm->np && mm->p[k].start <= at && !is_shared(v)
                       ? mm->p[k].page + ((at - mm->p[k].start) >> CN_PAGE_SHIFT)
                       : v->obj && !mobj_is_host(v->obj) ? mobj_page(v->obj, obj_index(v, at), &n) : 0;
        u8 resident = 0;
        if (page)
            mincore(memfile_ptr(page), CN_PAGE_SIZE, &resident);
        else if (v->obj && mobj_is_host(v->obj))
            resident = 1;
        vec[(at - addr) >> CN_PAGE_SHIFT] = resident & 1;
    }
    pthread_mutex_unlock(&mm->lock);
    return rc;
}

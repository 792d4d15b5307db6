/* mremap(2). */
#define _GNU_SOURCE
#include <errno.h>
#include <sys/mman.h>

#include "mm_internal.h"

#ifndef MREMAP_DONTUNMAP
#define MREMAP_DONTUNMAP 4
#endif

struct remap {
    u64 old, old_len, new, new_len; /* in bytes, whole pages */
    u32 flags;
};

static u64 find_place(struct cn_mm *mm, u64 len)
{
    u64 top = mm->top ? min64(mm->top, cn_ops->task_size) : cn_ops->task_size;
    u64 addr = vma_gap(mm, len, MIN_ADDR, top);

    return addr ? addr : vma_gap(mm, len, MIN_ADDR, cn_ops->task_size);
}

/* Moves (or, old_len 0, doubles) the mapping. */
static i64 move(struct cn_mm *mm, struct remap *r)
{
    struct vma *v, *nv;
    int rc, stale = 0;

    if (r->flags & MREMAP_FIXED) {
        stale = !vma_range_free(mm, r->new, r->new + r->new_len);
        rc = mm_unmap(mm, r->new, r->new + r->new_len, 1);
        if (!rc && r->old_len > r->new_len) {
            rc = mm_unmap(mm, r->old + r->new_len, r->old + r->old_len, 1);
            r->old_len = r->new_len;
        }
        if (rc < 0)
            return rc;
    } else {
        r->new = find_place(mm, r->new_len);
        if (!r->new)
            return -ENOMEM;
    }
    if (mm->vmas.count + 3 > MAX_VMAS)
        return -ENOMEM;
    rc = r->old_len ? vma_isolate(mm, r->old, r->old + r->old_len) : 0;
    v = vma_at(mm, r->old);
    if (rc < 0 || !v)
        return rc < 0 ? rc : -EFAULT;
    nv = vma_new(mm, v, r->new, r->new + r->new_len);
    if (!nv)
        return -ENOMEM;
    nv->off = v->obj ? obj_off(v, r->old) : 0;
    vma_insert(nv);
    if (r->old_len && !is_shared(v)) {
        rc = pma_move(mm, r->old, r->new, r->old_len);
        if (rc < 0)
            return rc;
    }
    if (r->old_len && r->flags & MREMAP_DONTUNMAP) {
        if (v->flags & CN_VMA_LOCKED) {
            vma_account(v, -(i64)r->old_len);
            v->flags &= ~(u32)CN_VMA_LOCKED;
            vma_account(v, (i64)r->old_len);
        }
        rc = v->obj ? host_sync(mm, v, r->old, r->old + r->old_len, 1) : 0;
        if (!v->obj)
            host_unmap(mm, r->old, r->old + r->old_len);
    } else if (r->old_len) {
        vma_erase(v);
        vma_free(v);
        host_unmap(mm, r->old, r->old + r->old_len);
    }
    if (!rc)
        rc = host_sync(mm, nv, r->new, r->new + r->new_len, stale);
    if (!rc)
        rc = pma_populate(mm, nv, r->new, r->new + r->new_len);
    nv = vma_merge(nv);
    if (r->flags & MREMAP_DONTUNMAP) {
        vma_merge_range(mm, r->old, r->old + r->old_len);
        nv = vma_at(mm, r->new);
    }
    if (!rc && nv->flags & CN_VMA_LOCKED)
        fault_range(mm, r->new, r->new + r->new_len, !is_shared(nv));
    return rc < 0 ? rc : (i64)r->new;
}

/* Longer where it is. 1 when that is not possible. */
static int extend(struct cn_mm *mm, struct vma *v, struct remap *r)
{
    u64 end = r->old + r->old_len, new_end = r->old + r->new_len;
    int rc = 0;

    if (v->n.end != end || new_end > cn_ops->task_size ||
        vma_gap(mm, new_end - end, end, new_end) != end)
        return 1;
    vma_resize(v, v->n.start, new_end);
    if (v->obj)
        rc = host_sync(mm, v, end, new_end, 0);
    if (!rc)
        rc = pma_populate(mm, v, end, new_end);
    if (rc < 0) {
        mm_unmap(mm, end, new_end, 1);
        return rc;
    }
    v = vma_merge(v);
    if (v->flags & CN_VMA_LOCKED)
        make_resident(mm, end, new_end);
    return 0;
}

static i64 remap_locked(struct cn_mm *mm, struct remap *r)
{
    struct vma *v = vma_at(mm, r->old);
    u64 more = r->new_len > r->old_len ? r->new_len - r->old_len : 0;
    int rc;

    if (!v)
        return -EFAULT;
    if (!r->old_len && !is_shared(v))
        return -EINVAL;
    if (!(r->flags & (MREMAP_FIXED | MREMAP_DONTUNMAP)) && r->new_len <= r->old_len) {
        rc =
            r->new_len < r->old_len ? mm_unmap(mm, r->old + r->new_len, r->old + r->old_len, 1) : 0;
        return rc < 0 ? rc : (i64)r->old;
    }
    if (r->old_len > v->n.end - r->old)
        return -EFAULT;
    if (r->flags & MREMAP_DONTUNMAP)
        more = r->new_len;
    if (v->obj && more && obj_off(v, r->old) + r->new_len > INT64_MAX)
        return -EINVAL;
    if (v->flags & CN_VMA_LOCKED && mm_may_lock(mm, more) < 0)
        return -EAGAIN;
    rc = mm_may_grow(mm, more, v->prot, v->flags);
    if (rc < 0)
        return rc;
    if (!(r->flags & (MREMAP_FIXED | MREMAP_DONTUNMAP)) && r->old_len) {
        rc = extend(mm, v, r);
        if (rc <= 0)
            return rc < 0 ? rc : (i64)r->old;
    }
    return r->flags & MREMAP_MAYMOVE ? move(mm, r) : -ENOMEM;
}

i64 cn_mm_mremap(struct cn_mm *mm, u64 old, u64 old_len, u64 new_len, u32 flags, u64 new_addr)
{
    struct remap r = {old, page_up(old_len), new_addr, page_up(new_len), flags};
    u64 most = cn_ops->task_size;
    i64 rc;

    if (flags & ~(u32)(MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP) ||
        (flags & (MREMAP_FIXED | MREMAP_DONTUNMAP) && !(flags & MREMAP_MAYMOVE)))
        return -EINVAL;
    if (old & ~CN_PAGE_MASK || !new_len || old_len > most || new_len > most ||
        old > most - r.old_len || r.new_len > most)
        return -EINVAL;
    if (flags & MREMAP_DONTUNMAP && r.old_len != r.new_len)
        return -EINVAL;
    if (flags & MREMAP_FIXED) {
        if (new_addr & ~CN_PAGE_MASK || new_addr > most - r.new_len ||
            (new_addr < old + r.old_len && old < new_addr + r.new_len))
            return -EINVAL;
        if (new_addr < MIN_ADDR)
            return -EPERM;
    } else {
        r.new = 0;
    }
    pthread_mutex_lock(&mm->lock);
    rc = remap_locked(mm, &r);
    limbo_trim(mm);
    pthread_mutex_unlock(&mm->lock);
    return rc;
}

/* madvise, msync, mlock. */
#define _GNU_SOURCE
#include <errno.h>
#include <sys/mman.h>
#include <unistd.h>

#include "memfile.h"
#include "mm_internal.h"

#ifndef MADV_DONTNEED_LOCKED
#define MADV_DONTNEED_LOCKED 24
#endif
#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif

/* The private pages of the range go: anonymous memory reads as zeros, a private file mapping as the
 * file again. */
static int dont_need(struct cn_mm *mm, struct vma *v, u64 start, u64 end)
{
    int rc, had = 0, shared_pages = 0;

    if (is_shared(v))
        return 0;
    for (struct pma *p = pma_from(mm, start); p && p->n.start < end; p = pma_next(p)) {
        had = 1;
        shared_pages |= p->cow;
    }
    if (!had)
        return 0;
    if (!v->obj && !shared_pages) { /* ours alone: the pages stay, the host drops what is in them */
        for (struct pma *p = pma_from(mm, start); p && p->n.start < end; p = pma_next(p)) {
            u64 from = max64(p->n.start, start), to = min64(p->n.end, end);
            memfile_punch(pma_page(p, from), pages(to - from));
        }
        return 0;
    }
    rc = pma_remove(mm, start, end);
    if (rc < 0)
        return rc;
    if (v->obj)
        return host_sync(mm, v, start, end, 1);
    host_unmap(mm, start, end);
    return pma_populate(mm, v, start, end);
}

struct advice {
    int advice;
    u32 set, clear; /* VMA flags */
};

/* 1: the advice changes flags; 0: something else; -EINVAL: unknown. */
static int flags_of(int advice, struct advice *a)
{
    static const struct advice table[] = {
        {MADV_DONTFORK, CN_VMA_DONTFORK, 0},     {MADV_DOFORK, 0, CN_VMA_DONTFORK},
        {MADV_WIPEONFORK, CN_VMA_WIPEONFORK, 0}, {MADV_KEEPONFORK, 0, CN_VMA_WIPEONFORK},
        {MADV_DONTDUMP, CN_VMA_DONTDUMP, 0},     {MADV_DODUMP, 0, CN_VMA_DONTDUMP},
    };

    for (u32 i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        if (table[i].advice == advice) {
            *a = table[i];
            return 1;
        }
    }
    switch (advice) {
    case MADV_NORMAL:
    case MADV_RANDOM:
    case MADV_SEQUENTIAL:
    case MADV_WILLNEED:
    case MADV_DONTNEED:
    case MADV_DONTNEED_LOCKED:
    case MADV_FREE:
    case MADV_REMOVE:
    case MADV_HUGEPAGE:
    case MADV_NOHUGEPAGE:
    case MADV_COLLAPSE:
    case MADV_MERGEABLE:
    case MADV_UNMERGEABLE:
    case MADV_COLD:
    case MADV_PAGEOUT:
    case MADV_POPULATE_READ:
    case MADV_POPULATE_WRITE:
        return 0;
    }
    return -EINVAL;
}

static int set_flags(struct cn_mm *mm, struct vma *v, u64 start, u64 end, const struct advice *a)
{
    int rc;

    if (a->set == CN_VMA_WIPEONFORK && (v->obj || is_shared(v)))
        return -EINVAL;
    if (((v->flags | a->set) & ~a->clear) == v->flags)
        return 0;
    rc = vma_isolate(mm, start, end);
    if (rc < 0)
        return rc;
    v = vma_at(mm, start);
    v->flags = (v->flags | a->set) & ~a->clear;
    return 0;
}

/* MADV_REMOVE: a hole in the object, for all who map it. The lock is dropped meanwhile: the object
 * unmaps the pages. */
static int remove_pages(struct cn_mm *mm, struct vma *v, u64 start, u64 end)
{
    struct cn_mobj *o = v->obj;
    u64 off = o ? obj_off(v, start) : 0;
    int rc;

    if (v->flags & CN_VMA_LOCKED || !o)
        return -EINVAL;
    if (!is_shared(v) || !(v->maxprot & PROT_WRITE))
        return -EACCES;
    cn_mobj_ref(o);
    pthread_mutex_unlock(&mm->lock);
    rc = cn_mobj_punch(o, off, end - start);
    cn_mobj_unref(o);
    pthread_mutex_lock(&mm->lock);
    return rc;
}

static int populate(struct cn_mm *mm, struct vma *v, u64 start, u64 end, int write)
{
    int rc;

    if (v->prot == PROT_NONE || (write && !(v->prot & PROT_WRITE)))
        return -EINVAL;
    rc = fault_range(mm, start, end, write && !is_shared(v));
    return rc == -ENXIO ? -EFAULT : rc;
}

static int advise(struct cn_mm *mm, struct vma *v, u64 start, u64 end, int advice,
                  const struct advice *a)
{
    switch (advice) {
    case MADV_DONTNEED:
        return v->flags & CN_VMA_LOCKED ? -EINVAL : dont_need(mm, v, start, end);
    case MADV_DONTNEED_LOCKED:
        return dont_need(mm, v, start, end);
    case MADV_FREE:
        return v->obj ? -EINVAL : dont_need(mm, v, start, end);
    case MADV_REMOVE:
        return remove_pages(mm, v, start, end);
    case MADV_POPULATE_READ:
    case MADV_POPULATE_WRITE:
        return populate(mm, v, start, end, advice == MADV_POPULATE_WRITE);
    }
    return a ? set_flags(mm, v, start, end, a) : 0; /* the others are hints */
}

int cn_mm_madvise(struct cn_mm *mm, u64 addr, u64 len, int advice)
{
    struct advice a;
    int kind = flags_of(advice, &a), rc = 0, hole = 0;
    u64 end, at = addr;

    if (kind < 0 || addr & ~CN_PAGE_MASK)
        return -EINVAL;
    if (len > cn_ops->task_size || page_up(len) > cn_ops->task_size ||
        addr > cn_ops->task_size - page_up(len))
        return len > INT64_MAX ? -EINVAL : len ? -ENOMEM : 0;
    end = addr + page_up(len);
    pthread_mutex_lock(&mm->lock);
    while (!rc && at < end) {
        struct vma *v = vma_from(mm, at);
        if (!v || v->n.start > at)
            hole = 1;
        if (!v || v->n.start >= end)
            break;
        at = max64(at, v->n.start);
        u64 stop = min64(v->n.end, end);
        rc = advise(mm, v, at, stop, advice, kind ? &a : NULL);
        at = stop;
    }
    if (kind)
        vma_merge_range(mm, addr, end);
    limbo_trim(mm);
    pthread_mutex_unlock(&mm->lock);
    return rc ? rc : hole ? -ENOMEM : 0;
}

int cn_mm_msync(struct cn_mm *mm, u64 addr, u64 len, int flags)
{
    u64 end = addr + page_up(len), at = addr;
    int rc = 0;

    if (addr & ~CN_PAGE_MASK || flags & ~(MS_ASYNC | MS_INVALIDATE | MS_SYNC) ||
        (flags & MS_ASYNC && flags & MS_SYNC))
        return -EINVAL;
    if (end < addr || page_up(len) < len)
        return -ENOMEM;
    while (at < end && (!rc || rc == -ENOMEM)) {
        struct cn_mobj *sync = NULL;
        pthread_mutex_lock(&mm->lock);
        struct vma *v = vma_from(mm, at);
        if (!v || v->n.start > at)
            rc = -ENOMEM;
        if (v && v->n.start < end) {
            if (flags & MS_INVALIDATE && v->flags & CN_VMA_LOCKED)
                rc = -EBUSY;
            else if (flags & MS_SYNC && is_shared(v) && maps_host(v))
                cn_mobj_ref(sync = v->obj);
            at = v->n.end;
        } else {
            at = end;
        }
        pthread_mutex_unlock(&mm->lock);
        if (sync) { /* writes what stubs dirtied in the host's page cache; without the lock, it may
                       take long */
            if (fdatasync(sync->fd) < 0 && errno != EINVAL && errno != EROFS)
                rc = -EIO;
            cn_mobj_unref(sync);
        }
    }
    return rc;
}

static void set_locked(struct vma *v, int lock)
{
    u64 n = v->n.end - v->n.start;

    if (lock == ((v->flags & CN_VMA_LOCKED) != 0))
        return;
    v->flags ^= CN_VMA_LOCKED;
    v->mm->locked += lock ? n : -n;
}

int mm_may_lock(const struct cn_mm *mm, u64 bytes)
{
    if (mm->lock_freely || mm->locked + bytes <= mm->limits.memlock)
        return 0;
    return mm->limits.memlock ? -ENOMEM : -EPERM;
}

void cn_mm_lock_freely(struct cn_mm *mm, int freely)
{
    pthread_mutex_lock(&mm->lock);
    mm->lock_freely = freely != 0;
    pthread_mutex_unlock(&mm->lock);
}

static int change_lock(struct cn_mm *mm, u64 start, u64 end, int lock)
{
    u64 more = 0;
    int rc = 0;

    for (struct vma *v = vma_from(mm, start); v && v->n.start < end; v = vma_next(v))
        if (!(v->flags & CN_VMA_LOCKED))
            more += min64(end, v->n.end) - max64(start, v->n.start);
    if (lock)
        rc = mm_may_lock(mm, more);
    if (!rc && !vma_covers(mm, start, end))
        rc = -ENOMEM;
    if (!rc)
        rc = vma_isolate(mm, start, end);
    if (rc < 0)
        return rc;
    for (struct vma *v = vma_from(mm, start); v && v->n.start < end; v = vma_next(v))
        set_locked(v, lock);
    vma_merge_range(mm, start, end);
    return 0;
}

static int lock_or_unlock(struct cn_mm *mm, u64 addr, u64 len, int lock, int on_fault)
{
    u64 start = page_down(addr), end = page_up(addr + len);
    int rc;

    if (addr + len < addr)
        return -EINVAL;
    if (!len)
        return 0;
    if (end > cn_ops->task_size)
        return -ENOMEM;
    pthread_mutex_lock(&mm->lock);
    rc = change_lock(mm, start, end, lock);
    if (!rc && lock && !on_fault) {
        rc = make_resident(mm, start, end);
        if (rc < 0)
            rc = rc == -EFAULT || rc == -ENXIO ? -ENOMEM : -EAGAIN;
    }
    pthread_mutex_unlock(&mm->lock);
    return rc;
}

int cn_mm_mlock(struct cn_mm *mm, u64 addr, u64 len, int on_fault)
{
    return lock_or_unlock(mm, addr, len, 1, on_fault);
}

int cn_mm_munlock(struct cn_mm *mm, u64 addr, u64 len)
{
    return lock_or_unlock(mm, addr, len, 0, 0);
}

int cn_mm_mlockall(struct cn_mm *mm, int flags)
{
    int rc = 0;

    if (flags & ~(MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT) || flags == MCL_ONFAULT)
        return -EINVAL;
    pthread_mutex_lock(&mm->lock);
    if (flags)
        rc = mm_may_lock(mm, flags & MCL_CURRENT ? mm->total - mm->locked : 0);
    if (!rc) {
        mm->lock_future = (flags & MCL_FUTURE) != 0;
        mm->lock_lazily = (flags & MCL_ONFAULT) != 0;
        if (!flags || flags & MCL_CURRENT)
            for (struct vma *v = vma_from(mm, 0); v; v = vma_next(v))
                set_locked(v, flags != 0);
        vma_merge_range(mm, 0, cn_ops->task_size);
        if ((flags & (MCL_CURRENT | MCL_ONFAULT)) == MCL_CURRENT)
            make_resident(mm, 0, cn_ops->task_size); /* as far as there is memory */
    }
    pthread_mutex_unlock(&mm->lock);
    return rc;
}

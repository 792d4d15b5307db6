/* Layout of an address space: mmap, munmap, mprotect, mremap, madvise, brk, fork. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "memfile.h"
#include "mm_internal.h"

#ifndef MAP_FIXED_NOREPLACE
#define MAP_FIXED_NOREPLACE 0x100000
#endif
#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22
#define MADV_POPULATE_WRITE 23
#endif
#ifndef MADV_DONTNEED_LOCKED
#define MADV_DONTNEED_LOCKED 24
#endif
#define MIN_ADDR 0x10000UL /* vm.mmap_min_addr */

static _Atomic u64 next_id = 1;

static int mm_alloc(struct cn_mm **out)
{
    struct cn_mm *mm = calloc(1, sizeof(*mm));

    if (!mm)
        return -ENOMEM;
    pthread_mutex_init(&mm->lock, NULL);
    mm->refs = 1;
    mm->id = atomic_fetch_add(&next_id, 1) | 1UL << 63;
    mm->limits = (struct cn_mm_limits){UINT64_MAX, UINT64_MAX, 8UL << 20, UINT64_MAX};
    mm->top = cn_ops->task_size - (1UL << 30);
    int rc = cn_ops->as_new(cn_plat, &mm->as);
    if (rc < 0) {
        free(mm);
        return rc;
    }
    *out = mm;
    return 0;
}

int cn_mm_new(struct cn_mm **out)
{
    return mm_alloc(out);
}

void cn_mm_ref(struct cn_mm *mm)
{
    __atomic_add_fetch(&mm->refs, 1, __ATOMIC_RELAXED);
}

void cn_mm_unref(struct cn_mm *mm)
{
    if (__atomic_sub_fetch(&mm->refs, 1, __ATOMIC_ACQ_REL))
        return;
    cn_ops->as_free(mm->as);
    vma_delete(mm, 0, mm->nv);
    for (u32 i = 0; i < mm->np; i++)
        memfile_unref(mm->p[i].page, (mm->p[i].end - mm->p[i].start) >> CN_PAGE_SHIFT);
    for (u32 i = 0; i < mm->nlimbo; i++)
        memfile_unref(mm->limbo[i].page, mm->limbo[i].n);
    pthread_mutex_destroy(&mm->lock);
    free(mm->v);
    free(mm->p);
    free(mm->limbo);
    free(mm);
}

struct cn_as *cn_mm_as(struct cn_mm *mm)
{
    return mm->as;
}

void cn_mm_set_limits(struct cn_mm *mm, const struct cn_mm_limits *limits)
{
    pthread_mutex_lock(&mm->lock);
    mm->limits = *limits;
    pthread_mutex_unlock(&mm->lock);
}

void cn_mm_set_base(struct cn_mm *mm, u64 mmap_top, u64 brk_start)
{
    mm->top = page_down(mmap_top);
    mm->brk_start = mm->brk = brk_start;
}

/* Room for len bytes, highest first below the base, else anywhere above. 0 when there is none. */
static u64 find_room(struct cn_mm *mm, u64 len)
{
    u64 end = mm->top;
    u32 i = vma_find(mm, end - 1);

    if (i < mm->nv && mm->v[i].start < end)
        end = mm->v[i].start;
    for (;; i--) {
        u64 floor = i > 0 ? mm->v[i - 1].end : MIN_ADDR;
        if (i < mm->nv && (mm->v[i].flags & CN_VMA_GROWSDOWN) && end == mm->v[i].start)
            end = end > STACK_GAP ? end - STACK_GAP : 0;
        if (end > floor && end - floor >= len)
            return end - len;
        if (i == 0)
            break;
        end = mm->v[i - 1].start;
    }
    u64 at = mm->top; /* upwards from the base */
    for (i = vma_find(mm, at); i < mm->nv; i++) {
        if (mm->v[i].start > at && mm->v[i].start - at >= len + STACK_GAP)
            return at;
        at = max64(at, mm->v[i].end);
    }
    return at + len <= cn_ops->task_size ? at : 0;
}

static int range_free(struct cn_mm *mm, u64 addr, u64 len)
{
    u32 i = vma_find(mm, addr);
    return i == mm->nv || mm->v[i].start >= addr + len;
}

static int bad_range(u64 addr, u64 len)
{
    return addr + len < addr || addr + len > cn_ops->task_size;
}

/* Removes all in [start, end). */
static int unmap_locked(struct cn_mm *mm, u64 start, u64 end)
{
    u32 i = vma_find(mm, start);
    int rc;

    if (i == mm->nv || mm->v[i].start >= end)
        return 0;
    if ((rc = vma_split(mm, start)) < 0 || (rc = vma_split(mm, end)) < 0)
        return rc;
    u32 from = vma_find(mm, start), to = from;
    while (to < mm->nv && mm->v[to].start < end)
        to++;
    if ((rc = pma_remove(mm, start, end)) < 0)
        return rc;
    vma_delete(mm, from, to);
    return host_unmap(mm, start, end);
}

static u64 data_bytes(const struct cn_mm *mm)
{
    u64 n = 0;
    for (u32 i = 0; i < mm->nv; i++)
        if (!is_shared(&mm->v[i]) && (mm->v[i].prot & PROT_WRITE) && !(mm->v[i].flags & CN_VMA_GROWSDOWN))
            n += mm->v[i].end - mm->v[i].start;
    return n;
}

static int over_limits(struct cn_mm *mm, u64 len, u32 prot, u32 vma_flags)
{
    if (mm->limits.address_space != UINT64_MAX && mm->total + len > mm->limits.address_space)
        return 1;
    if (mm->limits.data != UINT64_MAX && (prot & PROT_WRITE) && !(vma_flags & (CN_VMA_SHARED | CN_VMA_GROWSDOWN)) &&
        data_bytes(mm) + len > mm->limits.data)
        return 1;
    return mm->nv + 2 > MAX_VMAS;
}

static void account(struct cn_mm *mm, u64 len, u32 flags)
{
    mm->total += len;
    if (flags & CN_VMA_LOCKED)
        mm->locked += len;
    if (mm->total > mm->peak_total)
        mm->peak_total = mm->total;
}

static i64 mmap_locked(struct cn_mm *mm, u64 addr, u64 len, u32 prot, u32 maxprot, u32 flags, u32 vma_flags,
                       struct cn_mobj *object, u64 off, u64 cookie)
{
    int fixed = (flags & (MAP_FIXED | MAP_FIXED_NOREPLACE)) != 0, rc;

    if (!len || (off & ~CN_PAGE_MASK) || (fixed && (addr & ~CN_PAGE_MASK)))
        return -EINVAL;
    len = page_up(len);
    if (!len || len > cn_ops->task_size)
        return -ENOMEM;
    if (off + len < off)
        return -EOVERFLOW;
    if (fixed) {
        if (bad_range(addr, len))
            return -ENOMEM;
        if (addr < MIN_ADDR)
            return -EPERM;
        if ((flags & MAP_FIXED_NOREPLACE) && !range_free(mm, addr, len))
            return -EEXIST;
    } else {
        addr = page_down(addr);
        if (addr < MIN_ADDR || bad_range(addr, len) || !range_free(mm, addr, len))
            addr = find_room(mm, len);
        if (!addr)
            return -ENOMEM;
    }
    if (flags & MAP_SHARED)
        vma_flags |= CN_VMA_SHARED;
    if (flags & MAP_GROWSDOWN)
        vma_flags |= CN_VMA_GROWSDOWN;
    if (flags & MAP_NORESERVE)
        vma_flags |= CN_VMA_NORESERVE;
    if ((flags & MAP_LOCKED) || mm->lock_future)
        vma_flags |= CN_VMA_LOCKED;
    if (over_limits(mm, len, prot, vma_flags))
        return -ENOMEM;
    if ((vma_flags & CN_VMA_LOCKED) && mm->locked + len > mm->limits.memlock)
        return -EAGAIN;
    if (fixed && (rc = unmap_locked(mm, addr, addr + len)) < 0)
        return rc;
    struct vma v = {addr, addr + len, object ? off : 0, cookie, object, prot, maxprot, vma_flags};
    if (object && !mobj_is_host(object) && (rc = mobj_add_mapper(object, mm)) < 0)
        return rc;
    if ((rc = vma_insert(mm, v)) < 0)
        return rc;
    if (object)
        cn_mobj_ref(object);
    account(mm, len, vma_flags);
    if ((rc = populate_anon(mm, vma_at(mm, addr), addr, addr + len)) < 0 || (rc = host_map(mm, addr, addr + len)) < 0) {
        unmap_locked(mm, addr, addr + len);
        return rc;
    }
    vma_merge(mm, addr, addr + len);
    pma_merge(mm, addr, addr + len);
    return (i64)addr;
}

i64 cn_mm_mmap(struct cn_mm *mm, u64 addr, u64 len, u32 prot, u32 maxprot, u32 flags, u32 vma_flags,
               struct cn_mobj *object, u64 off, u64 cookie)
{
    struct cn_mobj *own = NULL;

    if ((flags & MAP_SHARED) && !object) {
        object = own = cn_mobj_new_mem();
        if (!own)
            return -ENOMEM;
        own->size = page_up(len);
        off = 0;
    }
    pthread_mutex_lock(&mm->lock);
    i64 at = mmap_locked(mm, addr, len, prot, maxprot, flags, vma_flags, object, off, cookie);
    limbo_flush(mm, 0);
    pthread_mutex_unlock(&mm->lock);
    if (own)
        cn_mobj_unref(own);
    return at;
}

int cn_mm_munmap(struct cn_mm *mm, u64 addr, u64 len)
{
    if ((addr & ~CN_PAGE_MASK) || !len || bad_range(addr, len))
        return -EINVAL;
    pthread_mutex_lock(&mm->lock);
    int rc = unmap_locked(mm, addr, page_up(addr + len));
    limbo_flush(mm, 0);
    pthread_mutex_unlock(&mm->lock);
    return rc;
}

/* Is all of [start, end) mapped? */
static int covered(struct cn_mm *mm, u64 start, u64 end)
{
    for (u32 i = vma_find(mm, start); start < end; i++) {
        if (i == mm->nv || mm->v[i].start > start)
            return 0;
        start = mm->v[i].end;
    }
    return 1;
}

int cn_mm_mprotect(struct cn_mm *mm, u64 addr, u64 len, u32 prot)
{
    u64 end = page_up(addr + len);
    int rc = 0;

    if (addr & ~CN_PAGE_MASK)
        return -EINVAL;
    if (!len)
        return 0;
    if (bad_range(addr, len))
        return -ENOMEM;
    pthread_mutex_lock(&mm->lock);
    if ((prot & PROT_GROWSDOWN)) {
        struct vma *v = vma_at(mm, addr);
        if (!v || !(v->flags & CN_VMA_GROWSDOWN))
            rc = -EINVAL;
        else
            addr = v->start;
        prot &= ~(u32)PROT_GROWSDOWN;
    }
    if (!rc && !covered(mm, addr, end))
        rc = -ENOMEM;
    if (rc || (rc = vma_split(mm, addr)) < 0 || (rc = vma_split(mm, end)) < 0)
        goto out;
    for (u32 i = vma_find(mm, addr); i < mm->nv && mm->v[i].start < end; i++)
        if (prot & ~mm->v[i].maxprot & (PROT_READ | PROT_WRITE | PROT_EXEC)) {
            rc = -EACCES;
            goto out;
        }
    for (u32 i = vma_find(mm, addr); i < mm->nv && mm->v[i].start < end && !rc; i++) {
        struct vma *v = &mm->v[i];
        if (v->prot == prot)
            continue;
        int fresh = is_private_anon(v) && !v->prot;
        v->prot = prot;
        if (fresh && (rc = populate_anon(mm, v, v->start, v->end)) == 0)
            rc = host_map(mm, v->start, v->end);
        else if (!rc)
            rc = host_protect(mm, v->start, v->end);
    }
out:
    vma_merge(mm, addr, end);
    pma_merge(mm, addr, end);
    limbo_flush(mm, 0);
    pthread_mutex_unlock(&mm->lock);
    return rc;
}

u64 cn_mm_brk(struct cn_mm *mm, u64 addr)
{
    pthread_mutex_lock(&mm->lock);
    u64 old = page_up(mm->brk), fresh = page_up(addr);
    if (addr >= mm->brk_start && addr < cn_ops->task_size) {
        if (fresh < old) {
            if (unmap_locked(mm, fresh, old) == 0)
                mm->brk = addr;
        } else if (fresh == old) {
            mm->brk = addr;
        } else if (range_free(mm, old, fresh - old + CN_PAGE_SIZE) &&
                   addr - mm->brk_start <= mm->limits.data &&
                   mmap_locked(mm, old, fresh - old, PROT_READ | PROT_WRITE, 7,
                               MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, CN_VMA_HEAP, NULL, 0, 0) >= 0) {
            mm->brk = addr;
        }
    }
    u64 now = mm->brk;
    limbo_flush(mm, 0);
    pthread_mutex_unlock(&mm->lock);
    return now;
}

/* Moves what is in [old, old + len) to `to`, which is free: tables only, then the host. */
static int move_range(struct cn_mm *mm, u64 old, u64 len, u64 to, u64 fresh_len)
{
    int rc = vma_split(mm, old);

    if (rc < 0 || (rc = vma_split(mm, old + len)) < 0 || (rc = pma_split(mm, old)) < 0 ||
        (rc = pma_split(mm, old + len)) < 0)
        return rc;
    struct vma v = *vma_at(mm, old);
    u32 from = pma_find(mm, old), n = 0;
    while (from + n < mm->np && mm->p[from + n].start < old + len)
        n++;
    struct pma *moved = malloc((n + 1) * sizeof(*moved));
    if (!moved)
        return -ENOMEM;
    memcpy(moved, &mm->p[from], n * sizeof(*moved));
    memmove(&mm->p[from], &mm->p[from + n], (mm->np - from - n) * sizeof(*moved));
    mm->np -= n;
    v.end = to + fresh_len;
    v.start = to;
    if (v.obj) {
        cn_mobj_ref(v.obj);
        if (!mobj_is_host(v.obj))
            mobj_add_mapper(v.obj, mm);
    }
    rc = vma_insert(mm, v);
    account(mm, fresh_len, v.flags);
    for (u32 i = 0; i < n && !rc; i++) {
        moved[i].start += to - old;
        moved[i].end += to - old;
        rc = pma_insert(mm, moved[i]);
    }
    free(moved);
    if (!rc)
        rc = unmap_locked(mm, old, old + len);
    if (!rc)
        rc = populate_anon(mm, vma_at(mm, to), to, to + fresh_len);
    if (!rc)
        rc = host_map(mm, to, to + fresh_len);
    return rc;
}

/* mremap(2) with old_len 0: a second mapping of a shared one. */
static i64 duplicate(struct cn_mm *mm, struct vma *v, u64 old, u64 new_len, u32 map_flags, u64 new_addr)
{
    if (!is_shared(v))
        return -EINVAL;
    struct cn_mobj *o = v->obj;
    return mmap_locked(mm, new_addr, new_len, v->prot, v->maxprot, MAP_SHARED | map_flags, v->flags, o,
                       v->off + (old - v->start), v->cookie);
}

static i64 mremap_locked(struct cn_mm *mm, u64 old, u64 old_len, u64 new_len, u32 flags, u64 new_addr)
{
    struct vma *v = vma_at(mm, old);
    int rc;

    if (!v)
        return -EFAULT;
    if (!old_len) {
        if (!(flags & MREMAP_MAYMOVE))
            return -EINVAL;
        return duplicate(mm, v, old, new_len, flags & MREMAP_FIXED ? MAP_FIXED : 0, flags & MREMAP_FIXED ? new_addr : 0);
    }
    if (old + old_len > v->end)
        return -EFAULT;
    if (flags & MREMAP_DONTUNMAP)
        return -EINVAL; /* needs userfaultfd to be of use */
    if (!(flags & MREMAP_FIXED)) {
        if (new_len <= old_len) {
            if (new_len < old_len && (rc = unmap_locked(mm, old + new_len, old + old_len)) < 0)
                return rc;
            return (i64)old;
        }
        if (over_limits(mm, new_len - old_len, v->prot, v->flags))
            return -ENOMEM;
        if ((v->flags & CN_VMA_LOCKED) && mm->locked + (new_len - old_len) > mm->limits.memlock)
            return -EAGAIN;
        if (old + old_len == v->end && !bad_range(old, new_len) && range_free(mm, v->end, new_len - old_len)) {
            u64 end = v->end;
            v->end = old + new_len;
            account(mm, new_len - old_len, v->flags);
            if ((rc = populate_anon(mm, v, end, v->end)) < 0 || (rc = host_map(mm, end, old + new_len)) < 0)
                return rc;
            vma_merge(mm, old, old + new_len);
            pma_merge(mm, old, old + new_len);
            return (i64)old;
        }
        if (!(flags & MREMAP_MAYMOVE))
            return -ENOMEM;
        new_addr = find_room(mm, new_len);
        if (!new_addr)
            return -ENOMEM;
    } else {
        if (!(flags & MREMAP_MAYMOVE) || (new_addr & ~CN_PAGE_MASK) || bad_range(new_addr, new_len) ||
            (new_addr < old + old_len && old < new_addr + new_len))
            return -EINVAL;
        if (new_addr < MIN_ADDR)
            return -EPERM;
        if (new_len > old_len && over_limits(mm, new_len - old_len, v->prot, v->flags))
            return -ENOMEM;
        if ((rc = unmap_locked(mm, new_addr, new_addr + new_len)) < 0)
            return rc;
        if (new_len < old_len) {
            if ((rc = unmap_locked(mm, old + new_len, old + old_len)) < 0)
                return rc;
            old_len = new_len;
        }
    }
    rc = move_range(mm, old, old_len, new_addr, new_len);
    return rc < 0 ? rc : (i64)new_addr;
}

i64 cn_mm_mremap(struct cn_mm *mm, u64 old, u64 old_len, u64 new_len, u32 flags, u64 new_addr)
{
    old_len = page_up(old_len);
    new_len = page_up(new_len);
    if ((old & ~CN_PAGE_MASK) || !new_len || bad_range(old, old_len) || new_len > cn_ops->task_size ||
        (flags & ~(u32)(MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP)))
        return -EINVAL;
    pthread_mutex_lock(&mm->lock);
    i64 rc = mremap_locked(mm, old, old_len, new_len, flags, new_addr);
    limbo_flush(mm, 0);
    pthread_mutex_unlock(&mm->lock);
    return rc;
}

/* MADV_DONTNEED on one VMA's part: private pages are forgotten; the next touch finds zeros or the object. */
static int dont_need(struct cn_mm *mm, struct vma *v, u64 start, u64 end)
{
    int rc;

    if (is_shared(v))
        return 0;
    if ((rc = pma_split(mm, start)) < 0 || (rc = pma_split(mm, end)) < 0)
        return rc;
    if (v->obj) {
        if ((rc = pma_remove(mm, start, end)) < 0 || (rc = host_unmap(mm, start, end)) < 0)
            return rc;
        return host_map(mm, start, end);
    }
    /* Anonymous pages that are ours alone lose their contents in place; shared ones are let go. */
    for (u32 i = pma_find(mm, start); i < mm->np && mm->p[i].start < end;) {
        struct pma *p = &mm->p[i];
        u64 n = (p->end - p->start) >> CN_PAGE_SHIFT;
        int mine = 1;
        for (u64 k = 0; p->cow && k < n && mine; k++)
            mine = memfile_refs(p->page + k) == 1;
        if (mine) {
            memfile_punch(p->page, n);
            i++;
            continue;
        }
        u64 lo = p->start, hi = p->end;
        if ((rc = pma_remove(mm, lo, hi)) < 0 || (rc = host_unmap(mm, lo, hi)) < 0)
            return rc;
    }
    return 0;
}

static int populate(struct cn_mm *mm, u64 start, u64 end, int write)
{
    for (u64 at = start; at < end;) {
        u8 *p;
        struct vma *v;
        u64 n = end - at;
        int rc = page_in(mm, at, write ? CN_ACCESS_WRITE : CN_ACCESS_READ, 0, &p, &v, &n);
        if (rc < 0)
            return rc == -ENXIO ? -EFAULT : rc;
        at += page_up(n);
    }
    return 0;
}

int cn_mm_madvise(struct cn_mm *mm, u64 addr, u64 len, int advice)
{
    u64 end = page_up(addr + len);
    u32 set = 0, clear = 0;
    int rc = 0, hole = 0;

    if (addr & ~CN_PAGE_MASK || addr + len < addr)
        return -EINVAL;
    switch (advice) {
    case MADV_DONTFORK: set = CN_VMA_DONTFORK; break;
    case MADV_DOFORK: clear = CN_VMA_DONTFORK; break;
    case MADV_WIPEONFORK: set = CN_VMA_WIPEONFORK; break;
    case MADV_KEEPONFORK: clear = CN_VMA_WIPEONFORK; break;
    case MADV_DONTDUMP: set = CN_VMA_DONTDUMP; break;
    case MADV_DODUMP: clear = CN_VMA_DONTDUMP; break;
    case MADV_NORMAL: case MADV_RANDOM: case MADV_SEQUENTIAL: case MADV_WILLNEED: case MADV_DONTNEED: case MADV_FREE:
    case MADV_REMOVE: case MADV_HUGEPAGE: case MADV_NOHUGEPAGE: case MADV_COLD: case MADV_PAGEOUT:
    case MADV_MERGEABLE: case MADV_UNMERGEABLE: case MADV_POPULATE_READ: case MADV_POPULATE_WRITE:
    case MADV_DONTNEED_LOCKED:
        break;
    default:
        return -EINVAL;
    }
    if (!len)
        return 0;
    if (bad_range(addr, len))
        return -ENOMEM;
    pthread_mutex_lock(&mm->lock);
    if (advice == MADV_POPULATE_READ || advice == MADV_POPULATE_WRITE) {
        rc = covered(mm, addr, end) ? populate(mm, addr, end, advice == MADV_POPULATE_WRITE) : -ENOMEM;
        goto out;
    }
    if ((set || clear) && ((rc = vma_split(mm, addr)) < 0 || (rc = vma_split(mm, end)) < 0))
        goto out;
    hole = !covered(mm, addr, end);
    for (u32 i = vma_find(mm, addr); i < mm->nv && mm->v[i].start < end && !rc; i++) {
        struct vma *v = &mm->v[i];
        u64 lo = max64(addr, v->start), hi = min64(end, v->end);
        v->flags = (v->flags | set) & ~clear;
        if (set == CN_VMA_WIPEONFORK && v->obj)
            rc = -EINVAL;
        if (advice == MADV_DONTNEED || advice == MADV_DONTNEED_LOCKED)
            rc = (v->flags & CN_VMA_LOCKED) && advice == MADV_DONTNEED ? -EINVAL : dont_need(mm, v, lo, hi);
        if (advice == MADV_FREE && !is_private_anon(v))
            rc = -EINVAL;
        if (advice == MADV_REMOVE) {
            if (!is_shared(v) || !(v->maxprot & PROT_WRITE) || (v->flags & CN_VMA_LOCKED)) {
                rc = -EINVAL;
            } else {
                struct cn_mobj *o = v->obj;
                u64 off = v->off + (lo - v->start);
                pthread_mutex_unlock(&mm->lock); /* the object's pages leave every mapping, this one too */
                rc = cn_mobj_punch(o, off, hi - lo);
                pthread_mutex_lock(&mm->lock);
                i = vma_find(mm, lo);
            }
        }
    }
    if (set || clear)
        vma_merge(mm, addr, end);
out:
    limbo_flush(mm, 0);
    pthread_mutex_unlock(&mm->lock);
    return rc ? rc : hole ? -ENOMEM : 0;
}

int cn_mm_msync(struct cn_mm *mm, u64 addr, u64 len, int flags)
{
    u64 end = page_up(addr + len);
    int rc = 0;

    if ((addr & ~CN_PAGE_MASK) || (flags & ~(MS_ASYNC | MS_INVALIDATE | MS_SYNC)) ||
        ((flags & MS_ASYNC) && (flags & MS_SYNC)))
        return -EINVAL;
    if (addr + len < addr)
        return -ENOMEM;
    pthread_mutex_lock(&mm->lock);
    if (!covered(mm, addr, end))
        rc = -ENOMEM;
    for (u32 i = vma_find(mm, addr); i < mm->nv && mm->v[i].start < end; i++) {
        struct vma *v = &mm->v[i];
        if ((flags & MS_INVALIDATE) && (v->flags & CN_VMA_LOCKED))
            rc = -EBUSY;
        if ((flags & MS_SYNC) && is_shared(v) && mobj_is_host(v->obj) && fdatasync(v->obj->fd) < 0 && errno == EIO)
            rc = -EIO;
    }
    pthread_mutex_unlock(&mm->lock);
    return rc;
}

static void set_locked(struct cn_mm *mm, struct vma *v, int lock)
{
    if (lock == !!(v->flags & CN_VMA_LOCKED))
        return;
    v->flags ^= CN_VMA_LOCKED;
    mm->locked += lock ? v->end - v->start : v->start - v->end;
}

int cn_mm_mlock(struct cn_mm *mm, u64 addr, u64 len, int lock, int privileged)
{
    u64 end = page_up(addr + len), start = page_down(addr), more = 0;
    int rc = 0;

    if (addr + len < addr)
        return -EINVAL;
    if (!len)
        return 0;
    if (bad_range(start, end - start))
        return -ENOMEM;
    pthread_mutex_lock(&mm->lock);
    for (u32 i = vma_find(mm, start); i < mm->nv && mm->v[i].start < end; i++)
        if (!(mm->v[i].flags & CN_VMA_LOCKED))
            more += min64(end, mm->v[i].end) - max64(start, mm->v[i].start);
    if (lock && !privileged && mm->locked + more > mm->limits.memlock)
        rc = mm->limits.memlock ? -ENOMEM : -EPERM;
    else if (!covered(mm, start, end))
        rc = -ENOMEM;
    if (!rc && (rc = vma_split(mm, start)) == 0 && (rc = vma_split(mm, end)) == 0) {
        for (u32 i = vma_find(mm, start); i < mm->nv && mm->v[i].start < end; i++)
            set_locked(mm, &mm->v[i], lock);
        vma_merge(mm, start, end);
    }
    pthread_mutex_unlock(&mm->lock);
    return rc;
}

/* flags: MCL_*; 0 unlocks all. */
int cn_mm_mlockall(struct cn_mm *mm, int flags, int privileged)
{
    if (flags & ~(MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT) || flags == MCL_ONFAULT)
        return -EINVAL;
    pthread_mutex_lock(&mm->lock);
    if ((flags & MCL_CURRENT) && !privileged && mm->total > mm->limits.memlock) {
        pthread_mutex_unlock(&mm->lock);
        return mm->limits.memlock ? -ENOMEM : -EPERM;
    }
    mm->lock_future = (flags & MCL_FUTURE) != 0;
    if (!flags || (flags & MCL_CURRENT))
        for (u32 i = 0; i < mm->nv; i++)
            set_locked(mm, &mm->v[i], flags != 0);
    pthread_mutex_unlock(&mm->lock);
    return 0;
}

#define VMA_PROTECT (1U << 31) /* in fork only: loses host write permission */

static int fork_locked(struct cn_mm *parent, struct cn_mm *child)
{
    int rc = 0;

    child->limits = parent->limits;
    child->top = parent->top;
    child->brk_start = parent->brk_start;
    child->brk = parent->brk;
    for (u32 i = 0; i < parent->nv && !rc; i++) {
        struct vma v = parent->v[i];
        if (v.flags & CN_VMA_DONTFORK)
            continue;
        v.flags &= ~(u32)CN_VMA_LOCKED;
        if (v.obj && !mobj_is_host(v.obj) && (rc = mobj_add_mapper(v.obj, child)) < 0)
            return rc;
        if ((rc = vma_insert(child, v)) < 0)
            return rc;
        if (v.obj)
            cn_mobj_ref(v.obj);
        account(child, v.end - v.start, v.flags);
        if (is_shared(&v))
            continue;
        if (v.flags & CN_VMA_WIPEONFORK) {
            rc = populate_anon(child, vma_at(child, v.start), v.start, v.end);
            continue;
        }
        for (u32 k = pma_find(parent, v.start); k < parent->np && parent->p[k].start < v.end && !rc; k++) {
            struct pma *p = &parent->p[k], c = *p;
            c.start = max64(p->start, v.start);
            c.end = min64(p->end, v.end);
            c.page += (c.start - p->start) >> CN_PAGE_SHIFT;
            c.cow = 1;
            rc = pma_insert(child, c);
            if (!rc)
                memfile_ref(c.page, (c.end - c.start) >> CN_PAGE_SHIFT);
            if (!p->cow && (v.prot & PROT_WRITE))
                parent->v[i].flags |= VMA_PROTECT;
        }
    }
    /* Only now: a run of private pages may span several VMAs. */
    for (u32 i = 0; i < parent->nv && !rc; i++) {
        struct vma *v = &parent->v[i];
        if (v->flags & (CN_VMA_DONTFORK | CN_VMA_WIPEONFORK | CN_VMA_SHARED))
            continue;
        for (u32 k = pma_find(parent, v->start); k < parent->np && parent->p[k].start < v->end; k++)
            parent->p[k].cow = 1;
    }
    for (u32 i = 0; i < parent->nv; i++)
        if (parent->v[i].flags & VMA_PROTECT) {
            parent->v[i].flags &= ~VMA_PROTECT;
            if (!rc)
                rc = host_protect(parent, parent->v[i].start, parent->v[i].end);
        }
    if (!rc)
        rc = host_map(child, 0, cn_ops->task_size);
    return rc;
}

int cn_mm_fork(struct cn_mm *parent, struct cn_mm **out)
{
    struct cn_mm *child;
    int rc = mm_alloc(&child);

    if (rc < 0)
        return rc;
    pthread_mutex_lock(&parent->lock);
    rc = fork_locked(parent, child);
    if (!rc) /* other threads of the parent must not write through the old mappings any more */
        rc = cn_ops->as_sync(parent->as);
    pthread_mutex_unlock(&parent->lock);
    if (rc < 0) {
        cn_mm_unref(child);
        return rc;
    }
    *out = child;
    return 0;
}

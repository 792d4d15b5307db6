/* mmap, munmap, mprotect, brk. */
#define _GNU_SOURCE
#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "memfile.h"
#include "mm_internal.h"

#define LOW_32BIT  0x40000000UL /* MAP_32BIT: where x86-64 Linux looks */
#define HIGH_32BIT 0x80000000UL

/* Flags that MAP_SHARED_VALIDATE lets through. */
#define KNOWN_FLAGS                                                                                \
    (MAP_TYPE | MAP_FIXED | MAP_ANONYMOUS | MAP_GROWSDOWN | MAP_DENYWRITE | MAP_EXECUTABLE |       \
     MAP_LOCKED | MAP_NORESERVE | MAP_POPULATE | MAP_NONBLOCK | MAP_STACK | MAP_HUGETLB |          \
     MAP_32BIT | MAP_FIXED_NOREPLACE)

static int bad_range(u64 addr, u64 len)
{
    return addr & ~CN_PAGE_MASK || len > cn_ops->task_size || addr > cn_ops->task_size - len;
}

int mm_may_grow(struct cn_mm *mm, u64 bytes, u32 prot, u32 flags)
{
    int data = prot & PROT_WRITE && !(flags & (CN_VMA_SHARED | CN_VMA_GROWSDOWN));

    if (bytes > mm->limits.address_space || mm->total > mm->limits.address_space - bytes)
        return -ENOMEM;
    if (data && (bytes > mm->limits.data || mm->data > mm->limits.data - bytes))
        return -ENOMEM;
    return 0;
}

int mm_unmap(struct cn_mm *mm, u64 start, u64 end, int host)
{
    struct vma *v = vma_from(mm, start), *next;
    int rc, shared = 0, memory = 0;

    if (!v || v->n.start >= end)
        return 0;
    rc = vma_isolate(mm, start, end);
    if (!rc)
        rc = pma_remove(mm, start, end);
    if (rc < 0)
        return rc;
    for (v = vma_from(mm, start); v && v->n.start < end; v = vma_next(v)) {
        shared |= is_shared(v);
        memory |= maps_mem(v);
    }
    if (host && !shared && !memory)
        host_unmap_private(mm, start, end);
    else if (host || memory)
        host_unmap(mm, start, end);
    /* The object's pages may be others' as soon as it does not know of this mapping any more. */
    if (memory)
        cn_ops->as_sync(mm->as);
    for (v = vma_from(mm, start); v && v->n.start < end; v = next) {
        next = vma_next(v);
        vma_erase(v);
        vma_free(v);
    }
    return 0;
}

int cn_mm_munmap(struct cn_mm *mm, u64 addr, u64 len)
{
    u64 end = page_up(addr + len);
    int rc;

    if (!len || len > cn_ops->task_size || bad_range(addr, page_up(len)))
        return -EINVAL;
    pthread_mutex_lock(&mm->lock);
    rc = mm_unmap(mm, addr, end, 1);
    limbo_trim(mm);
    pthread_mutex_unlock(&mm->lock);
    return rc;
}

/* Where an mmap without MAP_FIXED goes; 0 for nowhere. */
static u64 place(struct cn_mm *mm, u64 hint, u64 len, u32 flags)
{
    u64 top = mm->top ? min64(mm->top, cn_ops->task_size) : cn_ops->task_size, addr = 0;
    u64 end = flags & MAP_32BIT ? HIGH_32BIT : cn_ops->task_size;

    hint = page_up(hint);
    if (len <= end && hint >= MIN_ADDR && hint <= end - len &&
        vma_gap(mm, len, hint, hint + len) == hint)
        return hint;
    if (flags & MAP_32BIT)
        return vma_gap(mm, len, LOW_32BIT, HIGH_32BIT);
    if (top > len)
        addr = vma_gap(mm, len, MIN_ADDR, top);
    return addr ? addr : vma_gap(mm, len, MIN_ADDR, cn_ops->task_size);
}

static int check_mmap(u64 addr, u64 len, u32 prot, u32 maxprot, u32 flags, struct cn_mobj *o,
                      u64 off)
{
    u32 type = flags & MAP_TYPE;

    if (!len || off & ~CN_PAGE_MASK)
        return -EINVAL;
    if (len > cn_ops->task_size || page_up(len) > cn_ops->task_size)
        return -ENOMEM;
    if (type != MAP_PRIVATE && type != MAP_SHARED && type != MAP_SHARED_VALIDATE)
        return -EINVAL;
    if (type == MAP_SHARED_VALIDATE && flags & ~(u32)KNOWN_FLAGS)
        return -EOPNOTSUPP;
    if (prot & ~(u32)(PROT_READ | PROT_WRITE | PROT_EXEC))
        return -EINVAL;
    if (o && (off + page_up(len) < off || off + page_up(len) > INT64_MAX))
        return -EOVERFLOW;
    if (prot & ~maxprot)
        return -EACCES;
    if (flags & (MAP_FIXED | MAP_FIXED_NOREPLACE)) {
        if (addr & ~CN_PAGE_MASK)
            return -EINVAL;
        if (bad_range(addr, page_up(len)))
            return -ENOMEM;
        if (addr < MIN_ADDR)
            return -EPERM;
    }
    if (flags & MAP_GROWSDOWN && (o || type != MAP_PRIVATE))
        return -EINVAL;
    return 0;
}

/* What a host file allows: the stubs must be able to map it as asked. */
static int check_host(struct cn_mobj *o, u32 prot, int shared, u64 off, u32 *maxprot)
{
    u64 n;

    if (o->noexec && prot & PROT_EXEC)
        return -EPERM;
    if (o->noexec)
        *maxprot &= ~(u32)PROT_EXEC;
    if (shared && !o->writable && prot & PROT_WRITE)
        return -EACCES;
    if (shared && !o->writable)
        *maxprot &= ~(u32)PROT_WRITE;
    return mobj_window(o, off, &n) ? 0 : -ENODEV;
}

/* Puts the VMA that like describes at [addr, addr + len), which is free in the tables, and maps it.
 */
static int map_at(struct cn_mm *mm, const struct vma *like, u64 addr, u64 len, u32 flags, int stale)
{
    struct vma *v;
    int rc = 0;

    if (mm->vmas.count >= MAX_VMAS)
        return -ENOMEM;
    v = vma_new(mm, like, addr, addr + len);
    if (!v)
        return -ENOMEM;
    vma_insert(v);
    if (v->obj)
        rc = host_sync(mm, v, addr, addr + len, stale);
    else if (stale && (v->prot == PROT_NONE || len > EAGER_MAX))
        host_unmap(mm, addr, addr + len);
    if (!rc)
        rc = pma_populate(mm, v, addr, addr + len);
    if (rc < 0) {
        mm_unmap(mm, addr, addr + len, 1);
        return rc;
    }
    v = vma_merge(v);
    if (v->flags & CN_VMA_LOCKED && !mm->lock_lazily)
        make_resident(mm, addr, addr + len);
    else if (flags & MAP_POPULATE)
        fault_range(mm, addr, addr + len,
                    (like->prot & PROT_WRITE) != 0 && !(like->flags & CN_VMA_SHARED));
    return 0;
}

static i64 mmap_locked(struct cn_mm *mm, u64 addr, u64 len, u32 flags, struct vma *like)
{
    u64 replaced = 0;
    int rc;

    if (mm->lock_future || flags & MAP_LOCKED)
        like->flags |= CN_VMA_LOCKED;
    if (flags & MAP_FIXED_NOREPLACE) {
        if (!vma_range_free(mm, addr, addr + len))
            return -EEXIST;
    } else if (!(flags & MAP_FIXED)) {
        addr = place(mm, addr, len, flags);
        if (!addr)
            return -ENOMEM;
    }
    for (struct vma *v = vma_from(mm, addr); v && v->n.start < addr + len; v = vma_next(v))
        replaced += min64(v->n.end, addr + len) - max64(v->n.start, addr);
    if (like->flags & CN_VMA_LOCKED && mm_may_lock(mm, len) < 0)
        return -EAGAIN;
    rc = len > replaced ? mm_may_grow(mm, len - replaced, like->prot, like->flags) : 0;
    if (!rc && replaced)
        rc = mm_unmap(mm, addr, addr + len, 0);
    if (!rc)
        rc = map_at(mm, like, addr, len, flags, replaced != 0);
    return rc < 0 ? rc : (i64)addr;
}

i64 cn_mm_mmap(struct cn_mm *mm, u64 addr, u64 len, u32 prot, u32 maxprot, u32 flags, u32 vma_flags,
               struct cn_mobj *object, u64 off, u64 cookie)
{
    int shared = (flags & MAP_TYPE) != MAP_PRIVATE;
    struct cn_mobj *own = NULL;
    i64 rc = check_mmap(addr, len, prot, maxprot, flags, object, off);

    if (rc < 0)
        return rc;
    len = page_up(len);
    if (object && mobj_is_host(object)) {
        rc = check_host(object, prot, shared, off, &maxprot);
        if (rc < 0)
            return rc;
    } else if (!object && shared) {
        own = object = cn_mobj_new_mem();
        if (!own)
            return -ENOMEM;
        own->size = len;
        if (len <= EAGER_MAX && prot)
            rc = mobj_populate(own, 0, pages(len));
        off = 0;
    }
    struct vma like = {.obj = object,
                       .off = object ? off : 0,
                       .cookie = cookie,
                       .prot = prot,
                       .maxprot = maxprot,
                       .flags = vma_flags | (shared ? CN_VMA_SHARED : 0) |
                                (flags & MAP_GROWSDOWN ? CN_VMA_GROWSDOWN : 0) |
                                (flags & MAP_NORESERVE ? CN_VMA_NORESERVE : 0)};
    if (!rc) {
        pthread_mutex_lock(&mm->lock);
        rc = mmap_locked(mm, addr, len, flags, &like);
        limbo_trim(mm);
        pthread_mutex_unlock(&mm->lock);
    }
    if (own)
        cn_mobj_unref(own);
    return rc;
}

/* One VMA of an mprotect; the range lies in it. */
static int protect(struct cn_mm *mm, struct vma *v, u64 start, u64 end, u32 prot)
{
    int rc;

    if (v->prot == prot)
        return 0;
    if (prot & ~v->maxprot)
        return -EACCES;
    if (prot & PROT_WRITE && !(v->prot & PROT_WRITE) &&
        !(v->flags & (CN_VMA_SHARED | CN_VMA_GROWSDOWN)) &&
        (end - start > mm->limits.data || mm->data > mm->limits.data - (end - start)))
        return -ENOMEM;
    rc = vma_isolate(mm, start, end);
    if (rc < 0)
        return rc;
    v = vma_at(mm, start);
    vma_account(v, -(i64)(end - start));
    v->prot = prot;
    vma_account(v, (i64)(end - start));
    rc = host_reprotect(mm, v, start, end);
    return rc < 0 ? rc : pma_populate(mm, v, start, end);
}

int cn_mm_mprotect(struct cn_mm *mm, u64 addr, u64 len, u32 prot)
{
    u32 grows = prot & (PROT_GROWSDOWN | PROT_GROWSUP);
    u64 end, at = addr;
    struct vma *v;
    int rc = 0;

    prot &= ~(u32)(PROT_GROWSDOWN | PROT_GROWSUP);
    if (addr & ~CN_PAGE_MASK ||
        prot & ~(u32)(PROT_READ | PROT_WRITE | PROT_EXEC | 8 /* PROT_SEM */) ||
        grows == (PROT_GROWSDOWN | PROT_GROWSUP))
        return -EINVAL;
    prot &= PROT_READ | PROT_WRITE | PROT_EXEC;
    if (!len)
        return 0;
    if (len > cn_ops->task_size || bad_range(addr, page_up(len)))
        return -ENOMEM;
    end = addr + page_up(len);
    pthread_mutex_lock(&mm->lock);
    v = vma_from(mm, addr);
    if (grows && (!v || v->n.start >= end)) {
        rc = -ENOMEM;
    } else if (grows) {
        if (grows == PROT_GROWSUP || !(v->flags & CN_VMA_GROWSDOWN))
            rc = -EINVAL;
        at = v->n.start;
    }
    while (!rc && at < end) {
        v = vma_at(mm, at);
        if (!v) {
            rc = -ENOMEM;
            break;
        }
        u64 stop = min64(v->n.end, end);
        rc = protect(mm, v, at, stop, prot);
        at = stop;
    }
    vma_merge_range(mm, addr, end);
    pthread_mutex_unlock(&mm->lock);
    return rc;
}

static int brk_grow(struct cn_mm *mm, u64 from, u64 to)
{
    struct vma like = {.prot = PROT_READ | PROT_WRITE,
                       .maxprot = PROT_READ | PROT_WRITE | PROT_EXEC,
                       .flags = CN_VMA_HEAP | (mm->lock_future ? CN_VMA_LOCKED : 0)};
    struct vma *next = vma_from(mm, from);

    if (to > cn_ops->task_size || to - mm->brk_start > mm->limits.data)
        return -ENOMEM;
    if (next && next->n.start < to + (next->flags & CN_VMA_GROWSDOWN ? STACK_GAP : CN_PAGE_SIZE))
        return -ENOMEM;
    if (mm_may_grow(mm, to - from, like.prot, like.flags) < 0 ||
        (mm->lock_future && mm_may_lock(mm, to - from) < 0))
        return -ENOMEM;
    return map_at(mm, &like, from, to - from, 0, 0);
}

u64 cn_mm_brk(struct cn_mm *mm, u64 addr)
{
    u64 from, to, result;
    int rc = 0;

    pthread_mutex_lock(&mm->lock);
    if (addr >= mm->brk_start && addr <= cn_ops->task_size) {
        from = page_up(mm->brk);
        to = page_up(addr);
        if (to > from)
            rc = brk_grow(mm, from, to);
        else if (to < from)
            rc = mm_unmap(mm, to, from, 1);
        if (!rc)
            mm->brk = addr;
        limbo_trim(mm);
    }
    result = mm->brk;
    pthread_mutex_unlock(&mm->lock);
    return result;
}

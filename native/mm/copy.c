/* Copies between the sentry and the guest: through the tables to the sentry's own view, no system
 * calls. */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "guard.h"
#include "memfile.h"
#include "mm_internal.h"

#define LOCK_BYTES (1UL << 20) /* copied at most while holding the lock once */
#define ZEROS      (64UL << 10)

static const u8 zeros[ZEROS] __attribute__((aligned(4096)));

static void piece_zeros(u64 addr, u64 n, struct piece *out)
{
    u64 in = addr & ~CN_PAGE_MASK;

    out->ptr = (u8 *)zeros + in; /* only ever read */
    out->n = min64(n, ZEROS - in);
}

static int piece_of_object(struct vma *v, u64 addr, u64 n, int write, struct piece *out)
{
    u64 off = obj_off(v, addr), in = addr & ~CN_PAGE_MASK, have, page;

    if (maps_host(v)) {
        out->ptr = mobj_window(v->obj, off, &have);
        out->n = min64(n, have);
        out->host = v->obj;
        return out->ptr ? 0 : -EFAULT;
    }
    have = page_up(mobj_size(v->obj));
    if (off >= have)
        return -EFAULT;
    n = min64(n, have - off);
    page = mobj_page(v->obj, pages(off), &have);
    n = min64(n, (have << CN_PAGE_SHIFT) - in);
    if (!page && write) {
        if (mobj_populate(v->obj, pages(off), pages(page_up(in + n))) < 0)
            return -EFAULT;
        page = mobj_page(v->obj, pages(off), &have);
        n = min64(n, (have << CN_PAGE_SHIFT) - in);
    }
    if (!page) {
        piece_zeros(addr, n, out);
        return 0;
    }
    out->page = page;
    out->ptr = memfile_ptr(page) + in;
    out->n = n;
    return 0;
}

static int allowed(const struct vma *v, int write, int force)
{
    if (!force)
        return write ? (v->prot & PROT_WRITE) != 0 : v->prot != PROT_NONE;
    return !write || v->prot & PROT_WRITE || !is_shared(v);
}

int piece_get(struct cn_mm *mm, u64 addr, u64 n, int write, int force, struct piece *out)
{
    struct vma *v = vma_at(mm, addr);
    struct pma *p;

    if (CN_UNLIKELY(!v))
        v = stack_grow(mm, addr);
    if (!v || !allowed(v, write, force))
        return -EFAULT;
    out->page = 0;
    out->host = NULL;
    n = min64(n, v->n.end - addr);
    p = is_shared(v) ? NULL : pma_from(mm, addr);
    if (write && (p && p->n.start <= addr ? p->cow != 0 : !is_shared(v))) {
        if (fault_in(mm, v, addr, 1) < 0)
            return -EFAULT;
        p = is_shared(v) ? NULL : pma_from(mm, addr);
    }
    if (p && p->n.start <= addr) {
        out->page = pma_page(p, addr);
        out->ptr = memfile_ptr(out->page) + (addr & ~CN_PAGE_MASK);
        out->n = min64(n, p->n.end - addr);
        return 0;
    }
    if (p)
        n = min64(n, p->n.start - addr);
    if (v->obj)
        return piece_of_object(v, addr, n, write, out);
    piece_zeros(addr, n, out);
    return 0;
}

/* Bytes copied from addr on until something is wrong. Lock held. */
static u64 copy_locked(struct cn_mm *mm, u64 addr, u8 *buf, u64 n, int write, int force)
{
    struct piece piece;
    u64 done = 0, left;

    while (done < n) {
        if (piece_get(mm, addr + done, n - done, write, force, &piece) < 0)
            break;
        left = write ? guard_copy(piece.ptr, buf + done, piece.n)
                     : guard_copy(buf + done, piece.ptr, piece.n);
        done += piece.n - left;
        if (left)
            break;
    }
    return done;
}

static u64 copy(struct cn_mm *mm, u64 addr, u8 *buf, u64 n, int write, int force)
{
    u64 done = 0, now, got;

    do {
        now = min64(n - done, LOCK_BYTES);
        pthread_mutex_lock(&mm->lock);
        got = addr + done < addr ? 0 : copy_locked(mm, addr + done, buf + done, now, write, force);
        limbo_trim(mm);
        pthread_mutex_unlock(&mm->lock);
        done += got;
    } while (got == now && done < n);
    return done;
}

int cn_mm_copy_in(struct cn_mm *mm, u64 addr, void *buf, u64 n)
{
    return n && copy(mm, addr, buf, n, 0, 0) < n ? -EFAULT : 0;
}

int cn_mm_copy_out(struct cn_mm *mm, u64 addr, const void *buf, u64 n)
{
    return n && copy(mm, addr, (u8 *)buf, n, 1, 0) < n ? -EFAULT : 0;
}

int cn_mm_force_in(struct cn_mm *mm, u64 addr, void *buf, u64 n)
{
    return n && copy(mm, addr, buf, n, 0, 1) < n ? -EFAULT : 0;
}

int cn_mm_force_out(struct cn_mm *mm, u64 addr, const void *buf, u64 n)
{
    return n && copy(mm, addr, (u8 *)buf, n, 1, 1) < n ? -EFAULT : 0;
}

i64 cn_mm_read_some(struct cn_mm *mm, u64 addr, void *buf, u64 n)
{
    u64 done = n ? copy(mm, addr, buf, n, 0, 0) : 0;

    return done || !n ? (i64)done : -EFAULT;
}

i64 cn_mm_write_some(struct cn_mm *mm, u64 addr, const void *buf, u64 n)
{
    u64 done = n ? copy(mm, addr, (u8 *)buf, n, 1, 0) : 0;

    return done || !n ? (i64)done : -EFAULT;
}

i64 cn_mm_copy_str(struct cn_mm *mm, u64 addr, char *buf, u64 max)
{
    u64 done = 0, n, got;
    i64 rc = -ENAMETOOLONG;
    char *nul;

    pthread_mutex_lock(&mm->lock);
    while (done < max) {
        n = min64(min64(max - done, 256), CN_PAGE_SIZE - ((addr + done) & ~CN_PAGE_MASK));
        got = copy_locked(mm, addr + done, (u8 *)buf + done, n, 0, 0);
        nul = memchr(buf + done, 0, got);
        if (nul) {
            rc = nul - buf;
            break;
        }
        if (got < n) {
            rc = -EFAULT;
            break;
        }
        done += n;
    }
    pthread_mutex_unlock(&mm->lock);
    return rc;
}

int cn_mm_zero(struct cn_mm *mm, u64 addr, u64 n)
{
    struct piece piece;
    int rc = 0;

    while (n && !rc) {
        pthread_mutex_lock(&mm->lock);
        rc = piece_get(mm, addr, min64(n, LOCK_BYTES), 1, 0, &piece);
        if (!rc && guard_zero(piece.ptr, piece.n))
            rc = -EFAULT;
        limbo_trim(mm);
        pthread_mutex_unlock(&mm->lock);
        addr += piece.n;
        n -= rc ? 0 : piece.n;
    }
    return rc;
}

int cn_mm_load32(struct cn_mm *mm, u64 addr, u32 *value)
{
    struct piece piece;
    int rc;

    if (addr & 3)
        return cn_mm_copy_in(mm, addr, value, sizeof(*value));
    pthread_mutex_lock(&mm->lock);
    rc = piece_get(mm, addr, 4, 0, 0, &piece);
    if (!rc)
        rc = guard_load32((u32 *)piece.ptr, value);
    pthread_mutex_unlock(&mm->lock);
    return rc;
}

int cn_mm_store32(struct cn_mm *mm, u64 addr, u32 value)
{
    struct piece piece;
    int rc;

    if (addr & 3)
        return cn_mm_copy_out(mm, addr, &value, sizeof(value));
    pthread_mutex_lock(&mm->lock);
    rc = piece_get(mm, addr, 4, 1, 0, &piece);
    if (!rc)
        rc = guard_store32((u32 *)piece.ptr, value);
    limbo_trim(mm);
    pthread_mutex_unlock(&mm->lock);
    return rc;
}

int cn_mm_cmpxchg32(struct cn_mm *mm, u64 addr, u32 expected, u32 desired, u32 *old)
{
    struct piece piece;
    int rc;

    if (addr & 3)
        return -EINVAL;
    pthread_mutex_lock(&mm->lock);
    rc = piece_get(mm, addr, 4, 1, 0, &piece);
    if (!rc)
        rc = guard_cmpxchg32((u32 *)piece.ptr, expected, desired, old);
    limbo_trim(mm);
    pthread_mutex_unlock(&mm->lock);
    return rc;
}

int cn_mm_op32(struct cn_mm *mm, u64 addr, int op, u32 arg, u32 *old)
{
    u32 was, value, now;
    int rc = cn_mm_load32(mm, addr, &was);

    if (addr & 3)
        return -EINVAL;
    while (!rc) {
        switch (op) {
        case 0:
            value = arg;
            break;
        case 1:
            value = was + arg;
            break;
        case 2:
            value = was | arg;
            break;
        case 3:
            value = was & ~arg;
            break;
        case 4:
            value = was ^ arg;
            break;
        default:
            return -ENOSYS;
        }
        rc = cn_mm_cmpxchg32(mm, addr, was, value, &now);
        if (rc || now == was)
            break;
        was = now;
    }
    *old = was;
    return rc;
}

int cn_mm_futex_key(struct cn_mm *mm, u64 addr, int shared, u64 *object, u64 *off)
{
    struct vma *v;
    int rc = 0;

    *object = mm->id;
    *off = addr;
    if (addr & 3)
        return -EINVAL;
    if (addr >= cn_ops->task_size)
        return -EFAULT;
    if (!shared)
        return 0;
    pthread_mutex_lock(&mm->lock);
    v = vma_at(mm, addr);
    if (!v || v->prot == PROT_NONE) {
        rc = -EFAULT;
    } else if (is_shared(v)) {
        *object = v->obj->id;
        *off = obj_off(v, addr);
        if (maps_mem(v) && *off >= page_up(mobj_size(v->obj)))
            rc = -EFAULT; /* beyond the file's end */
    }
    pthread_mutex_unlock(&mm->lock);
    return rc;
}

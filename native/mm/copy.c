/* Copies between the sentry and guest memory, through the tables and the sentry's own mapping: no system calls. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

#include "memfile.h"
#include "mm_internal.h"

#define MAX_PIECES 16
#define BOUNCE (64UL << 10)

/* Bytes copied, or -EFAULT. dir: CN_ACCESS_READ from the guest, CN_ACCESS_WRITE to it (src NULL: zeros). */
static i64 copy(struct cn_mm *mm, u64 addr, u8 *dst, const u8 *src, u64 n, u32 dir, int force)
{
    u64 done = 0;
    i64 rc = 0;

    if (addr + n < addr || addr + n > cn_ops->task_size)
        n = addr < cn_ops->task_size ? cn_ops->task_size - addr : 0;
    pthread_mutex_lock(&mm->lock);
    while (done < n) {
        u8 *p;
        struct vma *v;
        u64 len = n - done;
        if (page_in(mm, addr + done, dir, force, &p, &v, &len) < 0)
            break;
        if (p) {
            static const u8 zeros[CN_PAGE_SIZE];
            if (dir == CN_ACCESS_READ) {
                rc = guarded_copy(dst + done, p, len);
            } else if (src) {
                rc = guarded_copy(p, src + done, len);
            } else {
                len = min64(len, CN_PAGE_SIZE);
                rc = guarded_copy(p, zeros, len);
            }
            if (rc < 0)
                break;
        } else {
            u64 off = v->off + (addr + done - v->start), size = (u64)max64(0, (u64)cn_mobj_size(v->obj));
            if ((i64)size < 0 || off >= page_up(size))
                break; /* SIGBUS for the guest */
            len = min64(len, page_up(size) - off);
            if (dir == CN_ACCESS_READ) {
                i64 got = cn_mobj_pread(v->obj, dst + done, len, off);
                if (got < 0)
                    break;
                memset(dst + done + got, 0, len - (u64)got);
            } else {
                static const u8 zeros[CN_PAGE_SIZE];
                len = min64(len, src ? len : CN_PAGE_SIZE);
                u64 inside = off < size ? min64(len, size - off) : 0;
                i64 put = inside ? cn_mobj_pwrite(v->obj, src ? src + done : zeros, inside, off) : 0;
                if (put < 0 || (u64)put != inside)
                    break;
            }
        }
        done += len;
    }
    limbo_flush(mm, 0);
    pthread_mutex_unlock(&mm->lock);
    return done || !n ? (i64)done : -EFAULT;
}

static int whole(i64 rc, u64 n)
{
    return rc >= 0 && (u64)rc == n ? 0 : -EFAULT;
}

int cn_mm_copy_in(struct cn_mm *mm, u64 addr, void *buf, u64 n)
{
    return n ? whole(copy(mm, addr, buf, NULL, n, CN_ACCESS_READ, 0), n) : 0;
}

int cn_mm_copy_out(struct cn_mm *mm, u64 addr, const void *buf, u64 n)
{
    return n ? whole(copy(mm, addr, NULL, buf, n, CN_ACCESS_WRITE, 0), n) : 0;
}

int cn_mm_force_in(struct cn_mm *mm, u64 addr, void *buf, u64 n)
{
    return n ? whole(copy(mm, addr, buf, NULL, n, CN_ACCESS_READ, 1), n) : 0;
}

int cn_mm_force_out(struct cn_mm *mm, u64 addr, const void *buf, u64 n)
{
    return n ? whole(copy(mm, addr, NULL, buf, n, CN_ACCESS_WRITE, 1), n) : 0;
}

i64 cn_mm_read_some(struct cn_mm *mm, u64 addr, void *buf, u64 n)
{
    return copy(mm, addr, buf, NULL, n, CN_ACCESS_READ, 0);
}

i64 cn_mm_write_some(struct cn_mm *mm, u64 addr, const void *buf, u64 n)
{
    return copy(mm, addr, NULL, buf, n, CN_ACCESS_WRITE, 0);
}

int cn_mm_zero(struct cn_mm *mm, u64 addr, u64 n)
{
    return n ? whole(copy(mm, addr, NULL, NULL, n, CN_ACCESS_WRITE, 0), n) : 0;
}

i64 cn_mm_copy_str(struct cn_mm *mm, u64 addr, char *buf, u64 max)
{
    u64 done = 0;

    while (done < max) {
        u64 want = min64(max - done, CN_PAGE_SIZE - ((addr + done) & ~CN_PAGE_MASK));
        if (addr + done + want < addr)
            return -EFAULT;
        i64 got = copy(mm, addr + done, (u8 *)buf + done, NULL, want, CN_ACCESS_READ, 0);
        if (got <= 0)
            return -EFAULT;
        char *end = memchr(buf + done, 0, (size_t)got);
        if (end)
            return end - buf;
        if ((u64)got < want)
            return -EFAULT;
        done += (u64)got;
    }
    return -ENAMETOOLONG;
}

struct word_op {
    _Atomic u32 *word;
    int op; /* -1 load, -2 cmpxchg, else FUTEX_OP_* */
    u32 expected, arg, old;
};

static int do_word(void *arg)
{
    struct word_op *w = arg;

    switch (w->op) {
    case -1: w->old = atomic_load(w->word); return 0;
    case -2:
        w->old = w->expected;
        atomic_compare_exchange_strong(w->word, &w->old, w->arg);
        return 0;
    case 0: w->old = atomic_exchange(w->word, w->arg); return 0;
    case 1: w->old = atomic_fetch_add(w->word, w->arg); return 0;
    case 2: w->old = atomic_fetch_or(w->word, w->arg); return 0;
    case 3: w->old = atomic_fetch_and(w->word, ~w->arg); return 0;
    case 4: w->old = atomic_fetch_xor(w->word, w->arg); return 0;
    default: return -ENOSYS;
    }
}

static int word(struct cn_mm *mm, u64 addr, struct word_op *w)
{
    u8 *p;
    struct vma *v;
    u64 n = 4;
    void *window = NULL;
    int rc;

    if (addr & 3)
        return -EINVAL;
    if (addr >= cn_ops->task_size)
        return -EFAULT;
    pthread_mutex_lock(&mm->lock);
    rc = page_in(mm, addr, w->op == -1 ? CN_ACCESS_READ : CN_ACCESS_WRITE, 0, &p, &v, &n) < 0 ? -EFAULT : 0;
    if (!rc && !p) { /* a host file: through a mapping of its page */
        u64 off = v->off + (addr - v->start);
        window = mmap(NULL, CN_PAGE_SIZE, w->op == -1 ? PROT_READ : PROT_READ | PROT_WRITE, MAP_SHARED, v->obj->fd,
                      (off_t)page_down(off));
        if (window == MAP_FAILED) {
            window = NULL;
            rc = -EFAULT;
        } else {
            p = (u8 *)window + (off & ~CN_PAGE_MASK);
        }
    }
    if (!rc) {
        w->word = (_Atomic u32 *)p;
        rc = guarded_call(do_word, w);
    }
    if (window)
        munmap(window, CN_PAGE_SIZE);
    pthread_mutex_unlock(&mm->lock);
    return rc;
}

int cn_mm_load32(struct cn_mm *mm, u64 addr, u32 *value)
{
    struct word_op w = {.op = -1};
    int rc = word(mm, addr, &w);
    *value = w.old;
    return rc;
}

int cn_mm_cmpxchg32(struct cn_mm *mm, u64 addr, u32 expected, u32 desired, u32 *old)
{
    struct word_op w = {.op = -2, .expected = expected, .arg = desired};
    int rc = word(mm, addr, &w);
    *old = w.old;
    return rc;
}

int cn_mm_op32(struct cn_mm *mm, u64 addr, int op, u32 arg, u32 *old)
{
    struct word_op w = {.op = op, .arg = arg};
    if (op < 0 || op > 4)
        return -ENOSYS;
    int rc = word(mm, addr, &w);
    *old = w.old;
    return rc;
}

int cn_mm_futex_key(struct cn_mm *mm, u64 addr, int shared, u64 *object, u64 *off)
{
    int rc = 0;

    if (addr & 3)
        return -EINVAL;
    if (addr >= cn_ops->task_size)
        return -EFAULT;
    *object = mm->id;
    *off = addr;
    if (!shared)
        return 0;
    pthread_mutex_lock(&mm->lock);
    struct vma *v = vma_at(mm, addr);
    if (!v || !v->prot)
        rc = -EFAULT;
    else if (is_shared(v)) {
        *object = v->obj->id;
        *off = v->off + (addr - v->start);
    }
    pthread_mutex_unlock(&mm->lock);
    return rc;
}

/* Guest range -> pieces of memory file, with one reference on each page so that they outlive the lock. Stops early at what
 * has no page (an object of the host). The number of pieces, 0 for none at all. */
static int pin(struct cn_mm *mm, u64 addr, u64 n, u32 dir, struct iovec *iov, u64 *bytes)
{
    int count = 0;
    u64 done = 0;

    pthread_mutex_lock(&mm->lock);
    while (done < n && count < MAX_PIECES) {
        u8 *p;
        struct vma *v;
        u64 len = n - done;
        if (page_in(mm, addr + done, dir, 0, &p, &v, &len) < 0 || !p)
            break;
        u64 first = (u64)(p - cn_memfile_base) >> CN_PAGE_SHIFT;
        u64 last = (u64)(p + len - 1 - cn_memfile_base) >> CN_PAGE_SHIFT;
        memfile_ref(first, last - first + 1);
        iov[count++] = (struct iovec){p, len};
        done += len;
    }
    pthread_mutex_unlock(&mm->lock);
    *bytes = done;
    return count;
}

static void unpin(const struct iovec *iov, int count)
{
    for (int i = 0; i < count; i++) {
        u8 *p = iov[i].iov_base;
        u64 first = (u64)(p - cn_memfile_base) >> CN_PAGE_SHIFT;
        u64 last = (u64)(p + iov[i].iov_len - 1 - cn_memfile_base) >> CN_PAGE_SHIFT;
        memfile_unref(first, last - first + 1);
    }
}

static i64 host_io(int fd, const struct iovec *iov, int count, i64 off, int write)
{
    ssize_t n;

    if (write)
        n = off < 0 ? writev(fd, iov, count) : pwritev(fd, iov, count, (off_t)off);
    else
        n = off < 0 ? readv(fd, iov, count) : preadv(fd, iov, count, (off_t)off);
    return n < 0 ? -errno : n;
}

/* One step: directly where there are pages, else through a buffer. */
static i64 io_step(struct cn_mm *mm, int fd, u64 addr, u64 n, i64 off, int write, u64 *wanted)
{
    struct iovec iov[MAX_PIECES];
    u64 bytes;
    int count = pin(mm, addr, n, write ? CN_ACCESS_READ : CN_ACCESS_WRITE, iov, &bytes);
    i64 rc;

    if (count) {
        *wanted = bytes;
        rc = host_io(fd, iov, count, off, write);
        unpin(iov, count);
        return rc;
    }
    u8 *buf = malloc(BOUNCE);
    if (!buf)
        return -ENOMEM;
    n = min64(n, BOUNCE);
    struct iovec one = {buf, n};
    if (write) {
        rc = cn_mm_read_some(mm, addr, buf, n);
        if (rc > 0) {
            *wanted = one.iov_len = (u64)rc;
            rc = host_io(fd, &one, 1, off, 1);
        }
    } else { /* a shared mapping of a host file as the destination */
        rc = whole(copy(mm, addr, buf, NULL, 1, CN_ACCESS_READ, 0), 1);
        *wanted = n;
        if (!rc && (rc = host_io(fd, &one, 1, off, 0)) > 0)
            rc = cn_mm_write_some(mm, addr, buf, (u64)rc);
    }
    free(buf);
    return rc;
}

static i64 io(struct cn_mm *mm, int fd, u64 addr, u64 n, i64 off, int write)
{
    u64 done = 0;

    if (n > 0x7ffff000)
        n = 0x7ffff000;
    if (!n) {
        struct iovec none = {NULL, 0};
        return host_io(fd, &none, 1, off, write);
    }
    while (done < n) {
        u64 wanted = 0;
        i64 rc = io_step(mm, fd, addr + done, n - done, off < 0 ? off : off + (i64)done, write, &wanted);
        if (rc < 0)
            return done ? (i64)done : rc;
        done += (u64)rc;
        if ((u64)rc < wanted || !rc)
            break;
        if (off < 0 && !write && done < n)
            break; /* a stream: what came is the answer */
    }
    return (i64)done;
}

i64 cn_mm_host_read(struct cn_mm *mm, int fd, u64 addr, u64 n, i64 off)
{
    return io(mm, fd, addr, n, off, 0);
}

i64 cn_mm_host_write(struct cn_mm *mm, int fd, u64 addr, u64 n, i64 off)
{
    return io(mm, fd, addr, n, off, 1);
}

/* Between a MEM object and guest memory: page by page through pinned pieces, so that neither lock is held over the other. */
static i64 mobj_io(struct cn_mm *mm, struct cn_mobj *o, u64 addr, u64 n, u64 off, int write)
{
    u64 done = 0;

    if (n > 0x7ffff000)
        n = 0x7ffff000;
    while (done < n) {
        struct iovec iov[MAX_PIECES];
        u64 bytes;
        u8 *bounce = NULL;
        i64 rc = 0;
        int count = pin(mm, addr + done, n - done, write ? CN_ACCESS_READ : CN_ACCESS_WRITE, iov, &bytes);
        if (!count) {
            bounce = malloc(BOUNCE);
            if (!bounce)
                return done ? (i64)done : -ENOMEM;
            iov[0] = (struct iovec){bounce, min64(n - done, BOUNCE)};
            if (write) {
                rc = cn_mm_read_some(mm, addr + done, bounce, iov[0].iov_len);
                if (rc > 0)
                    iov[0].iov_len = (u64)rc;
            }
        }
        u64 before = done;
        int stop = 0;
        for (int i = 0; i < (count ? count : 1) && rc >= 0 && !stop; i++) {
            rc = write ? cn_mobj_pwrite(o, iov[i].iov_base, iov[i].iov_len, off + done)
                       : cn_mobj_pread(o, iov[i].iov_base, iov[i].iov_len, off + done);
            if (rc > 0) {
                stop = (u64)rc < iov[i].iov_len;
                if (bounce && !write)
                    rc = cn_mm_write_some(mm, addr + done, bounce, (u64)rc);
                if (rc > 0)
                    done += (u64)rc;
            }
            stop |= rc <= 0;
        }
        if (count)
            unpin(iov, count);
        free(bounce);
        if (rc < 0)
            return done ? (i64)done : rc;
        if (stop || done == before)
            break;
    }
    return (i64)done;
}

i64 cn_mm_mobj_read(struct cn_mm *mm, struct cn_mobj *o, u64 addr, u64 n, u64 off)
{
    return mobj_io(mm, o, addr, n, off, 0);
}

i64 cn_mm_mobj_write(struct cn_mm *mm, struct cn_mobj *o, u64 addr, u64 n, u64 off)
{
    return mobj_io(mm, o, addr, n, off, 1);
}

/*
 * read(2), write(2) and kin without Python. See fastio.h.
 *
 * What fails goes to Python, which does it again and gives the reason: a failed call has moved
 * nothing. So do the cases that concern more than bytes: watched files, writes that change a mode,
 * sizes near a limit.
 */
#define _GNU_SOURCE
#include "fastio.h"

#include <errno.h>
#include <stdatomic.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "../mm/mm.h"
#include "fdt.h"
#include "names.h"

#define MAX_RW  0x7ffff000UL /* what one call moves at most (read(2), NOTES) */
#define USER_END ((1UL << 47) - CN_PAGE_SIZE) /* TASK_SIZE_MAX of x86-64 */
#define DAY     (86400UL * 1000000000UL)
#define AT_POS  (-1)
#define AT_HOST (-2) /* of cn_mm_host_read and kin: the host's position, of a regular file */

/* One call: count bytes at addr, or `vectors` iovecs there. */
struct io {
    struct cn_task *t;
    struct cn_file *f;
    u64 addr, count;
    i64 off; /* AT_POS: where the description stands */
    int vectors;
};

static u64 now(clockid_t clock)
{
    struct timespec ts;

    clock_gettime(clock, &ts);
    return (u64)ts.tv_sec * 1000000000UL + (u64)ts.tv_nsec;
}

static enum cn_fast done(struct cn_task *t, i64 n)
{
    t->regs.rax = (u64)n;
    return CN_DONE;
}

static struct cn_file *get(struct cn_task *t, u32 access)
{
    struct cn_file *f;

    if (CN_UNLIKELY(atomic_load_explicit(&files_watched, memory_order_relaxed)))
        return NULL;
    f = file_get(t->fds, (i32)t->regs.rdi);
    if (f && CN_UNLIKELY(!(atomic_load_explicit(&f->flags, memory_order_relaxed) & access))) {
        file_put(f);
        return NULL;
    }
    return f;
}

/* Cuts off what one call may not move. 0: it is not all below the kernel's half. */
static int at_most(struct io *io)
{
    u64 most = io->vectors ? 1025 : MAX_RW; /* too many vectors are refused later */

    if (!io->vectors && io->count > USER_END - io->addr)
        return 0;
    io->count = io->count < most ? io->count : most;
    return 1;
}

/* Reading */

/* relatime: the first read after a change, and one a day. */
static void accessed(struct cn_file *f, u32 flags)
{
    struct cn_data *d = f->data;
    u64 due, at;

    if (!d || flags & CN_FILE_NOATIME)
        return;
    due = __atomic_load_n(&d->atime_due, __ATOMIC_RELAXED);
    if (CN_LIKELY(due && now(CLOCK_REALTIME_COARSE) < due))
        return;
    at = now(CLOCK_REALTIME);
    __atomic_store_n(&d->atime_due, at + DAY, __ATOMIC_RELAXED);
    __atomic_store_n(&d->accessed, at, __ATOMIC_RELEASE);
    cn_names_changed();
}

static i64 read_at(const struct io *io, i64 off)
{
    struct cn_file *f = io->f;
    struct cn_mm *mm = cn_task_mm(io->t);

    if (atomic_load_explicit(&f->kind, memory_order_relaxed) == CN_FILE_MEM)
        return io->vectors ? cn_mm_mobj_readv(mm, f->mobj, io->addr, (u32)io->count, (u64)off)
                           : cn_mm_mobj_read(mm, f->mobj, io->addr, io->count, (u64)off);
    return io->vectors ? cn_mm_host_readv(mm, f->hostfd, io->addr, (u32)io->count, off)
                       : cn_mm_host_read(mm, f->hostfd, io->addr, io->count, off);
}

static i64 read_file(const struct io *io)
{
    struct cn_file *f = io->f;
    i64 n;

    switch (atomic_load_explicit(&f->kind, memory_order_relaxed)) {
    case CN_FILE_STREAM:
        return io->off == AT_POS ? read_at(io, AT_POS) : -ESPIPE;
    case CN_FILE_NULL:
        return io->vectors ? -EINVAL : 0;
    case CN_FILE_ZERO:
        if (io->vectors || cn_mm_zero(cn_task_mm(io->t), io->addr, io->count) < 0)
            return -EFAULT;
        return (i64)io->count;
    case CN_FILE_OWN:
        return read_at(io, io->off == AT_POS ? AT_HOST : io->off);
    }
    if (io->off != AT_POS) {
        n = read_at(io, io->off);
    } else {
        pthread_mutex_lock(&f->lock);
        n = read_at(io, f->pos);
        if (n > 0)
            f->pos += n;
        pthread_mutex_unlock(&f->lock);
    }
    if (n > 0)
        accessed(f, atomic_load_explicit(&f->flags, memory_order_relaxed));
    return n;
}

/* What a call on a connection says. Its errors are told once, so Python could not find the reason
 * again; but it knows how to wait, and sends SIGPIPE. */
static enum cn_fast said(struct cn_task *t, struct cn_file *f, i64 n)
{
    u32 kind = atomic_load_explicit(&f->kind, memory_order_relaxed);
    u32 flags = atomic_load_explicit(&f->flags, memory_order_relaxed);

    file_put(f);
    if (n >= 0)
        return done(t, n);
    if (kind != CN_FILE_STREAM || n == -EFAULT || n == -EINVAL || n == -EINTR || n == -EPIPE ||
        n == -ESPIPE || (n == -EAGAIN && !(flags & CN_FILE_NONBLOCK)))
        return CN_UPCALL;
    return done(t, n);
}

static enum cn_fast do_read(struct cn_task *t, i64 off, int vectors)
{
    struct io io = {t, get(t, CN_FILE_READ), t->regs.rsi, t->regs.rdx, off, vectors};
    i64 n;

    if (!io.f)
        return CN_UPCALL;
    if (!at_most(&io))
        return said(t, io.f, -EFAULT);
    n = off > INT64_MAX - (i64)MAX_RW ? -EINVAL : read_file(&io);
    return said(t, io.f, n);
}

/* Writing */

static i64 write_at(const struct io *io, i64 off)
{
    struct cn_file *f = io->f;
    struct cn_mm *mm = cn_task_mm(io->t);

    if (atomic_load_explicit(&f->kind, memory_order_relaxed) == CN_FILE_MEM)
        return io->vectors ? cn_mm_mobj_writev(mm, f->mobj, io->addr, (u32)io->count, (u64)off)
                           : cn_mm_mobj_write(mm, f->mobj, io->addr, io->count, (u64)off);
    return io->vectors ? cn_mm_host_writev(mm, f->hostfd, io->addr, (u32)io->count, off)
                       : cn_mm_host_write(mm, f->hostfd, io->addr, io->count, off);
}

static i64 end_of(struct cn_file *f)
{
    struct stat st;

    if (atomic_load_explicit(&f->kind, memory_order_relaxed) == CN_FILE_MEM)
        return cn_mobj_size(f->mobj);
    return fstat(f->hostfd, &st) < 0 ? -errno : st.st_size;
}

/* With the data's lock. */
static i64 write_locked(const struct io *io, i64 off)
{
    struct cn_data *d = io->f->data;
    u64 limit = __atomic_load_n(&io->t->fsize, __ATOMIC_RELAXED);
    i64 n;

    /* How much a vector holds is known too late for a limit. */
    if (off < 0 || off > INT64_MAX - (i64)MAX_RW ||
        (limit != UINT64_MAX && (io->vectors || (u64)off + io->count > limit)))
        return -EFBIG;
    n = write_at(io, off);
    if (n > 0) {
        __atomic_store_n(&d->written, now(CLOCK_REALTIME), __ATOMIC_RELEASE);
        __atomic_store_n(&d->atime_due, 0, __ATOMIC_RELAXED);
    }
    return n;
}

static i64 write_regular(const struct io *io)
{
    struct cn_file *f = io->f;
    struct cn_data *d = f->data;
    u32 append = atomic_load_explicit(&f->flags, memory_order_relaxed) & CN_FILE_APPEND;
    i64 n, off = io->off;

    if (!d)
        return -EINVAL;
    if (io->off == AT_POS)
        pthread_mutex_lock(&f->lock);
    cn_data_lock(d);
    if (__atomic_load_n(&d->closed, __ATOMIC_RELAXED)) {
        n = -EPERM;
    } else {
        off = append ? end_of(f) : off == AT_POS ? f->pos : off;
        n = write_locked(io, off);
    }
    cn_data_unlock(d);
    if (io->off == AT_POS) {
        if (n > 0)
            f->pos = off + n;
        pthread_mutex_unlock(&f->lock);
    }
    return n;
}

/* A connection takes what it has room for; who wants to wait for more of it does so in Python. */
static i64 write_stream(const struct io *io)
{
    if (io->off != AT_POS)
        return -ESPIPE;
    if (!(atomic_load_explicit(&io->f->flags, memory_order_relaxed) & CN_FILE_NONBLOCK))
        return -EAGAIN;
    return write_at(io, AT_POS);
}

static i64 write_file(const struct io *io)
{
    switch (atomic_load_explicit(&io->f->kind, memory_order_relaxed)) {
    case CN_FILE_STREAM:
        return write_stream(io);
    case CN_FILE_NULL:
    case CN_FILE_ZERO: /* what is written is not looked at, so it need only be addresses */
        if (io->vectors || io->addr > cn_ops->task_size ||
            io->count > cn_ops->task_size - io->addr)
            return -EFAULT;
        return (i64)io->count;
    case CN_FILE_OWN: /* the host appends and moves its position; who knows where to? */
        if (__atomic_load_n(&io->t->fsize, __ATOMIC_RELAXED) != UINT64_MAX)
            return -EFBIG;
        return write_at(io, io->off == AT_POS ? AT_HOST : io->off);
    default:
        return write_regular(io);
    }
}

static enum cn_fast do_write(struct cn_task *t, i64 off, int vectors)
{
    struct io io = {t, get(t, CN_FILE_WRITE), t->regs.rsi, t->regs.rdx, off, vectors};
    i64 n;

    if (!io.f)
        return CN_UPCALL;
    if (!at_most(&io))
        return said(t, io.f, -EFAULT);
    n = !vectors && !io.count ? 0 : write_file(&io);
    return said(t, io.f, n);
}

/* The calls */

enum cn_fast fast_read(struct cn_task *t)
{
    return do_read(t, AT_POS, 0);
}

enum cn_fast fast_write(struct cn_task *t)
{
    return do_write(t, AT_POS, 0);
}

enum cn_fast fast_pread64(struct cn_task *t)
{
    return (i64)t->regs.r10 < 0 ? CN_UPCALL : do_read(t, (i64)t->regs.r10, 0);
}

enum cn_fast fast_pwrite64(struct cn_task *t)
{
    return (i64)t->regs.r10 < 0 ? CN_UPCALL : do_write(t, (i64)t->regs.r10, 0);
}

enum cn_fast fast_readv(struct cn_task *t)
{
    return do_read(t, AT_POS, 1);
}

enum cn_fast fast_writev(struct cn_task *t)
{
    return do_write(t, AT_POS, 1);
}

enum cn_fast fast_preadv(struct cn_task *t)
{
    return (i64)t->regs.r10 < 0 ? CN_UPCALL : do_read(t, (i64)t->regs.r10, 1);
}

enum cn_fast fast_pwritev(struct cn_task *t)
{
    return (i64)t->regs.r10 < 0 ? CN_UPCALL : do_write(t, (i64)t->regs.r10, 1);
}

static i64 seek_to(struct cn_file *f, i64 off, u32 whence)
{
    i64 base, pos = -EINVAL;

    pthread_mutex_lock(&f->lock);
    base = whence == SEEK_SET ? 0 : whence == SEEK_CUR ? f->pos : end_of(f);
    if (base >= 0 && !__builtin_add_overflow(base, off, &pos) && pos >= 0)
        f->pos = pos;
    else
        pos = -EINVAL;
    pthread_mutex_unlock(&f->lock);
    return pos;
}

enum cn_fast fast_lseek(struct cn_task *t)
{
    struct cn_file *f = file_get(t->fds, (i32)t->regs.rdi);
    i64 off = (i64)t->regs.rsi, pos = -EINVAL;
    u32 whence = (u32)t->regs.rdx;

    if (!f)
        return CN_UPCALL;
    if (whence <= SEEK_END) {
        switch (atomic_load_explicit(&f->kind, memory_order_relaxed)) {
        case CN_FILE_NULL:
        case CN_FILE_ZERO:
            pos = 0;
            break;
        case CN_FILE_OWN:
            pos = lseek(f->hostfd, off, (int)whence);
            break;
        case CN_FILE_PLACE:
            break;
        default:
            pos = seek_to(f, off, whence);
        }
    }
    file_put(f);
    return pos < 0 ? CN_UPCALL : done(t, pos);
}

/* recv(2) and send(2) without flags that change anything, and without an address. */
static enum cn_fast stream_only(struct cn_task *t, u64 flags, enum cn_fast (*move)(struct cn_task *))
{
    struct cn_file *f;
    u32 kind;

    if (t->regs.r8 || (u32)t->regs.r10 & ~flags)
        return CN_UPCALL;
    f = file_get(t->fds, (i32)t->regs.rdi);
    if (!f)
        return CN_UPCALL;
    kind = atomic_load_explicit(&f->kind, memory_order_relaxed);
    file_put(f);
    return kind == CN_FILE_STREAM ? move(t) : CN_UPCALL;
}

enum cn_fast fast_recvfrom(struct cn_task *t)
{
    return stream_only(t, MSG_NOSIGNAL, fast_read);
}

enum cn_fast fast_sendto(struct cn_task *t)
{
    return stream_only(t, MSG_NOSIGNAL, fast_write);
}

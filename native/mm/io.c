/*
 * Reads and writes between guest memory and files without a copy in between. The pages are pinned
 * by references while the host works on them, so that the lock need not be held and nothing is
 * reused under its hands.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <sys/uio.h>
#include <unistd.h>

#include "guard.h"
#include "memfile.h"
#include "mm_internal.h"

#define MAX_RW      (0x7ffff000UL) /* Linux's MAX_RW_COUNT */
#define MAX_VECS    1024           /* UIO_MAXIOV */
#define BATCH_BYTES (1UL << 20)

struct guest_vec {
    u64 base, len;
};

/* A place in the guest's vectors. */
struct cursor {
    const struct guest_vec *vec;
    u32 count, at;
    u64 in; /* bytes of vec[at] done */
};

static void pin_piece(struct batch *b, const struct piece *piece)
{
    struct pin *pin = &b->pin[b->count];

    *pin = (struct pin){piece->page, 0, piece->host};
    if (piece->page) {
        pin->n = pages(page_up(((u64)piece->ptr & ~CN_PAGE_MASK) + piece->n));
        memfile_ref(pin->page, pin->n);
    } else if (piece->host) {
        cn_mobj_ref(piece->host);
    }
    b->iov[b->count++] = (struct iovec){piece->ptr, piece->n};
    b->bytes += piece->n;
}

static void unpin(struct cn_mm *mm, struct batch *b)
{
    if (b->link) {
        pthread_mutex_lock(&mm->lock);
        *b->link = b->next;
        if (b->next)
            b->next->link = b->link;
        pthread_mutex_unlock(&mm->lock);
    }
    while (b->count) {
        struct pin *pin = &b->pin[--b->count];
        if (pin->n)
            memfile_unref(pin->page, pin->n);
        else if (pin->host)
            cn_mobj_unref(pin->host);
    }
    b->bytes = 0;
}

/* Pins the next pieces: 0, or -EFAULT when there is none because the first is bad. write: the
 * guest's memory is written. */
static int fill(struct cn_mm *mm, struct cursor *c, struct batch *b, int write)
{
    struct piece piece;
    int rc = 0;

    b->count = 0;
    b->bytes = 0;
    b->link = NULL;
    pthread_mutex_lock(&mm->lock);
    while (c->at < c->count && b->count < BATCH_VECS && b->bytes < BATCH_BYTES) {
        const struct guest_vec *v = &c->vec[c->at];
        if (c->in == v->len) {
            c->at++;
            c->in = 0;
            continue;
        }
        rc = piece_get(mm, v->base + c->in, min64(v->len - c->in, BATCH_BYTES - b->bytes), write, 0,
                       &piece);
        if (rc < 0)
            break;
        pin_piece(b, &piece);
        c->in += piece.n;
    }
    if (write && b->count) { /* fork must know */
        b->next = mm->reads;
        b->link = &mm->reads;
        if (b->next)
            b->next->link = &b->next;
        mm->reads = b;
    }
    limbo_trim(mm);
    pthread_mutex_unlock(&mm->lock);
    return b->count ? 0 : rc;
}

struct target {
    int fd;
    struct cn_mobj *obj; /* MEM, instead of fd */
    i64 off; /* -1: the descriptor's own position; -2: that of a regular file, which never blocks */
    int to_guest;
};

static i64 host_io(const struct target *t, struct batch *b, u64 done)
{
    i64 off = t->off < 0 ? -1 : t->off + (i64)done;
    int relieved = 0;
    ssize_t n;

    do
        n = t->to_guest ? preadv2(t->fd, b->iov, (int)b->count, off, 0)
                        : pwritev2(t->fd, b->iov, (int)b->count, off, 0);
    while (n < 0 && ((errno == EINTR && t->off != -1) ||
                     (errno == EFAULT && !relieved++ && cn_memfile_full() && memfile_relieve())));
    return n < 0 ? -errno : n;
}

static i64 object_io(const struct target *t, struct batch *b, u64 done)
{
    u64 moved = 0;

    for (u32 i = 0; i < b->count; i++) {
        u64 off = (u64)t->off + done + moved;
        i64 n = t->to_guest ? cn_mobj_pread(t->obj, b->iov[i].iov_base, b->iov[i].iov_len, off)
                            : cn_mobj_pwrite(t->obj, b->iov[i].iov_base, b->iov[i].iov_len, off);
        if (n < 0)
            return moved ? (i64)moved : n;
        moved += (u64)n;
        if ((u64)n < b->iov[i].iov_len)
            break;
    }
    return (i64)moved;
}

/* Is there nothing to be read, so that nobody asks where to? */
static int at_end(const struct target *t)
{
    char c;

    if (!t->to_guest || t->off < 0)
        return 0;
    return (t->obj ? cn_mobj_pread(t->obj, &c, 1, (u64)t->off) : pread(t->fd, &c, 1, t->off)) == 0;
}

static i64 transfer(struct cn_mm *mm, const struct target *t, const struct guest_vec *vec,
                    u32 count)
{
    struct cursor c = {vec, count, 0, 0};
    struct batch b;
    u64 done = 0;
    i64 n = 0;

    for (;;) {
        n = fill(mm, &c, &b, t->to_guest);
        if (n < 0 && !done && at_end(t))
            n = 0;
        if (n < 0 || !b.count)
            break;
        u64 wanted = b.bytes;
        n = t->obj ? object_io(t, &b, done) : host_io(t, &b, done);
        unpin(mm, &b);
        if (n < 0)
            break;
        done += (u64)n;
        /* What has no position may block after the first bytes: a short count is its answer. */
        if ((u64)n < wanted || t->off == -1)
            break;
    }
    return done || n >= 0 ? (i64)done : n;
}

static i64 transfer_one(struct cn_mm *mm, const struct target *t, u64 addr, u64 n)
{
    struct guest_vec vec = {addr, min64(n, MAX_RW)};

    if (addr + vec.len < addr || addr + vec.len > cn_ops->task_size)
        return -EFAULT;
    return transfer(mm, t, &vec, 1);
}

static i64 transfer_vec(struct cn_mm *mm, const struct target *t, u64 addr, u32 count)
{
    struct guest_vec vec[MAX_VECS];
    u64 total = 0;

    if (count > MAX_VECS)
        return -EINVAL;
    if (cn_mm_copy_in(mm, addr, vec, count * sizeof(vec[0])) < 0)
        return -EFAULT;
    for (u32 i = 0; i < count; i++) {
        if (vec[i].len > INT64_MAX)
            return -EINVAL;
        if (vec[i].len &&
            (vec[i].base > cn_ops->task_size || vec[i].len > cn_ops->task_size - vec[i].base))
            return -EFAULT;
        vec[i].len = min64(vec[i].len, MAX_RW - total);
        total += vec[i].len;
    }
    return transfer(mm, t, vec, count);
}

i64 cn_mm_host_read(struct cn_mm *mm, int fd, u64 addr, u64 n, i64 off)
{
    struct target t = {fd, NULL, off, 1};

    return transfer_one(mm, &t, addr, n);
}

i64 cn_mm_host_write(struct cn_mm *mm, int fd, u64 addr, u64 n, i64 off)
{
    struct target t = {fd, NULL, off, 0};

    return transfer_one(mm, &t, addr, n);
}

i64 cn_mm_host_readv(struct cn_mm *mm, int fd, u64 vec, u32 count, i64 off)
{
    struct target t = {fd, NULL, off, 1};

    return transfer_vec(mm, &t, vec, count);
}

i64 cn_mm_host_writev(struct cn_mm *mm, int fd, u64 vec, u32 count, i64 off)
{
    struct target t = {fd, NULL, off, 0};

    return transfer_vec(mm, &t, vec, count);
}

static struct target object_target(struct cn_mobj *o, u64 off, int to_guest)
{
    return (struct target){o->fd, mobj_is_host(o) ? NULL : o, (i64)off, to_guest};
}

i64 cn_mm_mobj_read(struct cn_mm *mm, struct cn_mobj *o, u64 addr, u64 n, u64 off)
{
    struct target t = object_target(o, off, 1);

    return off > INT64_MAX ? -EINVAL : transfer_one(mm, &t, addr, n);
}

i64 cn_mm_mobj_write(struct cn_mm *mm, struct cn_mobj *o, u64 addr, u64 n, u64 off)
{
    struct target t = object_target(o, off, 0);

    return off > INT64_MAX ? -EINVAL : transfer_one(mm, &t, addr, n);
}

i64 cn_mm_mobj_readv(struct cn_mm *mm, struct cn_mobj *o, u64 vec, u32 count, u64 off)
{
    struct target t = object_target(o, off, 1);

    return off > INT64_MAX ? -EINVAL : transfer_vec(mm, &t, vec, count);
}

i64 cn_mm_mobj_writev(struct cn_mm *mm, struct cn_mobj *o, u64 vec, u32 count, u64 off)
{
    struct target t = object_target(o, off, 0);

    return off > INT64_MAX ? -EINVAL : transfer_vec(mm, &t, vec, count);
}

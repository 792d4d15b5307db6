/* The pages of MEM objects: reading, writing, holes. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "guard.h"
#include "memfile.h"
#include "mm_internal.h"

#define MAX_BYTES (1UL << 62) /* greatest size of an object */
#define SPARE_MIN 16UL
#define SPARE_MAX 512UL

/* Pages taken out of an object, to be freed when nothing maps them any more. */
struct removed {
    struct rnode *runs; /* linked by up */
};

u64 mobj_size(struct cn_mobj *o)
{
    return __atomic_load_n(&o->size, __ATOMIC_RELAXED);
}

static void set_size(struct cn_mobj *o, u64 size)
{
    __atomic_store_n(&o->size, size, __ATOMIC_RELAXED);
}

u64 cn_mobj_allocated(struct cn_mobj *o)
{
    return __atomic_load_n(&o->npages, __ATOMIC_RELAXED) << CN_PAGE_SHIFT;
}

static void count_pages(struct cn_mobj *o, i64 n)
{
    __atomic_store_n(&o->npages, o->npages + (u64)n, __ATOMIC_RELAXED);
}

/* All below: lock held, but for the functions of the interface. */

static u64 page_of(struct cn_mobj *o, u64 index, u64 *n)
{
    struct run *r = (struct run *)rt_find(&o->runs, index);

    if (!r || r->n.start > index) {
        *n = (r ? r->n.start : MAX_BYTES >> CN_PAGE_SHIFT) - index;
        return 0;
    }
    *n = r->n.end - index;
    return r->page + (index - r->n.start);
}

u64 mobj_page(struct cn_mobj *o, u64 index, u64 *n)
{
    u64 page;

    pthread_mutex_lock(&o->lock);
    page = page_of(o, index, n);
    pthread_mutex_unlock(&o->lock);
    return page;
}

/* Adds a run in a hole, joined to its neighbours where it continues them. */
static int add_run(struct cn_mobj *o, u64 index, u64 n, u64 page)
{
    struct run *right = (struct run *)rt_find(&o->runs, index);
    struct run *left = (struct run *)(right ? rt_prev(&right->n) : rt_last(&o->runs));
    u64 end = index + n;

    count_pages(o, (i64)n);
    if (left && (left->n.end != index || left->page + (index - left->n.start) != page))
        left = NULL;
    if (right && right->n.start == end && page + n == right->page) {
        if (left) {
            end = right->n.end;
            rt_erase(&o->runs, &right->n);
            free(right);
        } else {
            right->n.start = index;
            right->page = page;
            return 0;
        }
    }
    if (left) {
        left->n.end = end;
        return 0;
    }
    left = calloc(1, sizeof(*left));
    if (!left) {
        count_pages(o, -(i64)n);
        return -ENOMEM;
    }
    left->n.start = index;
    left->n.end = end;
    left->page = page;
    rt_insert(&o->runs, &left->n);
    return 0;
}

/* n pages of zeros for [index, ...); from the reserve behind the object's last run when it is
 * growing. */
static i64 take_pages(struct cn_mobj *o, u64 index, u64 n)
{
    struct run *last = (struct run *)rt_last(&o->runs);
    u64 near = 0, want;
    i64 page;

    if (last && last->n.end == index)
        near = last->page + (last->n.end - last->n.start);
    if (o->nspare >= n && o->spare == near) {
        o->spare += n;
        o->nspare -= n;
        return (i64)near;
    }
    if (!near)
        return memfile_alloc(n, 0, index);
    if (o->nspare)
        memfile_unref(o->spare, o->nspare);
    o->nspare = 0;
    want = o->npages / 2;
    want = want < SPARE_MIN ? SPARE_MIN : want > SPARE_MAX ? SPARE_MAX : want;
    page = memfile_alloc(n + want, near, index);
    if (page < 0)
        return memfile_alloc(n, near, index);
    o->spare = (u64)page + n;
    o->nspare = want;
    return page;
}

static int fill_hole(struct cn_mobj *o, u64 index, u64 n, u64 *page)
{
    i64 p = take_pages(o, index, n);
    int rc;

    if (p < 0)
        return (int)p;
    rc = add_run(o, index, n, (u64)p);
    if (rc < 0)
        memfile_unref((u64)p, n);
    *page = (u64)p;
    return rc;
}

static int populate(struct cn_mobj *o, u64 index, u64 n)
{
    u64 end = index + n, len, page;
    int rc;

    for (; index < end; index += len) {
        page = page_of(o, index, &len);
        len = min64(len, end - index);
        if (page)
            continue;
        rc = fill_hole(o, index, len, &page);
        if (rc < 0)
            return rc;
    }
    return 0;
}

int mobj_populate(struct cn_mobj *o, u64 index, u64 n)
{
    int rc;

    pthread_mutex_lock(&o->lock);
    rc = populate(o, index, n);
    pthread_mutex_unlock(&o->lock);
    return rc;
}

int cn_mobj_allocate(struct cn_mobj *o, u64 off, u64 n)
{
    u64 first = off >> CN_PAGE_SHIFT;

    if (mobj_is_host(o))
        return -EOPNOTSUPP;
    if (off > MAX_BYTES || n > MAX_BYTES - off)
        return -EFBIG;
    return n ? mobj_populate(o, first, (page_up(off + n) >> CN_PAGE_SHIFT) - first) : 0;
}

i64 cn_mobj_pread(struct cn_mobj *o, void *buf, u64 n, u64 off)
{
    u64 done = 0, len;
    ssize_t got;

    if (mobj_is_host(o)) {
        got = pread(o->fd, buf, n, (off_t)off);
        return got < 0 ? -errno : got;
    }
    pthread_mutex_lock(&o->lock);
    n = off >= o->size ? 0 : min64(n, o->size - off);
    for (; done < n; done += len) {
        u64 at = off + done, in = at & ~CN_PAGE_MASK;
        u64 page = page_of(o, at >> CN_PAGE_SHIFT, &len);
        len = min64((len << CN_PAGE_SHIFT) - in, n - done);
        if (page ? guard_copy((u8 *)buf + done, memfile_ptr(page) + in, len)
                 : guard_zero((u8 *)buf + done, len))
            break;
    }
    pthread_mutex_unlock(&o->lock);
    return done || !n ? (i64)done : -EFAULT;
}

/* Whole pages into a hole: written, not faulted in. */
static i64 write_hole(struct cn_mobj *o, u64 index, const u8 *buf, u64 npages)
{
    u64 page;
    int rc = memfile_room(npages) ? fill_hole(o, index, npages, &page) : -ENOSPC;

    return rc < 0 ? rc : memfile_write(page, buf, npages << CN_PAGE_SHIFT);
}

i64 cn_mobj_pwrite(struct cn_mobj *o, const void *buf, u64 n, u64 off)
{
    u64 done = 0, len;
    i64 rc = 0;

    if (mobj_is_host(o)) {
        ssize_t put = pwrite(o->fd, buf, n, (off_t)off);
        return put < 0 ? -errno : put;
    }
    if (off > MAX_BYTES || n > MAX_BYTES - off)
        return -EFBIG;
    pthread_mutex_lock(&o->lock);
    while (done < n) {
        u64 at = off + done, in = at & ~CN_PAGE_MASK, index = at >> CN_PAGE_SHIFT;
        u64 page = page_of(o, index, &len);
        if (!page && !in && n - done >= CN_PAGE_SIZE) {
            rc = write_hole(o, index, (const u8 *)buf + done,
                            min64(len, (n - done) >> CN_PAGE_SHIFT));
            if (rc < 0)
                break;
            done += (u64)rc;
            continue;
        }
        if (!page) {
            len = 1;
            rc = memfile_room(1) ? fill_hole(o, index, 1, &page) : -ENOSPC;
            if (rc < 0)
                break;
        }
        len = min64((len << CN_PAGE_SHIFT) - in, n - done);
        rc = (i64)guard_copy(memfile_ptr(page) + in, (const u8 *)buf + done, len);
        done += len - (u64)rc;
        if (rc) {
            rc = cn_memfile_full() ? -ENOSPC : -EFAULT;
            break;
        }
    }
    if (off + done > o->size)
        set_size(o, off + done);
    pthread_mutex_unlock(&o->lock);
    return done || !n ? (i64)done : rc;
}

/* Moves the pages [first, end) out of the object. */
static int remove_pages(struct cn_mobj *o, u64 first, u64 end, struct removed *out)
{
    struct run *r = (struct run *)rt_find(&o->runs, first), *upper;

    if (r && r->n.start < first) {
        upper = calloc(1, sizeof(*upper));
        if (!upper)
            return -ENOMEM;
        upper->n.start = first;
        upper->n.end = r->n.end;
        upper->page = r->page + (first - r->n.start);
        r->n.end = first;
        rt_insert(&o->runs, &upper->n);
        r = upper;
    }
    while (r && r->n.start < end) {
        struct run *next = (struct run *)rt_next(&r->n);
        if (r->n.end > end) {
            upper = calloc(1, sizeof(*upper));
            if (!upper)
                return -ENOMEM;
            upper->n.start = end;
            upper->n.end = r->n.end;
            upper->page = r->page + (end - r->n.start);
            r->n.end = end;
            rt_insert(&o->runs, &upper->n);
            next = NULL;
        }
        rt_erase(&o->runs, &r->n);
        count_pages(o, -(i64)(r->n.end - r->n.start));
        r->n.up = out->runs;
        out->runs = &r->n;
        r = next;
    }
    return 0;
}

/* The address spaces that map the object, each with a reference; the caller frees the array.
 * -ENOMEM or the number. */
static int mappers(struct cn_mobj *o, struct cn_mm ***out)
{
    u32 n = 0, most = 0, i;

    for (struct vma *v = o->maps; v; v = v->onext)
        most++;
    *out = malloc((most + 1) * sizeof(**out));
    if (!*out)
        return -ENOMEM;
    for (struct vma *v = o->maps; v; v = v->onext) {
        for (i = 0; i < n && (*out)[i] != v->mm; i++)
            ;
        if (i == n && mm_tryref(v->mm))
            (*out)[n++] = v->mm;
    }
    return (int)n;
}

/* Unmaps removed pages [first, end) everywhere, then frees them. Lock not held. */
static void drop_pages(struct cn_mobj *o, struct cn_mm **mms, int n, u64 first, u64 end,
                       int even_private, struct removed *gone)
{
    struct rnode *r = gone->runs, *next;

    for (int i = 0; i < n; i++) {
        mm_zap_object(mms[i], o, first, end, even_private);
        cn_mm_unref(mms[i]);
    }
    free(mms);
    for (; r; r = next) {
        next = r->up;
        memfile_unref(((struct run *)r)->page, r->end - r->start);
        free(r);
    }
}

static int zero_part(struct cn_mobj *o, u64 off, u64 n)
{
    u64 len, page = page_of(o, off >> CN_PAGE_SHIFT, &len);

    return page && guard_zero(memfile_ptr(page) + (off & ~CN_PAGE_MASK), n) ? -ENOSPC : 0;
}

int cn_mobj_truncate(struct cn_mobj *o, u64 size)
{
    struct removed gone = {NULL};
    struct cn_mm **mms = NULL;
    u64 first = page_up(size) >> CN_PAGE_SHIFT, end;
    int n = 0, rc = 0;

    if (mobj_is_host(o))
        return ftruncate(o->fd, (off_t)size) < 0 ? -errno : 0;
    if (size > MAX_BYTES)
        return -EFBIG;
    pthread_mutex_lock(&o->lock);
    end = MAX_BYTES >> CN_PAGE_SHIFT;
    if (size < o->size) {
        n = mappers(o, &mms);
        rc = n < 0 ? n : remove_pages(o, first, end, &gone);
        if (!rc && size & ~CN_PAGE_MASK)
            rc = zero_part(o, size, page_up(size) - size);
        if (o->nspare)
            memfile_unref(o->spare, o->nspare);
        o->nspare = 0;
    }
    if (!rc)
        set_size(o, size);
    pthread_mutex_unlock(&o->lock);
    drop_pages(o, mms, n, first, end, 1, &gone);
    return rc;
}

int cn_mobj_punch(struct cn_mobj *o, u64 off, u64 n)
{
    struct removed gone = {NULL};
    struct cn_mm **mms = NULL;
    u64 end = off + n, first = page_up(off), last = end & CN_PAGE_MASK;
    int count = 0, rc = 0;

    if (mobj_is_host(o))
        return -EOPNOTSUPP;
    if (off > MAX_BYTES || n > MAX_BYTES - off)
        return -EFBIG;
    pthread_mutex_lock(&o->lock);
    if (first > last) { /* inside one page */
        rc = zero_part(o, off, n);
    } else {
        if (off < first)
            rc = zero_part(o, off, first - off);
        if (!rc && last < end)
            rc = zero_part(o, last, end - last);
        if (!rc && first < last) {
            count = mappers(o, &mms);
            rc = count < 0 ? count
                           : remove_pages(o, first >> CN_PAGE_SHIFT, last >> CN_PAGE_SHIFT, &gone);
        }
    }
    pthread_mutex_unlock(&o->lock);
    drop_pages(o, mms, count, first >> CN_PAGE_SHIFT, last >> CN_PAGE_SHIFT, 0, &gone);
    return rc;
}

i64 cn_mobj_seek(struct cn_mobj *o, u64 off, int hole)
{
    u64 len;
    i64 rc;

    if (mobj_is_host(o)) {
        rc = lseek(o->fd, (off_t)off, hole ? SEEK_HOLE : SEEK_DATA);
        return rc < 0 ? -errno : rc;
    }
    pthread_mutex_lock(&o->lock);
    rc = off < o->size && hole ? (i64)o->size : -ENXIO; /* the end of the data is a hole */
    for (; off < o->size; off = (off & CN_PAGE_MASK) + (len << CN_PAGE_SHIFT)) {
        if ((page_of(o, off >> CN_PAGE_SHIFT, &len) == 0) == (hole != 0)) {
            rc = (i64)off;
            break;
        }
    }
    pthread_mutex_unlock(&o->lock);
    return rc;
}

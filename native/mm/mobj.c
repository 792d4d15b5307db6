/* Memory objects. */
#define _GNU_SOURCE
#include "mobj.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../platform.h"
#include "memfile.h"
#include "mm_internal.h"

static _Atomic u64 next_id = 1;

static struct cn_mobj *mobj_new(void)
{
    struct cn_mobj *o = calloc(1, sizeof(*o));

    if (!o)
        return NULL;
    pthread_mutex_init(&o->lock, NULL);
    o->refs = 1;
    o->fd = -1;
    o->id = atomic_fetch_add(&next_id, 1);
    return o;
}

struct cn_mobj *cn_mobj_new_mem(void)
{
    return mobj_new();
}

struct cn_mobj *cn_mobj_new_host(int fd)
{
    struct cn_mobj *o = mobj_new();

    if (!o)
        return NULL;
    o->fd = fcntl(fd, F_DUPFD_CLOEXEC, 3);
    if (o->fd < 0) {
        free(o);
        return NULL;
    }
    return o;
}

void cn_mobj_ref(struct cn_mobj *o)
{
    __atomic_add_fetch(&o->refs, 1, __ATOMIC_RELAXED);
}

void cn_mobj_unref(struct cn_mobj *o)
{
    if (__atomic_sub_fetch(&o->refs, 1, __ATOMIC_ACQ_REL))
        return;
    for (u32 i = 0; i < o->nruns; i++)
        memfile_unref(o->runs[i].page, o->runs[i].n);
    if (o->handle > 0)
        cn_ops->fd_remove(cn_plat, o->handle);
    if (o->fd >= 0)
        close(o->fd);
    while (o->mappers) {
        struct mapper *m = o->mappers;
        o->mappers = m->next;
        free(m);
    }
    pthread_mutex_destroy(&o->lock);
    free(o->runs);
    free(o);
}

u64 cn_mobj_id(struct cn_mobj *o)
{
    return o->id;
}

i64 cn_mobj_size(struct cn_mobj *o)
{
    struct stat st;

    if (!mobj_is_host(o))
        return (i64)o->size;
    if (fstat(o->fd, &st) < 0)
        return -errno;
    return st.st_size;
}

u64 cn_mobj_allocated(struct cn_mobj *o)
{
    u64 n = 0;

    for (u32 i = 0; i < o->nruns; i++)
        n += o->runs[i].n;
    return n << CN_PAGE_SHIFT;
}

int mobj_handle(struct cn_mobj *o)
{
    if (o->handle <= 0)
        o->handle = cn_ops->fd_install(cn_plat, o->fd);
    return o->handle;
}

/* First run that ends after index. */
static u32 find_run(struct cn_mobj *o, u64 index)
{
    u32 lo = 0, hi = o->nruns;

    while (lo < hi) {
        u32 mid = (lo + hi) / 2;
        if (o->runs[mid].index + o->runs[mid].n <= index)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

static u64 page_locked(struct cn_mobj *o, u64 index, u64 *n)
{
    u32 i = find_run(o, index);

    if (i == o->nruns) {
        *n = UINT64_MAX >> CN_PAGE_SHIFT;
        return 0;
    }
    if (o->runs[i].index > index) {
        *n = o->runs[i].index - index;
        return 0;
    }
    u64 skip = index - o->runs[i].index;
    *n = o->runs[i].n - skip;
    return o->runs[i].page + skip;
}

u64 mobj_page(struct cn_mobj *o, u64 index, u64 *n)
{
    pthread_mutex_lock(&o->lock);
    u64 page = page_locked(o, index, n);
    pthread_mutex_unlock(&o->lock);
    return page;
}

static int insert_run(struct cn_mobj *o, u32 at, struct run r)
{
    if (at > 0) {
        struct run *left = &o->runs[at - 1];
        if (left->index + left->n == r.index && left->page + left->n == r.page) {
            left->n += r.n;
            return 0;
        }
    }
    if (o->nruns == o->cruns) {
        u32 c = o->cruns ? 2 * o->cruns : 4;
        struct run *bigger = realloc(o->runs, c * sizeof(*bigger));
        if (!bigger)
            return -ENOMEM;
        o->runs = bigger;
        o->cruns = c;
    }
    memmove(&o->runs[at + 1], &o->runs[at], (o->nruns - at) * sizeof(r));
    o->runs[at] = r;
    o->nruns++;
    return 0;
}

static int populate_locked(struct cn_mobj *o, u64 index, u64 n)
{
    u64 end = index + n;

    while (index < end) {
        u64 len;
        u64 page = page_locked(o, index, &len);
        if (len > end - index)
            len = end - index;
        if (!page) {
            i64 fresh = memfile_alloc(len);
            if (fresh < 0)
                return (int)fresh;
            int rc = insert_run(o, find_run(o, index), (struct run){index, len, (u64)fresh});
            if (rc < 0) {
                memfile_unref((u64)fresh, len);
                return rc;
            }
        }
        index += len;
    }
    return 0;
}

int mobj_populate(struct cn_mobj *o, u64 index, u64 n)
{
    pthread_mutex_lock(&o->lock);
    int rc = populate_locked(o, index, n);
    pthread_mutex_unlock(&o->lock);
    return rc;
}

i64 cn_mobj_pread(struct cn_mobj *o, void *buf, u64 n, u64 off)
{
    u64 done = 0;

    if (mobj_is_host(o)) {
        ssize_t got = pread(o->fd, buf, n, (off_t)off);
        return got < 0 ? -errno : got;
    }
    pthread_mutex_lock(&o->lock);
    if (off >= o->size)
        n = 0;
    else if (n > o->size - off)
        n = o->size - off;
    while (done < n) {
        u64 len, at = off + done, in = at & ~CN_PAGE_MASK;
        u64 page = page_locked(o, at >> CN_PAGE_SHIFT, &len);
        u64 bytes = (len << CN_PAGE_SHIFT) - in;
        if (bytes > n - done)
            bytes = n - done;
        if (!page)
            memset((u8 *)buf + done, 0, bytes);
        else if (guarded_copy((u8 *)buf + done, memfile_ptr(page) + in, bytes) < 0) {
            pthread_mutex_unlock(&o->lock);
            return -ENOMEM;
        }
        done += bytes;
    }
    pthread_mutex_unlock(&o->lock);
    return (i64)done;
}

i64 cn_mobj_pwrite(struct cn_mobj *o, const void *buf, u64 n, u64 off)
{
    u64 done = 0;
    int rc = 0;

    if (mobj_is_host(o)) {
        ssize_t put = pwrite(o->fd, buf, n, (off_t)off);
        return put < 0 ? -errno : put;
    }
    if (!n)
        return 0;
    if (off + n < off || off + n > (u64)INT64_MAX)
        return -EFBIG;
    pthread_mutex_lock(&o->lock);
    u64 first = off >> CN_PAGE_SHIFT, last = (off + n - 1) >> CN_PAGE_SHIFT;
    rc = populate_locked(o, first, last - first + 1);
    while (!rc && done < n) {
        u64 len, at = off + done, in = at & ~CN_PAGE_MASK;
        u64 page = page_locked(o, at >> CN_PAGE_SHIFT, &len);
        u64 bytes = (len << CN_PAGE_SHIFT) - in;
        if (bytes > n - done)
            bytes = n - done;
        if (guarded_copy(memfile_ptr(page) + in, (const u8 *)buf + done, bytes) < 0)
            rc = -ENOSPC;
        else
            done += bytes;
    }
    if (off + done > o->size && done)
        o->size = off + done;
    pthread_mutex_unlock(&o->lock);
    return done ? (i64)done : rc;
}

/* Takes pages [first, end) out of the object and hands them to the callers' mappings' end. */
static int drop_pages(struct cn_mobj *o, u64 first, u64 end)
{
    struct run *dropped = NULL;
    u32 n = 0;

    pthread_mutex_lock(&o->lock);
    u32 i = find_run(o, first);
    u32 j = i;
    while (j < o->nruns && o->runs[j].index < end)
        j++;
    if (i == j) {
        pthread_mutex_unlock(&o->lock);
        return 0;
    }
    n = j - i;
    dropped = malloc(n * sizeof(*dropped));
    if (!dropped) {
        pthread_mutex_unlock(&o->lock);
        return -ENOMEM;
    }
    memcpy(dropped, &o->runs[i], n * sizeof(*dropped));
    memmove(&o->runs[i], &o->runs[j], (o->nruns - j) * sizeof(*o->runs));
    o->nruns -= n;
    struct run *head = &dropped[0], *tail = &dropped[n - 1];
    struct run before = *head, after = *tail;
    int rc = 0;
    if (tail->index + tail->n > end) {
        u64 cut = end - after.index;
        rc = insert_run(o, find_run(o, end), (struct run){end, after.n - cut, after.page + cut});
        tail->n = cut;
    }
    if (!rc && before.index < first) {
        u64 keep = first - before.index;
        rc = insert_run(o, find_run(o, before.index), (struct run){before.index, keep, before.page});
        head->index += keep;
        head->page += keep;
        head->n -= keep;
    }
    pthread_mutex_unlock(&o->lock);
    for (struct mapper *m = o->mappers; m; m = m->next)
        mm_object_dropped(m->mm, o, first, end);
    for (u32 k = 0; k < n; k++)
        memfile_unref(dropped[k].page, dropped[k].n);
    free(dropped);
    return rc;
}

static void zero_part(struct cn_mobj *o, u64 off, u64 n)
{
    static const u8 zeros[CN_PAGE_SIZE];
    u64 len;
    u64 page = mobj_page(o, off >> CN_PAGE_SHIFT, &len);

    if (page && n)
        guarded_copy(memfile_ptr(page) + (off & ~CN_PAGE_MASK), zeros, n);
}

int cn_mobj_truncate(struct cn_mobj *o, u64 size)
{
    int rc = 0;

    if (mobj_is_host(o))
        return ftruncate(o->fd, (off_t)size) < 0 ? -errno : 0;
    if (size > (u64)INT64_MAX)
        return -EFBIG;
    if (size < o->size) {
        o->size = size;
        rc = drop_pages(o, (size + CN_PAGE_SIZE - 1) >> CN_PAGE_SHIFT, UINT64_MAX >> CN_PAGE_SHIFT);
        if (size & ~CN_PAGE_MASK)
            zero_part(o, size, CN_PAGE_SIZE - (size & ~CN_PAGE_MASK));
    }
    o->size = size;
    return rc;
}

int cn_mobj_punch(struct cn_mobj *o, u64 off, u64 n)
{
    u64 end = off + n;

    if (mobj_is_host(o))
        return fallocate(o->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)off, (off_t)n) < 0 ? -errno : 0;
    if (end < off)
        return -EINVAL;
    u64 first = (off + CN_PAGE_SIZE - 1) & CN_PAGE_MASK, last = end & CN_PAGE_MASK;
    if (first > last) { /* inside one page */
        zero_part(o, off, n);
        return 0;
    }
    zero_part(o, off, first - off);
    zero_part(o, last, end - last);
    return drop_pages(o, first >> CN_PAGE_SHIFT, last >> CN_PAGE_SHIFT);
}

int cn_mobj_allocate(struct cn_mobj *o, u64 off, u64 n)
{
    if (mobj_is_host(o))
        return -EOPNOTSUPP;
    if (!n || off + n < off)
        return -EINVAL;
    u64 first = off >> CN_PAGE_SHIFT, last = (off + n - 1) >> CN_PAGE_SHIFT;
    return mobj_populate(o, first, last - first + 1);
}

i64 cn_mobj_seek(struct cn_mobj *o, u64 off, int hole)
{
    i64 result = -ENXIO;

    if (mobj_is_host(o)) {
        off_t at = lseek(o->fd, (off_t)off, hole ? SEEK_HOLE : SEEK_DATA);
        return at < 0 ? -errno : at;
    }
    pthread_mutex_lock(&o->lock);
    while (off < o->size) {
        u64 len;
        u64 page = page_locked(o, off >> CN_PAGE_SHIFT, &len);
        if (!page == !!hole) {
            result = (i64)off;
            break;
        }
        u64 next = ((off >> CN_PAGE_SHIFT) + len) << CN_PAGE_SHIFT;
        if (len >= UINT64_MAX >> CN_PAGE_SHIFT || next >= o->size) {
            if (hole)
                result = (i64)o->size;
            break;
        }
        off = next;
    }
    pthread_mutex_unlock(&o->lock);
    return result;
}

int mobj_add_mapper(struct cn_mobj *o, struct cn_mm *mm)
{
    for (struct mapper *m = o->mappers; m; m = m->next)
        if (m->mm == mm)
            return 0;
    struct mapper *m = malloc(sizeof(*m));
    if (!m)
        return -ENOMEM;
    *m = (struct mapper){mm, o->mappers};
    o->mappers = m;
    return 0;
}

void mobj_remove_mapper(struct cn_mobj *o, struct cn_mm *mm)
{
    for (struct mapper **p = &o->mappers; *p; p = &(*p)->next)
        if ((*p)->mm == mm) {
            struct mapper *m = *p;
            *p = m->next;
            free(m);
            return;
        }
}

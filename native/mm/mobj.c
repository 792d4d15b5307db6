/* Memory objects: life, mappings, host files. The data of MEM objects is in mobjdata.c. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "memfile.h"
#include "mm_internal.h"

static _Atomic u64 last_id;

u64 mm_new_id(void)
{
    return atomic_fetch_add(&last_id, 1) + 1;
}

static struct cn_mobj *mobj_new(void)
{
    struct cn_mobj *o = calloc(1, sizeof(*o));

    if (!o)
        return NULL;
    pthread_mutex_init(&o->lock, NULL);
    o->refs = 1;
    o->fd = -1;
    o->id = mm_new_id();
    return o;
}

struct cn_mobj *cn_mobj_new_mem(void)
{
    return mobj_new();
}

struct cn_mobj *cn_mobj_new_host(int fd)
{
    struct cn_mobj *o = mobj_new();
    struct statvfs fs;

    if (!o)
        return NULL;
    o->fd = fcntl(fd, F_DUPFD_CLOEXEC, 3);
    if (o->fd < 0) {
        free(o);
        return NULL;
    }
    o->writable = (fcntl(o->fd, F_GETFL) & O_ACCMODE) == O_RDWR;
    o->noexec = fstatvfs(o->fd, &fs) == 0 && fs.f_flag & ST_NOEXEC;
    return o;
}

void cn_mobj_ref(struct cn_mobj *o)
{
    __atomic_add_fetch(&o->refs, 1, __ATOMIC_RELAXED);
}

void cn_mobj_unref(struct cn_mobj *o)
{
    struct rnode *r;

    if (__atomic_sub_fetch(&o->refs, 1, __ATOMIC_ACQ_REL))
        return;
    while ((r = o->runs.root)) {
        rt_erase(&o->runs, r);
        memfile_unref(((struct run *)r)->page, r->end - r->start);
        free(r);
    }
    if (o->nspare)
        memfile_unref(o->spare, o->nspare);
    for (u32 i = 0; i < o->nwindows; i++)
        munmap(o->windows[i].base, MOBJ_WINDOW);
    if (o->handle > 0)
        cn_ops->fd_remove(cn_plat, o->handle);
    if (o->fd >= 0)
        close(o->fd);
    pthread_mutex_destroy(&o->lock);
    free(o->windows);
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
        return (i64)mobj_size(o);
    return fstat(o->fd, &st) < 0 ? -errno : st.st_size;
}

void mobj_link(struct cn_mobj *o, struct vma *v)
{
    if (mobj_is_host(o))
        return;
    pthread_mutex_lock(&o->lock);
    v->onext = o->maps;
    v->olink = &o->maps;
    if (o->maps)
        o->maps->olink = &v->onext;
    o->maps = v;
    pthread_mutex_unlock(&o->lock);
}

void mobj_unlink(struct cn_mobj *o, struct vma *v)
{
    if (mobj_is_host(o))
        return;
    pthread_mutex_lock(&o->lock);
    *v->olink = v->onext;
    if (v->onext)
        v->onext->olink = v->olink;
    pthread_mutex_unlock(&o->lock);
}

int mobj_handle(struct cn_mobj *o)
{
    int h;

    pthread_mutex_lock(&o->lock);
    h = o->handle;
    if (!h) {
        h = cn_ops->fd_install(cn_plat, o->fd);
        if (h > 0)
            o->handle = h;
    }
    pthread_mutex_unlock(&o->lock);
    return h;
}

/* Lock held. */
static u8 *window_at(struct cn_mobj *o, u64 index)
{
    u32 lo = 0, hi = o->nwindows;
    void *base;

    while (lo < hi) {
        u32 mid = (lo + hi) / 2;
        if (o->windows[mid].index < index)
            lo = mid + 1;
        else
            hi = mid;
    }
    if (lo < o->nwindows && o->windows[lo].index == index)
        return o->windows[lo].base;
    if (o->nwindows == o->cwindows) {
        u32 c = o->cwindows ? 2 * o->cwindows : 4;
        struct window *bigger = realloc(o->windows, c * sizeof(*bigger));
        if (!bigger)
            return NULL;
        o->windows = bigger;
        o->cwindows = c;
    }
    base = mmap(NULL, MOBJ_WINDOW, PROT_READ | (o->writable ? PROT_WRITE : 0),
                MAP_SHARED | MAP_NORESERVE, o->fd, (off_t)(index * MOBJ_WINDOW));
    if (base == MAP_FAILED)
        return NULL;
    memmove(&o->windows[lo + 1], &o->windows[lo], (o->nwindows - lo) * sizeof(*o->windows));
    o->windows[lo] = (struct window){index, base};
    o->nwindows++;
    return base;
}

u8 *mobj_window(struct cn_mobj *o, u64 off, u64 *n)
{
    u64 at = off & (MOBJ_WINDOW - 1);
    u8 *base;

    pthread_mutex_lock(&o->lock);
    base = window_at(o, off / MOBJ_WINDOW);
    pthread_mutex_unlock(&o->lock);
    *n = MOBJ_WINDOW - at;
    return base ? base + at : NULL;
}

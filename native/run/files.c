/* Mirrors of descriptor tables and open file descriptions. See files.h. */
#define _GNU_SOURCE
#include "files.h"

#include <errno.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#define MIN_SLOTS 64U
#define MAX_FD    (1 << 20)

typedef _Atomic(struct cn_file *) slot;

/* Slots move to a bigger array as the table grows. A call may still look into an old one, so they
 * stay until the table goes. */
struct slots {
    struct slots *before;
    u32 n;
    slot at[];
};

struct cn_fdt {
    _Atomic(struct slots *) slots;
};

struct data {
    struct cn_data pub;
    pthread_mutex_t lock;
};

_Atomic u32 files_watched;

/* Descriptions are never given back to the allocator, so that a call that comes too late counts
 * itself in something that is still a description (file_get). K held. */
static struct cn_file *free_files;

struct cn_data *cn_data_new(void)
{
    struct data *d = calloc(1, sizeof(*d));

    if (!d)
        return NULL;
    pthread_mutex_init(&d->lock, NULL);
    return &d->pub;
}

void cn_data_free(struct cn_data *d)
{
    free(d);
}

void cn_data_lock(struct cn_data *d)
{
    pthread_mutex_lock(&((struct data *)d)->lock);
}

void cn_data_unlock(struct cn_data *d)
{
    pthread_mutex_unlock(&((struct data *)d)->lock);
}

struct cn_fdt *cn_fdt_new(void)
{
    return calloc(1, sizeof(struct cn_fdt));
}

static struct slots *grown(struct slots *old, u32 n)
{
    struct slots *s;

    n = n < MIN_SLOTS ? MIN_SLOTS : n;
    s = calloc(1, sizeof(*s) + n * sizeof(s->at[0]));
    if (!s)
        return NULL;
    s->n = n;
    for (u32 i = 0; old && i < old->n; i++)
        atomic_init(&s->at[i], atomic_load_explicit(&old->at[i], memory_order_relaxed));
    return s;
}

struct cn_fdt *cn_fdt_copy(const struct cn_fdt *old)
{
    struct cn_fdt *t = cn_fdt_new();
    struct slots *from = atomic_load(&old->slots), *s;

    if (t && from) {
        s = grown(from, from->n);
        if (!s) {
            free(t);
            return NULL;
        }
        atomic_store(&t->slots, s);
    }
    return t;
}

void cn_fdt_free(struct cn_fdt *t)
{
    struct slots *s = t ? atomic_load(&t->slots) : NULL, *before;

    for (; s; s = before) {
        before = s->before;
        free(s);
    }
    free(t);
}

int cn_fdt_set(struct cn_fdt *t, int fd, struct cn_file *f)
{
    struct slots *s = atomic_load(&t->slots), *bigger;
    u32 n;

    if (fd < 0 || fd >= MAX_FD)
        return f ? -ENOMEM : 0;
    if (!s || (u32)fd >= s->n) {
        if (!f)
            return 0;
        for (n = s ? s->n * 2 : MIN_SLOTS; n <= (u32)fd; n *= 2)
            ;
        bigger = grown(s, n);
        if (!bigger)
            return -ENOMEM;
        bigger->before = s;
        atomic_store(&t->slots, bigger);
        s = bigger;
    }
    atomic_store(&s->at[fd], f);
    return 0;
}

struct cn_file *file_get(struct cn_fdt *t, i32 fd)
{
    struct slots *s = t ? atomic_load(&t->slots) : NULL;
    struct cn_file *f;

    if (CN_UNLIKELY(!s || fd < 0 || (u32)fd >= s->n))
        return NULL;
    f = atomic_load_explicit(&s->at[fd], memory_order_acquire);
    if (!f)
        return NULL;
    atomic_fetch_add(&f->users, 1);
    /* Closed meanwhile: what was counted may be another description by now, which does no harm. */
    if (CN_UNLIKELY(atomic_load(&s->at[fd]) != f || atomic_load(&t->slots) != s ||
                    atomic_load(&f->kind) == CN_FILE_NONE)) {
        file_put(f);
        return NULL;
    }
    return f;
}

/* Until no call is at work: its numbers are closed, or its kind is NONE. */
static void drain(struct cn_file *f)
{
    for (u32 i = 0; atomic_load(&f->users); i++) {
        if (i < 1000)
            __builtin_ia32_pause();
        else
            sched_yield();
    }
}

static void fill(struct cn_file *f, u32 kind, u32 flags, int hostfd, struct cn_mobj *mobj,
                 struct cn_data *data)
{
    f->hostfd = hostfd;
    f->mobj = mobj;
    f->data = data;
    atomic_store(&f->flags, flags);
    atomic_store(&f->kind, kind);
}

struct cn_file *cn_fdt_open(struct cn_fdt *t, int fd, uint32_t kind, uint32_t flags, int hostfd,
                            struct cn_mobj *mobj, struct cn_data *data, int64_t pos)
{
    static u64 serial;
    struct cn_file *f = free_files;

    if (f) {
        free_files = f->next;
    } else {
        f = calloc(1, sizeof(*f));
        if (!f)
            return NULL;
        pthread_mutex_init(&f->lock, NULL);
    }
    f->pos = pos;
    f->serial = ++serial;
    fill(f, kind, flags, hostfd, mobj, data);
    cn_fdt_set(t, fd, f);
    return f;
}

void cn_file_set(struct cn_file *f, uint32_t kind, uint32_t flags, int hostfd, struct cn_mobj *mobj,
                 struct cn_data *data)
{
    atomic_store(&f->kind, CN_FILE_NONE);
    drain(f);
    fill(f, kind, flags, hostfd, mobj, data);
}

void cn_file_free(struct cn_file *f)
{
    atomic_store(&f->kind, CN_FILE_NONE);
    drain(f);
    f->next = free_files;
    free_files = f;
}

void cn_fdt_close(struct cn_fdt *t, int fd, struct cn_file *f)
{
    cn_fdt_set(t, fd, NULL);
    if (f)
        cn_file_free(f);
}

int64_t cn_file_lock_pos(struct cn_file *f)
{
    pthread_mutex_lock(&f->lock);
    return f->pos;
}

void cn_file_unlock_pos(struct cn_file *f, int64_t pos)
{
    f->pos = pos;
    pthread_mutex_unlock(&f->lock);
}

int64_t cn_file_pos(struct cn_file *f)
{
    i64 pos = cn_file_lock_pos(f);

    pthread_mutex_unlock(&f->lock);
    return pos;
}

void cn_file_set_pos(struct cn_file *f, int64_t pos)
{
    cn_file_lock_pos(f);
    cn_file_unlock_pos(f, pos);
}

void cn_files_watched(int on)
{
    atomic_store(&files_watched, (u32)on);
}

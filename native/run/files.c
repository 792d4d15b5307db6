/* Open file descriptions. See files.h. */
#define _GNU_SOURCE
#include "files.h"

#include "answers.h"

#include <errno.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>

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

struct cn_file *cn_file_new(int64_t pos)
{
    static u64 serial;
    static int made;
    struct cn_file *f = free_files;

    if (f) {
        free_files = f->next;
    } else {
        f = calloc(1, sizeof(*f));
        if (!f)
            return NULL;
        pthread_mutex_init(&f->lock, NULL);
        f->index = made++;
    }
    f->pos = pos;
    f->serial = ++serial;
    f->key.generation = 0;
    f->mobj = NULL;
    f->data = NULL;
    f->hostfd = -1;
    atomic_store(&f->end, CN_END_LAST);
    atomic_store(&f->seen, 0);
    return f;
}

int cn_file_index(const struct cn_file *f)
{
    return f->index;
}

uint32_t cn_file_numbers(const struct cn_file *f)
{
    return atomic_load(&f->numbers);
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

void cn_file_set(struct cn_file *f, uint32_t kind, uint32_t flags, int hostfd, struct cn_mobj *mobj,
                 struct cn_data *data, uint32_t status, uint32_t end)
{
    int device = file_is_device(f);

    if (atomic_load(&f->kind) != CN_FILE_NONE) {
        atomic_store(&f->kind, CN_FILE_NONE);
        drain(f);
    }
    f->hostfd = hostfd;
    f->mobj = mobj;
    f->data = data;
    atomic_store(&f->flags, flags);
    atomic_store(&f->status, status);
    atomic_store(&f->end, end);
    atomic_store(&f->kind, kind);
    if (CN_UNLIKELY(device || file_is_device(f)) && atomic_load(&f->numbers))
        answers_devices(NULL);
}

void cn_file_free(struct cn_file *f)
{
    atomic_store(&f->kind, CN_FILE_NONE);
    drain(f);
    f->next = free_files;
    free_files = f;
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
    answers_devices(NULL);
}

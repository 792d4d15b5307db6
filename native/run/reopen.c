/* Spare descriptions, and those that Python must take apart. See reopen.h. */
#define _GNU_SOURCE
#include "reopen.h"

#include <stdatomic.h>
#include <stdlib.h>

#define BUCKETS 1024U
#define SPARES  512U

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* all that follows */
static struct cn_file *bucket[BUCKETS];
static struct cn_file *oldest, **newest = &oldest; /* spares; generations only grow */
static u32 spares;
static struct cn_file *ended; /* for Python */
static _Atomic u32 any_ended;
static _Atomic u64 oldest_generation; /* of the oldest spare; 0: there is none */

static void add_ended(struct cn_file *f)
{
    f->next = ended;
    ended = f;
    atomic_store(&any_ended, 1);
}

static void remove_spare(struct cn_file *f)
{
    *f->link = f->next;
    if (f->next)
        f->next->link = f->link;
    else
        newest = f->link;
    bucket[f->key.hash % BUCKETS] = NULL;
    spares--;
    atomic_store(&oldest_generation, oldest ? oldest->key.generation : 0);
}

/* evict: another may have to end for it. (Not for one that Python is ending: they would take turns.) */
static int add_spare(struct cn_file *f, int evict)
{
    struct cn_file **b = &bucket[f->key.hash % BUCKETS], *other;

    if (f->key.generation == 0 || f->key.generation != names_generation() ||
        atomic_load(&files_watched) || atomic_load(&f->end) != CN_END_LATER)
        return 0;
    if (*b || spares == SPARES) {
        if (!evict)
            return 0;
        other = *b ? *b : oldest;
        remove_spare(other);
        add_ended(other);
    }
    f->next = NULL;
    f->link = newest;
    *newest = f;
    newest = &f->next;
    *b = f;
    spares++;
    atomic_store(&oldest_generation, oldest->key.generation);
    return 1;
}

void reopen_ended(struct cn_file *f)
{
    pthread_mutex_lock(&lock);
    /* Whoever counted himself a user before the number went may still be at work. */
    if (atomic_load(&f->seen) || atomic_load(&f->users) || !add_spare(f, 1))
        add_ended(f);
    pthread_mutex_unlock(&lock);
}

struct cn_file *reopen_take(const struct name_key *key)
{
    struct cn_file *f;

    pthread_mutex_lock(&lock);
    f = bucket[key->hash % BUCKETS];
    if (f && names_same(&f->key, key) && key->generation == names_generation()) {
        remove_spare(f);
        f->pos = 0;
    } else {
        f = NULL;
    }
    pthread_mutex_unlock(&lock);
    return f;
}

int reopen_pending(void)
{
    u64 g = atomic_load_explicit(&oldest_generation, memory_order_relaxed);

    return atomic_load_explicit(&any_ended, memory_order_relaxed) ||
           (g && (g != names_generation() || atomic_load(&files_watched)));
}

int cn_files_ended(int *index, int n)
{
    struct cn_file *f;
    int i = 0;

    pthread_mutex_lock(&lock);
    while (oldest && (oldest->key.generation != names_generation() || atomic_load(&files_watched))) {
        f = oldest;
        remove_spare(f);
        add_ended(f);
    }
    while (ended && i < n) {
        f = ended;
        ended = f->next;
        atomic_fetch_sub(&f->numbers, 1);
        index[i++] = f->index;
    }
    atomic_store(&any_ended, ended != NULL);
    pthread_mutex_unlock(&lock);
    return i;
}

int cn_file_spare(struct cn_file *f)
{
    int kept;

    pthread_mutex_lock(&lock);
    kept = !atomic_load(&f->users) && add_spare(f, 0);
    if (kept) {
        atomic_store(&f->seen, 0);
        atomic_fetch_add(&f->numbers, 1);
    }
    pthread_mutex_unlock(&lock);
    return kept;
}

void cn_file_opened(struct cn_task *t, struct cn_file *f)
{
    names_opened(t, &f->key);
}

/* The queues of futexes. See futex.h. */
#define _GNU_SOURCE
#include "futex.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>

#include "../mm/mm.h"
#include "task.h"

#define BUCKETS 256
#define BATCH   64

struct key {
    u64 object, off;
};

/* Waiters in the order in which they came, of all the words that fall into it. */
struct bucket {
    pthread_mutex_t lock;
    struct cn_futex_waiter *first, *last;
} __attribute__((aligned(64)));

/* Tasks to wake when the locks are dropped; more than fit are woken under them. */
struct batch {
    struct cn_task *task[BATCH];
    u32 count;
};

static struct bucket buckets[BUCKETS] = {
    [0 ... BUCKETS - 1] = {.lock = PTHREAD_MUTEX_INITIALIZER},
};
static _Atomic int elsewhere;

int futex_elsewhere(void)
{
    return atomic_load(&elsewhere) != 0;
}

static struct cn_waiters *waiters_of(struct cn_mm *mm)
{
    return cn_ops->as_waiters ? cn_ops->as_waiters(cn_mm_as(mm)) : NULL;
}

/* Every wake in this address space comes to the sentry from now on. */
static void ask_always(struct cn_mm *mm)
{
    struct cn_waiters *w = waiters_of(mm);

    if (w && !__atomic_exchange_n(&w->always, 1, __ATOMIC_RELAXED))
        for (u32 i = 0; i < CN_WAITERS; i++)
            atomic_fetch_add(&w->count[i], 1);
}

void cn_futex_elsewhere(struct cn_mm *mm, int more)
{
    atomic_fetch_add(&elsewhere, more);
    ask_always(mm);
}

/* Where waiters on a private word are counted. */
static u16 *counter(struct cn_mm *mm, u64 uaddr)
{
    struct cn_waiters *w = waiters_of(mm);

    return w ? (u16 *)&w->count[cn_waiters_index(uaddr)] : NULL;
}

static void counted(struct cn_futex_waiter *w, int by)
{
    if (w->count)
        __atomic_fetch_add(w->count, (u16)by, __ATOMIC_SEQ_CST);
}

static struct bucket *bucket_of(const struct key *k)
{
    u64 h = (k->object * 0x9e3779b97f4a7c15UL) ^ (k->off >> 2) * 0xc2b2ae3d27d4eb4fUL;

    return &buckets[h >> 56];
}

static int waits_on(const struct cn_futex_waiter *w, const struct key *k)
{
    return w->off == k->off && w->object == k->object;
}

/* Counted already. Lock held. */
static void append(struct bucket *b, struct cn_futex_waiter *w)
{
    w->next = NULL;
    w->prev = b->last;
    if (b->last)
        b->last->next = w;
    else
        b->first = w;
    b->last = w;
    w->queued = 1;
}

/* Lock held. */
static void detach(struct bucket *b, struct cn_futex_waiter *w)
{
    if (w->prev)
        w->prev->next = w->next;
    else
        b->first = w->next;
    if (w->next)
        w->next->prev = w->prev;
    else
        b->last = w->prev;
    w->queued = 0;
    counted(w, -1);
}

static void flush(struct batch *batch)
{
    for (u32 i = 0; i < batch->count; i++)
        task_wake_held(batch->task[i]);
    batch->count = 0;
}

/* Wakes waiters of the word. Lock held. */
static i64 wake(struct bucket *b, const struct key *k, i64 count, u32 bits, struct batch *batch)
{
    struct cn_futex_waiter *w, *next;
    i64 n = 0;

    for (w = b->first; w && n < count; w = next) {
        next = w->next;
        if (!waits_on(w, k) || !(w->bits & bits))
            continue;
        if (batch->count == BATCH)
            flush(batch);
        detach(b, w);
        task_hold(w->task);
        batch->task[batch->count++] = w->task;
        __atomic_store_n(&w->woken, 1, __ATOMIC_RELEASE); /* w may be gone now */
        n++;
    }
    return n;
}

int cn_futex_add(struct cn_futex_waiter *w, struct cn_task *t, u64 uaddr, int shared, u32 value,
                 u32 bits)
{
    struct cn_mm *mm = cn_task_mm(t);
    struct key k;
    struct bucket *b;
    u32 now;
    int rc = cn_mm_futex_key(mm, uaddr, shared, &k.object, &k.off);

    w->queued = w->woken = 0;
    if (rc < 0)
        return rc;
    w->object = k.object;
    w->off = k.off;
    w->task = t;
    w->bits = bits;
    w->count = shared ? NULL : counter(mm, uaddr);
    b = bucket_of(&k);
    pthread_mutex_lock(&b->lock);
    counted(w, 1);
    rc = cn_mm_load32(mm, uaddr, &now);
    if (!rc && now != value)
        rc = -EAGAIN;
    if (!rc)
        append(b, w);
    else
        counted(w, -1);
    pthread_mutex_unlock(&b->lock);
    return rc;
}

int cn_futex_remove(struct cn_futex_waiter *w)
{
    struct bucket *b;

    /* The word that it waits on may change until the right queue is locked. */
    while (!__atomic_load_n(&w->woken, __ATOMIC_ACQUIRE)) {
        struct key k = {__atomic_load_n(&w->object, __ATOMIC_RELAXED),
                        __atomic_load_n(&w->off, __ATOMIC_RELAXED)};
        if (!w->task)
            return 0;
        b = bucket_of(&k);
        pthread_mutex_lock(&b->lock);
        if (w->woken || waits_on(w, &k)) {
            if (w->queued)
                detach(b, w);
            pthread_mutex_unlock(&b->lock);
            break;
        }
        pthread_mutex_unlock(&b->lock);
    }
    return __atomic_load_n(&w->woken, __ATOMIC_ACQUIRE) != 0;
}

i64 cn_futex_wake_at(struct cn_mm *mm, u64 uaddr, int shared, i64 count, u32 bits)
{
    struct batch batch = {.count = 0};
    struct bucket *b;
    struct key k;
    i64 n = cn_mm_futex_key(mm, uaddr, shared, &k.object, &k.off);

    if (n < 0)
        return n;
    b = bucket_of(&k);
    pthread_mutex_lock(&b->lock);
    n = wake(b, &k, count, bits, &batch);
    pthread_mutex_unlock(&b->lock);
    flush(&batch);
    return n;
}

static void lock_both(struct bucket *a, struct bucket *b)
{
    pthread_mutex_lock(a < b ? &a->lock : &b->lock);
    if (a != b)
        pthread_mutex_lock(a < b ? &b->lock : &a->lock);
}

static void unlock_both(struct bucket *a, struct bucket *b)
{
    pthread_mutex_unlock(&a->lock);
    if (a != b)
        pthread_mutex_unlock(&b->lock);
}

/* counter: of the word `to` for waiters of mm, NULL: it is shared. Both locks held. */
static i64 move_waiters(struct bucket *a, const struct key *from, struct bucket *b,
                        const struct key *to, struct cn_mm *mm, u16 *counter, i64 count)
{
    struct cn_futex_waiter *w, *next, *last = b->last;
    int same = from->object == to->object && from->off == to->off, end = 0;
    i64 n = 0;

    for (w = a->first; w && n < count && !end; w = next) {
        next = w->next;
        end = a == b && w == last; /* behind it come those that were moved */
        if (!waits_on(w, from))
            continue;
        n++;
        if (same)
            continue;
        detach(a, w);
        __atomic_store_n(&w->object, to->object, __ATOMIC_RELAXED);
        __atomic_store_n(&w->off, to->off, __ATOMIC_RELAXED);
        w->count = counter;
        if (counter && cn_task_mm(w->task) != mm) { /* its memory may outlive the counter */
            w->count = NULL;
            ask_always(mm);
        }
        counted(w, 1);
        append(b, w);
    }
    return n;
}

i64 cn_futex_requeue(struct cn_mm *mm, u64 from, int from_shared, u64 to, int to_shared, i64 count,
                     i64 move, int check, u32 value)
{
    struct batch batch = {.count = 0};
    struct bucket *a, *b;
    struct key k, k2;
    u32 now;
    i64 n = cn_mm_futex_key(mm, from, from_shared, &k.object, &k.off), moved = 0;

    if (!n)
        n = cn_mm_futex_key(mm, to, to_shared, &k2.object, &k2.off);
    if (n < 0)
        return n;
    a = bucket_of(&k);
    b = bucket_of(&k2);
    lock_both(a, b);
    n = check ? cn_mm_load32(mm, from, &now) : 0;
    if (!n && check && now != value)
        n = -EAGAIN;
    if (!n) {
        n = wake(a, &k, count, UINT32_MAX, &batch);
        moved = move_waiters(a, &k, b, &k2, mm, to_shared ? NULL : counter(mm, to), move);
    }
    unlock_both(a, b);
    flush(&batch);
    return n < 0 ? n : (n << 32) + moved;
}

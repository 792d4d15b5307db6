/* Descriptor tables and the calls that only change them. See fdt.h. */
#define _GNU_SOURCE
#include "fdt.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "answers.h"
#include "reopen.h"

#define MIN_SLOTS 64U

/* A description and, in the lowest bit, the close-on-exec flag. */
typedef _Atomic uintptr_t slot;

/* Slots move to a bigger array as the table grows. A call may still look into an old one, so they
 * stay until the table goes. */
struct slots {
    struct slots *before;
    u32 n;
    slot at[];
};

struct cn_fdt {
    _Atomic(struct slots *) slots;
    pthread_mutex_t lock; /* for all changes */
    u32 next; /* no free number below */
    int locked; /* there may be POSIX locks of this table's */
};

static struct cn_file *file_of(uintptr_t v)
{
    return (struct cn_file *)(v & ~(uintptr_t)1);
}

static uintptr_t entry(struct cn_file *f, int cloexec)
{
    return (uintptr_t)f | (cloexec ? 1 : 0);
}

struct cn_fdt *cn_fdt_new(void)
{
    struct cn_fdt *t = calloc(1, sizeof(*t));

    if (t)
        pthread_mutex_init(&t->lock, NULL);
    return t;
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

struct cn_fdt *cn_fdt_copy(struct cn_fdt *old)
{
    struct cn_fdt *t = cn_fdt_new();
    struct slots *from, *s = NULL;

    if (!t)
        return NULL;
    pthread_mutex_lock(&old->lock);
    from = atomic_load(&old->slots);
    if (from) {
        s = grown(from, from->n);
        for (u32 i = 0; s && i < s->n; i++)
            if (s->at[i])
                atomic_fetch_add(&file_of(s->at[i])->numbers, 1);
    }
    t->next = old->next;
    pthread_mutex_unlock(&old->lock);
    if (from && !s) {
        free(t);
        return NULL;
    }
    atomic_store(&t->slots, s);
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

/* Everything from here to the next comment in capitals: WITH THE LOCK. */

static slot *slot_of(struct cn_fdt *t, i64 fd)
{
    struct slots *s = atomic_load_explicit(&t->slots, memory_order_relaxed);

    return s && fd >= 0 && fd < s->n ? &s->at[fd] : NULL;
}

static struct cn_file *at(struct cn_fdt *t, i64 fd)
{
    slot *s = slot_of(t, fd);

    return s ? file_of(atomic_load_explicit(s, memory_order_relaxed)) : NULL;
}

/* Makes room for number fd < CN_MAX_FDS. */
static int make_room(struct cn_fdt *t, u32 fd)
{
    struct slots *s = atomic_load(&t->slots), *bigger;
    u32 n;

    if (s && fd < s->n)
        return 0;
    for (n = s ? s->n * 2 : MIN_SLOTS; n <= fd; n *= 2)
        ;
    bigger = grown(s, n);
    if (!bigger)
        return -ENOMEM;
    bigger->before = s;
    atomic_store(&t->slots, bigger);
    return 0;
}

/* The lowest free number from `lowest` on, with room for it. */
static int free_number(struct cn_fdt *t, u64 lowest, u64 limit)
{
    struct slots *s = atomic_load(&t->slots);
    u64 fd = lowest > t->next ? lowest : t->next;

    limit = limit < CN_MAX_FDS ? limit : CN_MAX_FDS;
    while (s && fd < s->n && s->at[fd])
        fd++;
    if (fd >= limit)
        return -EMFILE;
    return make_room(t, (u32)fd) < 0 ? -ENOMEM : (int)fd;
}

/* Number fd leads to f (NULL: to nothing) from now on. */
static void put(struct cn_fdt *t, u32 fd, struct cn_file *f, int cloexec)
{
    slot *s = slot_of(t, fd);
    struct cn_file *old = file_of(atomic_exchange(s, entry(f, cloexec)));

    if (CN_UNLIKELY((f && file_is_device(f)) || (old && file_is_device(old))))
        answers_devices(t);
}

/* It has its number already in `numbers`. */
static void set(struct cn_fdt *t, u32 fd, struct cn_file *f, int cloexec, u64 lowest)
{
    put(t, fd, f, cloexec);
    if (lowest <= t->next && fd >= t->next)
        t->next = fd + 1;
}

static void clear(struct cn_fdt *t, u32 fd)
{
    put(t, fd, NULL, 0);
    if (fd < t->next)
        t->next = fd;
}

enum { PYTHONS = 0, COUNTED = 1, ENDED = 2 };

/* May a number of f go, without Python? COUNTED: it is not counted any more. ENDED: it was the last,
 * and still counts; once no slot has it, it is for reopen_ended. */
static int leave(struct cn_fdt *t, struct cn_file *f)
{
    u32 n = atomic_load(&f->numbers), end = atomic_load(&f->end);

    if (t->locked || end == CN_END_EACH)
        return PYTHONS;
    while (n > 1)
        if (atomic_compare_exchange_weak(&f->numbers, &n, n - 1))
            return COUNTED;
    return end == CN_END_LATER && !atomic_load(&files_watched) ? ENDED : PYTHONS;
}

static int close_number(struct cn_fdt *t, u32 fd)
{
    struct cn_file *f = at(t, fd);
    int how = leave(t, f);

    if (how == PYTHONS)
        return 0;
    clear(t, fd);
    if (how == ENDED)
        reopen_ended(f);
    return 1;
}

/* newfd, below the limit, leads where f does. */
static int replace(struct cn_fdt *t, struct cn_file *f, u32 newfd, int cloexec)
{
    struct cn_file *old;
    int how = COUNTED;

    if (make_room(t, newfd) < 0)
        return 0;
    old = at(t, newfd);
    /* First, so that it is not the last one that goes if both are the same. */
    atomic_fetch_add(&f->numbers, 1);
    if (old)
        how = leave(t, old);
    if (how == PYTHONS) {
        atomic_fetch_sub(&f->numbers, 1);
        return 0;
    }
    put(t, newfd, f, cloexec);
    if (how == ENDED)
        reopen_ended(old);
    return 1;
}

/* WITHOUT THE LOCK: what Python asks for. */

int cn_fdt_get(struct cn_fdt *t, int64_t fd)
{
    struct cn_file *f;
    int index = -EBADF;

    pthread_mutex_lock(&t->lock);
    f = at(t, fd);
    if (f) {
        index = f->index;
        atomic_store_explicit(&f->seen, 1, memory_order_relaxed);
    }
    pthread_mutex_unlock(&t->lock);
    return index;
}

int cn_fdt_install(struct cn_fdt *t, struct cn_file *f, uint64_t lowest, uint64_t limit, int cloexec)
{
    int fd;

    pthread_mutex_lock(&t->lock);
    fd = free_number(t, lowest, limit);
    if (fd >= 0) {
        atomic_fetch_add(&f->numbers, 1);
        set(t, (u32)fd, f, cloexec, lowest);
    }
    pthread_mutex_unlock(&t->lock);
    return fd;
}

int cn_fdt_put(struct cn_fdt *t, int fd, struct cn_file *f, int cloexec)
{
    int rc;

    pthread_mutex_lock(&t->lock);
    rc = fd < 0 || fd >= CN_MAX_FDS ? -ENOMEM : make_room(t, (u32)fd);
    if (rc == 0 && at(t, fd))
        rc = -EBUSY;
    if (rc == 0) {
        atomic_fetch_add(&f->numbers, 1);
        put(t, (u32)fd, f, cloexec);
    }
    pthread_mutex_unlock(&t->lock);
    return rc;
}

int cn_fdt_remove(struct cn_fdt *t, int64_t fd)
{
    struct cn_file *f;
    int index = -EBADF;

    pthread_mutex_lock(&t->lock);
    f = at(t, fd);
    if (f) {
        clear(t, (u32)fd);
        index = f->index;
        atomic_store(&f->seen, 1);
        atomic_fetch_sub(&f->numbers, 1);
    }
    pthread_mutex_unlock(&t->lock);
    return index;
}

int cn_fdt_cloexec(struct cn_fdt *t, int64_t fd)
{
    int on = -EBADF;

    pthread_mutex_lock(&t->lock);
    if (at(t, fd))
        on = (int)(*slot_of(t, fd) & 1);
    pthread_mutex_unlock(&t->lock);
    return on;
}

int cn_fdt_set_cloexec(struct cn_fdt *t, int64_t fd, int on)
{
    struct cn_file *f;

    pthread_mutex_lock(&t->lock);
    f = at(t, fd);
    if (f)
        atomic_store(slot_of(t, fd), entry(f, on));
    pthread_mutex_unlock(&t->lock);
    return f ? 0 : -EBADF;
}

int cn_fdt_next(struct cn_fdt *t, int64_t fd)
{
    struct slots *s;
    int found = -1;

    pthread_mutex_lock(&t->lock);
    s = atomic_load(&t->slots);
    for (i64 i = fd < 0 ? 0 : fd; s && i < s->n && found < 0; i++)
        if (s->at[i])
            found = (int)i;
    pthread_mutex_unlock(&t->lock);
    return found;
}

int cn_fdt_size(struct cn_fdt *t)
{
    struct slots *s = atomic_load(&t->slots);

    return s ? (int)s->n : 0;
}

int cn_fdt_close(struct cn_fdt *t, int64_t first, int64_t end, int marked)
{
    struct slots *s;
    int left = -1;

    pthread_mutex_lock(&t->lock);
    s = atomic_load(&t->slots);
    for (i64 i = first < 0 ? 0 : first; s && i < s->n && i < end && left < 0; i++)
        if (s->at[i] && (!marked || s->at[i] & 1) && !close_number(t, (u32)i))
            left = (int)i;
    pthread_mutex_unlock(&t->lock);
    return left;
}

void cn_fdt_locked(struct cn_fdt *t)
{
    pthread_mutex_lock(&t->lock);
    t->locked = 1;
    pthread_mutex_unlock(&t->lock);
}

/* What calls ask for. */

struct cn_file *file_get(struct cn_fdt *t, i32 fd)
{
    struct slots *s = t ? atomic_load(&t->slots) : NULL;
    struct cn_file *f;

    if (CN_UNLIKELY(!s || fd < 0 || (u32)fd >= s->n))
        return NULL;
    f = file_of(atomic_load_explicit(&s->at[fd], memory_order_acquire));
    if (!f)
        return NULL;
    atomic_fetch_add(&f->users, 1);
    /* Closed meanwhile: what was counted may be another description by now, which does no harm. */
    if (CN_UNLIKELY(file_of(atomic_load(&s->at[fd])) != f || atomic_load(&t->slots) != s ||
                    atomic_load(&f->kind) == CN_FILE_NONE)) {
        file_put(f);
        return NULL;
    }
    return f;
}

void fdt_devices(struct cn_fdt *t, u64 *nulls, u64 *zeros)
{
    struct slots *s = atomic_load(&t->slots);
    u32 flags;

    *nulls = *zeros = 0;
    for (u32 fd = 0; s && fd < s->n && fd < 64; fd++) {
        struct cn_file *f = file_of(atomic_load(&s->at[fd]));
        if (CN_LIKELY(!f || !file_is_device(f)))
            continue;
        flags = atomic_load(&f->flags);
        if (flags & CN_FILE_WRITE)
            *nulls |= 1UL << fd;
        if (flags & CN_FILE_READ && atomic_load(&f->kind) == CN_FILE_ZERO)
            *zeros |= 1UL << fd;
    }
}

int fdt_reopen(struct cn_fdt *t, const struct name_key *key, u64 limit, int cloexec)
{
    struct cn_file *f = NULL;
    int fd;

    if (atomic_load_explicit(&files_watched, memory_order_relaxed))
        return -1;
    pthread_mutex_lock(&t->lock);
    fd = free_number(t, 0, limit);
    if (fd >= 0)
        f = reopen_take(key);
    if (f)
        set(t, (u32)fd, f, cloexec, 0);
    pthread_mutex_unlock(&t->lock);
    return f ? fd : -1;
}

static enum cn_fast done(struct cn_task *t, u64 result)
{
    t->regs.rax = result;
    return CN_DONE;
}

static u64 limit_of(const struct cn_task *t)
{
    return __atomic_load_n(&t->nofile, __ATOMIC_RELAXED);
}

enum cn_fast fast_close(struct cn_task *t)
{
    struct cn_fdt *fds = t->fds;
    i32 fd = (i32)t->regs.rdi;
    int closed;

    if (!fds)
        return CN_UPCALL;
    pthread_mutex_lock(&fds->lock);
    closed = at(fds, fd) && close_number(fds, (u32)fd);
    pthread_mutex_unlock(&fds->lock);
    return closed ? done(t, 0) : CN_UPCALL;
}

/* The lowest free number from `lowest` on leads where fd does. */
static enum cn_fast duplicate(struct cn_task *t, i32 fd, u64 lowest, int cloexec)
{
    struct cn_fdt *fds = t->fds;
    struct cn_file *f;
    int new = -1;

    if (!fds || lowest >= limit_of(t))
        return CN_UPCALL;
    pthread_mutex_lock(&fds->lock);
    f = at(fds, fd);
    if (f)
        new = free_number(fds, lowest, limit_of(t));
    if (new >= 0) {
        atomic_fetch_add(&f->numbers, 1);
        set(fds, (u32)new, f, cloexec, lowest);
    }
    pthread_mutex_unlock(&fds->lock);
    return new >= 0 ? done(t, (u64)new) : CN_UPCALL;
}

enum cn_fast fast_dup(struct cn_task *t)
{
    return duplicate(t, (i32)t->regs.rdi, 0, 0);
}

static enum cn_fast duplicate_to(struct cn_task *t, i32 oldfd, i32 newfd, int cloexec)
{
    struct cn_fdt *fds = t->fds;
    struct cn_file *f;
    int ok;

    if (!fds || newfd < 0 || newfd >= CN_MAX_FDS || (u64)newfd >= limit_of(t))
        return CN_UPCALL;
    pthread_mutex_lock(&fds->lock);
    f = at(fds, oldfd);
    ok = f && (oldfd == newfd || replace(fds, f, (u32)newfd, cloexec));
    pthread_mutex_unlock(&fds->lock);
    return ok ? done(t, (u64)newfd) : CN_UPCALL;
}

enum cn_fast fast_dup2(struct cn_task *t)
{
    return duplicate_to(t, (i32)t->regs.rdi, (i32)t->regs.rsi, 0);
}

enum cn_fast fast_dup3(struct cn_task *t)
{
    u32 flags = (u32)t->regs.rdx;

    if (flags & ~(u32)O_CLOEXEC || (i32)t->regs.rdi == (i32)t->regs.rsi)
        return CN_UPCALL;
    return duplicate_to(t, (i32)t->regs.rdi, (i32)t->regs.rsi, flags != 0);
}

enum cn_fast fast_fcntl(struct cn_task *t)
{
    i32 fd = (i32)t->regs.rdi;
    struct cn_fdt *fds = t->fds;
    struct cn_file *f;
    u64 result = 0;

    switch ((u32)t->regs.rsi) {
    case F_DUPFD:
        return duplicate(t, fd, (u32)t->regs.rdx, 0);
    case F_DUPFD_CLOEXEC:
        return duplicate(t, fd, (u32)t->regs.rdx, 1);
    case F_GETFD:
    case F_SETFD:
    case F_GETFL:
        break;
    default:
        return CN_UPCALL;
    }
    if (!fds)
        return CN_UPCALL;
    pthread_mutex_lock(&fds->lock);
    f = at(fds, fd);
    if (f) {
        switch ((u32)t->regs.rsi) {
        case F_GETFD:
            result = *slot_of(fds, fd) & 1;
            break;
        case F_SETFD:
            atomic_store(slot_of(fds, fd), entry(f, (int)(t->regs.rdx & FD_CLOEXEC)));
            break;
        default:
            result = atomic_load(&f->status);
        }
    }
    pthread_mutex_unlock(&fds->lock);
    return f ? done(t, result) : CN_UPCALL;
}

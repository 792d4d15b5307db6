/*
 * poll(2) and ppoll(2) without Python: of files, which are always ready, devices, and connections, which
 * the host is asked about, all of them at once. Any other descriptor, and whatever would have to wait,
 * is Python's, which asks again: looking changes nothing.
 */
#define _GNU_SOURCE
#include "fastpoll.h"

#include <errno.h>
#include <poll.h>
#include <stdatomic.h>
#include <stddef.h>
#include <time.h>

#include "../mm/mm.h"
#include "fdt.h"

#define MOST    64U /* descriptors of one call */
#define SECOND  1000000000L
#define LONGEST (1L << 30) /* seconds; longer times are Python's to understand */
#define FILES   (POLLIN | POLLOUT | POLLRDNORM | POLLWRNORM) /* what a file is always ready for */
#define ALWAYS  (POLLERR | POLLHUP | POLLNVAL) /* what nobody has to ask for */

struct look {
    struct pollfd fds[MOST];
    struct cn_file *files[MOST]; /* NULL: no need to ask the host */
    u32 n;
};

/* The descriptors as the guest names them. 0: not for C. */
static int read_fds(struct cn_task *t, struct look *l)
{
    u64 n = (u32)t->regs.rsi;

    if (n > MOST || n > __atomic_load_n(&t->nofile, __ATOMIC_RELAXED) ||
        (n && cn_mm_copy_in(cn_task_mm(t), t->regs.rdi, l->fds, n * sizeof(l->fds[0])) < 0))
        return 0;
    l->n = (u32)n;
    return 1;
}

/* Is the descriptor one that C can tell of? Sets its revents, or keeps its file for the host. */
static int find(struct cn_task *t, struct look *l, u32 i)
{
    struct pollfd *p = &l->fds[i];
    struct cn_file *f;

    l->files[i] = NULL;
    p->revents = 0;
    if (p->fd < 0)
        return 1;
    f = file_get(t->fds, p->fd);
    if (!f)
        return 0;
    switch (atomic_load_explicit(&f->kind, memory_order_relaxed)) {
    case CN_FILE_STREAM:
        l->files[i] = f;
        return 1;
    case CN_FILE_NULL:
    case CN_FILE_ZERO:
    case CN_FILE_HOST:
    case CN_FILE_OWN:
    case CN_FILE_MEM:
        p->revents = p->events & FILES;
        file_put(f);
        return 1;
    default:
        file_put(f);
        return 0;
    }
}

/* Asks the host about the connections, and lets go of them. -errno. */
static int ask(struct look *l)
{
    struct pollfd host[MOST];
    u32 n = 0;
    int rc = 0;

    for (u32 i = 0; i < l->n; i++)
        if (l->files[i])
            host[n++] = (struct pollfd){l->files[i]->hostfd, l->fds[i].events, 0};
    if (n)
        do
            rc = poll(host, n, 0);
        while (rc < 0 && errno == EINTR);
    for (u32 i = 0, j = 0; i < l->n; i++)
        if (l->files[i]) {
            l->fds[i].revents = host[j].revents & (l->fds[i].events | ALWAYS);
            file_put(l->files[i]);
            j++;
        }
    return rc < 0 ? -errno : 0;
}

/* How many are ready; -1: Python must look. */
static int look(struct cn_task *t, struct look *l)
{
    int known = 1, ready = 0;
    u32 n;

    for (n = 0; n < l->n && known; n++)
        known = find(t, l, n);
    if (!known) {
        while (n--)
            if (l->files[n])
                file_put(l->files[n]);
        return -1;
    }
    if (ask(l) < 0)
        return -1;
    for (u32 i = 0; i < l->n; i++)
        ready += l->fds[i].revents != 0;
    return ready;
}

/* No more than what the call changes: other threads may use the rest. */
static int write_fds(struct cn_task *t, const struct look *l)
{
    u64 addr = t->regs.rdi + offsetof(struct pollfd, revents);

    for (u32 i = 0; i < l->n; i++, addr += sizeof(struct pollfd))
        if (cn_mm_copy_out(cn_task_mm(t), addr, &l->fds[i].revents, sizeof(l->fds[i].revents)) < 0)
            return 0;
    return 1;
}

/* may_wait: a call that finds nothing ready goes on in Python. */
static enum cn_fast do_poll(struct cn_task *t, int may_wait)
{
    struct look l;
    int ready = read_fds(t, &l) ? look(t, &l) : -1;

    if (ready < 0 || (!ready && (may_wait || cn_task_interrupted(t))) || !write_fds(t, &l))
        return CN_UPCALL;
    t->regs.rax = (u64)ready;
    return CN_DONE;
}

enum cn_fast fast_poll(struct cn_task *t)
{
    return do_poll(t, (i32)t->regs.rdx != 0);
}

static i64 now(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return ts.tv_sec * SECOND + ts.tv_nsec;
}

/* A mask of signals matters to a call that waits; one that doesn't has only to find it there. */
static int mask_is_there(struct cn_task *t)
{
    u64 mask;

    return t->regs.r8 == sizeof(mask) && cn_mm_copy_in(cn_task_mm(t), t->regs.r10, &mask, sizeof(mask)) == 0;
}

enum cn_fast fast_ppoll(struct cn_task *t)
{
    struct timespec ts = {0, 0};
    u64 at = t->regs.rdx;
    int mask = t->regs.r10 != 0;
    i64 end, left;

    if (at && cn_mm_copy_in(cn_task_mm(t), at, &ts, sizeof(ts)) < 0)
        return CN_UPCALL;
    if (ts.tv_sec < 0 || ts.tv_sec > LONGEST || ts.tv_nsec < 0 || ts.tv_nsec >= SECOND ||
        (mask && !mask_is_there(t)))
        return CN_UPCALL;
    left = ts.tv_sec * SECOND + ts.tv_nsec;
    end = left ? now() + left : 0;
    if (!do_poll(t, !at || left || mask))
        return CN_UPCALL;
    if (left) { /* what is left of the time goes back, if it can */
        left = end - now();
        left = left > 0 ? left : 0;
        ts = (struct timespec){left / SECOND, left % SECOND};
        cn_mm_copy_out(cn_task_mm(t), at, &ts, sizeof(ts));
    }
    return CN_DONE;
}

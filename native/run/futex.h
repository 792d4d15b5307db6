/*
 * Futexes: queues of waiting tasks by the identity of the word they wait on.
 *
 * The word is looked at and the waiter queued under the lock of its queue, so no wake-up is lost.
 * Waiters on private words are counted before they look as well, in memory that the guest reads
 * (platform.h, as_waiters): a patched call site that changed the word, then found the count at 0,
 * has nobody to wake.
 * Nothing here needs K: native calls come without it, Python with it (lock order: K > queue > mm).
 * Priority inheritance is Python's (sentry/kernel/futex.py); while it has waiters, every wake and
 * requeue goes there.
 */
#ifndef CORDON_FUTEX_H
#define CORDON_FUTEX_H

#include "run.h"

/* cdef begin */
/* One task's wait on one word. The waiter's own, and at one place in memory while it is queued. */
struct cn_futex_waiter {
    struct cn_futex_waiter *next, *prev;
    uint64_t object, off; /* of the word; a requeue changes them */
    struct cn_task *task;
    uint16_t *count; /* of a private word: where this waiter is counted, NULL: nowhere */
    uint32_t bits;
    uint32_t queued;
    uint32_t woken; /* the last thing that a waker writes */
};

/* Queues w, of t, on the word at uaddr if that holds value. 0, -EAGAIN for another value, -EFAULT,
 * -EINVAL. The waiter then sleeps until w->woken. By t's own host thread. */
int cn_futex_add(struct cn_futex_waiter *w, struct cn_task *t, uint64_t uaddr, int shared,
                 uint32_t value, uint32_t bits);
/* Takes it out of its queue. 1 when it had been woken. */
int cn_futex_remove(struct cn_futex_waiter *w);
/* Wakes up to count waiters whose bits match; how many, or -errno of the word. */
int64_t cn_futex_wake_at(struct cn_mm *mm, uint64_t uaddr, int shared, int64_t count, uint32_t bits);
/* If check, only while the word at `from` holds value (-EAGAIN). Wakes up to `wake` waiters of it
 * and moves up to `move` others to the word at `to`: (woken << 32) + moved, or -errno. */
int64_t cn_futex_requeue(struct cn_mm *mm, uint64_t from, int from_shared, uint64_t to,
                         int to_shared, int64_t wake, int64_t move, int check, uint32_t value);
/* Python has so many more (less) waiters of its own, on words of mm. Before it looks at the word they
 * wait on. */
void cn_futex_elsewhere(struct cn_mm *mm, int more);
/* cdef end */

/* 1: Python has waiters of its own. */
int futex_elsewhere(void);

#endif

/*
 * Who a task is, for the calls that just return it. Rung 1 answers them here; rung 0, patched call
 * sites, inside of the guest, without a hand-over.
 *
 * Each context has a page that the guest can only read (platform.h, ctx_answer). It holds the answers
 * unless the task is slow or the call watched.
 * The page changes where the ids change, so it is as fresh as rung 1 for a thread in the guest.
 * futex and clock_gettime are switched on and off there as well (platform.h, ctx_answer), and
 * descriptors of /dev/null and /dev/zero told (ctx_devices).
 */
#ifndef CORDON_ANSWERS_H
#define CORDON_ANSWERS_H

#include "fast.h"

struct answers {
    struct answers *next, **link;
    struct cn_task *task;
    struct cn_ctx *ctx;
};

/* getpid, gettid, getppid, getuid, geteuid, getgid, getegid: cn_task.ids. */
enum cn_fast fast_identity(struct cn_task *t);

/* Answers of t in its context ctx, zeroed before, until answers_end, which may come twice. */
void answers_begin(struct answers *a, struct cn_task *t, struct cn_ctx *ctx);
void answers_end(struct answers *a);
/* After a change of the task's ids, or that it is slow. Nothing after the end. */
void answers_publish(struct answers *a);
/* After a change of a number's watch word: for all tasks. K held. */
void answers_watch(u32 nr);
/* After a change of which descriptors of the table, which may be locked, are devices. NULL: of any
 * table; K held then. */
void answers_devices(const struct cn_fdt *fds);

#endif

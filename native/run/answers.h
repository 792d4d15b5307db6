/*
 * Rung 0: what patched call sites answer inside of the guest, without a hand-over.
 *
 * Each context has a page that the guest can only read (platform.h, ctx_answer). It holds who the
 * task is (cn_ids), for the calls that just return it, unless the task is slow or the call watched.
 * The page changes where the ids change, so it is as fresh as rung 1 for a thread in the guest.
 */
#ifndef CORDON_ANSWERS_H
#define CORDON_ANSWERS_H

#include "run.h"

struct answers {
    struct answers *next, **link;
    struct cn_task *task;
    struct cn_ctx *ctx;
};

/* Answers of t in its context ctx, zeroed before, until answers_end, which may come twice. */
void answers_begin(struct answers *a, struct cn_task *t, struct cn_ctx *ctx);
void answers_end(struct answers *a);
/* After a change of the task's ids, or that it is slow. Nothing after the end. */
void answers_publish(struct answers *a);
/* After a change of a number's watch word: for all tasks. */
void answers_watch(u32 nr);

#endif

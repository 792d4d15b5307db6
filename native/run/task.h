/* Inside of tasks, for the native calls that sleep and wake by themselves (run.h has the public face). */
#ifndef CORDON_TASK_H
#define CORDON_TASK_H

#include "run.h"

/* The address space that the task runs in. */
struct cn_mm *cn_task_mm(const struct cn_task *t);

/* All registers of the call that the task is stopped at are in regs from now on. Own host thread. */
void task_regs(struct cn_task *t);

/* cn_task_block without K, for a call that the task's own host thread answers. */
int task_sleep(struct cn_task *t, i64 deadline_ns);

/* A waker that found the task in a queue holds it while the queue is locked, and wakes it later
 * without any lock: the task's memory stays until then. */
void task_hold(struct cn_task *t);
void task_wake_held(struct cn_task *t);

#endif

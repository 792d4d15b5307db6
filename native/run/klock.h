/* Inside of the kernel lock K (run.h has its public face). */
#ifndef CORDON_KLOCK_H
#define CORDON_KLOCK_H

#include "../cordon.h"

struct timespec;

/* FUTEX_WAIT on a private word until *deadline (absolute CLOCK_MONOTONIC, NULL none): 0 or -errno
 * (-EAGAIN, -EINTR, -ETIMEDOUT). */
int cn_futex_wait(void *word, u32 value, const struct timespec *deadline);
void cn_futex_wake(void *word, int n);

#endif

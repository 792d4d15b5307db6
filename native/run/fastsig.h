/* What a thread does to its own signals, for the table of fast.c. */
#ifndef CORDON_FASTSIG_H
#define CORDON_FASTSIG_H

#include "fast.h"

enum cn_fast fast_rt_sigaction(struct cn_task *t);
enum cn_fast fast_rt_sigprocmask(struct cn_task *t);
enum cn_fast fast_rt_sigreturn(struct cn_task *t);
enum cn_fast fast_sigaltstack(struct cn_task *t);
enum cn_fast fast_kill(struct cn_task *t);
enum cn_fast fast_tkill(struct cn_task *t);
enum cn_fast fast_tgkill(struct cn_task *t);

#endif

/* Memory, futexes, sleeping and clocks without Python, for the table of fast.c. */
#ifndef CORDON_FASTMEM_H
#define CORDON_FASTMEM_H

#include "fast.h"

enum cn_fast fast_mmap(struct cn_task *t);
enum cn_fast fast_munmap(struct cn_task *t);
enum cn_fast fast_mprotect(struct cn_task *t);
enum cn_fast fast_madvise(struct cn_task *t);
enum cn_fast fast_brk(struct cn_task *t);

enum cn_fast fast_futex(struct cn_task *t);
enum cn_fast fast_nanosleep(struct cn_task *t);
enum cn_fast fast_clock_nanosleep(struct cn_task *t);
enum cn_fast fast_sched_yield(struct cn_task *t);

enum cn_fast fast_clock_gettime(struct cn_task *t);
enum cn_fast fast_gettimeofday(struct cn_task *t);

#endif

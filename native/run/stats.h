/* Counters for --profile. Approximate: two threads counting at once may lose one. */
#ifndef CORDON_STATS_H
#define CORDON_STATS_H

#include "run.h"

extern struct cn_run_stats cn_stats;

static inline void cn_count(uint64_t *counter)
{
    __atomic_store_n(counter, __atomic_load_n(counter, __ATOMIC_RELAXED) + 1, __ATOMIC_RELAXED);
}

#endif

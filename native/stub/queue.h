/*
 * Host calls that an address space waits for, in order, and the host files they name. For platforms
 * whose address spaces are those of stub processes.
 */
#ifndef CORDON_STUB_QUEUE_H
#define CORDON_STUB_QUEUE_H

#include <pthread.h>
#include <stdatomic.h>

#include "../platform.h"
#include "mother.h"

/* Host files in the stub fd table. One may be removed while a queue still has a mapping of it (made
 * and unmapped again before any guest code ran): it is closed when that is made. */
struct stub_files {
    struct cn_mother *mother;
    pthread_mutex_t lock;
    struct stub_file_use *uses; /* by number in the table */
    u32 nuses;
};

void stub_files_init(struct stub_files *f, struct cn_mother *mother);
void stub_files_fini(struct stub_files *f);
void stub_files_remove(struct stub_files *f, int handle);

/* The owner serialises all but reads of `n`. */
struct stub_queue {
    struct stub_files *files;
    struct stub_op *op;
    u32 cap;
    u32 others; /* changes that were not cn_hostop.taken */
    _Atomic u32 n;
};

/* Adds a change, merged into the last call where that is the same. lowest_fd: smaller handles than
 * it, but for the memory file's, are nobody's to map. 0 or -errno. */
int stub_queue_add(struct stub_queue *q, const struct cn_hostop *op, int lowest_fd);
/* The calls are made, or never will be. */
void stub_queue_clear(struct stub_queue *q);
void stub_queue_free(struct stub_queue *q);

#endif

/*
 * Descriptor tables: number -> open file description and close-on-exec flag. C owns them; Python's
 * FDTable looks into them by the functions below, and finds its File by a description's index.
 *
 * Changes are made with the table's lock, by calls on rung 1 without K. Looking a number up to read or
 * write takes no lock (file_get). K > a table's lock > reopen.c's.
 */
#ifndef CORDON_FDT_H
#define CORDON_FDT_H

#include "files.h"

/* cdef begin */
enum { CN_MAX_FDS = 1048576 }; /* no number is higher (fs.nr_open) */

/* A table of no descriptors. NULL when out of memory. A task uses it through cn_task.fds. */
struct cn_fdt *cn_fdt_new(void);
struct cn_fdt *cn_fdt_copy(struct cn_fdt *old); /* fork: the same descriptions */
void cn_fdt_free(struct cn_fdt *t); /* one whose numbers are closed */
/* The index of what number fd leads to, for Python to work on; -EBADF. */
int cn_fdt_get(struct cn_fdt *t, int64_t fd);
/* f gets the lowest free number from `lowest` on; -EMFILE if it is not below limit, -ENOMEM. */
int cn_fdt_install(struct cn_fdt *t, struct cn_file *f, uint64_t lowest, uint64_t limit, int cloexec);
/* Number fd, which is free, leads to f: 0 or -ENOMEM. */
int cn_fdt_put(struct cn_fdt *t, int fd, struct cn_file *f, int cloexec);
/* Number fd leads to nothing: the index of what it led to, or -EBADF. */
int cn_fdt_remove(struct cn_fdt *t, int64_t fd);
/* The flag: 0, 1 or -EBADF. */
int cn_fdt_cloexec(struct cn_fdt *t, int64_t fd);
int cn_fdt_set_cloexec(struct cn_fdt *t, int64_t fd, int on);
/* The first number from fd on that leads to something, -1: none. */
int cn_fdt_next(struct cn_fdt *t, int64_t fd);
int cn_fdt_size(struct cn_fdt *t); /* numbers that there is room for */
/* Closes what C can close (and only if marked, if `marked`) from first up to, not including, end. The
 * first number that Python must close, or -1: all are closed. */
int cn_fdt_close(struct cn_fdt *t, int64_t first, int64_t end, int marked);
/* A POSIX lock was taken through the table, so Python must see every close. */
void cn_fdt_locked(struct cn_fdt *t);
/* cdef end */

#include "fast.h"

/* The description behind a number, which stays as it is until file_put; NULL: Python must look. */
struct cn_file *file_get(struct cn_fdt *t, i32 fd);

/* Bits of the numbers below 64 to which anything can be written, and that read as /dev/zero. Takes no
 * lock. */
void fdt_devices(struct cn_fdt *t, u64 *nulls, u64 *zeros);

/* A spare description (reopen.h), as a new number below limit: the number, or -1 without an effect. */
int fdt_reopen(struct cn_fdt *t, const struct name_key *key, u64 limit, int cloexec);

enum cn_fast fast_close(struct cn_task *t);
enum cn_fast fast_dup(struct cn_task *t);
enum cn_fast fast_dup2(struct cn_task *t);
enum cn_fast fast_dup3(struct cn_task *t);
enum cn_fast fast_fcntl(struct cn_task *t);

#endif

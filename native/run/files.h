/*
 * What rung 1 knows of files: a mirror of each descriptor table, kept by Python (FDTable), and of the
 * open file descriptions in it that C can read and write by itself.
 *
 * Python owns the truth. A description is mirrored from when it gets its first number to its last
 * close; meanwhile its position lives here. Calls on it run without K: looking a number up counts the
 * call in `users`, and whoever changes or frees a description first takes it out of sight and then
 * waits until no call is at work. A call on a regular file or memory never waits for anything but the
 * disk, so neither does that.
 */
#ifndef CORDON_FILES_H
#define CORDON_FILES_H

#include "../mm/mobj.h"
#include "run.h"

/* cdef begin */
struct cn_file;

enum {
    CN_FILE_NONE = 0, /* not for C (any more) */
    CN_FILE_NULL = 1, /* /dev/null */
    CN_FILE_ZERO = 2, /* /dev/zero */
    CN_FILE_HOST = 3, /* a regular host file, at positions of our own */
    CN_FILE_OWN = 4, /* ... at the position that the host keeps, which others share */
    CN_FILE_MEM = 5, /* a memory object */
    CN_FILE_STREAM = 6 /* a connection: a host socket that does not block */
};
enum {
    CN_FILE_READ = 1,
    CN_FILE_WRITE = 2,
    CN_FILE_APPEND = 4,
    CN_FILE_NOATIME = 8,
    CN_FILE_NONBLOCK = 16
};

/* The data of an inode as far as the descriptions of it share something. Times are ns since the
 * epoch, 0 for never. Python reads and writes the fields with K held. */
struct cn_data {
    uint64_t written;   /* last write by C */
    uint64_t accessed;  /* last read by C that counted for the access time */
    uint64_t atime_due; /* reads from this time on count; UINT64_MAX: none does */
    uint64_t closed;    /* not 0: writes are Python's (set-ID bits, seals, a limit of the file system) */
};
struct cn_data *cn_data_new(void); /* NULL when out of memory */
void cn_data_free(struct cn_data *d); /* when no description of the inode is left */
/* No write of C's is between its look at the end and its last byte. K > this > mm. */
void cn_data_lock(struct cn_data *d);
void cn_data_unlock(struct cn_data *d);

/* A table of no descriptors. NULL when out of memory. A task uses it through cn_task.fds. */
struct cn_fdt *cn_fdt_new(void);
struct cn_fdt *cn_fdt_copy(const struct cn_fdt *old); /* fork: the same descriptions */
void cn_fdt_free(struct cn_fdt *t);
/* Number fd leads to f (NULL: to nothing that C knows). 0 or -ENOMEM, and then C does not know it. */
int cn_fdt_set(struct cn_fdt *t, int fd, struct cn_file *f);
/* A new description (see cn_file_set) at fd. NULL when out of memory: Python goes on alone. */
struct cn_file *cn_fdt_open(struct cn_fdt *t, int fd, uint32_t kind, uint32_t flags, int hostfd,
                            struct cn_mobj *mobj, struct cn_data *data, int64_t pos);
/* Number fd leads to nothing; f is freed if given. */
void cn_fdt_close(struct cn_fdt *t, int fd, struct cn_file *f);

/* What it is from now on; nothing is at work on what it was when this returns. hostfd, mobj and data
 * are borrowed. */
void cn_file_set(struct cn_file *f, uint32_t kind, uint32_t flags, int hostfd, struct cn_mobj *mobj,
                 struct cn_data *data);
void cn_file_free(struct cn_file *f); /* its numbers are closed */
/* The position. Python holds it while a call of its own moves it. K > this > mm. */
int64_t cn_file_pos(struct cn_file *f);
void cn_file_set_pos(struct cn_file *f, int64_t pos);
int64_t cn_file_lock_pos(struct cn_file *f);
void cn_file_unlock_pos(struct cn_file *f, int64_t pos);

/* on: somebody watches files (inotify, dnotify), so Python must see every read and write. */
void cn_files_watched(int on);
/* cdef end */

struct cn_file {
    _Atomic u32 users; /* calls at work; counts a little while after freeing, too: see file_get */
    _Atomic u32 kind;
    _Atomic u32 flags;
    int hostfd;
    struct cn_mobj *mobj;
    struct cn_data *data;
    u64 serial; /* of the description: never used again */
    pthread_mutex_t lock; /* pos */
    i64 pos;
    struct cn_file *next; /* in the free list */
};

/* The description behind a number, which stays as it is until file_put; NULL: Python must look. */
struct cn_file *file_get(struct cn_fdt *t, i32 fd);

static inline void file_put(struct cn_file *f)
{
    __atomic_fetch_sub(&f->users, 1, __ATOMIC_SEQ_CST);
}

extern _Atomic u32 files_watched;

#endif

/*
 * What rung 1 knows of open file descriptions. fdt.h has the tables of descriptors that lead to them.
 *
 * A description is made with its first number and ends when neither a number nor Python refers to it;
 * meanwhile its position lives here. Calls on it run without K: looking a number up counts the
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
    CN_FILE_NONE = 0, /* not for C to read or write */
    CN_FILE_NULL = 1, /* /dev/null */
    CN_FILE_ZERO = 2, /* /dev/zero */
    CN_FILE_HOST = 3, /* a regular host file, at positions of our own */
    CN_FILE_OWN = 4, /* ... at the position that the host keeps, which others share */
    CN_FILE_MEM = 5, /* a memory object */
    CN_FILE_STREAM = 6, /* a connection: a host socket that does not block */
    CN_FILE_PLACE = 7 /* a directory, or opened with O_PATH: a place for names to start from */
};
enum {
    CN_FILE_READ = 1,
    CN_FILE_WRITE = 2,
    CN_FILE_APPEND = 4,
    CN_FILE_NOATIME = 8,
    CN_FILE_NONBLOCK = 16
};
/* Who closes a number that leads to it. */
enum {
    CN_END_EACH = 0, /* always Python */
    CN_END_LAST = 1, /* Python, if no other number leads to it */
    CN_END_LATER = 2 /* C: nobody but the guest's next call in Python can tell when it ended */
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

/* A new description, of no kind and with no number, that Python ends. NULL when out of memory. */
struct cn_file *cn_file_new(int64_t pos);
/* Its number among all descriptions; the next one may get it when this is freed. */
int cn_file_index(const struct cn_file *f);
/* What it is from now on; nothing is at work on what it was when this returns. hostfd, mobj and data
 * are borrowed; status is what F_GETFL says. */
void cn_file_set(struct cn_file *f, uint32_t kind, uint32_t flags, int hostfd, struct cn_mobj *mobj,
                 struct cn_data *data, uint32_t status, uint32_t end);
void cn_file_free(struct cn_file *f); /* no number leads to it */
/* How many numbers lead to it, in all tables; one more while cn_files_ended has yet to tell of it. */
uint32_t cn_file_numbers(const struct cn_file *f);
/* The position. Python holds it while a call of its own moves it. K > this > mm. */
int64_t cn_file_pos(struct cn_file *f);
void cn_file_set_pos(struct cn_file *f, int64_t pos);
int64_t cn_file_lock_pos(struct cn_file *f);
void cn_file_unlock_pos(struct cn_file *f, int64_t pos);

/* on: somebody watches files (inotify, dnotify), so Python must see every open, read, write and end. */
void cn_files_watched(int on);
/* cdef end */

#include "names.h"

struct cn_file {
    _Atomic u32 users; /* calls at work; counts a little while after freeing, too: see file_get */
    _Atomic u32 kind;
    _Atomic u32 flags;
    _Atomic u32 numbers;
    _Atomic u32 seen; /* by Python since it was opened, so that a handler may be at work on it */
    _Atomic u32 end;
    _Atomic u32 status;
    int hostfd;
    struct cn_mobj *mobj;
    struct cn_data *data;
    u64 serial; /* of the description: never used again */
    pthread_mutex_t lock; /* pos */
    i64 pos;
    int index;
    struct name_key key; /* what it was opened by, for reopen.h; generation 0: unknown */
    struct cn_file *next, **link; /* in the free list, or one of reopen.c's */
};

static inline void file_put(struct cn_file *f)
{
    __atomic_fetch_sub(&f->users, 1, __ATOMIC_SEQ_CST);
}

/* /dev/null or /dev/zero? */
static inline int file_is_device(const struct cn_file *f)
{
    u32 kind = __atomic_load_n(&f->kind, __ATOMIC_RELAXED);

    return kind == CN_FILE_NULL || kind == CN_FILE_ZERO;
}

extern _Atomic u32 files_watched;

#endif

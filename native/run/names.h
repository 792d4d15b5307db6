/*
 * Answers that were given before: what stat(2) said of a name or fstat(2) of a description, that
 * access(2) allowed something, and that a name is missing.
 *
 * An answer is kept with everything it came from: the path, root and working directory, credentials,
 * and the generation, a count of every change that any answer could depend on (names, mounts,
 * attributes), which Python raises before a change is over. Only answers from file systems whose
 * every change is known here (SuperBlock.stable) are kept.
 */
#ifndef CORDON_NAMES_H
#define CORDON_NAMES_H

#include "run.h"

/* cdef begin */
/* Where paths start; the numbers name a dentry and a mount and are never used again. */
struct cn_fs {
    uint64_t root[2], cwd[2];
};
/* Something changed. Any thread. */
void cn_names_changed(void);
/* The call that t is in found its name missing (or came upon another error, which its result will
 * be), or access granted, in a file system whose changes are known. t may be NULL. */
void cn_names_keep(struct cn_task *t);
/* Writes a struct stat to the guest, 0 or -EFAULT. Times in ns. steady: this is the answer until the
 * generation changes. */
int cn_names_stat(struct cn_task *t, uint64_t addr, int steady, uint64_t dev, uint64_t ino,
                  uint64_t nlink, uint32_t mode, uint32_t uid, uint32_t gid, uint64_t rdev,
                  int64_t size, int64_t blksize, int64_t blocks, int64_t atime, int64_t mtime,
                  int64_t ctime);
/* cdef end */

#include "fast.h"

enum { NAMES_PATH = 104 }; /* longer paths are not kept */

/* What an answer depends on. */
struct name_key {
    u64 generation, creds;
    u64 place[4]; /* root and working directory; the serial numbers of descriptions instead */
    u32 how, len, hash;
    char path[NAMES_PATH];
};

u64 names_generation(void);
int names_same(const struct name_key *a, const struct name_key *b);
/* The key of what the call that t is in opens, if that is known; else it is left as it is. */
void names_opened(const struct cn_task *t, struct name_key *key);

enum cn_fast fast_fstat(struct cn_task *t);
enum cn_fast fast_stat(struct cn_task *t);
enum cn_fast fast_lstat(struct cn_task *t);
enum cn_fast fast_newfstatat(struct cn_task *t);
enum cn_fast fast_access(struct cn_task *t);
enum cn_fast fast_faccessat(struct cn_task *t);
enum cn_fast fast_open(struct cn_task *t);
enum cn_fast fast_openat(struct cn_task *t);

/* The call that was asked Python about is over, with this result if has_result. */
void names_answered(struct cn_task *t, int has_result, i64 result);
void names_forget(struct cn_task *t); /* t is being freed */

#endif

/* The memory of answers by path. See names.h. */
#define _GNU_SOURCE
#include "names.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "../mm/mm.h"
#include "fdt.h"

#define SLOTS  4096U
#define LOCKS  64U
#define SECOND 1000000000L

/* name_key.how. ACCESS + mode: with the real ids; OPEN + flags: to open it for reading. */
enum { FOLLOW = 0, NOFOLLOW = 1, FILE = 2, ACCESS = 8 };
#define OPEN (1U << 31)

#define OPEN_FLAGS /* the last one is O_LARGEFILE */                                              \
    (O_ACCMODE | O_APPEND | O_CLOEXEC | O_DIRECTORY | O_NOCTTY | O_NOFOLLOW | O_NONBLOCK | 0100000)

struct answer {
    struct name_key key; /* generation 0: none */
    i64 result; /* 0: st holds it; or -errno */
    struct stat st;
};

struct cn_ask {
    struct name_key key;
    u32 open; /* the answer will be kept */
    u32 keep; /* Python says that it may be */
    u32 opening; /* OPEN + flags: the call opens the name; 0: it does not */
};

static struct answer answers[SLOTS];
static pthread_mutex_t locks[LOCKS] = {[0 ... LOCKS - 1] = PTHREAD_MUTEX_INITIALIZER};
static _Atomic u64 generation = 1;

void cn_names_changed(void)
{
    atomic_fetch_add(&generation, 1);
}

static u64 mix(u64 h, u64 v)
{
    h = (h ^ v) * 0x9e3779b97f4a7c15UL;
    return h ^ h >> 29;
}

u64 names_generation(void)
{
    return atomic_load(&generation);
}

static void set_hash(struct name_key *k)
{
    u64 h = mix(k->how + 1, k->creds), word;
    u32 i = 0;

    for (u32 j = 0; j < 4; j++)
        h = mix(h, k->place[j]);
    for (; i + 8 <= k->len; i += 8) {
        memcpy(&word, k->path + i, 8);
        h = mix(h, word);
    }
    word = 0;
    memcpy(&word, k->path + i, k->len - i);
    h = mix(h, word);
    k->hash = (u32)(h >> 32 ^ h);
}

int names_same(const struct name_key *a, const struct name_key *b)
{
    return a->hash == b->hash && a->generation == b->generation && a->creds == b->creds && a->how == b->how &&
           a->len == b->len && !memcmp(a->place, b->place, sizeof(a->place)) &&
           !memcmp(a->path, b->path, a->len);
}

static void store(const struct cn_ask *ask, i64 result, const struct stat *st)
{
    struct answer *a = &answers[ask->key.hash % SLOTS];
    pthread_mutex_t *lock = &locks[ask->key.hash % LOCKS];

    if (ask->key.generation != atomic_load(&generation))
        return;
    pthread_mutex_lock(lock);
    a->key = ask->key;
    a->result = result;
    if (st)
        a->st = *st;
    pthread_mutex_unlock(lock);
}

/* An empty question in t->ask; NULL when out of memory. */
static struct cn_ask *new_question(struct cn_task *t, u32 how)
{
    struct cn_ask *ask = t->ask;

    if (CN_UNLIKELY(!ask)) {
        ask = t->ask = calloc(1, sizeof(*ask));
        if (!ask)
            return NULL;
    }
    ask->open = ask->opening = 0;
    /* Before all else: what happens later must not pass for what was so at this generation. */
    ask->key.generation = atomic_load(&generation);
    ask->key.how = how;
    return ask;
}

/* What the description behind fd is, as a question. 0: not one that is known here. */
static int file_question(struct cn_task *t, i32 fd)
{
    struct cn_ask *ask = new_question(t, FILE);
    struct cn_file *f = ask ? file_get(t->fds, fd) : NULL;

    if (!f)
        return 0;
    ask->key.place[0] = f->serial;
    file_put(f);
    memset(ask->key.place + 1, 0, 3 * sizeof(u64));
    ask->key.creds = 0;
    ask->key.len = 0;
    set_hash(&ask->key);
    return 1;
}

/* Where a relative path starts. 0: nowhere that is known here. */
static int start_of(struct cn_task *t, i32 dirfd, u64 place[2])
{
    struct cn_file *f;
    int ok;

    if (dirfd == AT_FDCWD) {
        memcpy(place, t->fs->cwd, sizeof(t->fs->cwd));
        return 1;
    }
    f = file_get(t->fds, dirfd);
    if (!f)
        return 0;
    ok = atomic_load_explicit(&f->kind, memory_order_relaxed) == CN_FILE_PLACE;
    place[0] = f->serial;
    place[1] = UINT64_MAX; /* no mount's number */
    file_put(f);
    return ok;
}

/* The path at addr relative to dirfd, as a question in t->ask. 0: not one of ours. */
static int question(struct cn_task *t, i32 dirfd, u64 addr, u32 how)
{
    struct cn_ask *ask = new_question(t, how);
    i64 len;

    if (!ask || !t->fs)
        return 0;
    len = cn_mm_copy_str(cn_task_mm(t), addr, ask->key.path, NAMES_PATH);
    if (len <= 0)
        return 0;
    ask->key.len = (u32)len;
    ask->key.creds = t->creds;
    memcpy(ask->key.place, t->fs->root, sizeof(t->fs->root));
    if (ask->key.path[0] == '/')
        memset(ask->key.place + 2, 0, sizeof(t->fs->cwd));
    else if (!start_of(t, dirfd, ask->key.place + 2))
        return 0;
    set_hash(&ask->key);
    return 1;
}

/* 1: answered, *result and (for 0) *st tell. */
static int known(struct cn_ask *ask, i64 *result, struct stat *st)
{
    struct answer *a = &answers[ask->key.hash % SLOTS];
    pthread_mutex_t *lock = &locks[ask->key.hash % LOCKS];
    int found;

    pthread_mutex_lock(lock);
    found = names_same(&a->key, &ask->key);
    if (found) {
        *result = a->result;
        if (!a->result)
            *st = a->st;
    }
    pthread_mutex_unlock(lock);
    if (!found) {
        ask->open = 1;
        ask->keep = 0;
    }
    return found;
}

/* The struct stat that answers t->ask, to buf. */
static enum cn_fast tell(struct cn_task *t, u64 buf)
{
    struct stat st;
    i64 result;

    if (!known(t->ask, &result, &st))
        return CN_UPCALL;
    if (!result && cn_mm_copy_out(cn_task_mm(t), buf, &st, sizeof(st)) < 0)
        result = -EFAULT;
    t->regs.rax = (u64)result;
    return CN_DONE;
}

static enum cn_fast look(struct cn_task *t, i32 dirfd, u64 path, u64 buf, u32 how)
{
    return question(t, dirfd, path, how) ? tell(t, buf) : CN_UPCALL;
}

enum cn_fast fast_fstat(struct cn_task *t)
{
    return file_question(t, (i32)t->regs.rdi) ? tell(t, t->regs.rsi) : CN_UPCALL;
}

enum cn_fast fast_stat(struct cn_task *t)
{
    return look(t, AT_FDCWD, t->regs.rdi, t->regs.rsi, FOLLOW);
}

enum cn_fast fast_lstat(struct cn_task *t)
{
    return look(t, AT_FDCWD, t->regs.rdi, t->regs.rsi, NOFOLLOW);
}

enum cn_fast fast_newfstatat(struct cn_task *t)
{
    u32 flags = (u32)t->regs.r10;
    char first[1];

    if (flags == AT_EMPTY_PATH && (i32)t->regs.rdi >= 0 &&
        cn_mm_copy_in(cn_task_mm(t), t->regs.rsi, first, 1) == 0 && !first[0])
        return file_question(t, (i32)t->regs.rdi) ? tell(t, t->regs.rdx) : CN_UPCALL;
    if (flags & ~(u32)(AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT))
        return CN_UPCALL;
    return look(t, (i32)t->regs.rdi, t->regs.rsi, t->regs.rdx,
                flags & AT_SYMLINK_NOFOLLOW ? NOFOLLOW : FOLLOW);
}

static enum cn_fast may_access(struct cn_task *t, i32 dirfd, u64 path, u32 mode)
{
    struct stat st;
    i64 result;

    if (mode > 7 || !question(t, dirfd, path, ACCESS + mode) || !known(t->ask, &result, &st))
        return CN_UPCALL;
    t->regs.rax = (u64)result;
    return CN_DONE;
}

enum cn_fast fast_access(struct cn_task *t)
{
    return may_access(t, AT_FDCWD, t->regs.rdi, (u32)t->regs.rsi);
}

enum cn_fast fast_faccessat(struct cn_task *t)
{
    return may_access(t, (i32)t->regs.rdi, t->regs.rsi, (u32)t->regs.rdx);
}

/* The key of a description that the question's call opens. */
static void open_key(const struct cn_ask *ask, struct name_key *key)
{
    *key = ask->key;
    key->how = ask->opening;
    set_hash(key);
}

/* A name that is known to be missing, or of which there is a spare description (reopen.h). */
static enum cn_fast open_known(struct cn_task *t, i32 dirfd, u64 path, u32 flags)
{
    struct name_key key;
    struct stat st;
    i64 result = 0;

    if (flags & ~(u32)OPEN_FLAGS ||
        !question(t, dirfd, path, flags & O_NOFOLLOW ? NOFOLLOW : FOLLOW))
        return CN_UPCALL;
    if (t->fds && (flags & O_ACCMODE) == O_RDONLY) {
        t->ask->opening = OPEN | (flags & ~(u32)O_CLOEXEC);
        open_key(t->ask, &key);
        result = fdt_reopen(t->fds, &key, t->nofile, (flags & O_CLOEXEC) != 0);
        if (result >= 0)
            goto out;
    }
    if (!known(t->ask, &result, &st) || !result)
        return CN_UPCALL;
out:
    t->regs.rax = (u64)result;
    return CN_DONE;
}

enum cn_fast fast_open(struct cn_task *t)
{
    return open_known(t, AT_FDCWD, t->regs.rdi, (u32)t->regs.rsi);
}

enum cn_fast fast_openat(struct cn_task *t)
{
    return open_known(t, (i32)t->regs.rdi, t->regs.rsi, (u32)t->regs.rdx);
}

void names_opened(const struct cn_task *t, struct name_key *key)
{
    if (t->ask && t->ask->opening)
        open_key(t->ask, key);
}

void cn_names_keep(struct cn_task *t)
{
    if (t && t->ask)
        t->ask->keep = 1;
}

void names_answered(struct cn_task *t, int has_result, i64 result)
{
    struct cn_ask *ask = t->ask;

    if (!ask)
        return;
    ask->opening = 0;
    if (!ask->open)
        return;
    if (has_result && ask->keep && (result == -ENOENT || (!result && ask->key.how >= ACCESS)))
        store(ask, result, NULL);
    ask->open = 0;
}

void names_forget(struct cn_task *t)
{
    free(t->ask);
    t->ask = NULL;
}

static struct timespec time_of(i64 ns)
{
    struct timespec ts = {ns / SECOND, ns % SECOND};

    if (ts.tv_nsec < 0) {
        ts.tv_sec--;
        ts.tv_nsec += SECOND;
    }
    return ts;
}

int cn_names_stat(struct cn_task *t, uint64_t addr, int steady, uint64_t dev, uint64_t ino,
                  uint64_t nlink, uint32_t mode, uint32_t uid, uint32_t gid, uint64_t rdev,
                  int64_t size, int64_t blksize, int64_t blocks, int64_t atime, int64_t mtime,
                  int64_t ctime)
{
    struct stat st = {
        .st_dev = dev,
        .st_ino = ino,
        .st_nlink = nlink,
        .st_mode = mode,
        .st_uid = uid,
        .st_gid = gid,
        .st_rdev = rdev,
        .st_size = size,
        .st_blksize = blksize,
        .st_blocks = blocks,
        .st_atim = time_of(atime),
        .st_mtim = time_of(mtime),
        .st_ctim = time_of(ctime),
    };

    if (cn_mm_copy_out(cn_task_mm(t), addr, &st, sizeof(st)) < 0)
        return -EFAULT;
    if (steady && t->ask && t->ask->open) {
        store(t->ask, 0, &st);
        t->ask->open = 0;
    }
    return 0;
}

/* The memory file: allocation, reference counts, accounting. */
#define _GNU_SOURCE
#include "memfile.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <unistd.h>

#include "guard.h"
#include "rtree.h"

#define MAX_SIZE     (1UL << 42)
#define MIN_SIZE     (1UL << 28)
#define HUGE_PAGES   512UL        /* pages of a 2 MiB page */
#define DIRTY_EXTENT 256UL        /* a longer free extent is punched at once */
#define DIRTY_TOTAL  (4096UL * 4) /* pages that free extents may keep unpunched */
#define RESERVE_PART 32UL         /* of the limit, that files leave to programs */
#define RESERVE_MAX  (16UL << 20)

u8 *cn_memfile_base;
int cn_memfile_fd = -1;
u32 *memfile_counts;

/* A free extent. */
struct extent {
    struct rnode n; /* in pages; val is the length */
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* counts and both trees */
static struct rtree clean;                               /* free, all zeros */
static struct rtree dirty; /* free, contents of former owners: only for those who overwrite them */
static _Atomic u64 dirty_pages;
static u64 dirty_max;
static _Atomic u64 limit_bytes;
static u64 file_bytes; /* what the mapping covers */
static _Atomic int denied;
static _Atomic u64 peak;

static struct extent *extent_new(u64 start, u64 end)
{
    struct extent *e = malloc(sizeof(*e));

    if (e) {
        e->n.start = start;
        e->n.end = end;
        e->n.val = end - start;
    }
    return e;
}

/* The greatest size up to want that this process may give a file. */
static u64 size_allowed(u64 want)
{
    struct rlimit rl;

    if (getrlimit(RLIMIT_FSIZE, &rl) < 0 || rl.rlim_cur == RLIM_INFINITY)
        return want;
    rl.rlim_cur = rl.rlim_max;
    setrlimit(RLIMIT_FSIZE, &rl);
    getrlimit(RLIMIT_FSIZE, &rl);
    return rl.rlim_cur < want ? rl.rlim_cur & CN_PAGE_MASK : want;
}

int cn_memfile_start(int fd, u64 limit)
{
    u64 size = size_allowed(MAX_SIZE);
    struct extent *all;
    void *base, *counts;
    int rc = guard_install();

    if (rc < 0)
        return rc;
    if (cn_memfile_base)
        return -EBUSY;
    for (;; size = size / 2 & CN_PAGE_MASK) {
        if (size < MIN_SIZE)
            return -ENOMEM;
        if (ftruncate(fd, (off_t)size) < 0) {
            if (errno == EINVAL || errno == EFBIG)
                continue;
            return -errno;
        }
        base = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd, 0);
        if (base == MAP_FAILED)
            continue;
        counts = mmap(NULL, (size >> CN_PAGE_SHIFT) * sizeof(u32), PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (counts != MAP_FAILED)
            break;
        munmap(base, size);
    }
    all = extent_new(1, size >> CN_PAGE_SHIFT);
    if (!all)
        return -ENOMEM;
    rt_insert(&clean, &all->n);
    cn_memfile_base = base;
    memfile_counts = counts;
    cn_memfile_fd = fd;
    file_bytes = size;
    limit_bytes = limit & CN_PAGE_MASK;
    dirty_max = limit && limit >> (CN_PAGE_SHIFT + 4) < DIRTY_TOTAL ? limit >> (CN_PAGE_SHIFT + 4)
                                                                    : DIRTY_TOTAL;
    return 0;
}

u64 cn_memfile_limit(void)
{
    struct statfs fs;

    if (cn_memfile_fd >= 0 && fstatfs(cn_memfile_fd, &fs) == 0)
        limit_bytes = (u64)fs.f_blocks * (u64)fs.f_bsize;
    return limit_bytes;
}

static u64 blocks_used(void)
{
    struct stat st;
    u64 used = 0, seen = atomic_load(&peak);

    if (cn_memfile_fd >= 0 && fstat(cn_memfile_fd, &st) == 0)
        used = (u64)st.st_blocks * 512;
    while (used > seen && !atomic_compare_exchange_weak(&peak, &seen, used))
        ;
    return used;
}

u64 cn_memfile_used(void)
{
    u64 used = blocks_used(), idle = atomic_load(&dirty_pages) << CN_PAGE_SHIFT;

    return used > idle ? used - idle : 0;
}

u64 cn_memfile_peak(void)
{
    blocks_used();
    return atomic_load(&peak);
}

/* Takes [page, page + n) out of a free extent that holds it. Lock held. */
static int carve(struct rtree *t, struct extent *e, u64 page, u64 n)
{
    u64 end = page + n;

    if (e->n.start == page && e->n.end == end) {
        rt_erase(t, &e->n);
        free(e);
        return 0;
    }
    if (e->n.start < page && end < e->n.end) {
        struct extent *upper = extent_new(end, e->n.end);
        if (!upper)
            return -ENOMEM;
        e->n.end = page;
        rt_set_val(&e->n, page - e->n.start);
        rt_insert(t, &upper->n);
        return 0;
    }
    if (e->n.start == page)
        e->n.start = end;
    else
        e->n.end = page;
    rt_set_val(&e->n, e->n.end - e->n.start);
    return 0;
}

/* Lock held. */
static i64 take(struct rtree *t, u64 n, u64 near, u64 like)
{
    struct extent *e = near ? (struct extent *)rt_find(t, near) : NULL;
    u64 page = near;

    if (!e || e->n.start > near || e->n.end < near + n) {
        u64 slack = n >= HUGE_PAGES ? HUGE_PAGES - 1 : 0;
        e = (struct extent *)rt_lowest(t, n + slack);
        if (!e)
            return -ENOMEM;
        page = e->n.start;
        if (slack)
            page += (like - page) & (HUGE_PAGES - 1);
    }
    if (carve(t, e, page, n) < 0)
        return -ENOMEM;
    for (u64 i = 0; i < n; i++)
        memfile_counts[page + i] = 1;
    return (i64)page;
}

/* Lock held. Out of memory, the extent is lost: address space of the file, not memory. */
static void give(struct rtree *t, u64 page, u64 n)
{
    struct extent *right = (struct extent *)rt_find(t, page);
    struct extent *left = (struct extent *)(right ? rt_prev(&right->n) : rt_last(t));
    u64 end = page + n;

    if (left && left->n.end != page)
        left = NULL;
    if (right && right->n.start == end) {
        end = right->n.end;
        if (left) {
            rt_erase(t, &right->n);
            free(right);
        } else {
            right->n.start = page;
            rt_set_val(&right->n, end - page);
            return;
        }
    }
    if (left) {
        left->n.end = end;
        rt_set_val(&left->n, end - left->n.start);
        return;
    }
    left = extent_new(page, end);
    if (left)
        rt_insert(t, &left->n);
}

i64 memfile_alloc(u64 n, u64 near, u64 like)
{
    i64 page;

    if (n > MAX_SIZE >> CN_PAGE_SHIFT)
        return -ENOMEM;
    pthread_mutex_lock(&lock);
    page = take(&clean, n, near, like);
    pthread_mutex_unlock(&lock);
    return page;
}

/* Free pages with contents. Lock held. */
static i64 take_dirty(u64 n, u64 near)
{
    i64 page = take(&dirty, n, near, 0);

    if (page >= 0)
        atomic_fetch_sub(&dirty_pages, n);
    return page;
}

/*
 * Through the sentry's mapping, not by pwrite: pages that go round are mapped already, and then it
 * is four times as fast (17 to 90 us a MiB, measured, against 250). An extent may have holes, so
 * there must be room: a fault without any would end the sandbox.
 */
i64 memfile_alloc_used(u64 n, u64 near)
{
    i64 page;

    if (n > DIRTY_EXTENT || !memfile_room(n))
        return -ENOMEM;
    pthread_mutex_lock(&lock);
    page = take_dirty(n, near);
    pthread_mutex_unlock(&lock);
    if (page >= 0 && guard_zero(memfile_ptr((u64)page), n << CN_PAGE_SHIFT)) {
        memfile_unref((u64)page, n);
        return -ENOMEM;
    }
    return page;
}

i64 memfile_alloc_copy(u64 n, u64 near, const void *src, u64 bytes)
{
    int used = memfile_room(n);
    i64 page, rc;

    pthread_mutex_lock(&lock);
    page = take_dirty(n, near);
    used = used && page >= 0;
    if (page < 0)
        page = take(&clean, n, near, 0);
    pthread_mutex_unlock(&lock);
    if (page < 0 || (used && !guard_copy(memfile_ptr((u64)page), src, bytes)))
        return page;
    rc = memfile_write((u64)page, src, bytes);
    if (rc == (i64)bytes)
        return page;
    memfile_unref((u64)page, n);
    return rc < 0 ? rc : -EFAULT;
}

void memfile_ref(u64 page, u64 n)
{
    pthread_mutex_lock(&lock);
    for (u64 i = 0; i < n; i++)
        memfile_counts[page + i]++;
    pthread_mutex_unlock(&lock);
}

void memfile_punch(u64 page, u64 n)
{
    fallocate(cn_memfile_fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
              (off_t)(page << CN_PAGE_SHIFT), (off_t)(n << CN_PAGE_SHIFT));
}

/* Pages nobody refers to become free. Without the lock. */
static void release(u64 page, u64 n)
{
    int keep;

    pthread_mutex_lock(&lock);
    keep = n <= DIRTY_EXTENT && atomic_load(&dirty_pages) + n <= dirty_max;
    if (keep) {
        give(&dirty, page, n);
        atomic_fetch_add(&dirty_pages, n);
    }
    pthread_mutex_unlock(&lock);
    if (keep)
        return;
    memfile_punch(page, n);
    pthread_mutex_lock(&lock);
    give(&clean, page, n);
    pthread_mutex_unlock(&lock);
}

void memfile_unref(u64 page, u64 n)
{
    struct {
        u64 page, n;
    } gone[16];
    u64 i = 0, run;
    u32 k;

    while (i < n) {
        pthread_mutex_lock(&lock);
        for (k = 0, run = 0; i < n && k < 16; i++) {
            if (--memfile_counts[page + i] == 0) {
                run++;
                continue;
            }
            if (run) {
                gone[k].page = page + i - run;
                gone[k++].n = run;
            }
            run = 0;
        }
        if (run) { /* the loop ended with i == n, so there is room: k grows only on a page that
                      stays */
            gone[k].page = page + i - run;
            gone[k++].n = run;
        }
        pthread_mutex_unlock(&lock);
        while (k) {
            k--;
            release(gone[k].page, gone[k].n);
        }
    }
}

/* Gives the memory of free pages back: when it gets tight. */
static void trim(void)
{
    for (;;) {
        struct extent *e;
        u64 page, n;

        pthread_mutex_lock(&lock);
        e = (struct extent *)rt_first(&dirty);
        if (e) {
            page = e->n.start;
            n = e->n.end - page;
            rt_erase(&dirty, &e->n);
            atomic_fetch_sub(&dirty_pages, n);
        }
        pthread_mutex_unlock(&lock);
        if (!e)
            return;
        free(e);
        memfile_punch(page, n);
        pthread_mutex_lock(&lock);
        give(&clean, page, n);
        pthread_mutex_unlock(&lock);
    }
}

/* Room for so many bytes, if need be after giving back what is only kept. */
static int room(u64 bytes)
{
    if (!limit_bytes || blocks_used() + bytes <= limit_bytes)
        return 1;
    trim();
    return blocks_used() + bytes <= limit_bytes;
}

int cn_memfile_full(void)
{
    return !room(16 * CN_PAGE_SIZE);
}

int cn_memfile_denied(void)
{
    return atomic_load_explicit(&denied, memory_order_relaxed);
}

int memfile_relieve(void)
{
    if (limit_bytes && room(CN_PAGE_SIZE))
        return 1;
    atomic_store(&denied, 1);
    return 0;
}

int memfile_room(u64 n)
{
    u64 reserve = limit_bytes / RESERVE_PART;

    return room((n << CN_PAGE_SHIFT) + (reserve < RESERVE_MAX ? reserve : RESERVE_MAX));
}

int memfile_covers(const void *p)
{
    return cn_memfile_base && (u64)((const u8 *)p - cn_memfile_base) < file_bytes;
}

i64 memfile_write(u64 page, const void *src, u64 bytes)
{
    u64 done = 0;
    int trimmed = 0;

    while (done < bytes) {
        ssize_t n = pwrite(cn_memfile_fd, (const u8 *)src + done, bytes - done,
                           (off_t)((page << CN_PAGE_SHIFT) + done));
        if (n > 0) {
            done += (u64)n;
        } else if (n < 0 && errno == EINTR) {
            continue;
        } else if (n < 0 && errno == ENOSPC && !trimmed) {
            trim();
            trimmed = 1;
        } else {
            return done ? (i64)done : n < 0 ? -errno : -EIO;
        }
    }
    return (i64)done;
}

int memfile_has_data(u64 page, u64 n)
{
    off_t from = (off_t)(page << CN_PAGE_SHIFT);
    off_t at = lseek(cn_memfile_fd, from, SEEK_DATA);

    return at < 0 ? errno != ENXIO : at < from + (off_t)(n << CN_PAGE_SHIFT);
}

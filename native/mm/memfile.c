/* The memory file: allocation, reference counts, accounting. */
#define _GNU_SOURCE
#include "memfile.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

struct range {
    u64 page, n;
};

u8 *cn_memfile_base;
int cn_memfile_fd = -1;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static u32 *refs;
static u64 npages, limit_bytes;
static struct range *free_list; /* sorted by page, never adjacent */
static u64 nfree, cfree, cursor;
static _Atomic u64 peak;

int cn_memfile_start(int fd, u64 limit)
{
    u64 size = 1UL << 42;

    if (cn_memfile_base)
        return -EBUSY;
    while (ftruncate(fd, (off_t)size) < 0) {
        if (size <= 1UL << 30)
            return -errno;
        size >>= 1;
    }
    cn_memfile_base = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd, 0);
    if (cn_memfile_base == MAP_FAILED) {
        cn_memfile_base = NULL;
        return -errno;
    }
    npages = size >> CN_PAGE_SHIFT;
    refs = mmap(NULL, npages * sizeof(u32), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    free_list = malloc(64 * sizeof(*free_list));
    if (refs == MAP_FAILED || !free_list)
        return -ENOMEM;
    cfree = 64;
    nfree = 1;
    free_list[0] = (struct range){1, npages - 1}; /* page 0 stays unused: a null reference */
    cn_memfile_fd = fd;
    limit_bytes = limit;
    return 0;
}

u64 cn_memfile_used(void)
{
    struct stat st;
    u64 used = 0;

    if (cn_memfile_fd >= 0 && !fstat(cn_memfile_fd, &st))
        used = (u64)st.st_blocks * 512;
    u64 seen = atomic_load(&peak);
    while (used > seen && !atomic_compare_exchange_weak(&peak, &seen, used))
        ;
    return used;
}

u64 cn_memfile_peak(void)
{
    cn_memfile_used();
    return atomic_load(&peak);
}

int cn_memfile_full(void)
{
    return limit_bytes && cn_memfile_used() + 16 * CN_PAGE_SIZE > limit_bytes;
}

static int grow_free_list(void)
{
    if (nfree < cfree)
        return 0;
    struct range *bigger = realloc(free_list, 2 * cfree * sizeof(*bigger));
    if (!bigger)
        return -ENOMEM;
    free_list = bigger;
    cfree *= 2;
    return 0;
}

i64 memfile_alloc(u64 n)
{
    i64 page = -ENOMEM;

    pthread_mutex_lock(&lock);
    for (u64 k = 0; k < nfree; k++) {
        u64 i = cursor + k < nfree ? cursor + k : cursor + k - nfree;
        struct range *r = &free_list[i];
        if (r->n < n)
            continue;
        page = (i64)r->page;
        r->page += n;
        r->n -= n;
        cursor = i;
        if (!r->n) {
            memmove(r, r + 1, (nfree - i - 1) * sizeof(*r));
            nfree--;
            cursor = cursor < nfree ? cursor : 0;
        }
        break;
    }
    if (page >= 0)
        for (u64 i = 0; i < n; i++)
            refs[(u64)page + i] = 1;
    pthread_mutex_unlock(&lock);
    return page;
}

/* Under the lock. */
static void give_back(u64 page, u64 n)
{
    u64 lo = 0, hi = nfree;

    while (lo < hi) {
        u64 mid = (lo + hi) / 2;
        if (free_list[mid].page < page)
            lo = mid + 1;
        else
            hi = mid;
    }
    int left = lo > 0 && free_list[lo - 1].page + free_list[lo - 1].n == page;
    int right = lo < nfree && page + n == free_list[lo].page;
    if (left && right) {
        free_list[lo - 1].n += n + free_list[lo].n;
        memmove(&free_list[lo], &free_list[lo + 1], (nfree - lo - 1) * sizeof(*free_list));
        nfree--;
    } else if (left) {
        free_list[lo - 1].n += n;
    } else if (right) {
        free_list[lo].page = page;
        free_list[lo].n += n;
    } else {
        if (grow_free_list() < 0)
            return; /* the range leaks: address space of the file, not memory */
        memmove(&free_list[lo + 1], &free_list[lo], (nfree - lo) * sizeof(*free_list));
        free_list[lo] = (struct range){page, n};
        nfree++;
    }
    if (cursor >= nfree)
        cursor = 0;
}

void memfile_punch(u64 page, u64 n)
{
    fallocate(cn_memfile_fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)(page << CN_PAGE_SHIFT),
              (off_t)(n << CN_PAGE_SHIFT));
}

void memfile_ref(u64 page, u64 n)
{
    pthread_mutex_lock(&lock);
    for (u64 i = 0; i < n; i++)
        refs[page + i]++;
    pthread_mutex_unlock(&lock);
}

void memfile_unref(u64 page, u64 n)
{
    u64 run = 0;

    pthread_mutex_lock(&lock);
    for (u64 i = 0; i <= n; i++) {
        if (i < n && --refs[page + i] == 0) {
            run++;
            continue;
        }
        if (run) {
            memfile_punch(page + i - run, run);
            give_back(page + i - run, run);
            run = 0;
        }
    }
    pthread_mutex_unlock(&lock);
}

u32 memfile_refs(u64 page)
{
    return __atomic_load_n(&refs[page], __ATOMIC_RELAXED);
}

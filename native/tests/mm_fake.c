/* See mm_fake.h. */
#define _GNU_SOURCE
#include "mm_fake.h"

#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "../mm/memfile.h"

struct cn_as {
    u8 *base;
    struct cn_hostop *queue;
    u32 n, cap;
};

u64 fake_ops_made;
int fake_guess;

static int memfd;
static int handles[4096]; /* 0 is the memory file */
static int nhandles = 1;
static sigjmp_buf guest_fault;
static volatile sig_atomic_t in_guest;

void check_failed(const char *file, int line, const char *what)
{
    fprintf(stderr, "%s:%d: failed: %s\n", file, line, what);
    abort();
}

static int fd_install(struct cn_platform *p, int fd)
{
    (void)p;
    CHECK(nhandles < 4096);
    handles[nhandles] = dup(fd);
    return nhandles++;
}

static void fd_remove(struct cn_platform *p, int handle)
{
    (void)p;
    (void)handle; /* operations already queued with it are still to be carried out */
}

static int as_new(struct cn_platform *p, struct cn_as **out)
{
    struct cn_as *as = calloc(1, sizeof(*as));
    (void)p;
    as->base =
        mmap(NULL, ARENA_SIZE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    CHECK(as->base != MAP_FAILED);
    *out = as;
    return 0;
}

static void as_free(struct cn_as *as)
{
    munmap(as->base, ARENA_SIZE);
    free(as->queue);
    free(as);
}

static int as_queue(struct cn_as *as, const struct cn_hostop *op)
{
    CHECK(op->len && !((op->addr | op->len | op->off) & ~CN_PAGE_MASK));
    CHECK(op->addr >= ARENA && op->addr + op->len <= ARENA_END);
    if (as->n == as->cap) {
        as->cap = as->cap ? 2 * as->cap : 16;
        as->queue = realloc(as->queue, as->cap * sizeof(*as->queue));
        CHECK(as->queue);
    }
    as->queue[as->n++] = *op;
    return 0;
}

void fake_flush(struct cn_as *as)
{
    for (u32 i = 0; i < as->n; i++) {
        const struct cn_hostop *op = &as->queue[i];
        u8 *at = as->base + (op->addr - ARENA);
        void *got;
        fake_ops_made++;
        switch (op->kind) {
        case CN_OP_MAP:
            got = mmap(at, op->len, (int)op->prot,
                       MAP_FIXED | (op->shared ? MAP_SHARED : MAP_PRIVATE),
                       op->fd ? handles[op->fd] : memfd, (off_t)op->off);
            CHECK(got == at);
            break;
        case CN_OP_UNMAP: /* stays reserved */
            got = mmap(at, op->len, PROT_NONE,
                       MAP_FIXED | MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
            CHECK(got == at);
            break;
        case CN_OP_PROTECT:
            CHECK(mprotect(at, op->len, (int)op->prot) == 0);
            break;
        }
    }
    as->n = 0;
}

static int as_sync(struct cn_as *as)
{
    fake_flush(as);
    return 0;
}

static const struct cn_platform_ops ops = {
    .name = "fake",
    .task_size = ARENA_END,
    .fd_install = fd_install,
    .fd_remove = fd_remove,
    .as_new = as_new,
    .as_free = as_free,
    .as_queue = as_queue,
    .as_sync = as_sync,
};

const struct cn_platform_ops *cn_ops = &ops;
struct cn_platform *cn_plat;

static void on_fault(int sig, siginfo_t *info, void *context)
{
    (void)info;
    (void)context;
    if (in_guest)
        siglongjmp(guest_fault, sig);
    signal(sig, SIG_DFL);
}

void fake_start(void)
{
    struct sigaction sa;

    memset(&sa, 0, sizeof(sa));
    sa.sa_sigaction = on_fault;
    sa.sa_flags = SA_SIGINFO | SA_NODEFER;
    sigaction(SIGSEGV, &sa, NULL);
    sigaction(SIGBUS, &sa, NULL);
    memfd = memfd_create("memory", MFD_CLOEXEC);
    CHECK(memfd >= 0);
    CHECK(cn_memfile_start(memfd, 0) == 0);
}

/* One access that does not cross a page. */
static int guest_access(struct cn_mm *mm, u64 addr, u8 *buf, u64 n, int write)
{
    static const u32 guesses[] = {CN_ACCESS_READ | CN_ACCESS_GUESS, CN_ACCESS_WRITE,
                                  CN_ACCESS_WRITE};
    struct cn_as *as = cn_mm_as(mm);
    volatile int tries = 0;
    volatile u64 ops_before = 0;
    volatile int level = 0;

    for (;;) {
        volatile u8 *at = as->base + (addr - ARENA);
        int sig, rc;
        fake_flush(as);
        ops_before = fake_ops_made;
        sig = sigsetjmp(guest_fault, 0);
        if (!sig) {
            in_guest = 1;
            for (u64 i = 0; i < n; i++) {
                if (write)
                    at[i] = buf[i];
                else
                    buf[i] = at[i];
            }
            in_guest = 0;
            return 0;
        }
        in_guest = 0;
        if (sig == SIGBUS)
            return -ENXIO;
        rc = cn_mm_fault(mm, addr,
                         fake_guess ? guesses[level]
                         : write    ? CN_ACCESS_WRITE
                                    : CN_ACCESS_READ);
        if (rc < 0)
            return rc;
        fake_flush(as);
        if (ops_before == fake_ops_made &&
            level < 2) /* nothing was remapped: the guess was wrong */
            level++;
        tries++;
        if (tries > 5)
            fprintf(stderr, "fault at %lx %s: served %d times in vain\n", addr,
                    write ? "write" : "read", tries);
        CHECK(tries <= 5);
    }
}

static int guest_loop(struct cn_mm *mm, u64 addr, u8 *buf, u64 n, int write)
{
    while (n) {
        u64 now = CN_PAGE_SIZE - (addr & ~CN_PAGE_MASK);
        int rc;
        now = now < n ? now : n;
        rc = guest_access(mm, addr, buf, now, write);
        if (rc < 0)
            return rc;
        addr += now;
        buf += now;
        n -= now;
    }
    return 0;
}

int guest_read(struct cn_mm *mm, u64 addr, void *buf, u64 n)
{
    return guest_loop(mm, addr, buf, n, 0);
}

int guest_write(struct cn_mm *mm, u64 addr, const void *buf, u64 n)
{
    return guest_loop(mm, addr, (u8 *)buf, n, 1);
}

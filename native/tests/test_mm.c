/* The memory manager, call by call; and (test_mm bench) what its hot paths cost. */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "../mm/guard.h"
#include "../mm/memfile.h"
#include "mm_fake.h"

#define P       CN_PAGE_SIZE
#define RW      (PROT_READ | PROT_WRITE)
#define PRIVATE (MAP_PRIVATE | MAP_ANONYMOUS)

static struct cn_mm *new_mm(void)
{
    struct cn_mm *mm;

    CHECK(cn_mm_new(&mm) == 0);
    cn_mm_set_base(mm, ARENA_END, ARENA + (1 << 20));
    return mm;
}

static i64 map(struct cn_mm *mm, u64 addr, u64 len, u32 prot, u32 flags, struct cn_mobj *o, u64 off)
{
    return cn_mm_mmap(mm, addr, len, prot, 7, flags, 0, o, off, 0);
}

static u64 peek(struct cn_mm *mm, u64 addr)
{
    u64 v = 0;

    CHECK(guest_read(mm, addr, &v, 8) == 0);
    return v;
}

static void poke(struct cn_mm *mm, u64 addr, u64 v)
{
    CHECK(guest_write(mm, addr, &v, 8) == 0);
}

static void test_placement(void)
{
    struct cn_mm *mm = new_mm();
    i64 a = map(mm, 0, 3 * P, RW, PRIVATE, NULL, 0), b = map(mm, 0, P, RW, PRIVATE, NULL, 0);

    CHECK(a == (i64)(ARENA_END - 3 * P) && b == a - (i64)P);
    CHECK(map(mm, (u64)b - 10 * P + 1, P, RW, PRIVATE, NULL, 0) == b - 9 * (i64)P); /* a hint */
    CHECK(map(mm, (u64)a, P, RW, PRIVATE, NULL, 0) == b - (i64)P);                  /* taken */
    CHECK(map(mm, (u64)a, P, RW, PRIVATE | MAP_FIXED_NOREPLACE, NULL, 0) == -EEXIST);
    CHECK(map(mm, 123, P, RW, PRIVATE | MAP_FIXED, NULL, 0) == -EINVAL);
    CHECK(map(mm, ARENA_END - P, 2 * P, RW, PRIVATE | MAP_FIXED, NULL, 0) == -ENOMEM);
    CHECK(map(mm, 0, P, RW, PRIVATE | MAP_FIXED, NULL, 0) == -EPERM);
    CHECK(map(mm, 0, 0, RW, PRIVATE, NULL, 0) == -EINVAL);
    CHECK(map(mm, 0, UINT64_MAX, RW, PRIVATE, NULL, 0) == -ENOMEM);
    CHECK(map(mm, 0, P, RW, MAP_ANONYMOUS, NULL, 0) == -EINVAL);
    CHECK(cn_mm_munmap(mm, 1, P) == -EINVAL && cn_mm_munmap(mm, ARENA, 0) == -EINVAL);
    CHECK(cn_mm_munmap(mm, ARENA, P) == 0);
    cn_mm_unref(mm);
}

static void test_merging(void)
{
    struct cn_mm *mm = new_mm();
    struct cn_vma_info v[8];
    u64 ops;

    for (int i = 0; i < 16; i++)
        CHECK(map(mm, ARENA + (u64)i * P, P, RW, PRIVATE | MAP_FIXED, NULL, 0) > 0);
    CHECK(cn_mm_vmas(mm, v, 8) == 1 && v[0].end - v[0].start == 16 * P && v[0].anon_pages == 16);
    CHECK(cn_mm_mprotect(mm, ARENA + 4 * P, 4 * P, PROT_READ) == 0);
    CHECK(cn_mm_vmas(mm, v, 8) == 3);
    fake_flush(cn_mm_as(mm));
    ops = fake_ops_made;
    CHECK(cn_mm_mprotect(mm, ARENA + 4 * P, 4 * P, RW) == 0);
    CHECK(cn_mm_vmas(mm, v, 8) == 1);
    fake_flush(cn_mm_as(mm));
    CHECK(fake_ops_made == ops + 1);
    CHECK(cn_mm_mprotect(mm, ARENA, 17 * P, PROT_READ) == -ENOMEM);
    cn_mm_unref(mm);
}

static void test_reservation(void)
{
    struct cn_mm *mm = new_mm();
    struct cn_mm_stats st;

    CHECK(map(mm, ARENA, 200 << 20, PROT_NONE, PRIVATE | MAP_FIXED | MAP_NORESERVE, NULL, 0) > 0);
    cn_mm_get_stats(mm, &st);
    CHECK(st.anon == 0 && st.total == 200 << 20);
    CHECK(cn_mm_mprotect(mm, ARENA + (8 << 20), 1 << 20, RW) == 0);
    poke(mm, ARENA + (8 << 20), 5);
    CHECK(cn_mm_mprotect(mm, ARENA, 200 << 20, RW) == 0); /* too big to get its pages at once */
    poke(mm, ARENA + (100 << 20), 6);
    CHECK(peek(mm, ARENA + (8 << 20)) == 5);
    cn_mm_get_stats(mm, &st);
    CHECK(st.anon <= 16 << 20);
    cn_mm_unref(mm);
}

static void test_limits(void)
{
    struct cn_mm *mm = new_mm();
    struct cn_mm_limits limits = {10 * P, 4 * P, UINT64_MAX, 2 * P};
    u64 brk = ARENA + (1 << 20);

    cn_mm_set_limits(mm, &limits);
    CHECK(map(mm, ARENA, 11 * P, PROT_READ, PRIVATE | MAP_FIXED, NULL, 0) == -ENOMEM);
    CHECK(map(mm, ARENA, 5 * P, RW, PRIVATE | MAP_FIXED, NULL, 0) == -ENOMEM);
    CHECK(map(mm, ARENA, 8 * P, PROT_READ, PRIVATE | MAP_FIXED, NULL, 0) > 0);
    CHECK(map(mm, ARENA, 8 * P, PROT_READ, PRIVATE | MAP_FIXED, NULL, 0) > 0); /* in its place */
    CHECK(cn_mm_mprotect(mm, ARENA, 5 * P, RW) == -ENOMEM);
    CHECK(cn_mm_mlock(mm, ARENA, 3 * P, 0) == -ENOMEM && cn_mm_mlock(mm, ARENA, P, 0) == 0);
    cn_mm_lock_freely(mm, 1);
    CHECK(cn_mm_mlock(mm, ARENA, 3 * P, 0) == 0 && cn_mm_munlock(mm, ARENA, 3 * P) == 0);
    CHECK(cn_mm_brk(mm, brk + 5 * P) == brk && cn_mm_brk(mm, brk + P) == brk + P);
    CHECK(cn_mm_brk(mm, 0) == brk + P && cn_mm_brk(mm, brk) == brk);
    cn_mm_unref(mm);
}

static void test_brk(void)
{
    struct cn_mm *mm = new_mm();
    u64 brk = ARENA + (1 << 20);
    struct cn_vma_info v;

    CHECK(cn_mm_brk(mm, brk + 100) == brk + 100 && cn_mm_brk(mm, brk + 3 * P) == brk + 3 * P);
    poke(mm, brk + 2 * P, 9);
    CHECK(cn_mm_find(mm, brk, &v) == 0 && v.flags & CN_VMA_HEAP && v.end == brk + 3 * P);
    CHECK(cn_mm_brk(mm, brk + P) == brk + P && cn_mm_brk(mm, brk + 3 * P) == brk + 3 * P);
    CHECK(peek(mm, brk + 2 * P) == 0);
    CHECK(map(mm, brk + 8 * P, P, RW, PRIVATE | MAP_FIXED, NULL, 0) > 0);
    CHECK(cn_mm_brk(mm, brk + 9 * P) == brk + 3 * P); /* in the way */
    cn_mm_unref(mm);
}

static void test_stack(void)
{
    struct cn_mm *mm = new_mm();
    u64 top = ARENA + (64 << 20), v = 3;
    struct cn_mm_limits limits = {UINT64_MAX, UINT64_MAX, 1 << 20, UINT64_MAX};

    cn_mm_set_limits(mm, &limits);
    CHECK(map(mm, top - 4 * P, 4 * P, RW, PRIVATE | MAP_FIXED | MAP_GROWSDOWN, NULL, 0) > 0);
    poke(mm, top - 20 * P, 1);
    CHECK(cn_mm_copy_out(mm, top - 100 * P, &v, 8) == 0); /* as the guest would */
    CHECK(guest_write(mm, top - (2 << 20), &v, 8) == -EFAULT);
    CHECK(map(mm, top - 500 * P, P, RW, PRIVATE | MAP_FIXED, NULL, 0) > 0);
    CHECK(guest_write(mm, top - 255 * P, &v, 8) == -EFAULT); /* 256 pages of guard gap */
    cn_mm_unref(mm);
}

static void test_fork(void)
{
    struct cn_mm *a = new_mm(), *b, *c;
    u64 ops;

    CHECK(map(a, ARENA, 1 << 20, RW, PRIVATE | MAP_FIXED, NULL, 0) > 0);
    CHECK(map(a, ARENA + (2 << 20), P, RW, MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED, NULL, 0) > 0);
    for (u64 i = 0; i < 256; i++)
        poke(a, ARENA + i * P, i);
    CHECK(cn_mm_fork(a, &b) == 0);
    poke(b, ARENA + 7 * P, 1000);
    poke(b, ARENA + (2 << 20), 77);
    CHECK(peek(a, ARENA + 7 * P) == 7 && peek(b, ARENA + 7 * P) == 1000);
    CHECK(peek(b, ARENA + 200 * P) == 200 && peek(a, ARENA + (2 << 20)) == 77);
    CHECK(cn_mm_fork(b, &c) == 0);
    cn_mm_unref(b);
    poke(a, ARENA + 8 * P, 2000);
    CHECK(peek(c, ARENA + 7 * P) == 1000 && peek(c, ARENA + 8 * P) == 8);
    cn_mm_unref(c);
    ops = fake_ops_made;
    for (u64 i = 0; i < 256; i++) /* alone again: writable in place, in few steps */
        poke(a, ARENA + i * P, i);
    CHECK(fake_ops_made - ops <= 4);
    CHECK(cn_mm_madvise(a, ARENA, P, MADV_WIPEONFORK) == 0);
    CHECK(cn_mm_madvise(a, ARENA + P, P, MADV_DONTFORK) == 0);
    poke(a, ARENA, 5);
    CHECK(cn_mm_fork(a, &b) == 0);
    u64 v;
    CHECK(peek(b, ARENA) == 0 && guest_read(b, ARENA + P, &v, 8) == -EFAULT && peek(a, ARENA) == 5);
    cn_mm_unref(b);
    cn_mm_unref(a);
}

/* Pages of a truncated object are gone from every mapping, private copies included. */
static void test_truncate(void)
{
    struct cn_mm *a = new_mm(), *b;
    struct cn_mobj *o = cn_mobj_new_mem();
    u64 v = 42, before = cn_memfile_used();

    CHECK(cn_mobj_truncate(o, 40 * P) == 0);
    CHECK(map(a, ARENA, 40 * P, RW, MAP_SHARED | MAP_FIXED, o, 0) > 0);
    CHECK(map(a, ARENA + 100 * P, 40 * P, RW, MAP_PRIVATE | MAP_FIXED, o, 0) > 0);
    CHECK(cn_mm_fork(a, &b) == 0);
    for (u64 i = 0; i < 40; i++)
        poke(a, ARENA + i * P + 8, i + 1);
    poke(b, ARENA + 130 * P, 5);
    CHECK(peek(b, ARENA + 130 * P + 8) == 31);
    CHECK(cn_mobj_allocated(o) == 40 * P);
    CHECK(cn_mobj_truncate(o, 20 * P + 8) == 0);
    CHECK(cn_mobj_allocated(o) == 21 * P);
    CHECK(guest_read(a, ARENA + 25 * P, &v, 8) == -ENXIO &&
          guest_read(b, ARENA + 25 * P, &v, 8) == -ENXIO);
    CHECK(guest_read(b, ARENA + 130 * P, &v, 8) == -ENXIO);
    CHECK(cn_mm_copy_in(a, ARENA + 25 * P, &v, 8) == -EFAULT);
    CHECK(peek(a, ARENA + 20 * P + 8) == 0 && peek(a, ARENA + 19 * P + 8) == 20);
    CHECK(cn_mobj_truncate(o, 40 * P) == 0);
    CHECK(peek(a, ARENA + 25 * P + 8) == 0 && peek(b, ARENA + 130 * P) == 0);
    CHECK(cn_mm_madvise(a, ARENA, 10 * P, MADV_REMOVE) == 0);
    CHECK(cn_mobj_seek(o, 0, 0) == (i64)(10 * P) && cn_mobj_seek(o, 10 * P, 1) >= (i64)(20 * P));
    CHECK(peek(b, ARENA + 8) == 0);
    CHECK(cn_mobj_seek(o, 40 * P, 0) == -ENXIO && cn_mobj_seek(o, 40 * P, 1) == -ENXIO);
    cn_mobj_unref(o);
    cn_mm_unref(a);
    cn_mm_unref(b);
    CHECK(cn_memfile_used() <= before + 64 * P);
}

static void test_host_file(void)
{
    struct cn_mm *mm = new_mm();
    int fd = memfd_create("host", 0), pipe_fd[2];
    char page[P], buf[2 * P];
    struct cn_mobj *o;
    u64 v;

    for (int i = 0; i < 8; i++) {
        memset(page, 'a' + i, P);
        CHECK(write(fd, page, P) == P);
    }
    o = cn_mobj_new_host(fd);
    CHECK(map(mm, ARENA, 8 * P, RW, MAP_PRIVATE | MAP_FIXED, o, 0) > 0);
    CHECK(map(mm, ARENA + 16 * P, 8 * P, RW, MAP_SHARED | MAP_FIXED, o, 0) > 0);
    poke(mm, ARENA + P, 1);
    CHECK(pread(fd, &v, 8, P) == 8 && v != 1);
    poke(mm, ARENA + 17 * P, 2);
    CHECK(pread(fd, &v, 8, P) == 8 && v == 2 && peek(mm, ARENA + P) == 1);
    CHECK(cn_mm_madvise(mm, ARENA, 8 * P, MADV_DONTNEED) == 0 && peek(mm, ARENA + P) == 2);
    CHECK(ftruncate(fd, 2 * P) == 0);
    CHECK(guest_read(mm, ARENA + 3 * P, &v, 8) == -ENXIO);
    CHECK(cn_mm_copy_in(mm, ARENA + 3 * P, &v, 8) == -EFAULT);
    v = 1;
    CHECK(cn_mm_copy_out(mm, ARENA + 3 * P, &v, 8) == -EFAULT);
    CHECK(cn_mm_copy_out(mm, ARENA + 19 * P, &v, 8) == -EFAULT);
    CHECK(cn_mm_read_some(mm, ARENA + P, buf, 2 * P) == P);
    CHECK(pipe(pipe_fd) == 0 && cn_mm_host_write(mm, pipe_fd[1], ARENA + 3 * P, 8, -1) == -EFAULT);
    CHECK(cn_mm_msync(mm, ARENA + 16 * P, P, MS_SYNC) == 0);
    cn_mobj_unref(o);
    o = cn_mobj_new_host(pipe_fd[0]);
    CHECK(map(mm, 0, P, PROT_READ, MAP_PRIVATE, o, 0) == -ENODEV);
    cn_mobj_unref(o);
    close(pipe_fd[0]);
    close(pipe_fd[1]);
    close(fd);
    cn_mm_unref(mm);
}

static void test_copies(void)
{
    struct cn_mm *mm = new_mm();
    char buf[3 * P], *text = "hello";
    u32 w;
    u64 id, off, id2;

    CHECK(map(mm, ARENA, 2 * P, RW, PRIVATE | MAP_FIXED, NULL, 0) > 0);
    CHECK(map(mm, ARENA + 4 * P, P, RW, MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED, NULL, 0) > 0);
    CHECK(cn_mm_copy_out(mm, ARENA + P - 3, text, 6) == 0);
    CHECK(cn_mm_copy_str(mm, ARENA + P - 3, buf, 100) == 5 && !strcmp(buf, "hello"));
    CHECK(cn_mm_copy_str(mm, ARENA + P - 3, buf, 5) == -ENAMETOOLONG);
    memset(buf, 'x', sizeof(buf));
    CHECK(cn_mm_copy_out(mm, ARENA + P, buf, P) == 0);
    CHECK(cn_mm_copy_str(mm, ARENA + P, buf, 3 * P) == -EFAULT);
    CHECK(cn_mm_copy_in(mm, ARENA + P, buf, P + 1) == -EFAULT);
    CHECK(cn_mm_read_some(mm, ARENA + P, buf, P + 1) == P);
    CHECK(cn_mm_read_some(mm, UINT64_MAX - 8, buf, P) == -EFAULT);
    CHECK(cn_mm_copy_in(mm, UINT64_MAX - 3, buf, 8) == -EFAULT);
    CHECK(cn_mm_zero(mm, ARENA + P - 8, P) == 0 && peek(mm, ARENA + P - 8) == 0);
    CHECK(cn_mm_zero(mm, ARENA + P, 2 * P) == -EFAULT);
    CHECK(cn_mm_store32(mm, ARENA, 7) == 0 && cn_mm_load32(mm, ARENA, &w) == 0 && w == 7);
    CHECK(cn_mm_cmpxchg32(mm, ARENA, 7, 9, &w) == 0 && w == 7);
    CHECK(cn_mm_cmpxchg32(mm, ARENA, 7, 1, &w) == 0 && w == 9);
    CHECK(cn_mm_op32(mm, ARENA, 1, 3, &w) == 0 && w == 9 &&
          cn_mm_op32(mm, ARENA, 9, 0, &w) == -ENOSYS);
    CHECK(cn_mm_load32(mm, ARENA, &w) == 0 && w == 12);
    CHECK(cn_mm_load32(mm, ARENA + 3 * P, &w) == -EFAULT &&
          cn_mm_cmpxchg32(mm, 2, 0, 0, &w) == -EINVAL);
    CHECK(cn_mm_mprotect(mm, ARENA, P, PROT_READ) == 0);
    CHECK(cn_mm_store32(mm, ARENA, 1) == -EFAULT && cn_mm_force_out(mm, ARENA, &w, 4) == 0);
    CHECK(cn_mm_futex_key(mm, ARENA, 0, &id, &off) == 0 && off == ARENA);
    CHECK(cn_mm_futex_key(mm, ARENA + 4 * P + 8, 1, &id2, &off) == 0 && off == 8 && id2 != id);
    CHECK(cn_mm_futex_key(mm, ARENA + 9 * P, 1, &id, &off) == -EFAULT);
    cn_mm_unref(mm);
}

static void test_vectors(void)
{
    struct cn_mm *mm = new_mm();
    int fd = memfd_create("file", 0);
    struct iovec vec[3] = {
        {(void *)(ARENA + 8), 3}, {(void *)(ARENA + 100), 0}, {(void *)(ARENA + P), 5}};
    char buf[16] = {0};

    CHECK(map(mm, ARENA, 2 * P, RW, PRIVATE | MAP_FIXED, NULL, 0) > 0);
    CHECK(pwrite(fd, "abcdefgh", 8, 0) == 8);
    CHECK(cn_mm_copy_out(mm, ARENA + 256, vec, sizeof(vec)) == 0);
    CHECK(cn_mm_host_readv(mm, fd, ARENA + 256, 3, 0) == 8);
    CHECK(cn_mm_copy_in(mm, ARENA + 8, buf, 3) == 0 &&
          cn_mm_copy_in(mm, ARENA + P, buf + 3, 5) == 0);
    CHECK(!memcmp(buf, "abcdefgh", 8));
    CHECK(cn_mm_host_writev(mm, fd, ARENA + 256, 3, 4) == 8 && pread(fd, buf, 12, 0) == 12);
    CHECK(!memcmp(buf, "abcdabcdefgh", 12));
    CHECK(cn_mm_host_readv(mm, fd, ARENA + 256, 2000, 0) == -EINVAL);
    CHECK(cn_mm_host_readv(mm, fd, 8, 1, 0) == -EFAULT);
    vec[1] = (struct iovec){(void *)UINT64_MAX, 5};
    CHECK(cn_mm_copy_out(mm, ARENA + 256, vec, sizeof(vec)) == 0);
    CHECK(cn_mm_host_readv(mm, fd, ARENA + 256, 3, 0) == -EFAULT);
    close(fd);
    cn_mm_unref(mm);
}

struct blocked {
    struct cn_mm *mm;
    int fd;
};

static void *read_blocked(void *arg)
{
    struct blocked *b = arg;

    CHECK(cn_mm_host_read(b->mm, b->fd, ARENA, 8, -1) == 8);
    return NULL;
}

/* A read that is under way while its process forks ends up in the parent's memory, not the child's.
 */
static void test_read_across_fork(void)
{
    struct cn_mm *mm = new_mm(), *child;
    struct blocked b = {mm, 0};
    pthread_t thread;
    int fds[2];
    u64 v = 99;

    CHECK(pipe(fds) == 0 && map(mm, ARENA, 4 * P, RW, PRIVATE | MAP_FIXED, NULL, 0) > 0);
    poke(mm, ARENA, 1);
    b.fd = fds[0];
    CHECK(pthread_create(&thread, NULL, read_blocked, &b) == 0);
    usleep(20000);
    CHECK(cn_mm_fork(mm, &child) == 0);
    poke(mm, ARENA + 16, 5);
    CHECK(write(fds[1], &v, 8) == 8);
    pthread_join(thread, NULL);
    CHECK(peek(mm, ARENA) == 99 && peek(mm, ARENA + 16) == 5);
    CHECK(peek(child, ARENA) == 1 && peek(child, ARENA + 16) == 0);
    poke(child, ARENA, 3);
    CHECK(peek(mm, ARENA) == 99);
    close(fds[0]);
    close(fds[1]);
    cn_mm_unref(child);
    cn_mm_unref(mm);
}

static void test_remap(void)
{
    struct cn_mm *mm = new_mm();
    i64 to;

    CHECK(map(mm, ARENA, 4 * P, RW, PRIVATE | MAP_FIXED, NULL, 0) > 0);
    poke(mm, ARENA + 3 * P, 4);
    CHECK(cn_mm_mremap(mm, ARENA, 4 * P, 8 * P, 0, 0) == (i64)ARENA); /* in place */
    CHECK(map(mm, ARENA + 8 * P, P, PROT_READ, PRIVATE | MAP_FIXED, NULL, 0) > 0);
    CHECK(cn_mm_mremap(mm, ARENA, 8 * P, 9 * P, 0, 0) == -ENOMEM);
    to = cn_mm_mremap(mm, ARENA, 8 * P, 16 * P, MREMAP_MAYMOVE, 0);
    CHECK(to > 0 && to != (i64)ARENA && peek(mm, (u64)to + 3 * P) == 4 &&
          peek(mm, (u64)to + 12 * P) == 0);
    CHECK(cn_mm_mremap(mm, ARENA, P, P, 0, 0) == -EFAULT);
    CHECK(cn_mm_mremap(mm, (u64)to, 16 * P, 2 * P, 0, 0) == to);
    CHECK(cn_mm_mremap(mm, (u64)to, 2 * P, 4 * P, MREMAP_FIXED, ARENA) == -EINVAL);
    CHECK(cn_mm_mremap(mm, (u64)to, 0, P, MREMAP_MAYMOVE, 0) == -EINVAL);
    cn_mm_unref(mm);
}

static void test_many(void)
{
    struct cn_mm *mm = new_mm();
    u64 n = 0;

    for (u64 i = 0; i < 30000; i++, n++)
        CHECK(map(mm, ARENA + i * 2 * P, P, i & 1 ? PROT_READ : RW, PRIVATE | MAP_FIXED, NULL, 0) >
              0);
    CHECK(cn_mm_vmas(mm, NULL, 0) == 30000);
    CHECK(cn_mm_munmap(mm, ARENA, 60000 * P) == 0 && cn_mm_vmas(mm, NULL, 0) == 0);
    cn_mm_unref(mm);
}

static u64 now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (u64)t.tv_sec * 1000000000 + (u64)t.tv_nsec;
}

#define BENCH(name, count, code)                                                                   \
    do {                                                                                           \
        u64 start = now();                                                                         \
        for (u64 i = 0; i < (count); i++) {                                                        \
            code;                                                                                  \
        }                                                                                          \
        printf("%-34s %8.1f ns\n", name, (double)(now() - start) / (double)(count));               \
    } while (0)

static void bench(void)
{
    struct cn_mm *mm = new_mm(), *child;
    static char buf[1 << 16];
    u32 w;

    for (u64 i = 0; i < 60; i++)
        CHECK(map(mm, ARENA + i * (1 << 20), 1 << 18, i & 1 ? PROT_READ : RW, PRIVATE | MAP_FIXED,
                  NULL, 0) > 0);
    for (u64 i = 0; i < 60; i += 2)
        CHECK(cn_mm_copy_out(mm, ARENA + i * (1 << 20), buf, sizeof(buf)) == 0);
    cn_mm_copy_out(mm, ARENA, "/usr/lib/x86_64-linux-gnu/libc.so.6", 36);
    BENCH("load32, 60 VMAs", 1000000, cn_mm_load32(mm, ARENA + (i % 60 << 20), &w));
    BENCH("copy_in 16 bytes", 1000000, cn_mm_copy_in(mm, ARENA + (i % 60 << 20), buf, 16));
    BENCH("copy_in 4 KiB", 200000, cn_mm_copy_in(mm, ARENA, buf, 4096));
    BENCH("copy_in 64 KiB", 20000, cn_mm_copy_in(mm, ARENA, buf, 65536));
    BENCH("copy_str of 35", 1000000, cn_mm_copy_str(mm, ARENA, buf, 4096));
    BENCH("fault, nothing to do", 1000000, cn_mm_fault(mm, ARENA, CN_ACCESS_WRITE));
    BENCH("mmap + munmap 1 MiB, no host", 20000, {
        map(mm, ARENA + (100 << 20), 1 << 20, RW, PRIVATE | MAP_FIXED, NULL, 0);
        cn_mm_munmap(mm, ARENA + (100 << 20), 1 << 20);
    });
    BENCH("fork + free, 60 VMAs, no host", 2000, {
        CHECK(cn_mm_fork(mm, &child) == 0);
        cn_mm_unref(child);
    });
    CHECK(cn_mm_fork(mm, &child) == 0);
    BENCH("COW fault of 64 KiB", 30, cn_mm_fault(child, ARENA + i * (2 << 20), CN_ACCESS_WRITE));
    cn_mm_unref(child);
    BENCH("upgrade in place", 30, cn_mm_fault(mm, ARENA + i * (2 << 20), CN_ACCESS_WRITE));
    cn_mm_unref(mm);
}

int main(int argc, char **argv)
{
    fake_start();
    if (argc > 1 && !strcmp(argv[1], "bench")) {
        bench();
        return 0;
    }
    test_placement();
    test_merging();
    test_reservation();
    test_limits();
    test_brk();
    test_stack();
    test_fork();
    test_truncate();
    test_host_file();
    test_copies();
    test_vectors();
    test_remap();
    test_many();
    test_read_across_fork();
    printf("test_mm: ok\n");
    return 0;
}

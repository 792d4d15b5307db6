/*
 * Unit tests of what C knows of files: descriptor tables and descriptions under concurrent closing, and listings made from
 * hostile input.
 *
 * Usage: test_files; prints "ok NAME" for each test. Builds with -fsanitize=address,undefined.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../gofer/gofer.h"
#include "../run/dirents.h"
#include "../run/fdt.h"
#include "../run/reopen.h"
#include "check.h"

enum { FIXED = CN_GF_ATTR + 8 + 1 + 2, DEV = 77 };

/* An entry as the gofer sends it; its length. */
static u64 put_entry(u8 *p, const char *name, u64 ino, u64 dev, i64 off)
{
    u64 l = strlen(name);

    memset(p, 0, FIXED);
    memcpy(p + 13, &ino, 8);
    memcpy(p + 137, &dev, 8);
    memcpy(p + CN_GF_ATTR, &off, 8);
    p[FIXED - 3] = 8;
    p[FIXED - 2] = (u8)l;
    p[FIXED - 1] = (u8)(l >> 8);
    memcpy(p + FIXED, name, l);
    return FIXED + l;
}

static u64 off_of(const u8 *record)
{
    u64 v;

    memcpy(&v, record + 8, 8);
    return v;
}

static void test_listings(void)
{
    u8 in[2000], out[2000], *exact;
    u64 len = put_entry(in, "one", 5, DEV, 100);
    i64 n;

    len += put_entry(in + len, "second", 6, DEV, 200);
    n = cn_dirents_make(in, len, DEV, 1UL << 50, 3, out, sizeof(out));
    CHECK(n == 24 + 32);
    CHECK(off_of(out) == 3 && off_of(out + 24) == 4);
    CHECK(out[6] == 4); /* the bits over the inode number */
    CHECK(!strcmp((char *)out + 19, "one") && !strcmp((char *)out + 24 + 19, "second"));
    CHECK(cn_dirents_last(in, len) == 200);
    CHECK(cn_dirents_seek(out, (u64)n, 1) == 24);
    CHECK(cn_dirents_seek(out, (u64)n, 9) == (u64)n);
    CHECK(cn_dirents_make(in, len, DEV, 0, 3, out, 40) == -ENOSPC);
    CHECK(cn_dirents_make(in, len, DEV + 1, 0, 3, out, sizeof(out)) == -EXDEV);
    CHECK(cn_dirents_make(in, 0, DEV, 0, 3, out, sizeof(out)) == 0);
    for (u64 cut = 1; cut < len; cut++) {
        exact = malloc(cut); /* so that a read past it is seen */
        memcpy(exact, in, cut);
        if (cut != FIXED + 3) {
            CHECK(cn_dirents_make(exact, cut, DEV, 0, 3, out, sizeof(out)) == -EPROTO);
            CHECK(cn_dirents_last(exact, cut) == -EPROTO);
        }
        free(exact);
    }
    static const char *const bad[] = {"", ".", "..", "a/b"};
    for (u32 i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        len = put_entry(in, bad[i], 5, DEV, 1);
        CHECK(cn_dirents_make(in, len, DEV, 0, 3, out, sizeof(out)) == -EPROTO);
    }
    puts("ok listings");
}

/* A description of a host file at number fd of t. */
static struct cn_file *opened(struct cn_fdt *t, int fd, int hostfd, u32 end)
{
    struct cn_file *f = cn_file_new(7);

    CHECK(f);
    cn_file_set(f, CN_FILE_HOST, CN_FILE_READ, hostfd, NULL, NULL, 0, end);
    CHECK(cn_fdt_put(t, fd, f, 0) == 0);
    return f;
}

static struct cn_task call(struct cn_fdt *t, u64 rdi, u64 rsi, u64 rdx)
{
    struct cn_task task = {.fds = t, .nofile = 100};

    task.regs.rdi = rdi;
    task.regs.rsi = rsi;
    task.regs.rdx = rdx;
    return task;
}

static void test_tables(void)
{
    struct cn_fdt *t = cn_fdt_new(), *child;
    struct cn_file *f = opened(t, 3, 30, CN_END_LAST), *g = opened(t, 5000, 31, CN_END_LAST), *got;

    CHECK(!file_get(NULL, 3) && !file_get(t, -1) && !file_get(t, 4) && !file_get(t, 1 << 30));
    got = file_get(t, 3);
    CHECK(got == f && got->hostfd == 30 && cn_file_pos(got) == 7);
    file_put(got);
    CHECK(cn_fdt_put(t, 3, g, 0) == -EBUSY && cn_fdt_put(t, -1, g, 0) == -ENOMEM);
    child = cn_fdt_copy(t);
    CHECK(cn_file_numbers(f) == 2 && cn_file_numbers(g) == 2);
    CHECK(cn_fdt_install(t, f, 4, 10, 1) == 4 && cn_fdt_cloexec(t, 4) == 1);
    CHECK(cn_fdt_install(t, f, 10, 10, 0) == -EMFILE);
    CHECK(cn_fdt_next(t, 5) == 5000 && cn_fdt_next(t, 5001) == -1);
    CHECK(cn_fdt_remove(t, 3) == cn_file_index(f) && cn_fdt_remove(t, 3) == -EBADF);
    CHECK(!file_get(t, 3) && cn_fdt_get(t, 3) == -EBADF && cn_fdt_get(t, INT64_MAX) == -EBADF);
    got = file_get(child, 3);
    CHECK(got == f && !file_get(child, 4));
    file_put(got);
    cn_file_set(f, CN_FILE_NONE, 0, -1, NULL, NULL, 0, CN_END_LAST);
    CHECK(!file_get(t, 4) && cn_fdt_get(t, 4) == cn_file_index(f));
    CHECK(cn_fdt_close(child, 0, CN_MAX_FDS, 0) == -1); /* others lead there, too */
    CHECK(cn_fdt_close(t, 0, 5000, 1) == 4);            /* the last number: Python's */
    CHECK(cn_fdt_remove(t, 4) >= 0 && cn_fdt_remove(t, 5000) >= 0);
    CHECK(cn_file_numbers(f) == 0 && cn_file_numbers(g) == 0);
    cn_file_free(f);
    cn_file_free(g);
    cn_fdt_free(child);
    cn_fdt_free(t);
    puts("ok tables");
}

static void test_calls(void)
{
    struct cn_fdt *t = cn_fdt_new();
    struct cn_file *f = opened(t, 0, 30, CN_END_LATER), *g = opened(t, 1, 31, CN_END_LAST);
    struct cn_task task;
    int index[4];

    task = call(t, 0, F_DUPFD_CLOEXEC, 7);
    CHECK(fast_fcntl(&task) == CN_DONE && task.regs.rax == 7 && cn_file_numbers(f) == 2);
    task = call(t, 7, F_GETFD, 0);
    CHECK(fast_fcntl(&task) == CN_DONE && task.regs.rax == FD_CLOEXEC);
    task = call(t, 7, F_SETFD, 0);
    CHECK(fast_fcntl(&task) == CN_DONE && cn_fdt_cloexec(t, 7) == 0);
    task = call(t, 7, F_DUPFD, 100); /* the limit, and others: errors are Python's */
    CHECK(fast_fcntl(&task) == CN_UPCALL);
    task = call(t, 99, F_GETFL, 0);
    CHECK(fast_fcntl(&task) == CN_UPCALL);
    task = call(t, 0, 0, 0);
    CHECK(fast_dup(&task) == CN_DONE && task.regs.rax == 2);
    task = call(t, 0, 1, 0); /* 1 leads to g alone */
    CHECK(fast_dup2(&task) == CN_UPCALL && cn_file_numbers(g) == 1 && cn_file_numbers(f) == 3);
    task = call(t, 1, 2, O_CLOEXEC);
    CHECK(fast_dup3(&task) == CN_DONE && cn_fdt_cloexec(t, 2) == 1 && cn_file_numbers(f) == 2);
    task = call(t, 2, 2, 0);
    CHECK(fast_dup2(&task) == CN_DONE && fast_dup3(&task) == CN_UPCALL);
    task = call(t, 2, 0, 0);
    CHECK(fast_close(&task) == CN_DONE && fast_close(&task) == CN_UPCALL);
    task = call(t, 1, 0, 0);
    CHECK(fast_close(&task) == CN_UPCALL && cn_fdt_get(t, 1) == cn_file_index(g));
    task = call(t, 0, 0, 0);
    CHECK(fast_close(&task) == CN_DONE && !reopen_pending());
    task = call(t, 7, 0, 0);
    CHECK(fast_close(&task) == CN_DONE && reopen_pending() && cn_file_numbers(f) == 1);
    CHECK(cn_files_ended(index, 4) == 1 && index[0] == cn_file_index(f) && !reopen_pending());
    CHECK(cn_file_numbers(f) == 0);
    cn_file_free(f);
    cn_fdt_locked(t); /* POSIX locks: every close is Python's */
    task = call(t, 1, 0, 0);
    CHECK(fast_dup(&task) == CN_DONE && fast_close(&task) == CN_UPCALL);
    CHECK(cn_fdt_remove(t, 0) >= 0 && cn_fdt_remove(t, 1) >= 0);
    cn_file_free(g);
    cn_fdt_free(t);
    puts("ok calls");
}

static void test_spares(void)
{
    struct cn_fdt *t = cn_fdt_new();
    struct cn_file *f = opened(t, 0, 30, CN_END_LATER);
    struct cn_task task = call(t, 0, 0, 0);
    struct name_key key = {.generation = names_generation(), .how = 1, .len = 1, .hash = 5};
    int index[4];

    f->key = key;
    CHECK(fast_close(&task) == CN_DONE && !reopen_pending());
    key.how = 2;
    CHECK(fdt_reopen(t, &key, 100, 0) == -1);
    key.how = 1;
    CHECK(fdt_reopen(t, &key, 0, 0) == -1);
    CHECK(fdt_reopen(t, &key, 100, 1) == 0 && cn_fdt_cloexec(t, 0) == 1);
    CHECK(file_get(t, 0) == f && cn_file_pos(f) == 0 && cn_file_numbers(f) == 1);
    file_put(f);
    CHECK(fdt_reopen(t, &key, 100, 0) == -1); /* it is not spare any more */
    CHECK(cn_fdt_get(t, 0) >= 0);             /* Python may be at work on it */
    CHECK(fast_close(&task) == CN_DONE && fdt_reopen(t, &key, 100, 0) == -1);
    CHECK(cn_files_ended(index, 4) == 1 && cn_file_spare(f) && cn_file_numbers(f) == 1);
    CHECK(fdt_reopen(t, &key, 100, 0) == 0 && fast_close(&task) == CN_DONE);
    cn_names_changed();
    CHECK(reopen_pending() && fdt_reopen(t, &key, 100, 0) == -1);
    CHECK(cn_files_ended(index, 4) == 1 && !cn_file_spare(f) && cn_file_numbers(f) == 0);
    cn_file_free(f);
    f = opened(t, 0, 30, CN_END_LATER);
    f->key = key;
    f->key.generation = names_generation();
    CHECK(fast_close(&task) == CN_DONE && !reopen_pending());
    cn_files_watched(1);
    CHECK(reopen_pending() && cn_files_ended(index, 4) == 1);
    cn_files_watched(0);
    cn_file_free(f);
    cn_fdt_free(t);
    puts("ok spares");
}

static struct cn_fdt *raced;
static _Atomic int over;

/* What a call sees stays what it is while it is at work: the host descriptor of number n is always n or n + 1000. */
static void *looker(void *arg)
{
    long seen = 0;

    (void)arg;
    while (!atomic_load(&over)) {
        for (int fd = 0; fd < 200; fd++) {
            struct cn_file *f = file_get(raced, fd);
            if (!f)
                continue;
            int a = f->hostfd;
            CHECK(a == fd || a == fd + 1000);
            CHECK(f->hostfd == a);
            file_put(f);
            seen++;
        }
    }
    return (void *)seen;
}

/* A number that Python closes. */
static void closed(struct cn_fdt *t, int fd, struct cn_file *f)
{
    CHECK(cn_fdt_remove(t, fd) == cn_file_index(f) && cn_file_numbers(f) == 0);
    cn_file_free(f);
}

static void test_race(void)
{
    struct cn_file *files[200] = {NULL};
    pthread_t thread[2];

    raced = cn_fdt_new();
    for (int i = 0; i < 2; i++)
        pthread_create(&thread[i], NULL, looker, NULL);
    for (int i = 0; i < 20000; i++) {
        int fd = (i * 7) % 200;
        if (files[fd])
            closed(raced, fd, files[fd]);
        files[fd] = i % 5 ? opened(raced, fd, i & 1 ? fd : fd + 1000, CN_END_LAST) : NULL;
        if (files[fd] && i % 3 == 0)
            cn_file_set(files[fd], CN_FILE_HOST, CN_FILE_READ, fd, NULL, NULL, 0, CN_END_LAST);
    }
    atomic_store(&over, 1);
    for (int i = 0; i < 2; i++)
        pthread_join(thread[i], NULL);
    for (int fd = 0; fd < 200; fd++)
        if (files[fd])
            closed(raced, fd, files[fd]);
    cn_fdt_free(raced);
    puts("ok race");
}

enum { NAMES = 8 };

/* Opens spares, duplicates and closes as guest threads would; the table's numbers are theirs alone. */
static void *guest(void *arg)
{
    unsigned seed = (unsigned)(u64)arg;

    while (!atomic_load(&over)) {
        struct name_key key = {.generation = names_generation(), .how = 1, .len = 1};
        struct cn_task task = call(raced, rand_r(&seed) % 40, rand_r(&seed) % 40, 0);
        key.hash = (u32)rand_r(&seed) % NAMES;
        switch (rand_r(&seed) % 4) {
        case 0:
            fdt_reopen(raced, &key, 40, 0);
            break;
        case 1:
            fast_dup(&task);
            break;
        case 2:
            fast_dup2(&task);
            break;
        default:
            fast_close(&task);
        }
    }
    return NULL;
}

/* Python's part meanwhile: opens, looks, takes apart. In the end every description was ended once. */
static void test_guests(void)
{
    struct cn_file *by_index[400] = {NULL}, *f;
    struct name_key key = {.how = 1, .len = 1};
    int index[8], n, living = 0;
    pthread_t thread[3];

    atomic_store(&over, 0);
    raced = cn_fdt_new();
    for (u64 i = 0; i < 3; i++)
        pthread_create(&thread[i], NULL, guest, (void *)(i + 1));
    for (int i = 0; i < 30000 || living; i++) {
        if (i == 30000) {
            atomic_store(&over, 1);
            for (int j = 0; j < 3; j++)
                pthread_join(thread[j], NULL);
            CHECK(cn_fdt_close(raced, 0, CN_MAX_FDS, 0) == -1);
            cn_names_changed();
        }
        if (i % 500 == 0)
            cn_names_changed();
        if (i < 30000 && living < 100) {
            f = cn_file_new(0);
            CHECK(f && cn_file_index(f) < 400 && !by_index[cn_file_index(f)]);
            cn_file_set(f, CN_FILE_HOST, CN_FILE_READ, 1, NULL, NULL, 0, CN_END_LATER);
            key.generation = names_generation();
            key.hash = (u32)i % NAMES;
            f->key = key;
            if (cn_fdt_install(raced, f, 0, 40, 0) >= 0) {
                by_index[cn_file_index(f)] = f;
                living++;
            } else {
                cn_file_free(f);
            }
        }
        cn_fdt_get(raced, i % 40);
        n = cn_files_ended(index, 8);
        for (int j = 0; j < n; j++) {
            f = by_index[index[j]];
            CHECK(f && cn_file_numbers(f) <= 40);
            if (cn_file_numbers(f) || cn_file_spare(f))
                continue;
            by_index[index[j]] = NULL;
            cn_file_free(f);
            living--;
        }
    }
    cn_fdt_free(raced);
    puts("ok guests");
}

int main(void)
{
    test_listings();
    test_tables();
    test_calls();
    test_spares();
    test_race();
    test_guests();
    return 0;
}

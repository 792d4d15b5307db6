/*
 * Unit tests of what C knows of files: descriptor tables and descriptions under concurrent closing, and listings made from
 * hostile input.
 *
 * Usage: test_files; prints "ok NAME" for each test. Builds with -fsanitize=address,undefined.
 */
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../gofer/gofer.h"
#include "../run/dirents.h"
#include "../run/files.h"
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

static struct cn_file *opened(struct cn_fdt *t, int fd, int hostfd)
{
    struct cn_file *f = cn_fdt_open(t, fd, CN_FILE_HOST, CN_FILE_READ, hostfd, NULL, NULL, 7);

    CHECK(f);
    return f;
}

static void test_tables(void)
{
    struct cn_fdt *t = cn_fdt_new(), *child;
    struct cn_file *f = opened(t, 3, 30), *g = opened(t, 5000, 31), *got;

    CHECK(!file_get(NULL, 3) && !file_get(t, -1) && !file_get(t, 4) && !file_get(t, 1 << 30));
    got = file_get(t, 3);
    CHECK(got == f && got->hostfd == 30 && cn_file_pos(got) == 7);
    file_put(got);
    child = cn_fdt_copy(t);
    CHECK(cn_fdt_set(t, 4, f) == 0);
    cn_fdt_close(t, 3, NULL);
    CHECK(!file_get(t, 3));
    got = file_get(child, 3);
    CHECK(got == f && !file_get(child, 4));
    file_put(got);
    cn_file_set(f, CN_FILE_NONE, 0, -1, NULL, NULL);
    CHECK(!file_get(t, 4));
    cn_fdt_close(child, 3, NULL);
    cn_fdt_close(child, 5000, NULL);
    cn_fdt_close(t, 4, f);
    cn_fdt_close(t, 5000, g);
    CHECK(cn_fdt_set(t, -1, NULL) == 0 && cn_fdt_set(t, 1 << 30, NULL) == 0);
    cn_fdt_free(child);
    cn_fdt_free(t);
    puts("ok tables");
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
            cn_fdt_close(raced, fd, files[fd]);
        files[fd] = i % 5 ? opened(raced, fd, i & 1 ? fd : fd + 1000) : NULL;
        if (files[fd] && i % 3 == 0)
            cn_file_set(files[fd], CN_FILE_HOST, CN_FILE_READ, fd, NULL, NULL);
    }
    atomic_store(&over, 1);
    for (int i = 0; i < 2; i++)
        pthread_join(thread[i], NULL);
    for (int fd = 0; fd < 200; fd++)
        if (files[fd])
            cn_fdt_close(raced, fd, files[fd]);
    cn_fdt_free(raced);
    puts("ok race");
}

int main(void)
{
    test_listings();
    test_tables();
    test_race();
    return 0;
}

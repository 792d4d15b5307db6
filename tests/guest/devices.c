/* /dev/null and /dev/zero through call sites that are used a lot (patched on systrap, and answered there): whatever happens to the
 * descriptor in between, every call says what Linux says. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

static char buf[70000];
static int failures;

static void expect(const char *what, long got, int error, long want, int want_error) {
    if (got == want && (want >= 0 || error == want_error)) return;
    failures++;
    printf("%s: %ld (%s), not %ld (%s)\n", what, got, got < 0 ? strerror(error) : "", want, want < 0 ? strerror(want_error) : "");
}
#define EXPECT(call, want, error)                                              \
    do {                                                                       \
        errno = 0;                                                             \
        long got = (call);                                                     \
        expect(#call, got, errno, want, error);                                \
    } while (0)

/* The only places that read and write. */
__attribute__((noinline)) static long put(int fd, const void *p, size_t n) { return write(fd, p, n); }
__attribute__((noinline)) static long get(int fd, void *p, size_t n) { return read(fd, p, n); }

static int opened(const char *path, int flags) {
    int fd = open(path, flags);
    if (fd < 0) perror(path), exit(1);
    return fd;
}

static volatile int go, target;
static void *other(void *arg) {
    if (arg) { /* a table of its own */
        if (unshare(CLONE_FILES)) perror("unshare");
        close(target);
        EXPECT(put(target, "x", 1), -1, EBADF);
        return NULL;
    }
    while (!go) sched_yield();
    close(target); /* for all threads */
    return NULL;
}

int main(void) {
    int null = opened("/dev/null", O_WRONLY), zero = opened("/dev/zero", O_RDONLY), both = opened("/dev/zero", O_RDWR);
    int tty[2], status;
    char *hole = mmap(0, 3 * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    pthread_t t;

    for (int i = 0; i < 100; i++) put(null, "x", 1), get(zero, buf, 1);
    munmap(hole + 8192, 4096);
    for (int i = 0; i < 3; i++) {
        EXPECT(put(null, "hello", 5), 5, 0);
        EXPECT(put(null, NULL, 5), 5, 0);
        EXPECT(put(null, "", 0), 0, 0);
        EXPECT(put(null, (void *)-4096L, 5), -1, EFAULT);
        EXPECT(put(null, buf, 1UL << 40), 0x7ffff000, 0);
        EXPECT(put(null, buf, -1), -1, EFAULT);
        EXPECT(put(both, buf, 100), 100, 0);
        EXPECT(put(zero, buf, 100), -1, EBADF);
        EXPECT(get(null, buf, 1), -1, EBADF);
        memset(buf, 'x', sizeof buf);
        EXPECT(get(zero, buf + 7, 60000), 60000, 0);
        for (int j = 0; j < 70000; j++)
            if (buf[j] != (j < 7 || j >= 60007 ? 'x' : 0)) expect("byte", j, 0, -2, 0), j = 70000;
        EXPECT(get(both, buf, 1), 1, 0);
        EXPECT(get(zero, buf, 0), 0, 0);
        EXPECT(get(zero, NULL, 1), -1, EFAULT);
        EXPECT(get(zero, (void *)main, 1), -1, EFAULT);
        EXPECT(get(zero, (void *)-4096L, 1), -1, EFAULT);
        EXPECT(get(zero, hole + 4096, 8192), 4096, 0);
        EXPECT(get(zero, hole + 8192, 1), -1, EFAULT);
        EXPECT(get(zero, hole, 8192), 8192, 0);
    }
    /* Something else under the number, and back. */
    if (pipe(tty)) return 1;
    int saved = dup(null);
    dup2(tty[1], null);
    EXPECT(put(null, "abc", 3), 3, 0);
    EXPECT(get(tty[0], buf, 10), 3, 0);
    dup2(saved, null);
    EXPECT(put(null, "abc", 3), 3, 0);
    close(null);
    EXPECT(put(null, "abc", 3), -1, EBADF);
    EXPECT(fcntl(saved, F_DUPFD, null), null, 0);
    EXPECT(put(null, "abc", 3), 3, 0);
    /* High numbers; flags that do not matter. */
    EXPECT(dup2(null, 100), 100, 0);
    EXPECT(put(100, "abc", 3), 3, 0);
    fcntl(null, F_SETFL, O_APPEND | O_NONBLOCK);
    EXPECT(put(null, "abc", 3), 3, 0);
    /* A child's table is its own, also when it shares the memory. */
    if (vfork() == 0) {
        dup2(tty[1], null);
        _exit(put(null, "child", 5) != 5);
    }
    wait(&status);
    EXPECT(get(tty[0], buf, 10), 5, 0);
    EXPECT(put(null, "parent", 6), 6, 0);
    if (fork() == 0) {
        close(null);
        _exit(put(null, "x", 1) != -1 || put(saved, "x", 1) != 1);
    }
    wait(&status);
    EXPECT(status, 0, 0);
    /* Another thread's table; another thread's close, which every thread sees at once. */
    target = null;
    pthread_create(&t, NULL, other, (void *)1);
    pthread_join(t, NULL);
    EXPECT(put(null, "x", 1), 1, 0);
    for (int i = 0; i < 20; i++) {
        target = dup(saved);
        go = 0;
        pthread_create(&t, NULL, other, NULL);
        put(target, "x", 1);
        go = 1;
        while (put(target, "x", 1) == 1) ;
        EXPECT(put(target, "x", 1), -1, EBADF);
        pthread_join(t, NULL);
    }
    /* Whoever watches sees. */
    int in = inotify_init1(IN_NONBLOCK);
    inotify_add_watch(in, "/dev/zero", IN_ACCESS | IN_MODIFY);
    EXPECT(get(both, buf, 1), 1, 0);
    EXPECT(get(in, buf, sizeof buf), sizeof(struct inotify_event), 0);
    EXPECT(put(both, buf, 1), 1, 0);
    EXPECT(get(in, buf, sizeof buf), sizeof(struct inotify_event), 0);
    close(in);
    EXPECT(put(both, buf, 1), 1, 0);
    EXPECT(get(zero, buf, 9), 9, 0);
    puts(failures ? "failed" : "ok");
    return failures != 0;
}

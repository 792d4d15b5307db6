/*
 * Names that are opened again and again, which may not show what an earlier open left behind: positions, flags, locks, listings;
 * what changed in between; and threads that open, duplicate and close the same numbers at once.
 */
#include "vfs_check.h"
#include <dirent.h>
#include <pthread.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/wait.h>

static volatile int over;

static void put(const char *name, const char *text)
{
    int fd = open(name, O_WRONLY | O_CREAT | O_TRUNC, 0644);
    CHECK(write(fd, text, strlen(text)) == (ssize_t)strlen(text));
    close(fd);
}

/* The first byte by a new description, which is left behind at another position. */
static int first(const char *name, int flags)
{
    char c = 0;
    int fd = open(name, O_RDONLY | flags), n;
    if (fd < 0)
        return -errno;
    n = (int)read(fd, &c, 1);
    if (lseek(fd, 0, SEEK_CUR) != n)
        c = '?';
    close(fd);
    return c;
}

static void positions(void)
{
    put("file", "abc");
    for (int i = 0; i < 5; i++)
        CHECK(first("file", 0) == 'a');
    int a = open("file", O_RDONLY), b = open("file", O_RDONLY);
    char c;
    CHECK(read(a, &c, 1) == 1 && read(b, &c, 1) == 1 && c == 'a'); /* two descriptions */
    int d = dup(a);
    close(a);
    CHECK(read(d, &c, 1) == 1 && c == 'b');
    CHECK(first("file", 0) == 'a');
    CHECK(read(d, &c, 1) == 1 && c == 'c');
    pid_t p = fork();
    if (!p) {
        close(d);
        _exit(first("file", 0) != 'a');
    }
    int st;
    waitpid(p, &st, 0);
    CHECK(st == 0);
    CHECK(read(d, &c, 1) == 0);
    close(b);
    close(d);
}

static void flags(void)
{
    for (int i = 0; i < 3; i++) {
        int fd = open("file", O_RDONLY | O_CLOEXEC);
        CHECK(fcntl(fd, F_GETFD) == FD_CLOEXEC);
        CHECK(fcntl(fd, F_SETFD, 0) == 0 && fcntl(fd, F_GETFD) == 0);
        close(fd);
        fd = open("file", O_RDONLY);
        CHECK(fcntl(fd, F_GETFD) == 0 && !(fcntl(fd, F_GETFL) & (O_NONBLOCK | O_ACCMODE)));
        CHECK(fcntl(fd, F_SETFL, O_NONBLOCK) == 0 && fcntl(fd, F_GETFL) & O_NONBLOCK);
        close(fd);
        fd = open("file", O_RDONLY | O_NONBLOCK);
        CHECK(fcntl(fd, F_GETFL) & O_NONBLOCK);
        CHECK(write(fd, "x", 1) == -1 && errno == EBADF);
        close(fd);
        CHECK(open("file", O_RDONLY | O_DIRECTORY) == -1 && errno == ENOTDIR);
    }
}

/* A lock ends with the last number, and the next open has none. */
static void locks(void)
{
    for (int i = 0; i < 3; i++) {
        int a = open("file", O_RDONLY);
        CHECK(flock(a, LOCK_EX) == 0);
        int b = open("file", O_RDONLY);
        CHECK(flock(b, LOCK_SH | LOCK_NB) == -1 && errno == EWOULDBLOCK);
        close(a);
        CHECK(flock(b, LOCK_SH | LOCK_NB) == 0);
        close(b);
    }
}

static void changes(void)
{
    struct rlimit old, l;
    CHECK(first("file", 0) == 'a' && first("file", 0) == 'a');
    put("other", "xyz");
    CHECK(rename("other", "file") == 0);
    CHECK(first("file", 0) == 'x' && first("file", 0) == 'x');
    put("file", "new");
    CHECK(first("file", 0) == 'n' && first("file", 0) == 'n');
    CHECK(unlink("file") == 0);
    CHECK(first("file", 0) == -ENOENT);
    CHECK(symlink("target", "file") == 0);
    put("target", "t");
    CHECK(first("file", 0) == 't' && first("file", 0) == 't' && first("file", O_NOFOLLOW) == -ELOOP);
    CHECK(mkdir("dir", 0755) == 0);
    put("dir/inner", "i");
    int dir = open("dir", O_RDONLY | O_DIRECTORY), fd;
    for (int i = 0; i < 3; i++) {
        fd = openat(dir, "inner", O_RDONLY);
        CHECK(fd >= 0);
        close(fd);
    }
    CHECK(rename("dir/inner", "dir/moved") == 0);
    CHECK(openat(dir, "inner", O_RDONLY) == -1 && errno == ENOENT);
    close(dir);
    getrlimit(RLIMIT_NOFILE, &old);
    l = old;
    l.rlim_cur = 3;
    setrlimit(RLIMIT_NOFILE, &l);
    CHECK(first("target", 0) == -EMFILE && first("target", 0) == -EMFILE);
    CHECK(dup(0) == -1 && errno == EMFILE);
    CHECK(fcntl(0, F_DUPFD, 3) == -1 && errno == EINVAL);
    setrlimit(RLIMIT_NOFILE, &old);
    CHECK(first("target", 0) == 't');
    pid_t p = fork();
    if (!p) {
        CHECK(chmod("target", 0600) == 0);
        CHECK(first("target", 0) == 't');
        if (setuid(12345) == 0)
            CHECK(first("target", 0) == -EACCES);
        _exit(0);
    }
    waitpid(p, NULL, 0);
}

static int entries(const char *name)
{
    DIR *d = opendir(name);
    int n = 0;
    while (readdir(d))
        n++;
    closedir(d);
    return n;
}

static void listings(void)
{
    for (int i = 0; i < 3; i++)
        CHECK(entries("dir") == 3);
    put("dir/two", "2");
    CHECK(entries("dir") == 4);
    CHECK(entries("dir") == 4);
    CHECK(unlink("dir/two") == 0);
    CHECK(entries("dir") == 3);
}

/* A program finds nothing of what was to be closed; dup2 takes a number's place; ranges. */
static void numbers(void)
{
    int a = open("target", O_RDONLY | O_CLOEXEC), b = fcntl(a, F_DUPFD, 50), c = fcntl(a, F_DUPFD_CLOEXEC, 50);
    CHECK(b == 50 && c == 51 && fcntl(b, F_GETFD) == 0 && fcntl(c, F_GETFD) == FD_CLOEXEC);
    CHECK(dup2(a, 50) == 50 && dup2(50, 50) == 50 && dup2(a, -1) == -1 && errno == EBADF);
    CHECK(dup3(a, 50, O_CLOEXEC) == 50 && fcntl(50, F_GETFD) == FD_CLOEXEC);
    CHECK(dup3(a, a, 0) == -1 && errno == EINVAL);
    CHECK(close(51) == 0 && close(51) == -1 && errno == EBADF);
    CHECK(fcntl(51, F_GETFL) == -1 && errno == EBADF);
    CHECK(close(a) == 0 && dup(50) == a);
    CHECK(syscall(SYS_close_range, a, 60, 0) == 0 && fcntl(50, F_GETFD) == -1 && fcntl(a, F_GETFD) == -1);
    int p[2];
    CHECK(pipe(p) == 0);
    b = dup(p[1]);
    close(p[1]);
    char got;
    CHECK(write(b, "x", 1) == 1 && dup2(0, b) == b); /* its last writer goes */
    CHECK(read(p[0], &got, 1) == 1 && read(p[0], &got, 1) == 0);
    close(b);
    close(p[0]);
}

/* Threads that open, duplicate, replace and close numbers that others read from: every read is the start of one of two files, or fails
 * with EBADF, or comes behind it. */
static void *juggler(void *seed)
{
    unsigned s = (unsigned)(long)seed;
    while (!over) {
        int fd = 40 + rand_r(&s) % 8, other = open(rand_r(&s) & 1 ? "target" : "dir/moved", O_RDONLY);
        char c = 0;
        if (other < 0 || read(other, &c, 1) != 1 || (c != 't' && c != 'i'))
            _exit(9); /* nobody else knows the number: it is at its start */
        dup2(other, fd);
        close(other);
        if (rand_r(&s) & 1)
            close(fd);
        if (pread(fd, &c, 1, 0) == 1 && c != 't' && c != 'i')
            _exit(8);
    }
    return NULL;
}

static void races(void)
{
    pthread_t t[3];
    for (long i = 0; i < 3; i++)
        pthread_create(&t[i], NULL, juggler, (void *)(i + 1));
    usleep(300000);
    over = 1;
    for (int i = 0; i < 3; i++)
        pthread_join(t[i], NULL);
    for (int fd = 40; fd < 48; fd++)
        close(fd);
    CHECK(first("target", 0) == 't');
    int fd = open("target", O_RDONLY);
    CHECK(fd == 3); /* no number was lost */
    close(fd);
}

int main(void)
{
    umask(022);
    positions();
    flags();
    locks();
    changes();
    listings();
    numbers();
    races();
    return 0;
}

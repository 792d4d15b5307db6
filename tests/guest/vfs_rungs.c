/*
 * What calls must agree on however they are answered: positions shared by descriptors and threads, appends of many writers,
 * numbers that are closed and opened again while others read, and what stat says after each kind of change.
 */
#include "vfs_check.h"
#include <pthread.h>
#include <sys/resource.h>
#include <sys/wait.h>

enum { RECORD = 64, RECORDS = 2000, WRITERS = 4 };

static char records[RECORD * RECORDS];
static int shared[2];
static volatile int over;
static long taken;

/* Threads read one description by two numbers: each record comes once. */
static void *reader(void *number)
{
    char one[RECORD];
    while (read(*(int *)number, one, RECORD) == RECORD)
        __atomic_fetch_add(&taken, atoi(one), __ATOMIC_RELAXED);
    return NULL;
}

static void positions(void)
{
    pthread_t t[4];
    long sum = 0;
    for (int i = 0; i < RECORDS; i++) {
        snprintf(records + i * RECORD, RECORD, "%d", i);
        sum += i;
    }
    shared[0] = open("shared", O_RDWR | O_CREAT | O_TRUNC, 0600);
    CHECK(write(shared[0], records, sizeof records) == sizeof records);
    shared[1] = dup(shared[0]);
    CHECK(lseek(shared[1], 0, SEEK_SET) == 0);
    for (int i = 0; i < 4; i++)
        pthread_create(&t[i], NULL, reader, &shared[i & 1]);
    for (int i = 0; i < 4; i++)
        pthread_join(t[i], NULL);
    CHECK(taken == sum);
    CHECK(lseek(shared[0], 0, SEEK_CUR) == (long)sizeof records);
    CHECK(lseek(shared[1], -RECORD, SEEK_END) == (long)sizeof records - RECORD);
    pid_t p = fork();
    if (!p) {
        char one[RECORD];
        _exit(read(shared[0], one, RECORD) == RECORD && atoi(one) == RECORDS - 1 ? 0 : 1);
    }
    int st;
    waitpid(p, &st, 0);
    CHECK(st == 0);
    CHECK(read(shared[1], records, 1) == 0);
}

/* Appends of threads and processes, by descriptions of their own and one they share. */
static void *appender(void *number)
{
    char one[RECORD];
    int fd = *(int *)number, own = fd < 0;
    if (own)
        fd = open("appended", O_WRONLY | O_APPEND);
    memset(one, own ? 'o' : 's', sizeof one);
    one[RECORD - 1] = '\n';
    for (int i = 0; i < 300; i++)
        if (i & 1) {
            if (write(fd, one, RECORD) != RECORD)
                _exit(9);
        } else {
            struct iovec v[2] = {{one, 10}, {one + 10, RECORD - 10}};
            if (writev(fd, v, 2) != RECORD)
                _exit(9);
        }
    if (own)
        close(fd);
    return NULL;
}

static void appends(void)
{
    int fd = open("appended", O_RDWR | O_CREAT | O_TRUNC | O_APPEND, 0600), none = -1, bad = 0, st;
    pthread_t t[WRITERS];
    char one[RECORD];
    pid_t p = fork();
    for (int i = 0; i < WRITERS; i++)
        pthread_create(&t[i], NULL, appender, i & 1 ? &none : &fd);
    for (int i = 0; i < WRITERS; i++)
        pthread_join(t[i], NULL);
    if (!p)
        _exit(0);
    waitpid(p, &st, 0);
    CHECK(st == 0);
    CHECK(lseek(fd, 0, SEEK_END) == 2L * WRITERS * 300 * RECORD);
    for (long at = 0; pread(fd, one, RECORD, at) == RECORD; at += RECORD)
        for (int i = 1; i < RECORD - 1; i++)
            bad += one[i] != one[0] || one[RECORD - 1] != '\n';
    CHECK(bad == 0);
    close(fd);
}

/* A number that changes hands while it is read from. */
static void *changer(void *number)
{
    int fd = *(int *)number;
    for (int i = 0; !over; i++) {
        int other = open(i & 1 ? "a" : "b", O_RDONLY);
        if (i % 3)
            dup2(other, fd);
        else {
            close(fd);
            dup2(other, fd);
        }
        close(other);
    }
    return NULL;
}

static void changing_hands(void)
{
    int fd = open("a", O_RDWR | O_CREAT | O_TRUNC, 0600), wrong = 0;
    char got[16];
    pthread_t t;
    CHECK(write(fd, "aaaaaaaa", 8) == 8);
    int b = open("b", O_RDWR | O_CREAT | O_TRUNC, 0600);
    CHECK(write(b, "bbbbbbbb", 8) == 8);
    close(b);
    over = 0;
    pthread_create(&t, NULL, changer, &fd);
    for (int i = 0; i < 4000; i++) {
        ssize_t n = pread(fd, got, 8, 0);
        if (n < 0)
            wrong += errno != EBADF;
        else
            wrong += n != 8 || (memcmp(got, "aaaaaaaa", 8) && memcmp(got, "bbbbbbbb", 8));
    }
    over = 1;
    pthread_join(t, NULL);
    CHECK(wrong == 0);
    close(fd);
}

/* Each question is asked more than once, so that remembered answers are asked for, too. */
static int mode_of(const char *path)
{
    struct stat s;
    int r = 0;
    for (int i = 0; i < 3; i++)
        r = stat(path, &s) ? -errno : (int)s.st_mode;
    return r;
}

static long size_of(const char *path)
{
    struct stat s;
    long r = 0;
    for (int i = 0; i < 3; i++)
        r = lstat(path, &s) ? -errno : (long)s.st_size;
    return r;
}

static void remembered(void)
{
    struct stat s, s2;
    CHECK(mode_of("name") == -ENOENT);
    CHECK(access("name", F_OK) == -1 && errno == ENOENT);
    CHECK(open("name", O_RDONLY) == -1 && errno == ENOENT);
    int fd = open("name", O_RDWR | O_CREAT, 0640);
    CHECK(mode_of("name") == (S_IFREG | 0640));
    CHECK(access("name", F_OK) == 0);
    CHECK(write(fd, "12345", 5) == 5);
    CHECK(size_of("name") == 5);
    CHECK(write(fd, "678", 3) == 3);
    CHECK(size_of("name") == 8);
    CHECK(stat("name", &s) == 0);
    usleep(20000);
    CHECK(pwrite(fd, "x", 1, 0) == 1);
    CHECK(stat("name", &s2) == 0);
    CHECK(s2.st_mtim.tv_sec > s.st_mtim.tv_sec ||
          (s2.st_mtim.tv_sec == s.st_mtim.tv_sec && s2.st_mtim.tv_nsec > s.st_mtim.tv_nsec));
    CHECK(ftruncate(fd, 2) == 0);
    CHECK(size_of("name") == 2);
    CHECK(fchmod(fd, 0600) == 0);
    CHECK(mode_of("name") == (S_IFREG | 0600));
    CHECK(rename("name", "other") == 0);
    CHECK(mode_of("name") == -ENOENT);
    CHECK(mode_of("other") == (S_IFREG | 0600));
    CHECK(link("other", "name") == 0);
    CHECK(mode_of("name") == (S_IFREG | 0600));
    CHECK(stat("other", &s) == 0);
    CHECK(s.st_nlink == 2);
    CHECK(unlink("other") == 0);
    CHECK(stat("name", &s) == 0);
    CHECK(s.st_nlink == 1);
    CHECK(mkdir("d", 0755) == 0);
    CHECK(mode_of("d/f") == -ENOENT);
    CHECK(mode_of("d") == (S_IFDIR | 0755));
    CHECK(symlink("../name", "d/f") == 0);
    CHECK(size_of("d/f") == 7);
    CHECK(mode_of("d/f") == (S_IFREG | 0600));
    CHECK(unlink("name") == 0);
    CHECK(mode_of("d/f") == -ENOENT);
    CHECK(chmod("d", 0700) == 0);
    CHECK(mode_of("d") == (S_IFDIR | 0700));
    CHECK(mode_of("f") == -ENOENT);
    CHECK(chdir("d") == 0);
    CHECK(size_of("f") == 7);
    CHECK(chdir("..") == 0);
    CHECK(mode_of("f") == -ENOENT);
    CHECK(chmod("d", 0) == 0);
    CHECK(size_of("d/f") == 7);
    pid_t p = fork();
    if (!p) {
        int bad = chroot("d") != 0 || size_of("/f") != 7 || setgid(12345) != 0 || setuid(12345) != 0;
        _exit(bad || size_of("/f") != -EACCES);
    }
    int st;
    waitpid(p, &st, 0);
    CHECK(st == 0);
    CHECK(unlink("d/f") == 0);
    CHECK(rmdir("d") == 0);
    CHECK(mode_of("d") == -ENOENT);
    CHECK(mode_of("/etc/passwd/") == -ENOTDIR);
    CHECK(mode_of("") == -ENOENT);
    close(fd);
}

static void devices(void)
{
    char got[5000];
    int zero = open("/dev/zero", O_RDWR), null = open("/dev/null", O_RDWR);
    memset(got, 1, sizeof got);
    CHECK(read(zero, got, sizeof got) == sizeof got);
    CHECK(got[0] == 0 && got[4999] == 0);
    CHECK(read(null, got, 1) == 0);
    CHECK(write(null, got, 100) == 100);
    CHECK(write(zero, got, 100) == 100);
    CHECK(write(null, (void *)8, 100) == 100); /* nobody looks */
    CHECK(read(zero, (void *)8, 100) == -1 && errno == EFAULT);
    CHECK(lseek(null, 100, SEEK_SET) == 0);
    int ro = open("/dev/null", O_RDONLY);
    CHECK(write(ro, got, 1) == -1 && errno == EBADF);
}

static void limits(void)
{
    struct rlimit l = {10, RLIM_INFINITY};
    int fd = open("limited", O_RDWR | O_CREAT | O_TRUNC, 0600), st;
    pid_t p = fork();
    if (!p) {
        signal(SIGXFSZ, SIG_IGN);
        setrlimit(RLIMIT_FSIZE, &l);
        int bad = write(fd, "12345678", 8) != 8 || write(fd, "12345678", 8) != 2;
        bad |= write(fd, "1", 1) != -1 || errno != EFBIG;
        bad |= pwrite(fd, "abc", 3, 9) != 1;
        _exit(bad);
    }
    waitpid(p, &st, 0);
    CHECK(st == 0);
    CHECK(size_of("limited") == 10);
    close(fd);
}

int main(void)
{
    positions();
    appends();
    changing_hands();
    remembered();
    devices();
    limits();
    return 0;
}

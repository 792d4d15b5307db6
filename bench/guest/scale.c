/* 1 to 16 threads or processes that make mixed calls: wall time over all calls made. */
#define _GNU_SOURCE
#include "guest.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum { EACH = 400, CALLS = 5, MOST = 16 };

/* EACH rounds of CALLS calls. */
static void *mixed(void *unused)
{
    int zero = (int)must(open("/dev/zero", O_RDONLY), "/dev/zero");
    char buffer[512];
    struct stat s;

    for (int i = 0; i < EACH; i++) {
        syscall(SYS_getppid);
        must(read(zero, buffer, sizeof(buffer)), "read");
        must(stat("/usr/lib/os-release", &s), "stat");
        must(fstat(zero, &s), "fstat");
        syscall(SYS_getuid);
    }
    close(zero);
    return unused;
}

static void threads(int n)
{
    pthread_t t[MOST];

    for (int i = 0; i < n; i++)
        must(-pthread_create(&t[i], NULL, mixed, NULL), "thread");
    for (int i = 0; i < n; i++)
        pthread_join(t[i], NULL);
}

static void processes(int n)
{
    for (int i = 0; i < n; i++)
        if (must(fork(), "fork") == 0) {
            mixed(NULL);
            _exit(0);
        }
    for (int i = 0; i < n; i++) {
        int status;
        must(wait(&status), "wait");
        if (status)
            exit(5);
    }
}

#define SIZE(n)                               \
    static void threads_##n(void)             \
    {                                         \
        threads(n);                           \
    }                                         \
    static void processes_##n(void)           \
    {                                         \
        processes(n);                         \
    }
SIZE(1)
SIZE(2)
SIZE(4)
SIZE(8)
SIZE(16)
#define ROWS(n)                                                        \
    {"threads_" #n, threads_##n, 0, 0, (double)(n) * EACH * CALLS, 0}, \
    {"processes_" #n, processes_##n, 0, 0, (double)(n) * EACH * CALLS, 0}

const struct bench scale[] = {ROWS(1), ROWS(2), ROWS(4), ROWS(8), ROWS(16), {0}};

/* Single calls that most programs make. */
#define _GNU_SOURCE
#include "guest.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static int fd = -1;
static char buffer[4096];

static void getpid_(void) { sink = getpid(); }
static void gettid_(void) { sink = syscall(SYS_gettid); }
static void getppid_libc(void) { sink = getppid(); }
static void getppid_syscall(void) { sink = syscall(SYS_getppid); }

static void clock_vdso(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    sink = t.tv_nsec;
}

static void clock_syscall(void)
{
    struct timespec t;

    must(syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &t), "clock_gettime");
}

static void open_zero(void) { fd = (int)must(open("/dev/zero", O_RDONLY), "/dev/zero"); }
static void open_null(void) { fd = (int)must(open("/dev/null", O_WRONLY), "/dev/null"); }
static void close_fd(void) { close(fd); }
static void read_zero(void) { must(read(fd, buffer, 1), "read"); }
static void write_null(void) { must(write(fd, buffer, 1), "write"); }

static void open_close(void) { close((int)must(open("/etc/passwd", O_RDONLY), "/etc/passwd")); }

static void stat_(void)
{
    struct stat s;

    must(stat("/usr/lib/os-release", &s), "stat");
}

static void stat_missing(void)
{
    struct stat s;

    sink = stat("/usr/lib/no-such-file", &s);
}

const struct bench calls[] = {
    {"getpid", getpid_, 0, 0, 1, 0},
    {"gettid", gettid_, 0, 0, 1, 0},
    {"getppid_libc", getppid_libc, 0, 0, 1, 0},
    {"getppid_syscall", getppid_syscall, 0, 0, 1, 0},
    {"clock_vdso", clock_vdso, 0, 0, 1, 0},
    {"clock_syscall", clock_syscall, 0, 0, 1, 0},
    {"read_zero", read_zero, open_zero, close_fd, 1, 0},
    {"write_null", write_null, open_null, close_fd, 1, 0},
    {"open_close", open_close, 0, 0, 1, 0},
    {"stat", stat_, 0, 0, 1, 0},
    {"stat_missing", stat_missing, 0, 0, 1, 0},
    {0},
};

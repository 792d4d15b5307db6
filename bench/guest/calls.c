/*
 * What system calls cost, measured from inside. Prints "name nanoseconds" a line: the median of several rounds.
 *
 *     calls            all cases
 *     calls NAME ...   some
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/futex.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { ROUNDS = 7 };

static int file_fd, null_fd, pipe_a[2], pipe_b[2];
static char buffer[65536];
static char self[4096];

static void one_getpid(void) { syscall(SYS_getpid); }
static void one_clock(void) { struct timespec t; clock_gettime(CLOCK_MONOTONIC, &t); }
static void one_read(void) { if (pread(file_fd, buffer, 4096, 0) < 0) _exit(1); }
static void one_write(void) { if (pwrite(file_fd, buffer, 4096, 0) < 0) _exit(1); }
static void one_write_null(void) { if (write(null_fd, buffer, 1) < 0) _exit(1); }
static void one_open(void) { close(open("/etc/passwd", O_RDONLY)); }
static void one_stat(void) { struct stat s; if (stat("/usr/lib/os-release", &s)) _exit(1); }
static void one_enoent(void) { struct stat s; if (!stat("/usr/lib/no-such-file", &s)) _exit(1); }
static void one_pipe(void) { if (write(pipe_a[1], buffer, 1) != 1 || read(pipe_a[0], buffer, 1) != 1) _exit(1); }
static void one_pingpong(void) { if (write(pipe_a[1], buffer, 1) != 1 || read(pipe_b[0], buffer, 1) != 1) _exit(1); }
static void one_futex(void) { int w = 0; syscall(SYS_futex, &w, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0); }
static void one_mmap(void) {
    char *p = mmap(NULL, 65536, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED) _exit(1);
    p[0] = 1;
    munmap(p, 65536);
}
static void one_fault(void) {
    static char *p;
    static size_t at = 1 << 26;
    if (at == 1 << 26) {
        if (p) munmap(p, at);
        p = mmap(NULL, 1 << 26, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        at = 0;
    }
    p[at] = 1;
    at += 4096;
}
static void handler(int sig) { (void)sig; }
static void one_signal(void) { raise(SIGUSR1); }
static void one_fork(void) {
    pid_t p = fork();
    if (p == 0) _exit(0);
    waitpid(p, NULL, 0);
}
static void one_exec(void) {
    pid_t p = vfork();
    if (p == 0) {
        execl(self, self, "nothing", NULL);
        _exit(1);
    }
    waitpid(p, NULL, 0);
}

static const struct {
    const char *name;
    void (*one)(void);
    int count;
} cases[] = {
    {"getpid", one_getpid, 2000},   {"clock_gettime", one_clock, 20000}, {"read_4k", one_read, 1000},
    {"write_4k", one_write, 1000},  {"write_null", one_write_null, 1000}, {"open_close", one_open, 500},
    {"stat", one_stat, 1000},       {"stat_enoent", one_enoent, 1000},   {"pipe", one_pipe, 500},
    {"pipe_pingpong", one_pingpong, 200}, {"futex_wake", one_futex, 1000}, {"mmap_munmap", one_mmap, 300},
    {"page_fault", one_fault, 2000}, {"signal", one_signal, 300},        {"fork_wait", one_fork, 20},
    {"exec_wait", one_exec, 10},
};

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1e9 + t.tv_nsec;
}

static int ascending(const void *a, const void *b) {
    double d = *(const double *)a - *(const double *)b;
    return d < 0 ? -1 : d > 0;
}

int main(int argc, char **argv) {
    if (argc == 2 && !strcmp(argv[1], "nothing")) return 0;
    if (readlink("/proc/self/exe", self, sizeof self - 1) < 0) return 1;
    char name[] = "bench-XXXXXX";
    file_fd = mkstemp(name);
    unlink(name);
    null_fd = open("/dev/null", O_RDWR);
    if (file_fd < 0 || null_fd < 0 || write(file_fd, buffer, 4096) != 4096 || pipe(pipe_a) || pipe(pipe_b)) return 1;
    signal(SIGUSR1, handler);
    for (unsigned i = 0; i < sizeof cases / sizeof *cases; i++) {
        int wanted = argc == 1;
        for (int a = 1; a < argc; a++) wanted |= !strcmp(argv[a], cases[i].name);
        if (!wanted) continue;
        pid_t peer = 0;
        if (cases[i].one == one_pingpong && (peer = fork()) == 0) {
            char c;
            while (read(pipe_a[0], &c, 1) == 1 && write(pipe_b[1], &c, 1) == 1) {}
            _exit(0);
        }
        double rounds[ROUNDS];
        for (int k = 0; k < cases[i].count / 10 + 1; k++) cases[i].one();
        for (int r = 0; r < ROUNDS; r++) {
            double t = now();
            for (int k = 0; k < cases[i].count; k++) cases[i].one();
            rounds[r] = (now() - t) / cases[i].count;
        }
        if (peer) kill(peer, SIGKILL), waitpid(peer, NULL, 0);
        qsort(rounds, ROUNDS, sizeof *rounds, ascending);
        printf("%s %.1f\n", cases[i].name, rounds[ROUNDS / 2]);
        fflush(stdout);
    }
    return 0;
}

/*
 * Measures system calls and the like from inside. A line "name nanoseconds" for each case: the median
 * of several samples, each of at least the asked time.
 *
 *     guest [-t MS] [-d DATA] CASE ...     cases by name, or * at the end of a prefix
 *     guest list                           names
 *     guest run NAME BEFORE COMMAND ...    a program: BEFORE by sh (untimed), COMMAND timed
 *     guest hold                           says "ready", then waits until its input ends
 *     guest sleep SECONDS | burn SECONDS-OF-WORK | nothing
 */
#define _GNU_SOURCE
#include "guest.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { SAMPLES = 5 };

const char *data_dir = ".";
char self_path[4096];
volatile long sink;

static const struct bench *const groups[] = {calls, files, ipc, procs, memory, numbers, scale};
enum { GROUPS = sizeof(groups) / sizeof(*groups) };

double now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1e9 + t.tv_nsec;
}

long must(long result, const char *what)
{
    if (result < 0) {
        fprintf(stderr, "%s: %s\n", what, strerror(errno));
        exit(1);
    }
    return result;
}

static int ascending(const void *a, const void *b)
{
    double d = *(const double *)a - *(const double *)b;

    return d < 0 ? -1 : d > 0;
}

static double sample(const struct bench *b, long count)
{
    double began = now_ns();

    for (long i = 0; i < count; i++)
        b->one();
    return now_ns() - began;
}

/* Runs a case: first as many calls as fill the time, then the samples. */
static void measure(const struct bench *b, double least_ns)
{
    double taken[SAMPLES];
    int samples = b->once ? 3 : SAMPLES;
    long count = 1;

    if (b->setup)
        b->setup();
    sample(b, 1);
    for (double t; !b->once && (t = sample(b, count)) < least_ns;)
        count = t < least_ns / 16 ? count * 8 : (long)(count * least_ns / t * 1.1) + 1;
    for (int i = 0; i < samples; i++)
        taken[i] = sample(b, count) / ((double)count * b->per);
    if (b->cleanup)
        b->cleanup();
    qsort(taken, samples, sizeof(*taken), ascending);
    printf("%s %.2f\n", b->name, taken[samples / 2]);
    fflush(stdout);
}

static int matches(const char *pattern, const char *name)
{
    size_t n = strlen(pattern);

    if (n && pattern[n - 1] == '*')
        return !strncmp(pattern, name, n - 1);
    return !strcmp(pattern, name);
}

static int run_cases(int argc, char **argv, double least_ns)
{
    for (int a = 0; a < argc; a++) {
        int found = 0;
        for (int g = 0; g < GROUPS; g++)
            for (const struct bench *b = groups[g]; b->name; b++)
                if (matches(argv[a], b->name)) {
                    measure(b, least_ns);
                    found = 1;
                }
        if (!found) {
            fprintf(stderr, "no case %s\n", argv[a]);
            return 2;
        }
    }
    return 0;
}

static void list(void)
{
    for (int g = 0; g < GROUPS; g++)
        for (const struct bench *b = groups[g]; b->name; b++)
            puts(b->name);
}

static int wait_for(pid_t p)
{
    int status;

    must(waitpid(p, &status, 0), "wait");
    return status;
}

/* A program, timed from vfork to its end. */
static int run_program(const char *name, const char *before, char **command)
{
    double began;
    pid_t p;

    if (*before && system(before) != 0) {
        fprintf(stderr, "%s: failed: %s\n", name, before);
        return 1;
    }
    began = now_ns();
    p = (pid_t)must(vfork(), "vfork");
    if (p == 0) {
        execvp(command[0], command);
        _exit(127);
    }
    if (wait_for(p) != 0) {
        fprintf(stderr, "%s: %s failed\n", name, command[0]);
        return 1;
    }
    printf("%s %.0f\n", name, now_ns() - began);
    return 0;
}

/* A fixed amount of work, part computing, part system calls with waiting: prints what it took. */
static void burn(double units)
{
    int a[2], b[2];
    char c = 0;
    double began;
    pid_t p;

    must(pipe(a), "pipe");
    must(pipe(b), "pipe");
    p = (pid_t)must(fork(), "fork");
    if (p == 0) {
        close(a[1]);
        close(b[0]);
        while (read(a[0], &c, 1) == 1 && write(b[1], &c, 1) == 1) {
        }
        _exit(0);
    }
    began = now_ns();
    for (long i = 0; i < (long)(units * 1000); i++) {
        for (long k = 0; k < 400000; k++)
            sink += k;
        for (int k = 0; k < 4; k++)
            sink += syscall(SYS_getppid);
        must(write(a[1], &c, 1), "write");
        must(read(b[0], &c, 1), "read");
    }
    printf("burn %.0f\n", now_ns() - began);
    close(a[1]);
    wait_for(p);
}

int main(int argc, char **argv)
{
    double least_ns = 20e6;
    int opt;

    if (argc >= 2 && !strcmp(argv[1], "nothing"))
        return 0;
    must(readlink("/proc/self/exe", self_path, sizeof(self_path) - 1), "/proc/self/exe");
    if (argc >= 5 && !strcmp(argv[1], "run"))
        return run_program(argv[2], argv[3], argv + 4);
    if (argc == 3 && !strcmp(argv[1], "sleep"))
        return (int)sleep((unsigned)atoi(argv[2]));
    if (argc == 3 && !strcmp(argv[1], "burn")) {
        burn(atof(argv[2]));
        return 0;
    }
    if (argc == 2 && !strcmp(argv[1], "hold")) {
        char c;
        must(write(1, "ready\n", 6), "write");
        while (read(0, &c, 1) == 1) {
        }
        return 0;
    }
    if (argc == 2 && !strcmp(argv[1], "list")) {
        list();
        return 0;
    }
    while ((opt = getopt(argc, argv, "+t:d:")) != -1) {
        if (opt == 't')
            least_ns = atof(optarg) * 1e6;
        else if (opt == 'd')
            data_dir = optarg;
        else
            return 2;
    }
    return run_cases(argc - optind, argv + optind, least_ns);
}

/*
 * Processes that trace each other with random requests, registers and memory, exec, fork, make threads and die meanwhile.
 *
 *     tracers SECONDS SEED      ends with "survived N requests, M done"
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { SLOTS = 10, LIFE_MS = 700 };

static struct shared {
    volatile pid_t pid[SLOTS];
    volatile uint64_t requests, done;
} *shared;
static uint64_t state;
static char area[16384] __attribute__((aligned(4096)));

static uint64_t rnd(void)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state;
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

static uint64_t pick(void)
{
    static const uint64_t values[] = {0, 1, 2, 5, 8, 9, 18, 19, 24, 216, 512, 848, 904, 4096, 0x200, 0x202, 0x3000ff, 0x10007f, -1ULL};
    switch (rnd() % 4) {
    case 0: return rnd();
    case 1: return (uint64_t)area + rnd() % sizeof area;
    case 2: return rnd() % 70;
    default: return values[rnd() % (sizeof values / sizeof *values)];
    }
}

static void *idle(void *arg)
{
    for (int i = 0; i < 50; i++) usleep(1000);
    return arg;
}

static void request(void)
{
    static const int usual[] = {0, 1, 7, 3, 4, 9, 6, 7, 9, 12, 13, 14, 15, 16, 24, 24};
    int kind = rnd() % 3;
    long r = kind == 0 ? usual[rnd() % 16] : kind == 1 ? 0x4200 + (long)(rnd() % 17) : (long)(rnd() % 40);
    static pid_t mine; /* the last that was attached to */
    pid_t pid = mine && rnd() % 30 ? mine : shared->pid[rnd() % SLOTS];
    struct iovec iov = {area + rnd() % 4096, rnd() % 8192};
    uint64_t addr = pick(), data = pick();
    if (r == 8 && rnd() % 20) return; /* PTRACE_KILL */
    if ((r == 7 || r == 9 || r == 17 || r == 24) && rnd() % 4) data = rnd() % 4 ? 0 : rnd() % 64; /* goes on */
    if (r != 16 && r != 17 && mine && rnd() % 2) data = (uint64_t)area + rnd() % 8192;
    if (r == 0x4206) addr = 0, data &= 0x10007f;
    if (r == 0x4204 || r == 0x4205) data = (uint64_t)&iov, addr = rnd() % 2 ? 1 : 0x202;
    ++shared->requests;
    if (r == 0 && rnd() % 10) return; /* PTRACE_TRACEME */
    if (syscall(SYS_ptrace, r, pid, addr, data) >= 0) {
        ++shared->done;
        if (r == 16 || r == 0x4206) mine = pid;
        if (r == 16 || r == 7 || r == 9 || r == 24 || r == 0x4207) {
            usleep(200);
            waitpid(pid, NULL, WNOHANG | __WALL);
        }
    }
}

static void life(void)
{
    double end = now() + LIFE_MS / 1e3;
    pthread_t t;

    prctl(PR_SET_PDEATHSIG, SIGKILL);
    for (size_t i = 0; i < sizeof area; i += 8) *(uint64_t *)(area + i) = rnd() % 2 ? rnd() : rnd() % 256;
    while (now() < end) {
        for (int i = 0; i < 20; i++) request();
        switch (rnd() % 40) {
        case 0: kill(shared->pid[rnd() % SLOTS], rnd() % 2 ? SIGSTOP : SIGCONT); break;
        case 1: if (fork() == 0) _exit(0); break;
        case 2: if (vfork() == 0) _exit(0); break;
        case 3: pthread_create(&t, NULL, idle, NULL); break;
        case 4: if (rnd() % 4 == 0) execl("/bin/true", "true", NULL); break;
        case 5: raise(rnd() % 2 ? SIGURG : SIGTRAP); break;
        case 6: usleep(500); break;
        }
    }
    _exit(0);
}

int main(int argc, char **argv)
{
    if (argc != 3) return 2;
    double end = now() + atof(argv[1]), born[SLOTS] = {0};
    state = strtoull(argv[2], NULL, 0) | 1;
    shared = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    for (int i = 0; i < SLOTS; i++) shared->pid[i] = -1;
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    while (now() < end) {
        int st;
        for (int i = 0; i < SLOTS; i++) {
            if (shared->pid[i] > 0 && now() - born[i] > 1.3 * LIFE_MS / 1e3) {
                kill(shared->pid[i], SIGKILL);
                shared->pid[i] = -1;
            }
            if (shared->pid[i] > 0) continue;
            rnd();
            pid_t pid = fork();
            if (pid == 0) life();
            shared->pid[i] = pid, born[i] = now();
        }
        for (pid_t pid; (pid = waitpid(-1, &st, WNOHANG)) > 0;)
            if (WIFSTOPPED(st)) syscall(SYS_ptrace, 7, pid, 0, 0);
        usleep(5000);
    }
    kill(-1, SIGKILL);
    while (waitpid(-1, NULL, 0) > 0) {}
    printf("survived %llu requests, %llu done\n", (unsigned long long)shared->requests, (unsigned long long)shared->done);
    return 0;
}

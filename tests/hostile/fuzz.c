/*
 * Every system call number from 0 to 600 with random and boundary arguments, in child processes, for a number of seconds.
 *
 *     fuzz SECONDS SEED      prints each child's seed; ends with "survived N children, M calls"
 *     fuzz child SEED ROOT   one child again
 *
 * Children run as nobody, or as root without the calls that would kill the parent.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { NUMBERS = 601, CALLS = 3000, CHILD_MS = 1500, PARALLEL = 3 };

static uint64_t state;

static uint64_t rnd(void) {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state;
}

static char *area; /* pages: rw, ro, none, rw */
static volatile uint64_t *calls;

static const uint64_t boundary[] = {
    0, 1, 2, 3, 7, 8, 16, 64, 100, 127, 128, 255, 256, 4095, 4096, 4097, 65535, 65536, 0x7ffffffe, 0x7fffffff, 0x80000000,
    0xfffffffe, 0xffffffff, 0x100000000, 0x7fffffffffffffff, 0x8000000000000000, (uint64_t)-1, (uint64_t)-2, (uint64_t)-100,
    (uint64_t)-4096, 0x7ffffffff000, 0x7fff00000000, 0x800000000000, 0xffff800000000000, 0xffffffffff600000, 0xdeadbeef,
};

static uint64_t pick(void) {
    switch (rnd() % 8) {
    case 0: return rnd();
    case 1: return boundary[rnd() % (sizeof boundary / sizeof *boundary)];
    case 2: return rnd() % 24; /* descriptors, small counts, signals */
    case 3: return rnd() & 0xffff;
    case 4: return (uint64_t)area + rnd() % (4 * 4096);
    case 5: return (uint64_t)area + (rnd() % 5) * 4096 - rnd() % 16; /* at page borders */
    case 6: return 1ULL << (rnd() % 64);
    default: return (uint64_t)area + (rnd() & ~7ULL) % 4096;
    }
}

static int deadly(long n) {
    switch (n) {
    case SYS_kill: case SYS_tkill: case SYS_tgkill: case SYS_rt_sigqueueinfo: case SYS_rt_tgsigqueueinfo:
    case SYS_pidfd_send_signal: case SYS_reboot: case SYS_prlimit64 /* RLIMIT_CPU of the parent */:
    case SYS_ptrace /* PTRACE_ATTACH stops the parent */: return 1;
    default: return 0;
    }
}

/* Calls that would end or lose the child: they get processes of their own (frames, and the end by itself). */
static int ends_the_test(long n) {
    return n == SYS_exit || n == SYS_exit_group || n == SYS_rt_sigreturn;
}

static void *thread(void *arg) {
    (void)arg;
    for (;;) {
        long n = rnd() % NUMBERS;
        if (deadly(n) || ends_the_test(n) || n == SYS_clone || n == SYS_vfork || n == SYS_execve || n == SYS_execveat) continue;
        ++*calls;
        long r = syscall(n, pick(), pick(), pick(), pick(), pick(), pick());
        if ((n == SYS_fork || n == SYS_clone3) && r == 0) _exit(0);
    }
    return NULL;
}

static void fill(void) {
    static const char *paths[] = {"/tmp/a", "/proc/self/mem", "/dev/null", "/", "..", "/proc/self/fd/3", "/dev/ptmx", "", "/etc/passwd"};
    for (int i = 0; i < 4096; i += 8) {
        uint64_t v = pick();
        memcpy(area + i, &v, 8);
    }
    strcpy(area + 64 * (rnd() % 64), paths[rnd() % 9]);
}

/* rt_sigreturn with frames of random bytes, on stacks anywhere. */
static void frames(void) {
    for (int i = 0; i < 20; i++) {
        pid_t pid = fork();
        if (pid == 0) {
            signal(SIGSEGV, SIG_DFL);
            fill();
            uint64_t sp = rnd() % 4 ? (uint64_t)area + rnd() % 2048 : pick();
            if (rnd() % 2) sp &= ~15ULL;
            ++*calls;
            __asm__ volatile("mov %0, %%rsp\n mov $15, %%eax\n syscall\n ud2" ::"r"(sp) : "memory");
        }
        if (pid > 0) {
            usleep(300);
            kill(pid, SIGKILL);
            waitpid(pid, NULL, 0);
        }
    }
}

static void tick(int sig) {
    (void)sig;
}

/* What blocks is interrupted after some milliseconds, whatever the last calls did to timers and masks. */
static void arm(void) {
    struct sigaction sa = {.sa_handler = tick};
    struct itimerval it = {{0, 5000}, {0, 5000}};
    sigset_t none;
    sigemptyset(&none);
    sigaction(SIGALRM, &sa, NULL);
    sigprocmask(SIG_SETMASK, &none, NULL);
    setitimer(ITIMER_REAL, &it, NULL);
}

static void child(uint64_t seed, int root) {
    state = seed | 1;
    struct rlimit lim = {32 << 20, 32 << 20};
    setrlimit(RLIMIT_FSIZE, &lim);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    int fd = open("/dev/null", O_RDWR);
    dup2(fd, 0), dup2(fd, 1), dup2(fd, 2);
    int p[2];
    if (pipe2(p, O_NONBLOCK) || socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, p) || socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0, p)) _exit(1);
    epoll_create1(0);
    eventfd(0, EFD_NONBLOCK);
    open("/tmp", O_RDONLY);
    open("/tmp/fuzz", O_RDWR | O_CREAT, 0666);
    open("/proc/self/status", O_RDONLY);
    area = mmap(NULL, 4 * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    mprotect(area + 4096, 4096, PROT_READ);
    mprotect(area + 8192, 4096, PROT_NONE);
    if (!root && (setgid(65534) || setuid(65534))) _exit(1);
    int kind = rnd() % 8;
    if (kind == 0) frames();
    pthread_t id;
    if (kind == 1) pthread_create(&id, NULL, thread, NULL), pthread_create(&id, NULL, thread, NULL);
    for (int i = 0; i < CALLS; i++) {
        if (i % 16 == 0) fill(), arm();
        long n = rnd() % NUMBERS;
        if ((root && deadly(n)) || ends_the_test(n)) continue;
        uint64_t a[6];
        for (int k = 0; k < 6; k++) a[k] = pick();
        if (n == SYS_mmap && (a[3] & MAP_FIXED)) a[0] = 0x100000000 + (a[0] & 0xffffff000);
        ++*calls;
        long r = syscall(n, a[0], a[1], a[2], a[3], a[4], a[5]);
        if ((n == SYS_fork || n == SYS_vfork || n == SYS_clone || n == SYS_clone3) && r == 0) _exit(0);
    }
    _exit(0);
}

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

int main(int argc, char **argv) {
    calls = mmap((void *)0x3000000000, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    if (argc == 4 && !strcmp(argv[1], "child")) child(strtoull(argv[2], NULL, 0), atoi(argv[3]));
    if (argc != 3) return 2;
    double end = now() + atof(argv[1]);
    uint64_t seed = strtoull(argv[2], NULL, 0);
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    long children = 0;
    pid_t running[PARALLEL] = {0};
    double limit[PARALLEL] = {0};
    for (int slot = 0; now() < end; slot = (slot + 1) % PARALLEL) {
        if (running[slot] && waitpid(running[slot], NULL, WNOHANG) == 0) {
            if (now() > limit[slot]) kill(running[slot], SIGKILL);
            usleep(300);
            continue;
        }
        running[slot] = 0;
        seed = seed * 6364136223846793005ULL + 1442695040888963407ULL;
        int root = seed >> 33 & 1;
        printf("child %#llx %d\n", (unsigned long long)seed, root);
        fflush(stdout);
        pid_t pid = fork();
        if (pid == 0) child(seed, root);
        if (pid < 0) {
            usleep(1000);
            continue;
        }
        running[slot] = pid;
        limit[slot] = now() + CHILD_MS / 1e3;
        if (++children % 16 == 0) { /* what the children left behind */
            kill(-1, SIGKILL);
            while (waitpid(-1, NULL, 0) > 0) {}
            memset(running, 0, sizeof running);
        }
    }
    kill(-1, SIGKILL);
    while (waitpid(-1, NULL, 0) > 0) {}
    printf("survived %ld children, %llu calls\n", children, (unsigned long long)*calls);
    return 0;
}

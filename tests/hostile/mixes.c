/*
 * Mixes that a kernel of threads and mappings stumbles over: threads that map, unmap, move, protect, fork and touch the same
 * memory at the same time, under signals.
 *
 *     mixes SECONDS SEED     ends with "survived N processes"
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { PAGES = 64, THREADS = 4, STEPS = 1500, PAGE = 4096 };

static char *const area = (char *)0x200000000000;

static uint64_t rnd(uint64_t *s) {
    *s ^= *s << 13;
    *s ^= *s >> 7;
    *s ^= *s << 17;
    return *s;
}

static volatile long sink;
static int copy[2];

static void *step(void *arg) {
    uint64_t s = (uint64_t)arg | 1;
    for (int i = 0; i < STEPS; i++) {
        char *at = area + rnd(&s) % PAGES * PAGE, *to = area + rnd(&s) % PAGES * PAGE;
        size_t len = (1 + rnd(&s) % 8) * PAGE;
        switch (rnd(&s) % 10) {
        case 0: mmap(at, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0); break;
        case 1: mmap(at, len, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED, -1, 0); break;
        case 2: munmap(at, len); break;
        case 3: mremap(at, len, (1 + rnd(&s) % 8) * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, to); break;
        case 4: mprotect(at, len, rnd(&s) % 8); break;
        case 5: madvise(at, len, rnd(&s) % 2 ? MADV_DONTNEED : MADV_FREE); break;
        case 6: if (rnd(&s) % 20 == 0) {
            pid_t pid = fork();
            if (pid == 0) { prctl(PR_SET_PDEATHSIG, SIGKILL); sink += *at; *to = 1; _exit(0); }
            if (pid > 0 && rnd(&s) % 2) kill(pid, SIGKILL);
            if (pid > 0) waitpid(pid, NULL, 0);
            break;
        }
        /* fall through */
        case 7: sink += write(copy[1], at, len), sink += read(copy[0], to, len); break; /* copies from and to what moves */
        case 8: if (rnd(&s) % 4 == 0) sink += *(volatile char *)at; break;
        default: if (rnd(&s) % 4 == 0) *(volatile char *)at = 1;
        }
    }
    return NULL;
}

/* A touch of what another thread took away maps it again, for the instruction to be repeated. */
static void again(int sig, siginfo_t *si, void *context) {
    (void)sig, (void)context;
    char *page = (char *)((uintptr_t)si->si_addr & ~(uintptr_t)(PAGE - 1));
    if (page < area || page >= area + (PAGES + 8) * PAGE) _exit(3);
    mmap(page, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
}

int main(int argc, char **argv) {
    if (argc != 3) return 2;
    uint64_t seed = strtoull(argv[2], NULL, 0) * 2654435761u + 1;
    time_t end = time(NULL) + atoi(argv[1]);
    long n = 0, bad = 0;
    do {
        pid_t pid = fork();
        if (pid == 0) {
            struct sigaction sa = {.sa_sigaction = again, .sa_flags = SA_SIGINFO | SA_NODEFER};
            pthread_t id[THREADS];
            sigaction(SIGSEGV, &sa, NULL);
            sigaction(SIGBUS, &sa, NULL);
            alarm(60);
            if (pipe2(copy, O_NONBLOCK)) _exit(1);
            mmap(area, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
            for (int i = 0; i < THREADS; i++) pthread_create(&id[i], NULL, step, (void *)(rnd(&seed)));
            if (rnd(&seed) % 4 == 0) usleep(rnd(&seed) % 20000), _exit(0); /* all at once, in the middle */
            for (int i = 0; i < THREADS; i++) pthread_join(id[i], NULL);
            _exit(0);
        }
        int status;
        if (pid < 0 || waitpid(pid, &status, 0) != pid) return 1;
        if (status) printf("seed %#lx: status %#x\n", (unsigned long)seed, status), bad++;
        rnd(&seed);
        n++;
    } while (time(NULL) < end);
    if (!bad) printf("survived %ld processes\n", n);
    return bad != 0;
}

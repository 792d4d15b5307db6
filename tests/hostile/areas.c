/*
 * Attacks what systrap shares with its guests (native/stub/stub.h): context areas, the stub's text. On other platforms
 * there is nothing at these addresses, and the same program shows that, too.
 *
 *     areas SECONDS SEED     prints "survived" when its own processes could be waited for and a bystander's memory is intact
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define STUB_TEXT 0x7fff10000000UL
#define TEXT_SIZE 0x3000UL
#define AREA 0x7fff30000000UL
#define AREA_SIZE 0x10000UL
#define AREA_SCRATCH 0x3000UL
#define AREA_REGS 128 /* r8 ... rcx, then an iretq frame */
#define CTX_TEXT (STUB_TEXT + 0x2000)
#define AREA_ANSWERS 0xf000UL /* from here on the guest can only read */

static uint64_t seed;
static uint64_t rnd(uint64_t *s) {
    *s ^= *s << 13, *s ^= *s >> 7, *s ^= *s << 17;
    return *s;
}

static uint64_t special(uint64_t *s) {
    static const uint64_t values[] = {0, 1, 2, 3, 4, ~0UL, AREA, AREA + AREA_SIZE, STUB_TEXT, STUB_TEXT + 0x1000, STUB_TEXT + 0x2000,
                                      0x7fff20000000UL, 0x800000000000UL, 0xffffffffff600000UL, 0xffff, 0x4000, 0x10000, 1UL << 63};
    uint64_t r = rnd(s);
    return r & 1 ? values[r / 2 % (sizeof values / sizeof *values)] : r & 2 ? r >> 8 : r >> 8 & 0xffff;
}

/* A thread that writes into the areas of its siblings for as long as it lives. */
static volatile uint64_t areas[8];
static volatile int nareas;
static void *scribble(void *arg) {
    uint64_t s = (uint64_t)arg | 1;
    while (nareas < 3) sched_yield();
    if (areas[0] < AREA) return NULL;
    for (;;) {
        volatile uint32_t *area = (void *)areas[rnd(&s) % 3];
        area[rnd(&s) & 1 ? rnd(&s) % 72 : rnd(&s) % (AREA_ANSWERS / 4)] = (uint32_t)special(&s);
    }
}

static uint64_t gs_base(void) {
    uint64_t base;
    __asm__ volatile("rdgsbase %0" : "=r"(base));
    return base;
}

static void *busy(void *arg) {
    uint64_t s = (uint64_t)arg | 1;
    static int word;
    struct timespec ts;
    int p[2];
    char c;
    if (pipe(p)) return NULL;
    areas[__sync_fetch_and_add(&nareas, 1) & 7] = gs_base();
    for (;;) switch (rnd(&s) % 8) {
        case 0: syscall(SYS_getppid); break;
        case 1: if (write(p[1], "x", 1) == 1) (void)!read(p[0], &c, 1); break;
        case 2: getpid(); break;
        case 3: sched_yield(); break;
        case 4: munmap(mmap(0, 65536, 3, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), 65536); break;
        case 5: raise(SIGUSR1); break;
        case 6: syscall(SYS_clock_gettime, CLOCK_MONOTONIC, rnd(&s) & 1 ? &ts : (void *)special(&s)); break;
        case 7: syscall(SYS_futex, rnd(&s) & 1 ? &word : (void *)special(&s), 128 | (rnd(&s) & 1), 1, NULL); break;
    }
}

static void ignore(int sig) { (void)sig; }

/* Threads that work, and two that spoil their areas. */
static void scribblers(uint64_t s) {
    pthread_t t;
    signal(SIGUSR1, ignore);
    for (int i = 0; i < 3; i++) pthread_create(&t, 0, busy, (void *)rnd(&s));
    for (int i = 0; i < 2; i++) pthread_create(&t, 0, scribble, (void *)rnd(&s));
    usleep(rnd(&s) % 100000);
}

/* Finds its own area (gs_base of a guest that has no other use for it), and spoils just that, in a loop of calls. */
static void own_area(uint64_t s) {
    uint64_t base = gs_base();
    pthread_t t;
    signal(SIGUSR1, ignore);
    if (base < AREA || base >= AREA + (AREA_SIZE << 15)) return;
    for (int i = 0; i < 2; i++) pthread_create(&t, 0, busy, (void *)rnd(&s));
    for (int i = 0; i < 20000; i++) {
        volatile uint64_t *word = (void *)(base + (rnd(&s) & 1 ? rnd(&s) % 304 : rnd(&s) % AREA_ANSWERS & ~7UL));
        *word = special(&s);
        if (rnd(&s) & 1) syscall(SYS_getppid);
        if (rnd(&s) % 64 == 0) raise(SIGUSR1);
    }
}

/* A sibling that says for a thread that computes that it has stopped with a call. */
static volatile uint64_t victim_base;
static void *compute(void *arg) {
    victim_base = gs_base() | 1;
    for (;;) __asm__ volatile("" ::: "memory");
    return arg;
}
static void forger(uint64_t s) {
    static const uint64_t calls[] = {SYS_getpid, SYS_fork, SYS_exit, SYS_exit_group, SYS_mmap, SYS_execve, SYS_rt_sigreturn, SYS_clone, SYS_read};
    pthread_t t;
    pthread_create(&t, 0, compute, 0);
    while (!victim_base) sched_yield();
    victim_base &= ~1UL;
    if (victim_base < AREA) return;
    volatile uint32_t *word = (void *)victim_base;
    volatile uint64_t *regs = (void *)(victim_base + 128);
    for (int i = 0; i < 300; i++) {
        for (int j = 0; j < 20; j++) regs[j] = special(&s);
        regs[13] = calls[rnd(&s) % (sizeof calls / sizeof *calls)]; /* rax */
        for (int j = 2; j < 8; j++) ((volatile uint64_t *)word)[j] = special(&s);
        word[1] = rnd(&s) & 1 ? 3 : 6 | (rnd(&s) & 1 ? regs[13] : rnd(&s) & 0xffffff) << 8; /* STUB_CALL, _BRIEF */
        word[0] = 2; /* STUB_STOPPED */
        for (volatile int k = rnd(&s) % 2000; k; k--) ;
    }
}

/* Jumps into the stub's text, at any byte of it. */
static void jumper(uint64_t s) {
    uint64_t regs[16], at = STUB_TEXT + rnd(&s) % TEXT_SIZE;
    for (int i = 0; i < 16; i++) regs[i] = special(&s);
    if (rnd(&s) & 1) regs[7] = regs[3] = rnd(&s) & 1 ? AREA : gs_base(); /* rsp, rbx */
    __asm__ volatile("mov 0(%0), %%r8; mov 8(%0), %%rcx; mov 16(%0), %%rdx; mov 24(%0), %%rbx; mov 32(%0), %%rsi; mov 40(%0), %%r12;"
                     "mov 48(%0), %%r13; mov 56(%0), %%rsp; mov 64(%0), %%r14; mov 72(%0), %%r10; mov 80(%0), %%rax; mov 88(%0), %%rbp;"
                     "mov 96(%0), %%rdi; jmp *%1" ::"r"(regs), "r"(at)
                     : "memory");
}

/* A stack where the stub has its own while it asks for the time; faults, traps and calls there. */
static void borrowed_stack(uint64_t s) {
    uint64_t base = gs_base();
    if (base < AREA || base >= AREA + (AREA_SIZE << 15)) return;
    uint64_t top = base + AREA_SCRATCH + rnd(&s) % 0x1040, way = rnd(&s) % 6, nr = rnd(&s) % 400;
    for (volatile uint64_t *w = (void *)base; rnd(&s) % 4 && w < (uint64_t *)(base + 304); w++) *w = special(&s);
    __asm__ volatile("mov %0, %%rsp; cmp $1, %1; jb 1f; je 2f; cmp $3, %1; jb 3f; je 4f; cmp $5, %1; jb 5f; 6: jmp 6b;"
                     "1: ud2; 2: int3; jmp 2b; 3: mov 8, %%rax; 4: mov %2, %%rax; syscall; jmp 4b; 5: mov $228, %%eax; syscall; jmp 5b"
                     ::"r"(top), "r"(way), "r"(nr) : "memory", "rax", "rcx", "r11");
}

/* gs_base of its own choice, at a call site that is patched. */
static void own_gs(uint64_t s) {
    uint64_t base = gs_base();
    if (base < AREA) return;
    for (int i = 0; i < 50; i++) {
        uint64_t odd[] = {0, 0x12345, 0x10000000, base + 8, base ^ AREA_SIZE, 0x7fff20000000UL, STUB_TEXT};
        __asm__ volatile("wrgsbase %0" ::"r"(odd[rnd(&s) % 7]));
        if (getppid() < 0 || sched_yield() < 0) _exit(5);
    }
}

/* Makes a host call by an instruction of the stub's, and comes back: takes its memory away behind the sentry's back, or asks for
 * more rights to what it shares with the bystander, or to the stub's own pages. Then writes wherever it can. */
static unsigned char *mine;
static size_t size = 4 << 20;
static void thief_at_large(void) {
    for (size_t i = 0; i < size; i += 4096) mine[i] = 0xee;
    for (int i = 0; i < 20; i++) munmap(mmap(0, 65536, 3, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), 65536), sbrk(i & 1 ? -65536 : 65536);
    _exit(0);
}
static void thief(uint64_t s) {
    static char stack[65536];
    uint64_t base = gs_base(), at = 0, end = CTX_TEXT + 0x1000, where[] = {(uint64_t)mine, (uint64_t)mine, (uint64_t)stack, 0, CTX_TEXT, base,
                                                                         base + AREA_ANSWERS, 0x7fff20000000UL, 0x7ffeffff0000UL};
    if (base < AREA || base >= AREA + (AREA_SIZE << 15)) return;
    for (uint64_t p = CTX_TEXT, n = 0; p < end - 1; p++) /* one of the stub's system calls */
        if (((unsigned char *)p)[0] == 0x0f && ((unsigned char *)p)[1] == 0x05 && rnd(&s) % ++n == 0) at = p;
    uint64_t len = rnd(&s) & 1 ? size : rnd(&s) & 1 ? 0x10001000UL : ~0UL << 12;
    uint64_t prot = rnd(&s) & 1 ? PROT_READ | PROT_WRITE : rnd(&s) % 8, nr = rnd(&s) & 1 ? SYS_mprotect : SYS_munmap;
    volatile uint64_t *regs = (void *)(base + AREA_REGS);
    regs[15] = (uint64_t)thief_at_large, regs[16] = 0x33, regs[17] = 0x202, regs[18] = (uint64_t)stack + 65528, regs[19] = 0x2b;
    *(volatile uint32_t *)(base + 80) = *(volatile uint32_t *)(base + 24) = *(volatile uint32_t *)(base + 88) = 0; /* kick, flags, xrestore */
    __asm__ volatile("xor %%r12d, %%r12d; xor %%r10d, %%r10d; jmp *%1" ::"b"(base), "c"(at), "a"(nr),
                     "D"(where[rnd(&s) % (sizeof where / sizeof *where)]), "S"(len), "d"(prot) : "memory", "r10", "r12");
}

int main(int argc, char **argv) {
    static void (*const attacks[])(uint64_t) = {own_area, forger, jumper, jumper, thief, thief, own_gs, borrowed_stack, scribblers};
    if (argc != 3) return 2;
    seed = strtoull(argv[2], 0, 0) | 1;
    /* The bystander: nobody but it writes there. */
    mine = mmap(0, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    memset(mine, 0x5a, size);
    time_t end = time(0) + atoi(argv[1]);
    long n = 0, died = 0;
    while (time(0) < end) {
        int status;
        uint64_t s = rnd(&seed);
        pid_t pid = fork();
        if (pid == 0) {
            alarm(3);
            for (int i = 0; i < 40; i++) syscall(SYS_getppid), getppid(); /* hot: patched */
            attacks[s % (sizeof attacks / sizeof *attacks)](rnd(&s));
            _exit(0);
        }
        if (pid < 0) continue;
        for (int i = 0; i < 500 && waitpid(pid, &status, WNOHANG) == 0; i++) {
            usleep(10000);
            if (i == 450) kill(pid, SIGKILL);
        }
        n++, died += WIFSIGNALED(status);
        while (waitpid(-1, &status, WNOHANG) > 0) ;
    }
    for (size_t i = 0; i < size; i++)
        if (mine[i] != 0x5a) return puts("memory of another process was written"), 1;
    printf("%ld attacks, %ld died\nsurvived\n", n, died);
    return 0;
}

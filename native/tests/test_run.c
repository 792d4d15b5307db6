/*
 * The run loop over a platform (argument 1), with a memory manager of three pages: K, blocking,
 * interrupts, faults, the fast path, placement. Prints "ok NAME"; "bench" as argument 2 compares
 * with a bare PTRACE_SYSEMU loop.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "../mm/mm.h"
#include "../run/place.h"
#include "../run/run.h"
#include "check.h"

#define CODE 0x400000UL
#define DATA 0x10000000UL
#define LAZY 0x20000000UL
#define NPAGES 64

#define EQ(a, b)                                                                                  \
    do {                                                                                          \
        long a_ = (long)(a), b_ = (long)(b);                                                      \
        if (a_ != b_) {                                                                           \
            fprintf(stderr, "%s:%d: %s: %s is %ld, not %s (%ld)\n", __FILE__, __LINE__, __func__, \
                    #a, a_, #b, b_);                                                              \
            exit(1);                                                                              \
        }                                                                                         \
    } while (0)

/* A memory manager as small as can be: LAZY is mapped read-only at a read and writable at a write.
 */
struct cn_mm {
    struct cn_as *as;
    int readable, writable, faults;
};

static void map(struct cn_mm *mm, u64 addr, u32 prot, u64 off)
{
    struct cn_hostop op = {
        .kind = CN_OP_MAP, .prot = prot, .addr = addr, .len = 4096, .shared = 1, .off = off};
    EQ(cn_ops->as_queue(mm->as, &op), 0);
}

struct cn_as *cn_mm_as(struct cn_mm *mm)
{
    return mm->as;
}

int cn_memfile_denied(void)
{
    return 0;
}

int cn_mm_no_page(struct cn_mm *mm, u64 addr)
{
    (void)mm;
    (void)addr;
    return 0; /* a host file: the guest's own fault */
}

int cn_mm_fault(struct cn_mm *mm, u64 addr, u32 access)
{
    mm->faults++;
    if ((addr & CN_PAGE_MASK) == DATA)
        return -EACCES;
    if ((addr & CN_PAGE_MASK) == LAZY + 0x1000)
        return -ENXIO;
    if ((addr & CN_PAGE_MASK) != LAZY)
        return -EFAULT;
    if (access & CN_ACCESS_WRITE || (access & CN_ACCESS_GUESS && mm->readable)) {
        map(mm, LAZY, PROT_READ | PROT_WRITE, 0x3000);
        mm->writable = 1;
    } else {
        map(mm, LAZY, PROT_READ, 0x3000);
        mm->readable = 1;
    }
    return 0;
}

static u8 *mem;

#define GUEST(name, code)                                                                       \
    extern const u8 g_##name[], g_##name##_end[];                                               \
    __asm__(".pushsection .rodata\n.globl g_" #name "\ng_" #name ":\n" code "\n.globl g_" #name \
            "_end\ng_" #name "_end:\n.popsection\n")
GUEST(loop, "1: syscall; jmp 1b");
GUEST(spin, "1: incq (%rdi); jmp 1b");
GUEST(yield, "mov $24, %eax; syscall; mov $24, %eax; syscall; mov $39, %eax; syscall");
GUEST(touch, "mov (%rdi), %rax; movq $5, (%rdi); mov $39, %eax; syscall");

static struct cn_mm *new_mm(const u8 *code, const u8 *end)
{
    struct cn_mm *mm = calloc(1, sizeof(*mm));
    EQ(cn_ops->as_new(cn_plat, &mm->as), 0);
    memcpy(mem + 0x1000, code, (u64)(end - code));
    map(mm, CODE, PROT_READ | PROT_EXEC, 0x1000);
    map(mm, DATA, PROT_READ | PROT_WRITE, 0x2000);
    return mm;
}
#define MM(name) new_mm(g_##name, g_##name##_end)

static void free_mm(struct cn_mm *mm)
{
    cn_ops->as_free(mm->as);
    free(mm);
}

static struct cn_task *new_task(struct cn_mm *mm)
{
    struct cn_task *t;
    EQ(cn_task_new(mm, &t), 0);
    t->regs.rip = CODE;
    t->regs.rdi = DATA;
    return t;
}

static i64 now(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return ts.tv_sec * 1000000000 + ts.tv_nsec;
}

static void test_run(void)
{
    struct cn_mm *mm = MM(yield);
    struct cn_task *t = new_task(mm);
    u64 fast = cn_run_stats()->fast[24];
    EQ(cn_task_run(t), CN_STOP_SYSCALL);
    EQ(t->regs.orig_rax, 39);
    EQ(cn_run_stats()->fast[24] - fast, 2);
    t->regs.rip = CODE;
    EQ(cn_watch_set(24, CN_WATCH_STRACE, 1), 0);
    EQ(cn_task_run(t), CN_STOP_SYSCALL);
    EQ(t->regs.orig_rax, 24);
    EQ(cn_watch_set(24, CN_WATCH_STRACE, 0), 0);
    EQ(cn_watch_set(512, 1, 1), -EINVAL);
    t->regs.rip = CODE;
    t->slow = 1;
    EQ(cn_task_run(t), CN_STOP_SYSCALL);
    EQ(t->regs.orig_rax, 24);
    cn_task_free(t);
    free_mm(mm);
}

static void test_faults(void)
{
    struct cn_mm *mm = MM(touch);
    struct cn_task *t = new_task(mm);
    t->regs.rdi = LAZY;
    EQ(cn_task_run(t), CN_STOP_SYSCALL);
    EQ(mm->faults, 2);
    EQ(mem[0x3000], 5);
    static const struct {
        u64 addr;
        int signo, code, err;
    } bad[] = {{0x7000, SIGSEGV, SEGV_MAPERR, 4},
               {LAZY + 0x1000, SIGBUS, BUS_ADRERR, 4},
               {CN_TASK_SIZE + 4096, SIGSEGV, SEGV_MAPERR, 4}};
    for (int i = 0; i < 3; i++) {
        t->regs.rip = CODE;
        t->regs.rdi = bad[i].addr;
        EQ(cn_task_run(t), CN_STOP_FAULT);
        EQ(t->stop.signo, bad[i].signo);
        EQ(t->stop.code, bad[i].code);
        EQ(t->stop.err, bad[i].err);
        EQ(t->stop.addr, bad[i].addr);
    }
    t->regs.rip = DATA; /* not executable */
    EQ(cn_task_run(t), CN_STOP_FAULT);
    EQ(t->stop.code, SEGV_ACCERR);
    EQ(t->stop.err, 4 | 1 | 16);
    cn_task_free(t);
    free_mm(mm);
}

static struct cn_task *target;
static _Atomic int ready;

static void *poke(void *how)
{
    while (!ready)
        sched_yield();
    usleep(5000);
    cn_klock();
    ((void (*)(struct cn_task *))how)(target);
    cn_kunlock();
    return NULL;
}

static pthread_t poke_later(void (*how)(struct cn_task *), struct cn_task *t)
{
    pthread_t th;
    target = t;
    ready = 1;
    CHECK(!pthread_create(&th, NULL, poke, (void *)how));
    return th;
}

static void test_block(void)
{
    struct cn_mm *mm = MM(spin);
    struct cn_task *t = new_task(mm);
    pthread_t th;
    i64 t0 = now();
    EQ(cn_task_block(t, t0 + 3000000), CN_TIMEOUT);
    CHECK(now() - t0 >= 3000000);
    EQ(cn_task_block(t, 0), CN_TIMEOUT);
    cn_task_wake(t); /* not lost */
    EQ(cn_task_block(t, -1), CN_WOKEN);
    EQ(cn_task_block(t, now() + 1000000), CN_TIMEOUT); /* and counted once */
    th = poke_later(cn_task_wake, t);
    EQ(cn_task_block(t, -1), CN_WOKEN);
    pthread_join(th, NULL);
    th = poke_later(cn_task_interrupt, t);
    EQ(cn_task_block(t, -1), CN_INTERRUPTED);
    pthread_join(th, NULL);
    CHECK(cn_kheld());
    EQ(cn_task_block(t, -1), CN_INTERRUPTED); /* sticky */
    EQ(cn_task_run(t), CN_STOP_INTERRUPTED);
    EQ(cn_task_run(t), CN_STOP_INTERRUPTED);
    cn_task_wake(t);
    EQ(cn_task_block(t, -1), CN_WOKEN); /* a wake wins */
    EQ(cn_task_interrupted(t), 1);
    cn_task_clear_interrupt(t);
    EQ(cn_task_interrupted(t), 0);
    th = poke_later(cn_task_interrupt, t); /* out of the guest */
    EQ(cn_task_run(t), CN_STOP_INTERRUPTED);
    pthread_join(th, NULL);
    cn_task_free(t);
    free_mm(mm);
}

/* Two tasks wake each other; a lost wake-up would hang. */
static struct cn_task *pair[2];
static _Atomic int turn;

static void *ping(void *arg)
{
    int me = (int)(long)arg;
    cn_klock();
    EQ(cn_task_run(pair[me]), CN_STOP_SYSCALL); /* become this task's host thread */
    for (int i = 0; i < 20000; i++) {
        while (turn != me)
            cn_task_block(pair[me], -1);
        turn = !me;
        cn_task_wake(pair[!me]);
    }
    cn_task_release_ctx(pair[me]);
    cn_kunlock();
    return NULL;
}

static void test_ping_pong(void)
{
    struct cn_mm *mm[2];
    pthread_t th[2];
    i64 t0;
    for (int i = 0; i < 2; i++) {
        mm[i] = MM(loop);
        pair[i] = new_task(mm[i]);
    }
    turn = 0;
    cn_kunlock();
    alarm(60);
    t0 = now();
    for (long i = 0; i < 2; i++)
        CHECK(!pthread_create(&th[i], NULL, ping, (void *)i));
    for (int i = 0; i < 2; i++)
        pthread_join(th[i], NULL);
    printf("   ping-pong through cn_task_block: %.2f us a turn\n",
           (double)(now() - t0) / 40000 / 1000);
    alarm(0);
    cn_klock();
    for (int i = 0; i < 2; i++) {
        cn_task_free(pair[i]);
        free_mm(mm[i]);
    }
}

/* K: mutual exclusion, and nobody starves beside a thread that takes it in a loop. */
static long counter;
static _Atomic int stop_hog;

static void *count(void *arg)
{
    for (int i = 0; i < 50000; i++) {
        cn_klock();
        counter++;
        cn_kunlock();
    }
    return arg;
}

static void *hog(void *arg)
{
    while (!stop_hog) {
        cn_klock();
        for (volatile int i = 0; i < 5000; i++)
            ;
        cn_kunlock();
    }
    return arg;
}

static void test_klock(void)
{
    pthread_t th[4];
    cn_kunlock();
    for (int i = 0; i < 4; i++)
        CHECK(!pthread_create(&th[i], NULL, count, NULL));
    for (int i = 0; i < 4; i++)
        pthread_join(th[i], NULL);
    EQ(counter, 200000);
    for (int i = 0; i < 3; i++)
        CHECK(!pthread_create(&th[i], NULL, hog, NULL));
    i64 worst = 0;
    for (int i = 0; i < 50; i++) {
        i64 t0 = now();
        cn_klock();
        cn_kunlock();
        if (now() - t0 > worst)
            worst = now() - t0;
        usleep(500);
    }
    stop_hog = 1;
    for (int i = 0; i < 3; i++)
        pthread_join(th[i], NULL);
    printf("   longest wait for K beside three hogs: %.2f ms\n", (double)worst / 1e6);
    CHECK(worst < 2000000000);
    cn_klock();
}

/* Two guests that only compute use two cores. */
static void *compute(void *arg)
{
    struct cn_task *t = arg;
    cn_klock();
    EQ(cn_task_run(t), CN_STOP_INTERRUPTED);
    cn_task_release_ctx(t);
    cn_kunlock();
    return NULL;
}

static void test_two_cores(void)
{
    struct cn_mm *mm[2];
    struct cn_task *t[2];
    pthread_t th[2];
    cpu_set_t cores;
    u64 user[2], sys;
    sched_getaffinity(0, sizeof(cores), &cores);
    for (int i = 0; i < 2; i++) {
        mm[i] = MM(spin);
        t[i] = new_task(mm[i]);
    }
    cn_kunlock();
    for (int i = 0; i < 2; i++)
        CHECK(!pthread_create(&th[i], NULL, compute, t[i]));
    usleep(400000);
    cn_klock();
    for (int i = 0; i < 2; i++) {
        cn_task_cpu_ns(t[i], &user[i], &sys);
        cn_task_interrupt(t[i]);
    }
    cn_kunlock();
    for (int i = 0; i < 2; i++)
        pthread_join(th[i], NULL);
    printf("   two computing guests in 400 ms on %d cores: %lu + %lu ms\n", CPU_COUNT(&cores),
           user[0] / 1000000, user[1] / 1000000);
    CHECK(user[0] > 50000000 && user[1] > 50000000); /* none starves; the machine may be busy */
    cn_klock();
    for (int i = 0; i < 2; i++) {
        cn_task_free(t[i]);
        free_mm(mm[i]);
    }
}

static void test_exec(void)
{
    struct cn_mm *a = MM(loop), *b = MM(loop);
    struct cn_task *t = new_task(a);
    u64 user, sys;
    for (int i = 0; i < 10; i++) {
        EQ(cn_task_run(t), CN_STOP_SYSCALL);
        EQ(cn_task_set_mm(t, i & 1 ? a : b), 0);
    }
    EQ(cn_task_run(t), CN_STOP_SYSCALL);
    cn_task_cpu_ns(t, &user, &sys);
    cn_task_release_ctx(t);
    u64 user2;
    cn_task_cpu_ns(t, &user2, &sys);
    CHECK(user && user2 >= user && sys);
    EQ(cn_task_run(t), -ESRCH);
    cn_task_free(t);
    free_mm(a);
    free_mm(b);
}

static void test_xstate(void)
{
    struct cn_mm *mm = MM(loop);
    struct cn_task *a = new_task(mm), *b;
    u8 buf[512], *full = malloc(cn_xstate_size());
    EQ(cn_task_run(a), CN_STOP_SYSCALL);
    EQ(cn_task_get_xstate(a, full, cn_xstate_size()), cn_xstate_size());
    memset(full + 160, 0x77, 256);
    full[512] |= 3;
    EQ(cn_task_set_xstate(a, full, cn_xstate_size()), 0);
    b = new_task(mm);
    EQ(cn_task_copy_xstate(b, a), 0);
    EQ(cn_task_run(b), CN_STOP_SYSCALL);
    EQ(cn_task_get_xstate(b, buf, sizeof(buf)), 512);
    EQ(buf[200], 0x77);
    EQ(cn_task_reset_xstate(b), 0);
    EQ(cn_task_get_xstate(b, buf, sizeof(buf)), 512);
    EQ(buf[200], 0);
    EQ(buf[0], 0x7f);
    free(full);
    cn_task_free(b);
    cn_task_free(a);
    free_mm(mm);
}

/* The least a tracer on the tracee's core can do for one system call. */
static double bare_sysemu(int n)
{
    int status;
    struct user_regs_struct r;
    pid_t pid = fork();
    if (pid == 0) {
        ptrace(PTRACE_TRACEME, 0, 0, 0);
        raise(SIGSTOP);
        for (;;)
            syscall(SYS_getpid);
    }
    waitpid(pid, &status, 0);
    ptrace(PTRACE_SETOPTIONS, pid, 0, PTRACE_O_TRACESYSGOOD | PTRACE_O_EXITKILL);
    if (cn_place_cpu() >= 0)
        cn_place_pin(pid, cn_place_cpu());
    i64 t0 = now();
    for (int i = 0; i < n; i++) {
        ptrace(PTRACE_SYSEMU, pid, 0, 0);
        waitpid(pid, &status, __WALL);
        ptrace(PTRACE_GETREGS, pid, 0, &r);
        r.rax = 5;
        ptrace(PTRACE_SETREGS, pid, 0, &r);
    }
    double us = (double)(now() - t0) / n / 1000;
    kill(pid, SIGKILL);
    waitpid(pid, &status, 0);
    return us;
}

static void bench(void)
{
    enum { N = 20000 };
    struct cn_mm *mm = MM(loop);
    struct cn_task *t = new_task(mm);
    EQ(cn_task_run(t), CN_STOP_SYSCALL);
    for (int round = 0; round < 5; round++) {
        double bare = bare_sysemu(N);
        i64 t0 = now();
        for (int i = 0; i < N; i++) {
            t->regs.rax = 39;
            cn_task_run(t);
        }
        double ours = (double)(now() - t0) / N / 1000;
        printf("bare SYSEMU %.2f us, cn_task_run %.2f us, ratio %.2f\n", bare, ours, ours / bare);
    }
    cn_task_free(t);
    free_mm(mm);
}

static const struct {
    const char *name;
    void (*run)(void);
} tests[] = {
#define T(name) {#name, test_##name}
    T(run), T(faults), T(block), T(ping_pong), T(klock), T(two_cores), T(exec), T(xstate),
};

int main(int argc, char **argv)
{
    int memfd = memfd_create("memory", MFD_CLOEXEC), rc;
    CHECK(argc > 1 && ftruncate(memfd, NPAGES * 4096) == 0);
    mem = mmap(NULL, NPAGES * 4096, PROT_READ | PROT_WRITE, MAP_SHARED, memfd, 0);
    if ((rc = cn_platform_start(argv[1], memfd)) < 0) {
        fprintf(stderr, "cannot start platform %s: %s\n", argv[1], strerror(-rc));
        return 1;
    }
    setvbuf(stdout, NULL, _IOLBF, 0);
    cn_klock();
    if (argc > 2 && !strcmp(argv[2], "bench"))
        bench();
    else
        for (unsigned i = 0; i < sizeof(tests) / sizeof(tests[0]); i++) {
            if (argc > 2 && strcmp(argv[2], tests[i].name))
                continue;
            tests[i].run();
            printf("ok %s\n", tests[i].name);
        }
    cn_kunlock();
    cn_platform_stop();
    CHECK(waitpid(-1, NULL, __WALL) == -1 && errno == ECHILD);
    printf("ok no stub left\n");
    return 0;
}

/* futex(2) of private words at a patched call site: what it returns, that no wake-up is lost, and that a signal in the middle of it changes nothing. */
#include "vfs_check.h"
#include <linux/futex.h>
#include <pthread.h>
#include <signal.h>
#include <sys/time.h>

/* A place that calls often. The registers that a system call keeps are looked at: 1 in *spoiled for a change, and of the flags. */
long call(const uint32_t *word, long op, long value, const void *timeout, const void *word2, long value3);
extern volatile uint32_t spoiled;
__asm__(".globl call, spoiled\n"
        "call: push %rbx; push %rbp; push %r12\n"
        "mov %rcx, %r10; mov %rdi, %rbx; mov %rsi, %rbp; mov %rdx, %r12\n"
        "stc\n" /* the carry flag is kept */
        "mov $202, %eax\n"
        "syscall\n"
        "jc 1f\n"
        "incl spoiled(%rip)\n"
        "1: cmp %rdi, %rbx; jne 2f; cmp %rsi, %rbp; jne 2f; cmp %rdx, %r12; je 3f\n"
        "2: incl spoiled(%rip)\n"
        "3: pop %r12; pop %rbp; pop %rbx; ret\n"
        ".bss\n"
        "spoiled: .long 0\n"
        ".text\n");

#define WAIT FUTEX_WAIT_PRIVATE
#define WAKE FUTEX_WAKE_PRIVATE
#define ROUNDS 20000

static uint32_t word, other;
static volatile sig_atomic_t signals;

static void results(void)
{
    struct timespec bad = {0, 1000000000}, soon = {0, 1000000};
    char *page = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    munmap(page + 4096, 4096);
    for (int i = 0; i < 100; i++) { /* until the place is patched, and then */
        call(&word, WAKE, 1, NULL, NULL, 0);
        call(&word, WAIT, 1, NULL, NULL, 0);
    }
    SHOW(call(&word, WAIT, 1, NULL, NULL, 0));
    SHOW(call(&word, WAIT, 1L << 32, &soon, NULL, 0));
    SHOW(call(&word, WAIT, 1, &bad, NULL, 0));
    SHOW(call(&word, WAIT, 1, (void *)8, NULL, 0));
    SHOW(call((void *)((char *)&word + 2), WAIT, 1, NULL, NULL, 0));
    SHOW(call(NULL, WAIT, 1, NULL, NULL, 0));
    SHOW(call((void *)(page + 4096), WAIT, 1, NULL, NULL, 0));
    SHOW(call((void *)page, WAIT, 1, NULL, NULL, 0)); /* never touched */
    SHOW(call((void *)0x7fff20000000, WAIT, 1, NULL, NULL, 0));
    SHOW(call((void *)0x800000000000, WAIT, 1, NULL, NULL, 0));
    SHOW(call((void *)-4096, WAIT, 1, NULL, NULL, 0));
    SHOW(call(&word, WAKE, 1, NULL, NULL, 0));
    SHOW(call(&word, WAKE, 0, (void *)8, NULL, 0));
    SHOW(call((void *)((char *)&word + 2), WAKE, 1, NULL, NULL, 0));
    SHOW(call((void *)(page + 4096), WAKE, 1, NULL, NULL, 0));
    SHOW(call((void *)0x800000000000, WAKE, 1, NULL, NULL, 0));
    SHOW(call((void *)-4096, WAKE, 1, NULL, NULL, 0));
    SHOW(mprotect(page, 4096, PROT_NONE));
    SHOW(call((void *)page, WAIT, 1, NULL, NULL, 0));
}

/* Two threads hand one word to each other; each change is a plain store in front of the call. */
static void *player(void *arg)
{
    uint32_t me = arg != NULL;

    for (int i = 0; i < ROUNDS; i++) {
        while (*(volatile uint32_t *)&word != me)
            call(&word, WAIT, !me, NULL, NULL, 0);
        *(volatile uint32_t *)&word = !me;
        call(&word, WAKE, 1, NULL, NULL, 0);
    }
    return NULL;
}

static void ping_pong(void)
{
    pthread_t th;

    word = 0;
    pthread_create(&th, NULL, player, &th);
    player(NULL);
    pthread_join(th, NULL);
    SHOW(word);
}

static void *sleeper(void *arg)
{
    while (call(arg, WAIT, 0, NULL, NULL, 0) < 0)
        ;
    return NULL;
}

static long until(uint32_t *at, long n)
{
    long done = 0;

    for (int i = 0; i < 10000 && done < n; i++) {
        done += call(at, WAKE, 8, NULL, NULL, 0);
        if (done < n)
            usleep(1000);
    }
    return done;
}

/* Waiters that were moved from one word to another are found there. */
static void moved(void)
{
    pthread_t th[3];
    long n = 0;

    word = other = 0;
    for (int i = 0; i < 3; i++)
        pthread_create(&th[i], NULL, sleeper, &word);
    while (n < 3)
        n += call(&word, FUTEX_REQUEUE_PRIVATE, 0, (void *)8, &other, 0);
    SHOW(n);
    SHOW(call(&word, WAKE, 8, NULL, NULL, 0));
    SHOW(until(&other, 3));
    for (int i = 0; i < 3; i++)
        pthread_join(th[i], NULL);
    SHOW(call(&other, WAKE, 8, NULL, NULL, 0));
}

static void on_alarm(int s)
{
    (void)s;
    signals++;
    if (call(&other, WAKE, 1, NULL, NULL, 0))
        spoiled++;
}

/* Timer signals come at any instruction. */
static void interrupted(void)
{
    struct itimerval often = {{0, 100}, {0, 100}}, never = {{0, 0}, {0, 0}};
    struct sigaction sa = {.sa_handler = on_alarm};
    long wrong = 0;

    sigaction(SIGALRM, &sa, NULL);
    setitimer(ITIMER_REAL, &often, NULL);
    while (signals < 500) {
        wrong += call(&word, WAKE, 1, NULL, NULL, 0) != 0;
        wrong += call(&word, WAIT, 1, NULL, NULL, 0) != -EAGAIN;
    }
    setitimer(ITIMER_REAL, &never, NULL);
    SHOW(wrong);
}

/* A word that a priority-inheriting lock waits on. */
static void *owner_waits(void *arg)
{
    call(arg, FUTEX_LOCK_PI_PRIVATE, 0, NULL, NULL, 0);
    call(arg, FUTEX_UNLOCK_PI_PRIVATE, 0, NULL, NULL, 0);
    return NULL;
}

static void inheriting(void)
{
    pthread_t th;

    other = 0;
    SHOW(call(&other, FUTEX_LOCK_PI_PRIVATE, 0, NULL, NULL, 0));
    pthread_create(&th, NULL, owner_waits, &other);
    while (!(*(volatile uint32_t *)&other & FUTEX_WAITERS))
        usleep(1000);
    usleep(20000);
    SHOW(call(&other, WAKE, 1, NULL, NULL, 0));
    SHOW(call(&other, FUTEX_UNLOCK_PI_PRIVATE, 0, NULL, NULL, 0));
    pthread_join(th, NULL);
    SHOW(call(&word, WAKE, 1, NULL, NULL, 0));
}

int main(void)
{
    setvbuf(stdout, NULL, _IOLBF, 0);
    results();
    ping_pong();
    moved();
    interrupted();
    inheriting();
    SHOW(spoiled);
    return 0;
}

/* clock_gettime(2) at patched call sites: what it returns, that it keeps all registers, and that a signal in the middle of it changes nothing. */
#include "vfs_check.h"

static volatile sig_atomic_t signals;

static long call(long clock, void *ts)
{
    long rc;
    __asm__ volatile("mov $228, %%eax\nsyscall" : "=a"(rc) : "D"(clock), "S"(ts) : "rcx", "r11", "memory");
    return rc;
}

static void on_alarm(int s)
{
    static struct timespec ts;

    (void)s;
    signals++;
    call(CLOCK_REALTIME, &ts);
}

/* 1 when anything but the result has changed. */
static int spoils(struct timespec *ts)
{
    static const uint64_t pattern[2] = {0x1122334455667788, 0x99aabbccddeeff00};
    register uint64_t r8 __asm__("r8") = 8, r9 __asm__("r9") = 9, r10 __asm__("r10") = 10;
    uint64_t first[2], last[2];
    long rc, carry;

    __asm__ volatile("movdqu %[pattern], %%xmm0\n movdqu %[pattern], %%xmm15\n"
                     "stc\n"
                     "mov $228, %%eax\n"
                     "syscall\n"
                     "sbb %[carry], %[carry]\n"
                     "movdqu %%xmm0, %[first]\n movdqu %%xmm15, %[last]\n"
                     : "=a"(rc), [carry] "=&r"(carry), [first] "=m"(first), [last] "=m"(last), "+r"(r8), "+r"(r9), "+r"(r10)
                     : "D"((long)CLOCK_MONOTONIC), "S"(ts), [pattern] "m"(pattern)
                     : "rcx", "r11", "memory", "xmm0", "xmm15");
    return rc || carry != -1 || r8 != 8 || r9 != 9 || r10 != 10 || memcmp(first, pattern, 16) || memcmp(last, pattern, 16);
}

int main(void)
{
    struct itimerval often = {{0, 70}, {0, 70}}, never = {{0, 0}, {0, 0}};
    struct sigaction sa = {.sa_handler = on_alarm};
    struct timespec ts, before = {0, 0};
    long spoiled = 0, backwards = 0, apart = 0;
    char *page = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    setvbuf(stdout, NULL, _IOLBF, 0);
    for (int i = 0; i < 100; i++) /* until the places are patched, and then */
        call(CLOCK_MONOTONIC, &ts), spoils(&ts);
    for (int clock = -2; clock < 14; clock++)
        SHOW(call(clock, &ts));
    SHOW(call(CLOCK_MONOTONIC, NULL));
    SHOW(call(CLOCK_MONOTONIC, (void *)8));
    SHOW(call(CLOCK_MONOTONIC, (void *)0x800000000000));
    SHOW(call(CLOCK_MONOTONIC, (void *)-1L));
    SHOW(call(CLOCK_MONOTONIC | 1L << 32, &ts));
    SHOW(call(CLOCK_MONOTONIC, page)); /* never touched */
    SHOW(mprotect(page + 4096, 4096, PROT_NONE));
    SHOW(call(CLOCK_MONOTONIC, page + 4096 - 8));
    SHOW(mprotect(page, 4096, PROT_READ));
    SHOW(call(CLOCK_MONOTONIC, page));

    sigaction(SIGALRM, &sa, NULL);
    setitimer(ITIMER_REAL, &often, NULL);
    while (signals < 1000) {
        spoiled += spoils(&ts);
        backwards += ts.tv_sec < before.tv_sec || (ts.tv_sec == before.tv_sec && ts.tv_nsec < before.tv_nsec);
        before = ts;
    }
    setitimer(ITIMER_REAL, &never, NULL);
    SHOW(spoiled);
    SHOW(backwards);

    for (int i = 0; i < 1000; i++) { /* the same clock as the vDSO's */
        struct timespec a, b, c;
        clock_gettime(CLOCK_MONOTONIC, &a);
        call(CLOCK_MONOTONIC, &b);
        clock_gettime(CLOCK_MONOTONIC, &c);
        apart += b.tv_sec < a.tv_sec || (b.tv_sec == a.tv_sec && b.tv_nsec < a.tv_nsec) || c.tv_sec < b.tv_sec ||
                 (c.tv_sec == b.tv_sec && c.tv_nsec < b.tv_nsec);
    }
    SHOW(apart);
    return 0;
}

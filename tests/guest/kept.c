/* Calls that the kernel answers quickly, thousands of them, while signals come at any moment: every register but rax, rcx and r11 is
 * kept, and so is the stack. (A platform may look at few registers of such a call; a signal's frame needs them all.) */
#define _GNU_SOURCE
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static volatile sig_atomic_t signals;
static int fd, armed;

/* One call with a pattern in every register that it must keep: 0 when all are as they were, and rsp. */
static long call(long nr, long a, long b, long c, long *result) {
    uint64_t wrong;
    register long r10 __asm__("r10") = nr;
    __asm__ volatile(
        "push %%rbx; push %%rbp; push %%r12; push %%r13; push %%r14; push %%r15\n"
        "movabs $0x1111111111111111, %%rbx; movabs $0x2222222222222222, %%rbp; movabs $0x3333333333333333, %%r12\n"
        "movabs $0x4444444444444444, %%r13; movabs $0x5555555555555555, %%r14; mov %%rsp, %%r15\n"
        "movabs $0x6666666666666666, %%r8; movabs $0x7777777777777777, %%r9\n"
        "cmp $1, %%r10; je 1f; cmp $2, %%r10; je 2f; mov $8, %%eax; syscall; jmp 3f\n"
        "1: mov $0, %%eax; syscall; jmp 3f\n"
        "2: mov $4, %%eax; syscall\n"
        "3: mov %%rax, %%r10; xor %%eax, %%eax\n"
        "movabs $0x1111111111111111, %%rcx; xor %%rcx, %%rbx; or %%rbx, %%rax\n"
        "movabs $0x2222222222222222, %%rcx; xor %%rcx, %%rbp; or %%rbp, %%rax\n"
        "movabs $0x3333333333333333, %%rcx; xor %%rcx, %%r12; or %%r12, %%rax\n"
        "movabs $0x4444444444444444, %%rcx; xor %%rcx, %%r13; or %%r13, %%rax\n"
        "movabs $0x5555555555555555, %%rcx; xor %%rcx, %%r14; or %%r14, %%rax\n"
        "movabs $0x6666666666666666, %%rcx; xor %%rcx, %%r8; or %%r8, %%rax\n"
        "movabs $0x7777777777777777, %%rcx; xor %%rcx, %%r9; or %%r9, %%rax\n"
        "xor %%rsp, %%r15; or %%r15, %%rax\n"
        "pop %%r15; pop %%r14; pop %%r13; pop %%r12; pop %%rbp; pop %%rbx\n"
        : "=&a"(wrong), "+D"(a), "+S"(b), "+d"(c), "+r"(r10)
        :
        : "rcx", "r8", "r9", "r11", "memory");
    *result = r10;
    return (long)wrong;
}

static char buf[256];

static int loop(int n) {
    long result;
    for (int i = 0; i < n; i++) {
        if (call(0, fd, 0, SEEK_SET, &result) || result != 0) return 1;
        if (call(1, fd, (long)buf, 3, &result) || result != 3 || buf[0] != 'a') return 2;
        if (call(2, (long)"/", (long)buf, 0, &result) || result != 0) return 3;
        buf[0] = 0;
        if (armed) setitimer(ITIMER_REAL, &(struct itimerval){{0, 0}, {0, 1 + i % 30}}, NULL); /* soon after it returns */
    }
    return 0;
}

static void on_signal(int sig) {
    char kept[3] = {buf[0], buf[1], buf[2]};
    long result;
    (void)sig;
    signals++;
    if (call(0, -1, 0, 0, &result) || result != -9) _exit(9);
    buf[0] = kept[0], buf[1] = kept[1], buf[2] = kept[2];
}

int main(void) {
    char name[] = "keptXXXXXX";
    time_t end;
    int rc = 0;

    fd = open(name, O_RDWR | O_CREAT | O_TRUNC, 0600);
    if (fd < 0 || write(fd, "abc", 3) != 3) return 1;
    if ((rc = loop(200))) return printf("without signals: %d\n", rc), 1;
    signal(SIGALRM, on_signal);
    armed = 1;
    for (end = time(NULL) + 3; !rc && time(NULL) < end;) rc = loop(100);
    setitimer(ITIMER_REAL, &(struct itimerval){0}, NULL);
    unlink(name);
    if (rc) return printf("with signals: %d\n", rc), 1;
    puts(signals > 100 ? "ok" : "too few signals");
    return signals <= 100;
}

/*
 * Tries, in a child each, every way of calling the host kernel from guest code. VICTIM is a process of the host that
 * calls which get there would kill.
 *
 *     stub_escape VICTIM     a line an attempt: its name, and "signal N" or the value that came back
 *     stub_escape wait       prints "ready" and sleeps, to be looked at from outside
 */
#define _GNU_SOURCE
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

/* Where stubs keep their own code and control page (native/stub/stub.h), and where the guest ends. */
#define TASK_SIZE 0x7fff00000000UL
#define STUB_TEXT 0x7fff10000000UL
#define STUB_CTRL 0x7fff20000000UL
#define STUB_AREA 0x7fff30000000UL

static long victim;

static long call3(long n, long a, long b, long c) {
    long r;
    __asm__ volatile("syscall" : "=a"(r) : "a"(n), "D"(a), "S"(b), "d"(c) : "rcx", "r11", "memory");
    return r;
}

static long plain(void) { return call3(SYS_kill, victim, 9, 0); }
static long x32(void) { return call3(SYS_kill | 0x40000000, victim, 9, 0); }
static long high_bits(void) { return call3(SYS_kill | 0x100000000, victim, 9, 0); }

static long int80(void) {
    long r;
    __asm__ volatile("int $0x80" : "=a"(r) : "a"(37L), "b"(victim), "c"(9L) : "memory");
    return r;
}

static long sysenter(void) {
    __asm__ volatile("mov %%rsp, %%rbp; sysenter" ::"a"(37L), "b"(victim), "c"(9L) : "memory");
    return 0;
}

/* 32-bit code: a far return to the compatibility segment. */
static long far32(void) {
    static const unsigned char code[] = {0xb8, 37, 0, 0, 0, 0xb9, 9, 0, 0, 0, 0xcd, 0x80, 0xf4}; /* kill by int 0x80; hlt */
    char *low = mmap((void *)0x10000000, 8192, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    memcpy(low, code, sizeof code);
    __asm__ volatile("mov %0, %%rsp; push $0x23; push %1; lretq" ::"r"(low + 8192 - 64), "r"((long)low), "b"(victim) : "memory");
    return 0;
}

static long vsyscall(uint64_t entry) {
    long r;
    __asm__ volatile("call *%1" : "=a"(r) : "r"(entry), "D"(0L), "S"(0L), "a"(victim) : "rcx", "r11", "memory");
    return r < 0 ? r : 0; /* a time or a core: 0 */
}
static long vsyscall_time(void) { return vsyscall(0xffffffffff600400); }
static long vsyscall_middle(void) { return vsyscall(0xffffffffff600402); }
static long vsyscall_getcpu(void) { return vsyscall(0xffffffffff600800); }

/* Into the stub's own text, with a batch of calls of our own. */
static long stub_text(unsigned offset) {
    uint64_t op[7] = {SYS_kill, (uint64_t)victim, 9};
    __asm__ volatile("mov %0, %%r12; mov $1, %%r13d; jmp *%1" ::"r"(op), "r"(STUB_TEXT + offset) : "r12", "r13", "memory");
    return 0;
}
static long stub_batch(void) { return stub_text(0); }
/* Its system call instruction, found by looking: kill there. */
static long stub_syscall(void) {
    const unsigned char *p = (void *)STUB_TEXT;
    while (p[0] != 0x0f || p[1] != 5) p++;
    __asm__ volatile("jmp *%0" ::"r"(p), "a"((long)SYS_kill), "D"(victim), "S"(9L) : "memory");
    return 0;
}

static long write_text(void) { *(volatile char *)STUB_TEXT = 0x90; return 0; }
static long write_answers(void) {
    unsigned long base;
    __asm__ volatile("rdgsbase %0" : "=r"(base));
    *(volatile char *)((base ? base : STUB_AREA) + 0xf000) = 1;
    return 0;
}
static long write_control(void) { *(volatile char *)STUB_CTRL = 1; return 0; }
static long map_over(uint64_t at) { return (long)mmap((void *)at, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == -1 ? -1 : 1; }
static long map_text(void) { return map_over(STUB_TEXT); }
static long map_control(void) { return map_over(STUB_CTRL); }
static long protect_text(void) { return mprotect((void *)STUB_TEXT, 4096, PROT_READ | PROT_WRITE | PROT_EXEC); }
static long unmap_text(void) { return munmap((void *)STUB_TEXT, 4096); }
static long move_text(void) { return mremap((void *)STUB_TEXT, 4096, 8192, MREMAP_MAYMOVE) == MAP_FAILED ? -1 : 1; }
static long read_above(void) { int fd[2]; return pipe(fd) ? 2 : write(fd[1], (void *)STUB_TEXT, 16) == -1 ? -1 : 1; }
/* The numbers that the stubs' descriptor table has: ours are others. */
static long stub_descriptors(void) { close(0), close(1), close(2); return write(1, "x", 1) == -1 && write(0, "x", 1) == -1 ? -1 : 1; }

static const struct { const char *name; long (*run)(void); } attempts[] = {
    {"syscall", plain}, {"x32", x32}, {"high bits", high_bits}, {"int 0x80", int80}, {"sysenter", sysenter}, {"32-bit code", far32},
    {"vsyscall time", vsyscall_time}, {"vsyscall middle", vsyscall_middle}, {"vsyscall getcpu", vsyscall_getcpu},
    {"stub batch", stub_batch}, {"stub syscall", stub_syscall}, {"write text", write_text}, {"write control", write_control},
    {"write answers", write_answers},
    {"map text", map_text}, {"map control", map_control}, {"protect text", protect_text}, {"unmap text", unmap_text},
    {"move text", move_text}, {"kernel reads stub text", read_above}, {"stub descriptors", stub_descriptors},
};

int main(int argc, char **argv) {
    if (argc != 2) return 2;
    if (!strcmp(argv[1], "wait")) {
        puts("ready");
        fflush(stdout);
        sleep(1000);
    }
    victim = atol(argv[1]);
    for (unsigned i = 0; i < sizeof attempts / sizeof *attempts; i++) {
        int status, p[2];
        long value = 0;
        if (pipe(p)) return 1;
        fflush(stdout);
        pid_t pid = fork();
        if (pid == 0) {
            value = attempts[i].run();
            if (write(p[1], &value, sizeof value) != sizeof value) _exit(1);
            _exit(0);
        }
        close(p[1]);
        int said = read(p[0], &value, sizeof value) == sizeof value;
        close(p[0]);
        if (waitpid(pid, &status, 0) != pid) return 1;
        if (said) printf("%s: %ld\n", attempts[i].name, value);
        else if (WIFSIGNALED(status)) printf("%s: signal %d\n", attempts[i].name, WTERMSIG(status));
        else printf("%s: status %d\n", attempts[i].name, WEXITSTATUS(status));
    }
    return 0;
}

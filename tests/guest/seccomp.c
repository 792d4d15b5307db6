/* seccomp(2) filters of a guest: each verdict, chains, inheritance, bad programs. */
#include "vfs_check.h"
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/prctl.h>

#define LOAD_NR BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr))
#define RET(v) BPF_STMT(BPF_RET | BPF_K, (v))
#define IF_NR(nr, verdict) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (nr), 0, 1), RET(verdict)

static long install(struct sock_filter *f, int n, int flags)
{
    struct sock_fprog p = {n, f};
    return syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &p);
}

static volatile int trapped;
static void on_sys(int sig, siginfo_t *si, void *u)
{
    (void)sig, (void)u;
    trapped = si->si_syscall * 1000 + si->si_errno;
    CHECK(si->si_code == 1 && si->si_arch == AUDIT_ARCH_X86_64);
}

static int in_child(void (*fn)(void))
{
    int st;
    pid_t p = fork();
    if (!p) {
        fn();
        _exit(0);
    }
    waitpid(p, &st, 0);
    return st;
}

static void verdicts(void)
{
    struct sigaction sa = {.sa_sigaction = on_sys, .sa_flags = SA_SIGINFO};
    sigaction(SIGSYS, &sa, NULL);
    struct sock_filter f[] = {LOAD_NR, IF_NR(SYS_getppid, SECCOMP_RET_ERRNO | 77), IF_NR(SYS_getpriority, SECCOMP_RET_TRAP | 5),
                              IF_NR(SYS_getitimer, SECCOMP_RET_KILL_PROCESS), RET(SECCOMP_RET_ALLOW)};
    CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
    CHECK(install(f, sizeof f / sizeof *f, 0) == 0);
    CHECK(prctl(PR_GET_SECCOMP) == 2);
    CHECK(syscall(SYS_getppid) == -1 && errno == 77);
    syscall(SYS_getpriority);
    CHECK(trapped == SYS_getpriority * 1000 + 5);
    CHECK(getpid() > 0);
    struct sock_filter g[] = {LOAD_NR, IF_NR(SYS_getppid, SECCOMP_RET_ERRNO | 5), IF_NR(SYS_getpgrp, SECCOMP_RET_ERRNO | 6),
                              RET(SECCOMP_RET_ALLOW)};
    CHECK(install(g, sizeof g / sizeof *g, 0) == 0);
    CHECK(syscall(SYS_getpgrp) == -1 && errno == 6);
    CHECK(syscall(SYS_getppid) == -1 && errno == 5);
    if (!fork()) {
        CHECK(syscall(SYS_getpgrp) == -1 && errno == 6);
        execl("/bin/sh", "sh", "-c", "exit 4", NULL);
    }
    int st;
    wait(&st);
    CHECK(WEXITSTATUS(st) == 4);
    syscall(SYS_getitimer);
}

static void strict(void)
{
    CHECK(prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT) == 0);
    write(1, "strict\n", 7);
    getppid();
}

static void bad(void)
{
    struct sock_filter f[] = {LOAD_NR, RET(SECCOMP_RET_ALLOW)};
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    CHECK(install(f, 0, 0) == -1 && errno == EINVAL);
    CHECK(install(f, 1, 0) == -1 && errno == EINVAL);
    CHECK(install((void *)8, 2, 0) == -1 && errno == EFAULT);
    CHECK(install(f, 2, 1 << 20) == -1 && errno == EINVAL);
    f[0].k = 64;
    CHECK(install(f, 2, 0) == -1 && errno == EINVAL);
    f[0].k = 2;
    CHECK(install(f, 2, 0) == -1 && errno == EINVAL);
    f[0] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JA, 1, 0, 0);
    CHECK(install(f, 2, 0) == -1 && errno == EINVAL);
    f[0] = (struct sock_filter)BPF_STMT(BPF_ALU | BPF_DIV | BPF_K, 0);
    CHECK(install(f, 2, 0) == -1 && errno == EINVAL);
    f[0].code = 0xffff;
    CHECK(install(f, 2, 0) == -1 && errno == EINVAL);
}

int main(void)
{
    setvbuf(stdout, NULL, _IONBF, 0);
    int st = in_child(verdicts);
    CHECK(WIFSIGNALED(st) && WTERMSIG(st) == SIGSYS);
    st = in_child(strict);
    CHECK(WIFSIGNALED(st) && WTERMSIG(st) == SIGKILL);
    CHECK(in_child(bad) == 0);
    puts("done");
    return 0;
}

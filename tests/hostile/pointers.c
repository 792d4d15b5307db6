/* Bad pointers in every place of every common call: each must fail with EFAULT (or another errno), none may end anything. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

int main(void) {
    char *area = mmap(NULL, 3 * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    mprotect(area + 4096, 4096, PROT_READ);
    mprotect(area + 8192, 4096, PROT_NONE);
    int fd = open("/etc/passwd", O_RDONLY);
    const uint64_t bad[] = {1, 4095, 0x1000, (uint64_t)area + 4096, (uint64_t)area + 8192, (uint64_t)area + 4090, 0x7ffffffff000,
                            0x7fffffffffff, 0x800000000000, 0xffffffffff600000, (uint64_t)-1, (uint64_t)-4096};
    long tried = 0, faults = 0;
    for (long n = 0; n < 462; n++) {
        if (n == SYS_exit || n == SYS_exit_group || n == SYS_rt_sigreturn || n == SYS_pause || n == SYS_munmap || n == SYS_mmap ||
            n == SYS_mprotect || n == SYS_mremap || n == SYS_shmat || n == SYS_vfork || n == SYS_kill || n == SYS_tkill || n == SYS_rt_sigsuspend)
            continue;
        pid_t pid = fork();
        if (pid == 0) {
            alarm(5);
            int faulted = 0;
            for (unsigned b = 0; b < sizeof bad / sizeof *bad; b++)
                for (int place = 0; place < 6; place++) {
                    uint64_t a[6] = {(uint64_t)fd, 8, 8, 0, 0, 0};
                    a[place] = bad[b];
                    long r = syscall(n, a[0], a[1], a[2], a[3], a[4], a[5]);
                    if ((n == SYS_fork || n == SYS_clone || n == SYS_clone3) && r == 0) _exit(0);
                    if (r == -1 && errno == EFAULT) faulted++;
                }
            _exit(faulted > 200 ? 200 : faulted);
        }
        int status;
        if (pid < 0 || waitpid(pid, &status, 0) != pid) return 1;
        if (WIFEXITED(status)) faults += WEXITSTATUS(status);
        tried++;
        while (waitpid(-1, NULL, WNOHANG) > 0) {}
    }
    printf("tried %ld calls, EFAULT %s\n", tried, faults > 300 ? "often" : "seldom");
    return 0;
}

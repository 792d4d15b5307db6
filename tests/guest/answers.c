/* What calls that just say who a thread is answer, at patched sites and elsewhere, while it changes. */
#define _GNU_SOURCE
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

/* Places that call often become jumps and answer by themselves. */
#define CALL(name, nr) \
    long name(void); \
    __asm__(".globl " #name "\n" #name ": mov $" #nr ", %eax\nsyscall\nret\n");
CALL(my_pid, 39) CALL(my_tid, 186) CALL(my_ppid, 110) CALL(my_uid, 102) CALL(my_euid, 107) CALL(my_gid, 104) CALL(my_egid, 108)

static long (*const calls[])(void) = {my_pid, my_tid, my_ppid, my_uid, my_euid, my_gid, my_egid};
static const int numbers[] = {SYS_getpid, SYS_gettid, SYS_getppid, SYS_getuid, SYS_geteuid, SYS_getgid, SYS_getegid};

/* The same by an instruction that is no site. */
static long plain(long nr) {
    __asm__ volatile("nop; syscall" : "+a"(nr) : : "rcx", "r11", "memory");
    return nr;
}

static void check(const char *when) {
    for (int i = 0; i < 7; i++)
        for (int n = 0; n < 3; n++)
            if (calls[i]() != plain(numbers[i])) {
                printf("%s: call %d returns %ld\n", when, numbers[i], calls[i]());
                exit(1);
            }
}

static void *thread(void *arg) {
    check("thread");
    if (syscall(SYS_setresuid, 3, 4, 5)) exit(2); /* of this thread alone */
    check("setresuid");
    return arg;
}

static void wait_for(pid_t pid) {
    int status;
    if (waitpid(pid, &status, 0) != pid || status) exit(3);
}

int main(int argc, char **argv) {
    int orphan[2];
    pthread_t t;
    pid_t pid;
    char c;

    for (int i = 0; i < 100; i++) check("at first");
    if (argc > 1) return 0;
    if (!(pid = fork())) {
        check("fork");
        _exit(0);
    }
    wait_for(pid);
    if (!(pid = vfork())) {
        check("vfork");
        _exit(0);
    }
    wait_for(pid);
    check("after vfork");
    pthread_create(&t, 0, thread, 0);
    pthread_join(t, 0);
    check("after the thread");
    if (!(pid = vfork())) {
        execl("/proc/self/exe", argv[0], "again", NULL);
        _exit(1);
    }
    wait_for(pid);
    /* An orphan that runs while its parent ends. */
    if (pipe(orphan)) return 4;
    if (!(pid = fork())) {
        if (!fork()) {
            pid_t parent = getppid();
            while (my_ppid() == parent);
            check("orphan");
            _exit(write(orphan[1], "x", 1) != 1);
        }
        usleep(20000);
        _exit(0);
    }
    wait_for(pid);
    close(orphan[1]);
    if (read(orphan[0], &c, 1) != 1) return 5;
    for (int i = 0; i < 300; i++) /* a signal may come at any instruction of a call */
        if (!(pid = fork())) {
            long me = my_pid();
            while (my_pid() == me);
            _exit(1);
        } else {
            int status;
            usleep(i * 5);
            kill(pid, i & 1 ? 15 : 9);
            if (waitpid(pid, &status, 0) != pid || !WIFSIGNALED(status)) return 6;
        }
    printf("good\n");
    return 0;
}

/* Processes: clone flags, vfork, exec, wait, sessions, pidfds, prctl. One line for each failed check. */
#include "vfs_check.h"
#include <linux/kcmp.h>
#include <linux/membarrier.h>
#include <linux/nsfs.h>
#include <linux/sched.h>
#include <sched.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/utsname.h>

static char stack[65536] __attribute__((aligned(16)));
static volatile int shared;

static int child_fn(void *arg)
{
    shared = 7;
    return (int)(long)arg;
}

static int wait_for(pid_t pid)
{
    int st = -1;
    CHECK(waitpid(pid, &st, __WALL) == pid);
    return st;
}

static void clones(void)
{
    int tid = 0, st;
    pid_t p = clone(child_fn, stack + sizeof stack, CLONE_VM | CLONE_FILES | SIGCHLD, (void *)5);
    st = wait_for(p);
    CHECK(WIFEXITED(st) && WEXITSTATUS(st) == 5 && shared == 7);
    shared = 0;
    p = clone(child_fn, stack + sizeof stack, SIGCHLD, (void *)6);
    CHECK(WEXITSTATUS(wait_for(p)) == 6 && shared == 0);
    /* no exit signal: only __WCLONE or __WALL see it */
    p = clone(child_fn, stack + sizeof stack, 0, (void *)1);
    CHECK(waitpid(p, &st, 0) == -1 && errno == ECHILD);
    CHECK(waitpid(p, &st, __WCLONE) == p);
    p = clone(child_fn, stack + sizeof stack, CLONE_PARENT_SETTID | SIGCHLD, (void *)1, &tid);
    CHECK(tid == p);
    wait_for(p);
    CHECK(syscall(SYS_clone, CLONE_THREAD, 0, 0, 0, 0) == -1 && errno == EINVAL);
    CHECK(syscall(SYS_clone, CLONE_SIGHAND, 0, 0, 0, 0) == -1 && errno == EINVAL);
    CHECK(syscall(SYS_clone, CLONE_NEWNS | CLONE_FS, 0, 0, 0, 0) == -1 && errno == EINVAL);
    struct clone_args a = {.exit_signal = SIGCHLD};
    p = syscall(SYS_clone3, &a, sizeof a);
    if (!p)
        _exit(3);
    CHECK(WEXITSTATUS(wait_for(p)) == 3);
    CHECK(syscall(SYS_clone3, &a, 8) == -1 && errno == EINVAL);
    a.stack = 1;
    CHECK(syscall(SYS_clone3, &a, sizeof a) == -1 && errno == EINVAL);
    CHECK(syscall(SYS_clone3, (void *)1, sizeof a) == -1 && errno == EFAULT);
    p = vfork();
    if (!p) {
        shared = 9;
        _exit(4);
    }
    CHECK(shared == 9);
    CHECK(WEXITSTATUS(wait_for(p)) == 4);
}

static void waits(void)
{
    int st, pp[2];
    char c;
    siginfo_t si;
    struct rusage ru;

    CHECK(wait(&st) == -1 && errno == ECHILD);
    CHECK(waitpid(1 << 30, &st, 0) == -1 && errno == ECHILD);
    CHECK(waitpid(-1, &st, 0x8000) == -1 && errno == EINVAL);
    CHECK(waitid(P_ALL, 0, &si, 0) == -1 && errno == EINVAL);
    CHECK(pipe(pp) == 0);
    pid_t p = fork();
    if (!p) {
        read(pp[0], &c, 1);
        _exit(77);
    }
    CHECK(waitpid(p, &st, WNOHANG) == 0);
    si.si_pid = 1;
    CHECK(waitid(P_PID, p, &si, WEXITED | WNOHANG) == 0 && si.si_pid == 0);
    write(pp[1], "x", 1);
    CHECK(waitid(P_PID, p, &si, WEXITED | WNOWAIT) == 0 && si.si_pid == p && si.si_status == 77);
    CHECK(wait4(p, &st, 0, &ru) == p && WEXITSTATUS(st) == 77);
    p = fork();
    if (!p) {
        setpgid(0, 0);
        raise(SIGSTOP);
        usleep(50000);
        _exit(1);
    }
    CHECK(waitpid(p, &st, WUNTRACED) == p && WIFSTOPPED(st) && WSTOPSIG(st) == SIGSTOP);
    CHECK(waitpid(-p, &st, WNOHANG | WUNTRACED) == 0);
    kill(p, SIGCONT);
    CHECK(waitpid(-p, &st, WCONTINUED) == p && WIFCONTINUED(st));
    CHECK(waitpid(-p, &st, 0) == p && WEXITSTATUS(st) == 1);
    /* orphans go to the subreaper */
    CHECK(prctl(PR_SET_CHILD_SUBREAPER, 1) == 0);
    pid_t me = getpid();
    p = fork();
    if (!p) {
        pid_t q = fork();
        if (!q) {
            usleep(20000);
            _exit(getppid() == me ? 8 : 9);
        }
        _exit(0);
    }
    CHECK(wait_for(p) == 0);
    CHECK(wait(&st) > 0 && WEXITSTATUS(st) == 8);
    prctl(PR_SET_CHILD_SUBREAPER, 0);
    p = fork();
    if (!p) {
        prctl(PR_SET_PDEATHSIG, SIGTERM);
        int sig = 0;
        prctl(PR_GET_PDEATHSIG, &sig);
        _exit(sig);
    }
    CHECK(WEXITSTATUS(wait_for(p)) == SIGTERM);
}

static void sessions(void)
{
    pid_t p = fork();
    if (!p) {
        CHECK(setsid() == getpid());
        CHECK(getsid(0) == getpid() && getpgrp() == getpid());
        CHECK(setsid() == -1 && errno == EPERM);
        CHECK(setpgid(0, 0) == -1 && errno == EPERM);
        pid_t q = fork();
        if (!q) {
            usleep(30000);
            _exit(0);
        }
        CHECK(setpgid(q, q) == 0 && getpgid(q) == q);
        CHECK(setpgid(q, 99999) == -1 && errno == EPERM);
        CHECK(setpgid(q, -1) == -1 && errno == EINVAL);
        CHECK(setpgid(1, 0) == -1);
        wait_for(q);
        CHECK(getpgid(q) == -1 && errno == ESRCH);
        fflush(stdout);
        _exit(0);
    }
    wait_for(p);
    /* an orphaned, stopped process group gets SIGHUP and SIGCONT */
    int pp[2];
    char c = 0;
    CHECK(pipe(pp) == 0);
    p = fork();
    if (!p) {
        setsid();
        pid_t q = fork();
        if (!q) {
            setpgid(0, 0);
            signal(SIGHUP, SIG_DFL);
            raise(SIGSTOP);
            write(pp[1], "alive", 5);
            _exit(0);
        }
        int st;
        waitpid(q, &st, WUNTRACED);
        _exit(0);
    }
    wait_for(p);
    close(pp[1]);
    CHECK(read(pp[0], &c, 1) == 0);
}

static void pidfds(void)
{
    siginfo_t si;
    pid_t p = fork();
    if (!p) {
        pause();
        _exit(0);
    }
    int fd = syscall(SYS_pidfd_open, p, 0);
    CHECK(fd >= 0);
    struct pollfd pf = {fd, POLLIN, 0};
    CHECK(poll(&pf, 1, 0) == 0);
    CHECK(syscall(SYS_pidfd_send_signal, fd, SIGKILL, 0, 0) == 0);
    CHECK(poll(&pf, 1, 5000) == 1 && pf.revents == POLLIN);
    CHECK(waitid(P_PIDFD, fd, &si, WEXITED) == 0 && si.si_pid == p && si.si_status == SIGKILL);
    CHECK(syscall(SYS_pidfd_send_signal, fd, 0, 0, 0) == -1 && errno == ESRCH);
    CHECK(syscall(SYS_pidfd_open, 0, 0) == -1 && errno == EINVAL);
    CHECK(syscall(SYS_pidfd_open, 1 << 21, 0) == -1 && errno == ESRCH);
    CHECK(syscall(SYS_pidfd_open, getpid(), 1) == -1 && errno == EINVAL);
    int cfd = -1;
    p = syscall(SYS_clone, CLONE_PIDFD | SIGCHLD, 0, &cfd, 0, 0);
    if (!p)
        _exit(2);
    CHECK(cfd >= 0 && (fcntl(cfd, F_GETFD) & FD_CLOEXEC));
    CHECK(waitid(P_PIDFD, cfd, &si, WEXITED) == 0 && si.si_status == 2);
}

static void prctls(void)
{
    char name[16];
    CHECK(prctl(PR_SET_NAME, "a-name-longer-than-fits") == 0);
    CHECK(prctl(PR_GET_NAME, name) == 0 && !strcmp(name, "a-name-longer-t"));
    CHECK(prctl(PR_SET_PDEATHSIG, 65) == -1 && errno == EINVAL);
    CHECK(prctl(PR_SET_DUMPABLE, 2) == -1 && errno == EINVAL);
    CHECK(prctl(PR_GET_DUMPABLE) == 1);
    CHECK(prctl(PR_SET_NO_NEW_PRIVS, 0, 0, 0, 0) == -1 && errno == EINVAL);
    CHECK(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 0);
    CHECK(prctl(PR_CAPBSET_READ, 1000) == -1 && errno == EINVAL);
    CHECK(prctl(PR_GET_TIMERSLACK) == 50000);
    CHECK(prctl(12345) == -1 && errno == EINVAL);
    CHECK(prctl(PR_SET_NAME, 1) == -1 && errno == EFAULT);
}

static int ns(const char *name) { return open(name, O_RDONLY); }

static void namespaces(void)
{
    struct stat a, b;
    uid_t owner = 77;
    int pid = ns("/proc/self/ns/pid"), uts = ns("/proc/self/ns/uts"), user = ns("/proc/self/ns/user"), fd;
    CHECK(ioctl(pid, NS_GET_NSTYPE) == CLONE_NEWPID && ioctl(uts, NS_GET_NSTYPE) == CLONE_NEWUTS);
    CHECK(ioctl(user, NS_GET_NSTYPE) == CLONE_NEWUSER);
    CHECK(ioctl(pid, NS_GET_PARENT) == -1 && errno == EPERM);
    CHECK(ioctl(user, NS_GET_PARENT) == -1 && errno == EPERM);
    CHECK(ioctl(uts, NS_GET_PARENT) == -1 && errno == EINVAL);
    CHECK(ioctl(user, NS_GET_USERNS) == -1 && errno == EPERM);
    CHECK(ioctl(uts, NS_GET_OWNER_UID, &owner) == -1 && errno == EINVAL);
    CHECK(ioctl(user, NS_GET_OWNER_UID, &owner) == 0 && owner == 0);
    CHECK(ioctl(user, NS_GET_OWNER_UID, 8) == -1 && errno == EFAULT);
    CHECK(ioctl(uts, _IO(NSIO, 99)) == -1 && errno == ENOTTY);
    fd = ioctl(uts, NS_GET_USERNS);
    CHECK(fd > user && fcntl(fd, F_GETFD) == FD_CLOEXEC);
    CHECK(fstat(fd, &a) == 0 && fstat(user, &b) == 0 && a.st_ino == b.st_ino && a.st_dev == b.st_dev);
    close(pid), close(uts), close(user), close(fd);
}

static void comparisons(void)
{
    pid_t me = getpid();
    int ep = epoll_create1(0), p[2];
    struct epoll_event ev = {.events = EPOLLIN};
    CHECK(pipe(p) == 0 && epoll_ctl(ep, EPOLL_CTL_ADD, p[0], &ev) == 0);
    struct kcmp_epoll_slot slot = {.efd = ep, .tfd = p[0]};
    CHECK(syscall(SYS_kcmp, me, me, KCMP_EPOLL_TFD, p[0], &slot) == 0);
    CHECK(syscall(SYS_kcmp, me, me, KCMP_EPOLL_TFD, p[1], &slot) > 0);
    CHECK(syscall(SYS_kcmp, me, me, KCMP_EPOLL_TFD, 999, &slot) == -1 && errno == EBADF);
    CHECK(syscall(SYS_kcmp, me, me, KCMP_EPOLL_TFD, p[0], 8) == -1 && errno == EFAULT);
    slot.toff = 1;
    CHECK(syscall(SYS_kcmp, me, me, KCMP_EPOLL_TFD, p[0], &slot) == -1 && errno == ENOENT);
    slot.efd = p[0];
    CHECK(syscall(SYS_kcmp, me, me, KCMP_EPOLL_TFD, p[0], &slot) == -1 && errno == EINVAL);
    CHECK(syscall(SYS_kcmp, me, me, KCMP_TYPES, 0, 0) == -1 && errno == EINVAL);
    close(ep), close(p[0]), close(p[1]);
}

static void barriers(void)
{
    const int known = MEMBARRIER_CMD_GLOBAL | MEMBARRIER_CMD_PRIVATE_EXPEDITED | MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED;
    CHECK((syscall(SYS_membarrier, MEMBARRIER_CMD_QUERY, 0, 0) & known) == known);
    CHECK(syscall(SYS_membarrier, MEMBARRIER_CMD_QUERY, 1, 0) == -1 && errno == EINVAL);
    CHECK(syscall(SYS_membarrier, 12345, 0, 0) == -1 && errno == EINVAL);
    CHECK(syscall(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 0) == -1 && errno == EPERM); /* not registered */
    CHECK(syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED, 0, 0) == 0);
    CHECK(syscall(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 0) == 0);
    CHECK(syscall(SYS_membarrier, MEMBARRIER_CMD_GLOBAL, 0, 0) == 0);
}

int main(void)
{
    setvbuf(stdout, NULL, _IONBF, 0);
    clones();
    waits();
    sessions();
    pidfds();
    prctls();
    namespaces();
    comparisons();
    barriers();
    puts("done");
    return 0;
}

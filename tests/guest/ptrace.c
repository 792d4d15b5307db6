/* ptrace(2): attaching, stops and their order, events, memory and registers, what a tracer can change. */
#include "vfs_check.h"
#include <linux/ptrace.h>
#include <pthread.h>
#include <sched.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/uio.h>
#include <sys/user.h>

static long pt(long request, pid_t pid, unsigned long addr, unsigned long data)
{
    return syscall(SYS_ptrace, request, pid, addr, data);
}

static int status_of(pid_t pid)
{
    int st = -1;
    CHECK(waitpid(pid, &st, __WALL) == pid);
    return st;
}

static int stopped_by(int st, int sig) { return WIFSTOPPED(st) && WSTOPSIG(st) == sig; }
static int event_is(int st, int event) { return st >> 8 == (SIGTRAP | event << 8); }

static volatile int got;
static void on_signal(int sig) { got += sig; }

/* A child that stops itself for its tracer, then runs fn. */
static pid_t traced(void (*fn)(void))
{
    pid_t pid = fork();
    if (pid == 0) {
        pt(PTRACE_TRACEME, 0, 0, 0);
        raise(SIGSTOP);
        fn();
        _exit(0);
    }
    CHECK(stopped_by(status_of(pid), SIGSTOP));
    return pid;
}

static unsigned long tracer_pid(pid_t pid)
{
    char path[64], line[256];
    unsigned long n = 0;
    snprintf(path, sizeof path, "/proc/%d/status", pid);
    FILE *f = fopen(path, "r");
    while (f && fgets(line, sizeof line, f))
        if (sscanf(line, "TracerPid: %lu", &n) == 1) break;
    if (f) fclose(f);
    return n;
}

static volatile long word = 0x1122334455667788;
static void calls(void)
{
    long r = syscall(SYS_getppid);
    long s = syscall(SYS_gettid);
    _exit(r == 4242 && s == -5 && word == 99 ? 7 : 1);
}

static void system_calls(void)
{
    pid_t pid = traced(calls);
    struct ptrace_syscall_info info;
    struct user_regs_struct regs;
    unsigned long value = 0;
    int st;

    CHECK(tracer_pid(pid) == (unsigned long)getpid());
    CHECK(pt(PTRACE_SETOPTIONS, pid, 0, 1UL << 40) == -1 && errno == EINVAL);
    CHECK(pt(PTRACE_SETOPTIONS, pid, 0, PTRACE_O_TRACESYSGOOD) == 0);
    CHECK(pt(PTRACE_PEEKDATA, pid, (long)&word, (long)&value) == 0 && value == 0x1122334455667788);
    CHECK(pt(PTRACE_POKEDATA, pid, (long)&word, 99) == 0);
    CHECK(pt(PTRACE_PEEKDATA, pid, 8, (long)&value) == -1 && errno == EIO);
    CHECK(pt(PTRACE_CONT, pid, 0, 500) == -1 && errno == EIO);
    CHECK(pt(12345, pid, 0, 0) == -1 && errno == EIO);
    CHECK(pt(PTRACE_INTERRUPT, pid, 0, 0) == -1 && errno == EIO); /* not seized */
    CHECK(pt(PTRACE_LISTEN, pid, 0, 0) == -1 && errno == EIO);
    CHECK(pt(PTRACE_GET_SYSCALL_INFO, pid, sizeof info, (long)&info) == 24 && info.op == PTRACE_SYSCALL_INFO_NONE);
    int seen = 0;
    for (int n = 0; n < 20; n++) {
        CHECK(pt(PTRACE_SYSCALL, pid, 0, 0) == 0);
        st = status_of(pid);
        if (!stopped_by(st, SIGTRAP | 0x80)) break;
        CHECK(pt(PTRACE_GETREGS, pid, 0, (long)&regs) == 0);
        long size = pt(PTRACE_GET_SYSCALL_INFO, pid, sizeof info, (long)&info);
        CHECK(info.arch == 0xc000003e && info.instruction_pointer == regs.rip && info.stack_pointer == regs.rsp);
        if (info.op == PTRACE_SYSCALL_INFO_ENTRY) {
            CHECK(size == 80 && info.entry.nr == regs.orig_rax && info.entry.args[0] == regs.rdi && (long)regs.rax == -ENOSYS);
            if (regs.orig_rax == SYS_gettid) { /* not made */
                regs.orig_rax = -1;
                regs.rax = -5;
                CHECK(pt(PTRACE_SETREGS, pid, 0, (long)&regs) == 0);
                seen |= 1;
            }
        } else {
            CHECK(info.op == PTRACE_SYSCALL_INFO_EXIT && size == 33 && info.exit.rval == (long)regs.rax);
            if (regs.orig_rax == SYS_getppid) {
                CHECK(info.exit.rval == getpid() && !info.exit.is_error);
                CHECK(pt(PTRACE_POKEUSR, pid, offsetof(struct user, regs.rax), 4242) == 0);
                CHECK(pt(PTRACE_PEEKUSR, pid, offsetof(struct user, regs.rax), (long)&value) == 0 && value == 4242);
                seen |= 2;
            }
        }
    }
    CHECK(seen == 3);
    CHECK(WIFEXITED(st) && WEXITSTATUS(st) == 1); /* errno made -1 of -5 */
    CHECK(pt(PTRACE_CONT, pid, 0, 0) == -1 && errno == ESRCH);
}

static void signalled(void)
{
    signal(SIGUSR1, on_signal), signal(SIGUSR2, on_signal);
    raise(SIGUSR1); /* made SIGUSR2 */
    raise(SIGUSR1); /* withheld */
    kill(getpid(), SIGURG); /* ignored, but its tracer sees it */
    _exit(got == SIGUSR2 ? 3 : 4);
}

static void signal_stops(void)
{
    pid_t pid = traced(signalled);
    siginfo_t si;
    unsigned long mask;

    CHECK(pt(PTRACE_GETSIGINFO, pid, 0, (long)&si) == 0 && si.si_signo == SIGSTOP && si.si_pid == pid);
    CHECK(pt(PTRACE_GETSIGMASK, pid, 8, (long)&mask) == 0 && !(mask >> (SIGUSR1 - 1) & 1));
    CHECK(pt(PTRACE_GETSIGMASK, pid, 4, (long)&mask) == -1 && errno == EINVAL);
    CHECK(pt(PTRACE_CONT, pid, 0, 0) == 0);
    CHECK(stopped_by(status_of(pid), SIGUSR1));
    CHECK(pt(PTRACE_GETSIGINFO, pid, 0, (long)&si) == 0 && si.si_code == SI_TKILL);
    CHECK(pt(PTRACE_CONT, pid, 0, SIGUSR2) == 0);
    CHECK(stopped_by(status_of(pid), SIGUSR1));
    CHECK(pt(PTRACE_CONT, pid, 0, 0) == 0);
    CHECK(stopped_by(status_of(pid), SIGURG));
    CHECK(pt(PTRACE_CONT, pid, 0, SIGURG) == 0);
    int st = status_of(pid);
    CHECK(WIFEXITED(st) && WEXITSTATUS(st) == 3);
}

static void family(void)
{
    pid_t p = fork();
    if (p == 0) _exit(5);
    waitpid(p, NULL, 0);
    if ((p = vfork()) == 0) _exit(6);
    waitpid(p, NULL, 0);
    execl("/bin/true", "true", NULL);
}

static void events(void)
{
    pid_t pid = traced(family), child[2] = {0};
    unsigned long message;
    int st, n = 0, order[8] = {0}, children = 0;

    CHECK(pt(PTRACE_SETOPTIONS, pid, 0, PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK | PTRACE_O_TRACEEXEC | PTRACE_O_TRACEEXIT |
             PTRACE_O_TRACEVFORKDONE | PTRACE_O_EXITKILL) == 0);
    CHECK(pt(PTRACE_CONT, pid, 0, 0) == 0);
    for (;;) {
        pid_t who = waitpid(-1, &st, __WALL);
        if (who < 0) break;
        int event = st >> 16;
        if (who != pid) {
            if (stopped_by(st, SIGSTOP)) children++;
            if (WIFEXITED(st)) CHECK(WEXITSTATUS(st) == (who == child[0] ? 5 : 6));
            else CHECK(pt(PTRACE_CONT, who, 0, 0) == 0);
            continue;
        }
        if (WIFEXITED(st)) break;
        if (event) {
            CHECK(event_is(st, event) && pt(PTRACE_GETEVENTMSG, pid, 0, (long)&message) == 0);
            if (event == PTRACE_EVENT_FORK) child[0] = message;
            if (event == PTRACE_EVENT_VFORK) child[1] = message;
            if (event == PTRACE_EVENT_EXEC) CHECK((pid_t)message == pid);
            if (event == PTRACE_EVENT_EXIT) CHECK(message == 0);
            if (n < 8) order[n++] = event;
        }
        CHECK(pt(PTRACE_CONT, pid, 0, stopped_by(st, SIGCHLD) && !event ? SIGCHLD : 0) == 0);
    }
    CHECK(WIFEXITED(st) && WEXITSTATUS(st) == 0 && children == 2);
    CHECK(n == 5 && order[0] == PTRACE_EVENT_FORK && order[1] == PTRACE_EVENT_VFORK && order[2] == PTRACE_EVENT_VFORK_DONE);
    CHECK(order[3] == PTRACE_EVENT_EXEC && order[4] == PTRACE_EVENT_EXIT);
}

static void *thread(void *arg)
{
    usleep(1000);
    return arg;
}
static void threaded(void)
{
    pthread_t t;
    pthread_create(&t, NULL, thread, NULL);
    pthread_join(t, NULL);
}

/* A thread that its tracer waits for by itself. */
static void threads(void)
{
    pid_t pid = traced(threaded), tid = 0;
    unsigned long message;
    int st, ended = 0;

    CHECK(pt(PTRACE_SETOPTIONS, pid, 0, PTRACE_O_TRACECLONE) == 0);
    CHECK(pt(PTRACE_CONT, pid, 0, 0) == 0);
    for (;;) {
        pid_t who = waitpid(-1, &st, __WALL);
        if (who < 0 || (who == pid && WIFEXITED(st))) break;
        if (event_is(st, PTRACE_EVENT_CLONE) && pt(PTRACE_GETEVENTMSG, pid, 0, (long)&message) == 0) tid = message;
        if (WIFEXITED(st)) ended += who == tid;
        else CHECK(pt(PTRACE_CONT, who, 0, 0) == 0);
    }
    CHECK(tid && ended == 1);
}

/* The end of a process is told after the ends of its traced threads, even to who waits for it alone. */
static void order_of_ends(void)
{
    pid_t pid = traced(threaded), tid = 0;
    unsigned long message;
    int st;

    CHECK(pt(PTRACE_SETOPTIONS, pid, 0, PTRACE_O_TRACECLONE) == 0);
    CHECK(pt(PTRACE_CONT, pid, 0, 0) == 0);
    CHECK(event_is(status_of(pid), PTRACE_EVENT_CLONE));
    CHECK(pt(PTRACE_GETEVENTMSG, pid, 0, (long)&message) == 0);
    tid = message;
    CHECK(stopped_by(status_of(tid), SIGSTOP));
    CHECK(pt(PTRACE_CONT, tid, 0, 0) == 0 && pt(PTRACE_CONT, pid, 0, 0) == 0);
    usleep(100000);
    CHECK(waitpid(pid, &st, WNOHANG | __WALL) == 0);
    CHECK(waitpid(tid, &st, __WALL) == tid && WIFEXITED(st));
    CHECK(waitpid(pid, &st, __WALL) == pid && WIFEXITED(st));
}

static void steps(void)
{
    __asm__ volatile("mov $1, %%ecx\n inc %%ecx\n inc %%ecx\n int3\n inc %%ecx\n" ::: "rcx", "cc");
    _exit(8);
}

static void single_steps(void)
{
    pid_t pid = traced(steps);
    struct user_regs_struct a, b;
    struct user_fpregs_struct fp;
    struct iovec iov = {&b, sizeof b};
    siginfo_t si;

    CHECK(pt(PTRACE_CONT, pid, 0, 0) == 0);
    CHECK(stopped_by(status_of(pid), SIGTRAP)); /* int3 */
    CHECK(pt(PTRACE_GETSIGINFO, pid, 0, (long)&si) == 0 && si.si_code == SI_KERNEL);
    CHECK(pt(PTRACE_GETREGS, pid, 0, (long)&a) == 0 && (a.rcx & 0xff) == 3);
    CHECK(pt(PTRACE_SINGLESTEP, pid, 0, 0) == 0);
    CHECK(stopped_by(status_of(pid), SIGTRAP));
    CHECK(pt(PTRACE_GETSIGINFO, pid, 0, (long)&si) == 0 && si.si_code == TRAP_TRACE);
    CHECK(pt(PTRACE_GETREGSET, pid, 1, (long)&iov) == 0 && iov.iov_len == sizeof b);
    CHECK(b.rip == a.rip + 2 && (b.rcx & 0xff) == 4 && !(b.eflags & 0x100));
    CHECK(pt(PTRACE_GETFPREGS, pid, 0, (long)&fp) == 0 && fp.mxcsr == 0x1f80);
    fp.mxcsr = 0x1fc0;
    CHECK(pt(PTRACE_SETFPREGS, pid, 0, (long)&fp) == 0);
    memset(&fp, 0, sizeof fp);
    CHECK(pt(PTRACE_GETFPREGS, pid, 0, (long)&fp) == 0 && fp.mxcsr == 0x1fc0);
    b.rip = (unsigned long)_exit;
    b.rdi = 21;
    b.rsp = (b.rsp & ~15UL) - 8 - 256;
    CHECK(pt(PTRACE_SETREGSET, pid, 1, (long)&iov) == 0);
    CHECK(pt(PTRACE_CONT, pid, 0, 0) == 0);
    int st = status_of(pid);
    CHECK(WIFEXITED(st) && WEXITSTATUS(st) == 21);
}

static pid_t waiting(void)
{
    int ready[2];
    char c;
    CHECK(pipe(ready) == 0);
    pid_t pid = fork();
    if (pid == 0) {
        signal(SIGUSR1, on_signal);
        CHECK(write(ready[1], "x", 1) == 1);
        while (!got) usleep(2000);
        _exit(got);
    }
    CHECK(read(ready[0], &c, 1) == 1);
    close(ready[0]), close(ready[1]);
    return pid;
}

static void seize(void)
{
    pid_t pid = waiting();
    siginfo_t si;
    int st;

    CHECK(pt(PTRACE_SEIZE, pid, 1, 0) == -1 && errno == EIO);
    CHECK(pt(PTRACE_SEIZE, pid, 0, 0) == 0);
    CHECK(pt(PTRACE_SEIZE, pid, 0, 0) == -1 && errno == EPERM);
    CHECK(pt(PTRACE_CONT, pid, 0, 0) == -1 && errno == ESRCH); /* it runs */
    CHECK(pt(PTRACE_INTERRUPT, pid, 0, 0) == 0);
    CHECK(event_is(status_of(pid), PTRACE_EVENT_STOP));
    CHECK(pt(PTRACE_CONT, pid, 0, 0) == 0);
    kill(pid, SIGSTOP);
    CHECK(stopped_by(status_of(pid), SIGSTOP)); /* before it is taken */
    CHECK(pt(PTRACE_CONT, pid, 0, SIGSTOP) == 0);
    st = status_of(pid);
    CHECK(st >> 8 == (SIGSTOP | PTRACE_EVENT_STOP << 8)); /* the group stop */
    CHECK(pt(PTRACE_LISTEN, pid, 0, 0) == 0);
    CHECK(pt(PTRACE_GETSIGINFO, pid, 0, (long)&si) == -1 && errno == ESRCH);
    CHECK(waitpid(pid, &st, WNOHANG) == 0);
    kill(pid, SIGCONT);
    CHECK(event_is(status_of(pid), PTRACE_EVENT_STOP));
    CHECK(pt(PTRACE_CONT, pid, 0, 0) == 0);
    CHECK(stopped_by(status_of(pid), SIGCONT));
    CHECK(pt(PTRACE_DETACH, pid, 0, SIGUSR1) == 0);
    st = status_of(pid);
    CHECK(WIFEXITED(st) && WEXITSTATUS(st) == SIGUSR1);
}

static void attach(void)
{
    pid_t pid = waiting();
    int st;

    CHECK(pt(PTRACE_ATTACH, getpid(), 0, 0) == -1 && errno == EPERM);
    CHECK(pt(PTRACE_ATTACH, 999999, 0, 0) == -1 && errno == ESRCH);
    CHECK(pt(PTRACE_ATTACH, pid, 0, 0) == 0);
    CHECK(stopped_by(status_of(pid), SIGSTOP));
    CHECK(pt(PTRACE_DETACH, pid, 0, 0) == 0);
    usleep(5000);
    CHECK(waitpid(pid, &st, WNOHANG | WUNTRACED) == 0); /* it runs */
    kill(pid, SIGKILL);
    st = status_of(pid);
    CHECK(WIFSIGNALED(st) && WTERMSIG(st) == SIGKILL);
    /* SIGKILL ends a stop. */
    pid = traced(NULL);
    kill(pid, SIGKILL);
    st = status_of(pid);
    CHECK(WIFSIGNALED(st) && WTERMSIG(st) == SIGKILL);
}

/* A tracer that ends: its tracees go on, or die with it. */
static void ending_tracer(int options, int expected)
{
    pid_t pid = waiting(), tracer = fork();
    int st;

    if (tracer == 0) {
        CHECK(pt(PTRACE_SEIZE, pid, 0, options) == 0);
        _exit(0);
    }
    CHECK(waitpid(tracer, &st, 0) == tracer);
    kill(pid, SIGUSR1);
    st = status_of(pid);
    CHECK(expected == SIGKILL ? WIFSIGNALED(st) && WTERMSIG(st) == SIGKILL : WIFEXITED(st) && WEXITSTATUS(st) == expected);
}

/* A tracer that is not the parent hears of the end first. */
static void stranger(void)
{
    int go[2], st;
    pid_t pid = waiting(), tracer;

    CHECK(pipe(go) == 0);
    tracer = fork();
    if (tracer == 0) {
        CHECK(pt(PTRACE_SEIZE, pid, 0, 0) == 0);
        CHECK(write(go[1], "x", 1) == 1);
        CHECK(stopped_by(status_of(pid), SIGUSR1));
        CHECK(pt(PTRACE_CONT, pid, 0, SIGUSR1) == 0);
        st = status_of(pid);
        CHECK(WIFEXITED(st) && WEXITSTATUS(st) == SIGUSR1);
        CHECK(waitpid(pid, &st, 0) == -1 && errno == ECHILD);
        _exit(0);
    }
    CHECK(read(go[0], &st, 1) == 1);
    kill(pid, SIGUSR1);
    st = status_of(pid);
    CHECK(WIFEXITED(st) && WEXITSTATUS(st) == SIGUSR1);
    CHECK(waitpid(tracer, &st, 0) == tracer && st == 0);
}

int main(void)
{
    system_calls();
    signal_stops();
    events();
    threads();
    order_of_ends();
    single_steps();
    seize();
    attach();
    ending_tracer(0, SIGUSR1);
    ending_tracer(PTRACE_O_EXITKILL, SIGKILL);
    stranger();
    CHECK(wait(NULL) == -1 && errno == ECHILD);
    puts("traced");
    return 0;
}

/* sigaction(2): each SA_ flag, what siginfo says of each origin, alternate stacks and their flags. */
#include "vfs_check.h"
#include <pthread.h>
#include <setjmp.h>
#include <sys/prctl.h>
#include <sys/ucontext.h>
#ifndef SS_AUTODISARM
#define SS_AUTODISARM (1U << 31)
#endif
#include <linux/seccomp.h>

static volatile int hits, depth, deepest, blocked_inside, other_blocked;
static siginfo_t last;

static void act(int sig, void *handler, int flags)
{
    struct sigaction sa = {.sa_sigaction = handler, .sa_flags = flags};
    sigemptyset(&sa.sa_mask);
    CHECK(sigaction(sig, &sa, NULL) == 0);
}

static void plain(int sig)
{
    sigset_t now;
    hits++;
    sigprocmask(SIG_BLOCK, NULL, &now);
    blocked_inside = sigismember(&now, sig);
    other_blocked = sigismember(&now, SIGUSR2);
}

static void nested(int sig)
{
    depth++;
    if (depth > deepest)
        deepest = depth;
    if (++hits < 3)
        raise(sig);
    depth--;
}

static void informed(int sig, siginfo_t *info, void *context)
{
    ucontext_t *uc = context;
    hits++;
    last = *info;
    (void)sig, (void)uc;
}

static void flags(void)
{
    struct sigaction sa;
    hits = 0;
    act(SIGUSR1, plain, 0);
    raise(SIGUSR1);
    SHOW(blocked_inside);
    SHOW(other_blocked);
    act(SIGUSR1, plain, SA_NODEFER);
    raise(SIGUSR1);
    SHOW(blocked_inside);
    sa = (struct sigaction){.sa_handler = plain};
    sigaddset(&sa.sa_mask, SIGUSR2);
    sigaddset(&sa.sa_mask, SIGKILL); /* is taken away */
    sigaction(SIGUSR1, &sa, NULL);
    raise(SIGUSR1);
    SHOW(other_blocked);
    sigaction(SIGUSR1, NULL, &sa);
    SHOW(sigismember(&sa.sa_mask, SIGKILL));
    SHOW(sigismember(&sa.sa_mask, SIGUSR2));
    hits = deepest = 0;
    act(SIGUSR1, nested, SA_NODEFER);
    raise(SIGUSR1);
    SHOW(deepest);
    hits = deepest = 0;
    act(SIGUSR1, nested, 0);
    raise(SIGUSR1);
    SHOW(deepest);
    SHOW(hits);
    act(SIGUSR1, plain, SA_RESETHAND);
    raise(SIGUSR1);
    SHOW(blocked_inside);
    sigaction(SIGUSR1, NULL, &sa);
    SHOW(sa.sa_handler == SIG_DFL);
    SHOW(sa.sa_flags & 0xfbffffff);
    act(SIGUSR1, informed, SA_SIGINFO | SA_ONSTACK | SA_RESTART | SA_NODEFER);
    sigaction(SIGUSR1, NULL, &sa);
    SHOW(sa.sa_flags == (SA_SIGINFO | SA_ONSTACK | SA_RESTART | SA_NODEFER) || sa.sa_flags);
    SHOW(sigaction(SIGKILL, &sa, NULL));
    SHOW(sigaction(SIGSTOP, &sa, NULL));
    SHOW(sigaction(SIGKILL, NULL, &sa));
    SHOW(sigaction(65, &sa, NULL));
    SHOW(syscall(SYS_rt_sigaction, SIGUSR1, &sa, NULL, 4));
    SHOW(syscall(SYS_rt_sigaction, SIGUSR1, 8L, NULL, 8));
    /* unknown flags: SA_UNSUPPORTED is cleared, so a program can see what is known */
    struct { void *h; unsigned long fl; void *r; unsigned long m; } raw = {SIG_IGN, 0x400 | 0x800 | 0x10000, 0, 0};
    SHOW(syscall(SYS_rt_sigaction, SIGUSR2, &raw, NULL, 8));
    SHOW(syscall(SYS_rt_sigaction, SIGUSR2, NULL, &raw, 8));
    SHOW(raw.fl);
    signal(SIGUSR2, SIG_DFL);
}

static void children(void)
{
    int st;
    /* SA_NOCLDSTOP: a stop makes no SIGCHLD, an end does */
    for (int flag = 0; flag <= SA_NOCLDSTOP; flag += SA_NOCLDSTOP) {
        hits = 0;
        act(SIGCHLD, informed, SA_SIGINFO | flag);
        pid_t p = fork();
        if (!p)
            for (;;)
                pause();
        kill(p, SIGSTOP);
        CHECK(waitpid(p, &st, WUNTRACED) == p);
        usleep(20000);
        SHOW(hits);
        if (hits) {
            SHOW(last.si_code == CLD_STOPPED);
            SHOW(last.si_status == SIGSTOP);
        }
        kill(p, SIGCONT);
        CHECK(waitpid(p, &st, WCONTINUED) == p);
        usleep(20000);
        SHOW(hits);
        kill(p, SIGKILL);
        CHECK(waitpid(p, &st, 0) == p);
        SHOW(hits);
        SHOW(last.si_code == CLD_KILLED);
        SHOW(last.si_status);
        SHOW(last.si_uid);
        CHECK(last.si_pid == p);
    }
    act(SIGCHLD, informed, SA_SIGINFO | SA_NOCLDWAIT);
    hits = 0;
    pid_t p = fork();
    if (!p)
        _exit(9);
    usleep(50000);
    SHOW(hits);
    SHOW(last.si_status);
    SHOW(waitpid(p, &st, 0));
    act(SIGCHLD, SIG_DFL, 0);
    p = fork();
    if (!p) {
        raise(SIGSEGV);
        _exit(0);
    }
    siginfo_t info;
    SHOW(waitid(P_PID, p, &info, WEXITED));
    SHOW(info.si_code == CLD_KILLED || info.si_code == CLD_DUMPED);
    SHOW(info.si_status);
}

static void *sender(void *arg)
{
    union sigval v = {.sival_int = 5};
    pthread_sigqueue(*(pthread_t *)arg, SIGUSR1, v);
    return NULL;
}

static void origins(void)
{
    pthread_t me = pthread_self(), t;
    act(SIGUSR1, informed, SA_SIGINFO);
    raise(SIGUSR1);
    SHOW(last.si_code);
    CHECK(last.si_pid == getpid() && last.si_uid == getuid());
    kill(getpid(), SIGUSR1);
    SHOW(last.si_code);
    pthread_create(&t, NULL, sender, &me);
    pthread_join(t, NULL);
    SHOW(last.si_code);
    SHOW(last.si_value.sival_int);
    siginfo_t fake = {.si_signo = SIGUSR1, .si_code = -77};
    fake.si_value.sival_int = 99;
    SHOW(syscall(SYS_rt_sigqueueinfo, getpid(), SIGUSR1, &fake));
    SHOW(last.si_code);
    SHOW(last.si_value.sival_int);
    fake.si_code = SI_TKILL;
    SHOW(syscall(SYS_rt_sigqueueinfo, getpid(), SIGUSR1, &fake));
    fake.si_code = SI_USER;
    SHOW(syscall(SYS_rt_sigqueueinfo, getppid(), 0, &fake));
    SHOW(syscall(SYS_tgkill, getpid(), getpid(), SIGUSR1));
    SHOW(last.si_code);
    SHOW(syscall(SYS_tgkill, 1 << 21, getpid(), SIGUSR1));
    SHOW(syscall(SYS_tkill, -1, SIGUSR1));
    SHOW(kill(getpid(), 65));
    SHOW(kill(1 << 21, 0));
    SHOW(kill(-(1 << 21), 0));
    /* SIGPIPE, SIGIO */
    int p[2];
    CHECK(pipe(p) == 0);
    act(SIGIO, informed, SA_SIGINFO);
    act(SIGRTMIN + 3, informed, SA_SIGINFO);
    hits = 0;
    SHOW(fcntl(p[0], F_SETOWN, getpid()));
    SHOW(fcntl(p[0], F_GETOWN) == getpid());
    SHOW(fcntl(p[0], F_SETFL, O_ASYNC | O_NONBLOCK));
    CHECK(write(p[1], "x", 1) == 1);
    SHOW(hits);
    SHOW(last.si_signo);
    SHOW(last.si_code);
    SHOW(fcntl(p[0], F_SETSIG, SIGRTMIN + 3));
    SHOW(fcntl(p[0], F_GETSIG) == SIGRTMIN + 3);
    CHECK(write(p[1], "x", 1) == 1);
    SHOW(hits);
    SHOW(last.si_code);
    SHOW(last.si_band);
    CHECK(last.si_fd == p[0]);
    SHOW(fcntl(p[0], F_SETSIG, 65));
    SHOW(fcntl(p[0], F_SETOWN, 1 << 21));
}

static sigjmp_buf out;
static char *none;
static void jump(int sig, siginfo_t *info, void *context)
{
    ucontext_t *uc = context;
    last = *info;
    long trap = uc->uc_mcontext.gregs[REG_TRAPNO], err = uc->uc_mcontext.gregs[REG_ERR];
    if (sig == SIGFPE || trap == 13 || info->si_addr == none)
        trap = err = 0; /* a platform need not know */
    printf("signal %d code %d trap %ld err %lx\n", sig, info->si_code, trap, err);
    siglongjmp(out, 1);
}

static void faults(void)
{
    none = mmap(NULL, 8192, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    char *ro = mmap(NULL, 8192, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    char *gone = mmap(NULL, 8192, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    munmap(gone, 8192);
    int fd = memfd_create("f", 0);
    char *file = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    int sigs[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGTRAP};
    for (int i = 0; i < 5; i++)
        act(sigs[i], jump, SA_SIGINFO);
#define TRY(e) if (!sigsetjmp(out, 1)) { printf("%s: ", #e); e; puts("went on"); }
    TRY((void)*(volatile char *)none);
    CHECK(last.si_addr == none);
    TRY(*(volatile char *)none = 1);
    TRY((void)*(volatile char *)ro);
    TRY(*(volatile char *)(ro + 5) = 1);
    CHECK(last.si_addr == ro + 5);
    TRY((void)*(volatile char *)gone);
    TRY((void)*(volatile char *)16);
    TRY((void)*(volatile char *)0x1234567812345678);
    CHECK(last.si_addr == NULL);
    TRY((void)*(volatile char *)file);
    CHECK(last.si_addr == file);
    TRY(((void (*)(void))ro)());
    CHECK(last.si_addr == ro);
    TRY(__asm__ volatile("ud2"));
    TRY(__asm__ volatile("int3"));
    TRY(__asm__ volatile("hlt"));
    TRY(__asm__ volatile("int $0x20"));
    TRY(__asm__ volatile("xor %%edx,%%edx; xor %%ecx,%%ecx; mov $1,%%eax; div %%ecx" ::: "eax", "ecx", "edx"));
    TRY(__asm__ volatile("mov $0x80000000,%%eax; cltd; mov $-1,%%ecx; idiv %%ecx" ::: "eax", "ecx", "edx"));
    TRY({ unsigned cw = 0; __asm__ volatile("fnstcw %0" : "=m"(cw)); cw &= ~4; __asm__ volatile("fldcw %0; fld1; fldz; fdivrp; fwait" ::"m"(cw)); });
    __asm__ volatile("fninit");
    TRY({ unsigned m; __asm__ volatile("stmxcsr %0" : "=m"(m)); m &= ~0x200; __asm__ volatile("ldmxcsr %0; xorps %%xmm1,%%xmm1; movss %1,%%xmm0; divss %%xmm1,%%xmm0" ::"m"(m), "m"((float){1}) : "xmm0", "xmm1"); });
    { unsigned m = 0x1f80; __asm__ volatile("ldmxcsr %0" ::"m"(m)); }
    TRY(__asm__ volatile("pushf; orl $0x100,(%%rsp); popf; nop" ::: "cc"));
    TRY(__asm__ volatile(".byte 0xf1" ::: "cc"));
    TRY(__asm__ volatile("cli"));
    TRY(__asm__ volatile("rdmsr"));
    TRY(__asm__ volatile("movaps 1(%%rsp),%%xmm0" ::: "xmm0"));
    for (int i = 0; i < 5; i++)
        act(sigs[i], SIG_DFL, 0);
}

static char *sp_inside;
static stack_t seen;
static void on_stack(int sig)
{
    char here;
    sp_inside = &here;
    sigaltstack(NULL, &seen);
    stack_t none = {.ss_flags = SS_DISABLE};
    printf("change inside: %s\n", sigaltstack(&none, NULL) == 0 ? "allowed" : strerrorname_np(errno));
    (void)sig;
}

static void stacks(void)
{
    stack_t ss = {.ss_sp = malloc(65536), .ss_size = 65536}, old;
    char *base = ss.ss_sp;
    SHOW(sigaltstack(NULL, &old));
    SHOW(old.ss_flags);
    ss.ss_size = 100;
    SHOW(sigaltstack(&ss, NULL));
    ss.ss_size = 65536;
    ss.ss_flags = 77;
    SHOW(sigaltstack(&ss, NULL));
    ss.ss_flags = SS_ONSTACK;
    SHOW(sigaltstack(&ss, NULL));
    ss.ss_flags = 0;
    SHOW(sigaltstack(&ss, &old));
    act(SIGUSR1, on_stack, SA_ONSTACK);
    raise(SIGUSR1);
    CHECK(sp_inside > base && sp_inside < base + 65536);
    SHOW(seen.ss_flags);
    act(SIGUSR1, on_stack, 0);
    raise(SIGUSR1);
    CHECK(!(sp_inside > base && sp_inside < base + 65536));
    ss.ss_flags = SS_AUTODISARM;
    SHOW(sigaltstack(&ss, NULL));
    act(SIGUSR1, on_stack, SA_ONSTACK);
    raise(SIGUSR1);
    CHECK(sp_inside > base && sp_inside < base + 65536);
    SHOW(seen.ss_flags);
    SHOW(sigaltstack(NULL, &old));
    SHOW((unsigned)old.ss_flags == SS_AUTODISARM);
    SHOW(old.ss_size);
    /* a stack overflow is handled on the alternate stack */
    pid_t p = fork();
    if (!p) {
        ss.ss_flags = 0;
        sigaltstack(&ss, NULL);
        act(SIGSEGV, (void *)_exit, SA_ONSTACK);
        volatile char *q = __builtin_frame_address(0);
        for (;;)
            q -= 1024, *q = 1;
    }
    int st;
    waitpid(p, &st, 0);
    SHOW(WIFEXITED(st) && WEXITSTATUS(st) == SIGSEGV);
    p = fork();
    if (!p) { /* no room for the frame: SIGSEGV, not handled */
        ss.ss_flags = SS_DISABLE;
        sigaltstack(&ss, NULL);
        act(SIGUSR1, plain, 0);
        char *ro = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) + 2048;
        __asm__ volatile("mov %0,%%rsp; syscall" ::"r"(ro), "a"(SYS_kill), "D"((long)getpid()), "S"((long)SIGUSR1));
    }
    waitpid(p, &st, 0);
    SHOW(WIFSIGNALED(st) ? WTERMSIG(st) : -1);
    p = fork();
    if (!p) { /* a blocked fault kills */
        sigset_t all;
        sigfillset(&all);
        act(SIGSEGV, (void *)_exit, 0);
        sigprocmask(SIG_BLOCK, &all, NULL);
        *(volatile char *)0 = 1;
        _exit(1);
    }
    waitpid(p, &st, 0);
    SHOW(WIFSIGNALED(st) ? WTERMSIG(st) : -1);
    p = fork();
    if (!p) {
        signal(SIGSEGV, SIG_IGN);
        *(volatile char *)0 = 1;
        _exit(1);
    }
    waitpid(p, &st, 0);
    SHOW(WIFSIGNALED(st) ? WTERMSIG(st) : -1);
}

/* Stopped and continued before it has run an instruction, a child goes on where it should. */
static void just_made(void)
{
    int st, good = 0;
    for (int i = 0; i < 60; i++) {
        pid_t p = fork();
        if (!p) {
            for (;;)
                pause();
        }
        kill(p, SIGSTOP);
        int stopped = waitpid(p, &st, WUNTRACED) == p && WIFSTOPPED(st);
        kill(p, SIGCONT);
        stopped = stopped && waitpid(p, &st, WCONTINUED) == p && WIFCONTINUED(st);
        usleep(2000);
        kill(p, SIGKILL);
        good += stopped && waitpid(p, &st, 0) == p && WIFSIGNALED(st) && WTERMSIG(st) == SIGKILL;
    }
    SHOW(good);
}

/* Which calls a handler with SA_RESTART restarts and which it does not (signal(7)). */
#include <sys/epoll.h>
#include <sys/msg.h>
#include <sys/sem.h>
#include <sys/socket.h>
#include <sys/file.h>
#include <mqueue.h>
#include <semaphore.h>
static int go[2];
static void alarmed(int sig)
{
    hits++;
    if (hits == 2)
        siglongjmp(out, 1);
    ualarm(30000, 0);
}
#define INTERRUPTED(e) do { \
    act(SIGALRM, alarmed, SA_RESTART | SA_NODEFER); hits = 0; ualarm(30000, 0); \
    if (!sigsetjmp(out, 1)) { errno = 0; long r_ = (long)(e); int no_ = errno; ualarm(0, 0); printf("%s = %ld %s\n", #e, r_, r_ < 0 ? strerrorname_np(no_) : ""); } \
    else printf("%s: restarted\n", #e); } while (0)
static void restarts(void)
{
    int p[2], sp[2], ep = epoll_create1(0), st;
    char c;
    struct pollfd pf;
    struct epoll_event ev;
    struct timespec ts = {5, 0};
    pipe(p);
    socketpair(AF_UNIX, SOCK_STREAM, 0, sp);
    pid_t p2 = fork();
    if (!p2)
        for (;;)
            pause();
    INTERRUPTED(read(p[0], &c, 1));
    INTERRUPTED(recv(sp[0], &c, 1, 0));
    struct timeval tv = {5, 0};
    setsockopt(sp[0], SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof tv);
    INTERRUPTED(recv(sp[0], &c, 1, 0));
    INTERRUPTED(waitpid(p2, &st, 0));
    pf = (struct pollfd){p[0], POLLIN};
    INTERRUPTED(poll(&pf, 1, 5000));
    INTERRUPTED(ppoll(&pf, 1, &ts, NULL));
    INTERRUPTED(epoll_wait(ep, &ev, 1, 5000));
    INTERRUPTED(select(0, NULL, NULL, NULL, &tv));
    INTERRUPTED(pause());
    INTERRUPTED(nanosleep(&ts, NULL));
    sigset_t set;
    sigemptyset(&set);
    INTERRUPTED(sigsuspend(&set));
    sigaddset(&set, SIGUSR2);
    INTERRUPTED(sigtimedwait(&set, NULL, &ts));
    int q = msgget(IPC_PRIVATE, 0600), s = semget(IPC_PRIVATE, 1, 0600);
    char m[20];
    INTERRUPTED(msgrcv(q, m, 1, 0, 0));
    struct sembuf sb = {0, -1, 0};
    INTERRUPTED(semop(s, &sb, 1));
    msgctl(q, IPC_RMID, NULL);
    semctl(s, 0, IPC_RMID);
    mkfifo("restart-fifo", 0600);
    INTERRUPTED(open("restart-fifo", O_RDONLY));
    unlink("restart-fifo");
    int a = open("restart-lock", O_CREAT | O_RDWR, 0600), b = open("restart-lock", O_RDWR);
    flock(a, LOCK_EX);
    INTERRUPTED(flock(b, LOCK_EX));
    unlink("restart-lock");
    struct mq_attr attr = {.mq_maxmsg = 1, .mq_msgsize = 8};
    mqd_t mq = mq_open("/restart-queue", O_CREAT | O_RDWR, 0600, &attr);
    char b8[8];
    INTERRUPTED(mq_receive(mq, b8, 8, NULL));
    mq_unlink("/restart-queue");
    sem_t sem;
    sem_init(&sem, 0, 0);
    INTERRUPTED(sem_wait(&sem));
    int l = socket(AF_UNIX, SOCK_STREAM, 0);
    struct sockaddr sa = {AF_UNIX};
    bind(l, &sa, sizeof(sa_family_t));
    listen(l, 1);
    INTERRUPTED(accept(l, NULL, NULL));
    kill(p2, SIGKILL);
    waitpid(p2, &st, 0);
}

int main(void)
{
    setvbuf(stdout, NULL, _IOLBF, 0);
    flags();
    children();
    origins();
    faults();
    stacks();
    just_made();
    restarts();
    return 0;
}

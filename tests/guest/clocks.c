/* Clocks, sleeps, interval timers, POSIX timers, CPU time. */
#include "vfs_check.h"
#include <sys/resource.h>
#include <sys/times.h>
#include <sys/timex.h>

static volatile int hits;
static siginfo_t last;
static void hit(int s, siginfo_t *i, void *u)
{
    hits++;
    last = *i;
}

static long long now(clockid_t c)
{
    struct timespec t;
    clock_gettime(c, &t);
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static struct timespec ts(long long ns) { return (struct timespec){ns / 1000000000, ns % 1000000000}; }

static void clocks(void)
{
    struct timespec t;
    for (int c = -1; c <= 13; c++) {
        SHOW(syscall(SYS_clock_gettime, c, &t));
        SHOW(syscall(SYS_clock_getres, c, &t));
        if (c >= 0 && c <= 11 && c != 8 && c != 9)
            printf("%d: %ld %ld\n", c, (long)t.tv_sec, (long)t.tv_nsec);
    }
    SHOW(syscall(SYS_clock_getres, 99, NULL));
    SHOW(syscall(SYS_clock_getres, 0, NULL));
    SHOW(syscall(SYS_clock_gettime, 0, 8L));
    clockid_t mine;
    SHOW(clock_getcpuclockid(getpid(), &mine));
    CHECK(now(mine) > 0);
    SHOW(clock_getcpuclockid(0x3fffff, &mine));
    SHOW(syscall(SYS_clock_gettime, (~0x3fffffu << 3) | 2, &t));
    SHOW(syscall(SYS_clock_gettime, (~0u << 3) | 3, &t));
    SHOW(syscall(SYS_clock_gettime, -2, &t));
    SHOW(syscall(SYS_clock_settime, 1, &t));
    CHECK(now(CLOCK_BOOTTIME) >= now(CLOCK_MONOTONIC) - 100000000);
    long long a = now(CLOCK_MONOTONIC), d = now(CLOCK_REALTIME);
    for (int i = 0; i < 1000; i++) {
        long long b = now(CLOCK_MONOTONIC);
        CHECK(b >= a);
        a = b;
    }
    CHECK(syscall(SYS_time, NULL) * 1000000000LL >= d - 1000000000);
    struct timeval tv;
    SHOW(syscall(SYS_gettimeofday, &tv, NULL));
    CHECK(tv.tv_sec * 1000000000LL + tv.tv_usec * 1000 >= d - 1000);
}

static void sleeps(void)
{
    struct timespec t = {0, 20000000}, bad = {0, 1000000000}, neg = {-1, 0}, rem = {9, 9};
    long long a = now(CLOCK_MONOTONIC);
    SHOW(nanosleep(&t, NULL));
    CHECK(now(CLOCK_MONOTONIC) - a >= 20000000);
    SHOW(nanosleep(&bad, NULL));
    SHOW(nanosleep(&neg, NULL));
    SHOW(syscall(SYS_nanosleep, 8L, 0L));
    for (int c = 0; c <= 12; c++) {
        if (c == CLOCK_PROCESS_CPUTIME_ID) /* nobody would use any */
            continue;
        struct timespec z = {0, 1000000};
        SHOW(syscall(SYS_clock_nanosleep, c, 0, &z, NULL));
        z = (struct timespec){1, 0};
        if (c != 2 && c != 3)
            SHOW(syscall(SYS_clock_nanosleep, c, TIMER_ABSTIME, &z, NULL));
    }
    struct sigaction sa = {.sa_sigaction = hit, .sa_flags = SA_SIGINFO | SA_RESTART};
    sigaction(SIGALRM, &sa, NULL);
    struct itimerval it = {{0, 0}, {0, 20000}};
    setitimer(ITIMER_REAL, &it, NULL);
    t = ts(300000000);
    SHOW(nanosleep(&t, &rem));
    CHECK(rem.tv_sec == 0 && rem.tv_nsec > 100000000 && rem.tv_nsec <= 281000000);
    CHECK(last.si_code == SI_KERNEL && last.si_signo == SIGALRM);
    setitimer(ITIMER_REAL, &it, NULL);
    SHOW(syscall(SYS_clock_nanosleep, 1, 0, &t, &rem));
    setitimer(ITIMER_REAL, &it, NULL);
    struct timespec abs = ts(now(CLOCK_REALTIME) + 300000000);
    SHOW(syscall(SYS_clock_nanosleep, 0, TIMER_ABSTIME, &abs, &rem));
    /* a stop and a continue do not end a sleep */
    pid_t p = fork();
    if (!p) {
        t = ts(150000000);
        long long b = now(CLOCK_MONOTONIC);
        int rc = nanosleep(&t, NULL);
        b = now(CLOCK_MONOTONIC) - b;
        _exit(rc == 0 && b >= 150000000 ? 3 : 4);
    }
    usleep(30000);
    kill(p, SIGSTOP);
    usleep(30000);
    kill(p, SIGCONT);
    int st;
    CHECK(waitpid(p, &st, 0) == p);
    SHOW(WEXITSTATUS(st));
}

static void spin(long long ns)
{
    long long a = now(CLOCK_PROCESS_CPUTIME_ID);
    while (now(CLOCK_PROCESS_CPUTIME_ID) - a < ns)
        for (volatile int i = 0; i < 10000; i++)
            ;
}

static void itimers(void)
{
    struct itimerval it = {{0, 5000}, {0, 5000}}, old;
    struct sigaction sa = {.sa_sigaction = hit, .sa_flags = SA_SIGINFO};
    hits = 0;
    SHOW(setitimer(ITIMER_REAL, &it, NULL));
    while (hits < 4)
        pause();
    SHOW(getitimer(ITIMER_REAL, &old));
    CHECK(old.it_interval.tv_usec == 5000 && old.it_value.tv_usec <= 5000);
    it = (struct itimerval){{0, 0}, {0, 0}};
    SHOW(setitimer(ITIMER_REAL, &it, &old));
    SHOW(getitimer(ITIMER_REAL, &old));
    SHOW(old.it_value.tv_usec + old.it_interval.tv_usec);
    SHOW(setitimer(3, &it, NULL));
    it.it_value.tv_usec = 1000000;
    SHOW(setitimer(0, &it, NULL));
    SHOW(syscall(SYS_setitimer, 0, 8L, 0L));
    SHOW(syscall(SYS_setitimer, 0, 0L, 0L));
    SHOW(getitimer(7, &old));
    SHOW(syscall(SYS_alarm, 10));
    SHOW(syscall(SYS_alarm, 0));
    SHOW(syscall(SYS_alarm, 0));
    int sigs[] = {SIGVTALRM, SIGPROF};
    for (int k = 0; k < 2; k++) {
        sigaction(sigs[k], &sa, NULL);
        it = (struct itimerval){{0, 20000}, {0, 20000}};
        hits = 0;
        setitimer(k + 1, &it, NULL);
        spin(400000000);
        it = (struct itimerval){{0, 0}, {0, 0}};
        setitimer(k + 1, &it, NULL);
        CHECK(hits >= 1 && hits <= 24);
    }
    /* the timers are not inherited, but live through exec of the process itself */
    it.it_value.tv_sec = 100;
    setitimer(ITIMER_REAL, &it, NULL);
    pid_t p = fork();
    if (!p) {
        getitimer(ITIMER_REAL, &old);
        _exit(old.it_value.tv_sec == 0 ? 5 : 6);
    }
    int st;
    waitpid(p, &st, 0);
    SHOW(WEXITSTATUS(st));
    alarm(0);
}

static void posix_timers(void)
{
    struct sigaction sa = {.sa_sigaction = hit, .sa_flags = SA_SIGINFO};
    struct sigevent ev = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1, .sigev_value.sival_int = 77};
    struct itimerspec its = {ts(10000000), ts(10000000)}, cur;
    timer_t id;
    sigset_t set;
    sigaction(SIGUSR1, &sa, NULL);
    hits = 0;
    SHOW(timer_create(CLOCK_MONOTONIC, &ev, &id));
    SHOW(timer_settime(id, 0, &its, NULL));
    while (hits < 3)
        pause();
    CHECK(last.si_code == SI_TIMER && last.si_value.sival_int == 77 && last.si_signo == SIGUSR1);
    /* overruns while blocked */
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    sigprocmask(SIG_BLOCK, &set, NULL);
    usleep(105000);
    siginfo_t si;
    CHECK(sigwaitinfo(&set, &si) == SIGUSR1);
    CHECK(si.si_overrun >= 7 && si.si_overrun <= 13);
    CHECK(timer_getoverrun(id) == si.si_overrun);
    SHOW(timer_gettime(id, &cur));
    CHECK(cur.it_interval.tv_nsec == 10000000 && cur.it_value.tv_nsec > 0);
    its = (struct itimerspec){{0, 0}, {0, 0}};
    SHOW(timer_settime(id, 0, &its, &cur));
    SHOW(timer_gettime(id, &cur));
    SHOW(cur.it_value.tv_nsec);
    its.it_value = ts(1);
    SHOW(timer_settime(id, TIMER_ABSTIME, &its, NULL)); /* long ago: at once */
    struct timespec t = {1, 0};
    CHECK(sigtimedwait(&set, &si, &t) == SIGUSR1);
    its.it_value.tv_nsec = 1000000000;
    SHOW(timer_settime(id, 0, &its, NULL));
    SHOW(timer_settime(id, 0, NULL, NULL));
    SHOW(timer_delete(id));
    SHOW(syscall(SYS_timer_delete, 4000));
    SHOW(syscall(SYS_timer_gettime, 4000, &cur));
    SHOW(syscall(SYS_timer_getoverrun, 4000));
    SHOW(timer_create(99, &ev, &id));
    SHOW(timer_create(CLOCK_MONOTONIC_RAW, &ev, &id));
    SHOW(timer_create(CLOCK_REALTIME_COARSE, &ev, &id));
    ev.sigev_signo = 0;
    SHOW(timer_create(CLOCK_REALTIME, &ev, &id));
    ev.sigev_signo = 65;
    SHOW(timer_create(CLOCK_REALTIME, &ev, &id));
    ev.sigev_signo = SIGUSR1;
    ev.sigev_notify = 9;
    SHOW(syscall(SYS_timer_create, CLOCK_REALTIME, &ev, &id));
    ev.sigev_notify = SIGEV_THREAD_ID;
    ev._sigev_un._tid = 1 << 21;
    SHOW(syscall(SYS_timer_create, CLOCK_REALTIME, &ev, &id));
    ev._sigev_un._tid = syscall(SYS_gettid);
    int kid;
    SHOW(syscall(SYS_timer_create, CLOCK_REALTIME, &ev, &kid));
    its = (struct itimerspec){{0, 0}, ts(5000000)};
    SHOW(syscall(SYS_timer_settime, kid, 0, &its, NULL));
    CHECK(sigwaitinfo(&set, &si) == SIGUSR1 && si.si_code == SI_TIMER);
    SHOW(syscall(SYS_timer_delete, kid));
    ev.sigev_notify = SIGEV_NONE;
    SHOW(timer_create(CLOCK_PROCESS_CPUTIME_ID, &ev, &id));
    its.it_value = ts(50000000);
    SHOW(timer_settime(id, 0, &its, NULL));
    spin(20000000);
    SHOW(timer_gettime(id, &cur));
    CHECK(cur.it_value.tv_nsec > 0 && cur.it_value.tv_nsec <= 31000000);
    spin(60000000);
    SHOW(timer_gettime(id, &cur));
    SHOW(cur.it_value.tv_nsec);
    SHOW(timer_delete(id));
    ev.sigev_notify = SIGEV_SIGNAL;
    SHOW(timer_create(CLOCK_THREAD_CPUTIME_ID, &ev, &id));
    its = (struct itimerspec){{0, 0}, ts(20000000)};
    SHOW(timer_settime(id, 0, &its, NULL));
    spin(60000000);
    CHECK(sigtimedwait(&set, &si, &t) == SIGUSR1);
    SHOW(timer_delete(id));
    SHOW(timer_create(CLOCK_REALTIME, NULL, &id)); /* SIGALRM */
    SHOW(timer_delete(id));
    /* deleted with its signal pending */
    timer_create(CLOCK_MONOTONIC, &ev, &id);
    its = (struct itimerspec){{0, 0}, ts(1000000)};
    timer_settime(id, 0, &its, NULL);
    usleep(20000);
    sigset_t pend;
    sigpending(&pend);
    SHOW(sigismember(&pend, SIGUSR1));
    timer_delete(id);
}

static void usage(void)
{
    struct rusage r;
    struct tms tms;
    spin(30000000);
    SHOW(getrusage(RUSAGE_SELF, &r));
    CHECK(r.ru_utime.tv_sec * 1000000 + r.ru_utime.tv_usec >= 20000 && r.ru_maxrss > 100);
    SHOW(getrusage(RUSAGE_THREAD, &r));
    SHOW(getrusage(RUSAGE_CHILDREN, &r));
    SHOW(getrusage(5, &r));
    CHECK(times(&tms) > 0 && tms.tms_utime + tms.tms_stime >= 2);
    /* RLIMIT_CPU: SIGXCPU, then SIGKILL */
    pid_t p = fork();
    if (!p) {
        struct rlimit l = {1, 2};
        struct sigaction sa = {.sa_sigaction = hit, .sa_flags = SA_SIGINFO};
        sigaction(SIGXCPU, &sa, NULL);
        hits = 0;
        setrlimit(RLIMIT_CPU, &l);
        while (!hits)
            spin(10000000);
        if (now(CLOCK_PROCESS_CPUTIME_ID) < 500000000)
            _exit(1);
        for (;;)
            spin(100000000);
    }
    int st;
    struct rusage ru;
    CHECK(wait4(p, &st, 0, &ru) == p);
    SHOW(WTERMSIG(st));
    CHECK(ru.ru_utime.tv_sec + ru.ru_stime.tv_sec <= 3);
    struct timex tx = {.modes = 0};
    CHECK(adjtimex(&tx) >= 0);
    CHECK(tx.tick >= 9000 && tx.tick <= 11000);
    tx.modes = 0;
    CHECK(clock_adjtime(CLOCK_REALTIME, &tx) >= 0);
}

int main(void)
{
    setvbuf(stdout, NULL, _IOLBF, 0);
    clocks();
    sleeps();
    itimers();
    posix_timers();
    usage();
    return 0;
}

/* eventfd, signalfd, timerfd: what they answer and when they are ready. */
#include "vfs_check.h"
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <sys/timerfd.h>

static int bits(int fd)
{
    struct pollfd p = {fd, POLLIN | POLLOUT, 0};
    poll(&p, 1, 0);
    return p.revents;
}

static void events(void)
{
    uint64_t v = 5;
    int e = SHOW(eventfd(3, EFD_NONBLOCK));
    SHOW(bits(e));
    SHOW(write(e, &v, 8));
    SHOW(read(e, &v, 8));
    SHOW(v);
    SHOW(read(e, &v, 8));
    SHOW(read(e, &v, 4));
    SHOW(write(e, &v, 4));
    v = -1;
    SHOW(write(e, &v, 8));
    v = -2;
    SHOW(write(e, &v, 8));
    SHOW(bits(e));
    v = 1;
    SHOW(write(e, &v, 8));
    int s = SHOW(eventfd(2, EFD_SEMAPHORE | EFD_NONBLOCK | EFD_CLOEXEC));
    SHOW(read(s, &v, 8));
    SHOW(v);
    SHOW(read(s, &v, 8));
    SHOW(read(s, &v, 8));
    SHOW(eventfd(0, 0x100));
    SHOW(lseek(e, 0, SEEK_SET));
}

static void signal_files(void)
{
    struct signalfd_siginfo i[3];
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    sigaddset(&set, SIGCHLD);
    sigaddset(&set, SIGRTMIN);
    sigprocmask(SIG_BLOCK, &set, NULL);
    int s = SHOW(signalfd(-1, &set, SFD_NONBLOCK));
    SHOW(read(s, i, sizeof i));
    SHOW(bits(s));
    kill(getpid(), SIGUSR1);
    union sigval v = {.sival_int = 42};
    sigqueue(getpid(), SIGRTMIN, v);
    sigqueue(getpid(), SIGRTMIN, v);
    SHOW(bits(s));
    SHOW(read(s, i, 10));
    SHOW(read(s, i, sizeof i));
    SHOW(i[0].ssi_signo);
    SHOW(i[0].ssi_code);
    SHOW(i[0].ssi_pid == (unsigned)getpid());
    SHOW(i[1].ssi_signo == (unsigned)SIGRTMIN);
    SHOW(i[1].ssi_int);
    SHOW(i[1].ssi_code);
    pid_t pid = fork();
    if (pid == 0)
        _exit(7);
    struct pollfd p = {s, POLLIN, 0};
    SHOW(poll(&p, 1, 5000));
    SHOW(read(s, i, sizeof i));
    SHOW(i[0].ssi_signo);
    SHOW(i[0].ssi_status);
    SHOW(i[0].ssi_code);
    SHOW(i[0].ssi_pid == (unsigned)pid);
    wait(NULL);
    sigdelset(&set, SIGUSR1);
    SHOW(signalfd(s, &set, 0) == s);
    kill(getpid(), SIGUSR1);
    SHOW(bits(s));
    SHOW(signalfd(1, &set, 0));
}

static void timers(void)
{
    struct itimerspec one = {{0, 0}, {0, 20000000}}, many = {{0, 10000000}, {0, 10000000}}, none = {0}, got;
    uint64_t n = 0;
    int t = SHOW(timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK));
    SHOW(bits(t));
    SHOW(read(t, &n, 8));
    SHOW(timerfd_settime(t, 0, &one, NULL));
    SHOW(timerfd_gettime(t, &got));
    SHOW(got.it_value.tv_nsec > 0 && got.it_value.tv_nsec <= 20000000);
    fcntl(t, F_SETFL, 0);
    SHOW(read(t, &n, 8));
    SHOW(n);
    SHOW(timerfd_settime(t, 0, &many, NULL));
    usleep(100000);
    SHOW(bits(t));
    SHOW(read(t, &n, 8));
    SHOW(n >= 5);
    SHOW(timerfd_settime(t, 0, &none, &got));
    SHOW(got.it_interval.tv_nsec);
    SHOW(timerfd_gettime(t, &got));
    SHOW(got.it_value.tv_nsec);
    clock_gettime(CLOCK_REALTIME, &one.it_value);
    int r = SHOW(timerfd_create(CLOCK_REALTIME, 0));
    SHOW(timerfd_settime(r, TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET, &one, NULL));
    SHOW(read(r, &n, 8));
    SHOW(n);
    SHOW(read(r, &n, 4));
    one.it_value.tv_nsec = 1000000000;
    SHOW(timerfd_settime(r, 0, &one, NULL));
    SHOW(timerfd_settime(r, 8, &none, NULL));
    SHOW(timerfd_settime(0, 0, &none, NULL));
    SHOW(timerfd_create(77, 0));
    SHOW(timerfd_create(CLOCK_PROCESS_CPUTIME_ID, 0));
}

int main(void)
{
    setvbuf(stdout, NULL, _IOLBF, 0);
    events();
    signal_files();
    timers();
    return 0;
}

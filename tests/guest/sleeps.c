/* Sleeping calls that are interrupted, and what others see of a sleeper; who a process is. */
#include "vfs_check.h"
#include <linux/futex.h>
#include <pthread.h>

static uint32_t word;
static volatile int handled;
static int sleeper_tid;

static long futex(uint32_t *u, int op, uint32_t v, const void *t)
{
    return syscall(SYS_futex, u, op, v, t, NULL, 0);
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec * 1e-9;
}

static void handler(int sig)
{
    (void)sig;
    handled++;
}

/* SIGALRM in 30 ms. */
static void alarm_soon(int flags)
{
    struct sigaction sa = {.sa_handler = handler, .sa_flags = flags};
    sigaction(SIGALRM, &sa, NULL);
    handled = 0;
    ualarm(30000, 0);
}

static void interrupted(void)
{
    struct timespec t = {0, 400000000}, rest = {0}, at;
    double start;

    alarm_soon(0);
    SHOW(futex(&word, FUTEX_WAIT_PRIVATE, 0, NULL));
    SHOW(handled);
    alarm_soon(SA_RESTART);
    SHOW(futex(&word, FUTEX_WAIT_PRIVATE, 0, &t)); /* a restart block: EINTR in spite of SA_RESTART */
    alarm_soon(SA_RESTART);
    start = now();
    SHOW(nanosleep(&t, &rest));
    CHECK(now() - start < 0.39 && rest.tv_sec == 0 && rest.tv_nsec > 0 && rest.tv_nsec < 400000000);
    alarm_soon(SA_RESTART);
    clock_gettime(CLOCK_MONOTONIC, &at);
    at.tv_sec += 5;
    SHOW(clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, NULL));
    signal(SIGALRM, SIG_IGN); /* an ignored signal wakes nobody */
    ualarm(10000, 0);
    t.tv_nsec = 50000000;
    start = now();
    SHOW(nanosleep(&t, NULL));
    CHECK(now() - start >= 0.05);
}

/* A sleep goes on to its old end after a stop. */
static void stopped(void)
{
    struct timespec t = {0, 200000000};
    int status;
    pid_t pid = fork();

    if (pid == 0) {
        double start = now();
        if (nanosleep(&t, NULL) < 0)
            _exit(1);
        _exit(now() - start >= 0.2 ? 7 : 2);
    }
    usleep(50000);
    kill(pid, SIGSTOP);
    usleep(50000);
    kill(pid, SIGCONT);
    waitpid(pid, &status, 0);
    SHOW(WEXITSTATUS(status));
}

static void *wait_on_word(void *arg)
{
    (void)arg;
    sleeper_tid = (int)syscall(SYS_gettid);
    return (void *)futex(&word, FUTEX_WAIT_PRIVATE, 0, NULL);
}

static int state_of(int tid)
{
    char line[300] = "", name[64];
    FILE *f;
    sprintf(name, "/proc/self/task/%d/stat", tid);
    f = fopen(name, "r");
    if (!f || !fgets(line, sizeof(line), f))
        return -1;
    fclose(f);
    return strrchr(line, ')')[2];
}

static void seen(void)
{
    pthread_t thread;
    int status;

    pthread_create(&thread, NULL, wait_on_word, NULL);
    for (int i = 0; i < 500 && (!sleeper_tid || state_of(sleeper_tid) != 'S'); i++)
        usleep(2000);
    SHOW(state_of(sleeper_tid));
    SHOW(futex(&word, FUTEX_WAKE_PRIVATE, 1, NULL));
    pthread_join(thread, NULL);
    fflush(stdout);
    for (int exec = 0; exec < 2; exec++) { /* sleepers don't hold up the end of their process */
        pid_t pid = fork();
        if (pid == 0) {
            pthread_create(&thread, NULL, wait_on_word, NULL);
            usleep(30000);
            if (exec)
                execl("/bin/true", "true", (char *)NULL);
            _exit(0);
        }
        waitpid(pid, &status, 0);
        SHOW(status);
    }
}

/* The numbers follow setuid(2) and the death of a parent. */
static void identity(void)
{
    int status, up[2];
    char said = '?';
    pid_t pid;

    CHECK(pipe(up) == 0);
    pid = fork();
    if (pid == 0) {
        pid_t me = getpid();
        if (syscall(SYS_setgid, 1001) || syscall(SYS_setuid, 1000))
            _exit(1);
        if (getuid() != 1000 || geteuid() != 1000 || getgid() != 1001 || getegid() != 1001)
            _exit(2);
        if (fork() == 0) {
            int right = getppid() == me && getpid() != me && syscall(SYS_gettid) == getpid();
            while (getppid() == me)
                usleep(1000);
            said = right ? 'y' : 'n';
            write(up[1], &said, 1);
            _exit(0);
        }
        usleep(30000);
        _exit(0);
    }
    waitpid(pid, &status, 0);
    SHOW(status);
    CHECK(read(up[0], &said, 1) == 1);
    SHOW(said);
}

int main(void)
{
    setvbuf(stdout, NULL, _IOLBF, 0);
    interrupted();
    stopped();
    seen();
    identity();
    return 0;
}

/* Threads: create and join, signals to threads and to the process, cancel, set-id in all threads, robust mutexes, exit of the leader. */
#include "vfs_check.h"
#include <pthread.h>
#include <sys/prctl.h>

static pthread_barrier_t barrier;
static volatile int handled;
static pthread_t who;

static void handler(int sig)
{
    (void)sig;
    who = pthread_self();
    __sync_fetch_and_add(&handled, 1);
}

static void *count(void *arg)
{
    __sync_fetch_and_add((int *)arg, 1);
    return arg;
}

static void *wait_signal(void *arg)
{
    sigset_t set, none;
    sigemptyset(&none);
    sigfillset(&set);
    pthread_sigmask(SIG_SETMASK, &set, NULL);
    pthread_barrier_wait(&barrier);
    if (arg)
        sigsuspend(&none);
    else
        pthread_barrier_wait(&barrier);
    return NULL;
}

static void *cancelled(void *arg)
{
    pthread_barrier_wait(&barrier);
    for (;;)
        pause();
    return arg;
}

static void *die_holding(void *arg)
{
    pthread_mutex_lock(arg);
    return NULL;
}

static void *ids(void *arg)
{
    pthread_barrier_wait(&barrier);
    pthread_barrier_wait(&barrier);
    return (void *)(long)(arg ? syscall(SYS_getuid) : 0);
}

static void *late(void *arg)
{
    usleep(50000);
    puts("the leader has gone");
    exit(17);
    return arg;
}

static void *stop_self(void *arg)
{
    usleep(10000);
    kill(getpid(), SIGSTOP);
    usleep(10000);
    syscall(SYS_exit, 6);
    return arg;
}

int main(void)
{
    setvbuf(stdout, NULL, _IONBF, 0);
    int n = 0, st;
    pthread_t t[50];
    for (int r = 0; r < 5; r++) {
        for (int i = 0; i < 50; i++)
            CHECK(pthread_create(&t[i], NULL, count, &n) == 0);
        for (int i = 0; i < 50; i++)
            CHECK(pthread_join(t[i], NULL) == 0);
    }
    CHECK(n == 250);
    struct sigaction sa = {.sa_handler = handler};
    sigaction(SIGUSR1, &sa, NULL);
    /* to one thread */
    pthread_barrier_init(&barrier, NULL, 2);
    pthread_create(&t[0], NULL, wait_signal, (void *)1);
    pthread_barrier_wait(&barrier);
    pthread_kill(t[0], SIGUSR1);
    pthread_join(t[0], NULL);
    CHECK(handled == 1 && pthread_equal(who, t[0]));
    /* to the process: the main thread blocks it, another one takes it */
    sigset_t set, old;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    pthread_sigmask(SIG_BLOCK, &set, &old);
    pthread_create(&t[0], NULL, wait_signal, (void *)1);
    pthread_barrier_wait(&barrier);
    kill(getpid(), SIGUSR1);
    pthread_join(t[0], NULL);
    CHECK(handled == 2 && pthread_equal(who, t[0]));
    /* nobody takes it until somebody unblocks it */
    pthread_create(&t[0], NULL, wait_signal, NULL);
    pthread_barrier_wait(&barrier);
    kill(getpid(), SIGUSR1);
    usleep(10000);
    CHECK(handled == 2);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    CHECK(handled == 3 && pthread_equal(who, pthread_self()));
    pthread_barrier_wait(&barrier);
    pthread_join(t[0], NULL);
    void *res;
    pthread_create(&t[0], NULL, cancelled, NULL);
    pthread_barrier_wait(&barrier);
    CHECK(pthread_cancel(t[0]) == 0);
    CHECK(pthread_join(t[0], &res) == 0 && res == PTHREAD_CANCELED);

    pthread_mutexattr_t ma;
    pthread_mutex_t m;
    pthread_mutexattr_init(&ma);
    pthread_mutexattr_setrobust(&ma, PTHREAD_MUTEX_ROBUST);
    pthread_mutex_init(&m, &ma);
    pthread_create(&t[0], NULL, die_holding, &m);
    pthread_join(t[0], NULL);
    CHECK(pthread_mutex_lock(&m) == EOWNERDEAD);
    CHECK(pthread_mutex_consistent(&m) == 0 && pthread_mutex_unlock(&m) == 0);

    pid_t p = fork();
    if (!p) {
        if (geteuid() == 0) {
            pthread_create(&t[0], NULL, ids, (void *)1);
            pthread_barrier_wait(&barrier);
            CHECK(setuid(1000) == 0);
            pthread_barrier_wait(&barrier);
            pthread_join(t[0], &res);
            CHECK((long)res == 1000);
            CHECK(setuid(0) == -1 && errno == EPERM);
        }
        _exit(0);
    }
    waitpid(p, &st, 0);
    CHECK(st == 0);
    p = fork();
    if (!p) {
        pthread_create(&t[0], NULL, late, NULL);
        pthread_exit(NULL);
    }
    CHECK(waitpid(p, &st, 0) == p && WIFEXITED(st) && WEXITSTATUS(st) == 17);
    p = fork();
    if (!p) { /* the leader has gone; the last thread's status is the process's (Linux 5.17) */
        pthread_create(&t[0], NULL, stop_self, NULL);
        syscall(SYS_exit, 5);
    }
    CHECK(waitpid(p, &st, WUNTRACED) == p && WIFSTOPPED(st));
    kill(p, SIGCONT);
    CHECK(waitpid(p, &st, 0) == p && WIFEXITED(st) && WEXITSTATUS(st) == 6);
    p = fork();
    if (!p) { /* a stop and a kill reach all threads, wherever they are */
        for (int i = 0; i < 8; i++)
            pthread_create(&t[i], NULL, cancelled + 0, NULL);
        for (;;)
            n++;
    }
    usleep(20000);
    kill(p, SIGSTOP);
    CHECK(waitpid(p, &st, WUNTRACED) == p && WIFSTOPPED(st));
    kill(p, SIGCONT);
    CHECK(waitpid(p, &st, WCONTINUED) == p && WIFCONTINUED(st));
    kill(p, SIGKILL);
    CHECK(waitpid(p, &st, 0) == p && WTERMSIG(st) == SIGKILL);
    puts("done");
    return 0;
}

/* futex(2): what it returns, and that no wake-up is lost. */
#include "vfs_check.h"
#include <limits.h>
#include <linux/futex.h>
#include <pthread.h>
#include <semaphore.h>

static long futex(uint32_t *u, int op, uint32_t v, const void *t, uint32_t *u2, uint32_t v3)
{
    return syscall(SYS_futex, u, op, v, t, u2, v3);
}

static uint32_t word, word2;
static volatile int woken;

static void *waiter(void *arg)
{
    long rc = futex(arg, FUTEX_WAIT, 0, NULL, NULL, 0);
    if (rc != 0)
        printf("FAILED wait %ld %d\n", rc, errno);
    __sync_fetch_and_add(&woken, 1);
    return NULL;
}

static void until_asleep(int n) { usleep(20000 * n); }

static void basics(void)
{
    struct timespec soon = {0, 2000000}, bad = {0, 1000000000}, past = {1, 0};
    SHOW(futex(&word, FUTEX_WAIT, 1, NULL, NULL, 0));
    SHOW(futex(&word, FUTEX_WAIT, 0, &soon, NULL, 0));
    SHOW(futex(&word, FUTEX_WAIT, 0, &bad, NULL, 0));
    SHOW(futex(&word, FUTEX_WAIT_BITSET, 0, &past, NULL, 1));
    SHOW(futex(&word, FUTEX_WAIT_BITSET | FUTEX_CLOCK_REALTIME, 0, &past, NULL, 1));
    SHOW(futex(&word, FUTEX_WAIT_BITSET, 0, &past, NULL, 0));
    SHOW(futex(&word, FUTEX_WAKE_BITSET, 1, NULL, NULL, 0));
    SHOW(futex((void *)((char *)&word + 1), FUTEX_WAIT, 0, &soon, NULL, 0));
    SHOW(futex((void *)((char *)&word + 1), FUTEX_WAKE, 1, NULL, NULL, 0));
    SHOW(futex((void *)4, FUTEX_WAIT, 0, &soon, NULL, 0));
    SHOW(futex((void *)4, FUTEX_WAKE, 1, NULL, NULL, 0));
    SHOW(futex((void *)4, FUTEX_WAKE | FUTEX_PRIVATE_FLAG, 1, NULL, NULL, 0));
    SHOW(futex((void *)-8L, FUTEX_WAKE | FUTEX_PRIVATE_FLAG, 1, NULL, NULL, 0));
    SHOW(futex(&word, FUTEX_WAIT, 0, (void *)8, NULL, 0));
    SHOW(futex(&word, 99, 0, NULL, NULL, 0));
    SHOW(futex(&word, FUTEX_WAKE | FUTEX_CLOCK_REALTIME, 0, NULL, NULL, 0));
    SHOW(futex(&word, FUTEX_FD, 0, NULL, NULL, 0));
    SHOW(futex(&word, FUTEX_CMP_REQUEUE, 1, (void *)1, &word2, 5));
    SHOW(futex(&word, FUTEX_CMP_REQUEUE, -1, (void *)1, &word2, 0));
    SHOW(futex(&word, FUTEX_CMP_REQUEUE, 1, (void *)1, &word2, 0));
    SHOW(futex(&word, FUTEX_WAKE, INT_MAX, NULL, NULL, 0));
}

static void requeue(void)
{
    pthread_t th[6];
    word = word2 = 0;
    woken = 0;
    for (int i = 0; i < 6; i++)
        pthread_create(&th[i], NULL, waiter, &word);
    until_asleep(6);
    SHOW(futex(&word, FUTEX_CMP_REQUEUE, 1, (void *)2, &word2, 0));
    SHOW(futex(&word2, FUTEX_WAKE, 10, NULL, NULL, 0));
    SHOW(futex(&word, FUTEX_REQUEUE, 1, (void *)1, &word2, 0));
    SHOW(futex(&word2, FUTEX_WAKE, 10, NULL, NULL, 0));
    SHOW(futex(&word, FUTEX_WAKE, 10, NULL, NULL, 0));
    for (int i = 0; i < 6; i++)
        pthread_join(th[i], NULL);
    SHOW(woken);
    /* wake_op: word2 5 -> 7, and 5 > 3, so both are woken */
    word = 0;
    word2 = 0;
    pthread_create(&th[0], NULL, waiter, &word);
    pthread_create(&th[1], NULL, waiter, &word2);
    until_asleep(3);
    word2 = 5;
    SHOW(futex(&word, FUTEX_WAKE_OP, 1, (void *)1, &word2, FUTEX_OP(FUTEX_OP_ADD, 2, FUTEX_OP_CMP_GT, 3)));
    SHOW(word2);
    SHOW(futex(&word, FUTEX_WAKE_OP, 1, (void *)1, &word2, FUTEX_OP(FUTEX_OP_ANDN, 2, FUTEX_OP_CMP_EQ, 3)));
    SHOW(word2);
    SHOW(futex(&word, FUTEX_WAKE_OP, 1, (void *)1, &word2, FUTEX_OP(FUTEX_OP_SET, -1, FUTEX_OP_CMP_LT, 6)));
    SHOW((int)word2);
    SHOW(futex(&word, FUTEX_WAKE_OP, 1, (void *)1, &word2,
               FUTEX_OP(FUTEX_OP_XOR | FUTEX_OP_OPARG_SHIFT, 4, FUTEX_OP_CMP_LT, 6)));
    SHOW((int)word2);
    SHOW(futex(&word, FUTEX_WAKE_OP, 1, (void *)1, &word2, 7u << 28));
    SHOW(futex(&word, FUTEX_WAKE_OP, 1, (void *)1, &word2, 7u << 24));
    pthread_join(th[0], NULL);
    pthread_join(th[1], NULL);
}

static void across_processes(void)
{
    uint32_t *s = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    pid_t p = fork();
    if (!p) {
        while (__atomic_load_n(s, __ATOMIC_ACQUIRE) == 0)
            futex(s, FUTEX_WAIT, 0, NULL, NULL, 0);
        _exit(7);
    }
    usleep(20000);
    *s = 1;
    SHOW(futex(s, FUTEX_WAKE | FUTEX_PRIVATE_FLAG, 1, NULL, NULL, 0));
    SHOW(futex(s, FUTEX_WAKE, 1, NULL, NULL, 0));
    int st;
    CHECK(waitpid(p, &st, 0) == p && WEXITSTATUS(st) == 7);
    /* The same page of a file at two addresses is one futex. */
    int fd = memfd_create("x", 0);
    CHECK(ftruncate(fd, 4096) == 0);
    uint32_t *a = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    uint32_t *b = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    pthread_t th;
    woken = 0;
    pthread_create(&th, NULL, waiter, a);
    usleep(20000);
    SHOW(futex(b, FUTEX_WAKE, 1, NULL, NULL, 0));
    pthread_join(th, NULL);
    CHECK(ftruncate(fd, 0) == 0); /* then it is none */
    SHOW(futex(a, FUTEX_WAIT, 0, NULL, NULL, 0));
    SHOW(futex(a, FUTEX_WAKE, 1, NULL, NULL, 0));
}

static void on_signal(int s) { (void)s; }

static void interrupted(void)
{
    struct sigaction sa = {.sa_handler = on_signal};
    struct itimerval it = {{0, 0}, {0, 20000}};
    struct timespec t = {0, 100000000};
    word = 0;
    sigaction(SIGALRM, &sa, NULL);
    setitimer(ITIMER_REAL, &it, NULL);
    SHOW(futex(&word, FUTEX_WAIT, 0, NULL, NULL, 0));
    setitimer(ITIMER_REAL, &it, NULL);
    SHOW(futex(&word, FUTEX_WAIT, 0, &t, NULL, 0));
    sa.sa_flags = SA_RESTART;
    sigaction(SIGALRM, &sa, NULL);
    setitimer(ITIMER_REAL, &it, NULL);
    SHOW(futex(&word, FUTEX_WAIT, 0, &t, NULL, 0)); /* EINTR: a restart block is no SA_RESTART */
    struct timespec abs;
    clock_gettime(CLOCK_MONOTONIC, &abs);
    abs.tv_nsec += 50000000;
    if (abs.tv_nsec >= 1000000000)
        abs.tv_sec++, abs.tv_nsec -= 1000000000;
    setitimer(ITIMER_REAL, &it, NULL);
    SHOW(futex(&word, FUTEX_WAIT_BITSET, 0, &abs, NULL, 1));
}

static pthread_mutex_t pi, robust;

static void *die_with_lock(void *m)
{
    pthread_mutex_lock(m);
    return NULL;
}

static void *lock_and_pass(void *arg)
{
    long *n = arg;
    for (int i = 0; i < 300; i++) {
        pthread_mutex_lock(&pi);
        (*n)++;
        pthread_mutex_unlock(&pi);
    }
    return NULL;
}

static void mutexes(void)
{
    pthread_mutexattr_t a;
    pthread_t th[4];
    pthread_mutexattr_init(&a);
    pthread_mutexattr_setprotocol(&a, PTHREAD_PRIO_INHERIT);
    SHOW(pthread_mutex_init(&pi, &a));
    long n = 0;
    for (int i = 0; i < 4; i++)
        pthread_create(&th[i], NULL, lock_and_pass, &n);
    for (int i = 0; i < 4; i++)
        pthread_join(th[i], NULL);
    SHOW(n);
    /* robust, with and without PI, and shared */
    for (int k = 0; k < 4; k++) {
        pthread_mutexattr_init(&a);
        pthread_mutexattr_setrobust(&a, PTHREAD_MUTEX_ROBUST);
        if (k & 1)
            pthread_mutexattr_setprotocol(&a, PTHREAD_PRIO_INHERIT);
        if (k & 2)
            pthread_mutexattr_setpshared(&a, PTHREAD_PROCESS_SHARED);
        pthread_mutex_init(&robust, &a);
        pthread_create(&th[0], NULL, die_with_lock, &robust);
        pthread_join(th[0], NULL);
        SHOW(pthread_mutex_lock(&robust) == EOWNERDEAD);
        SHOW(pthread_mutex_consistent(&robust));
        SHOW(pthread_mutex_unlock(&robust));
        SHOW(pthread_mutex_lock(&robust));
        SHOW(pthread_mutex_unlock(&robust));
    }
    /* a process dies with a shared robust lock that another waits for */
    pthread_mutex_t *m = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    pthread_mutex_init(m, &a);
    pid_t p = fork();
    if (!p) {
        pthread_mutex_lock(m);
        usleep(60000);
        kill(getpid(), SIGKILL);
    }
    usleep(30000);
    SHOW(pthread_mutex_lock(m) == EOWNERDEAD);
    int st;
    waitpid(p, &st, 0);
}

static void pi_errors(void)
{
    struct timespec past = {1, 0};
    uint32_t tid = syscall(SYS_gettid);
    word = 0;
    SHOW(futex(&word, FUTEX_LOCK_PI, 0, NULL, NULL, 0));
    SHOW(word == tid);
    SHOW(futex(&word, FUTEX_LOCK_PI, 0, NULL, NULL, 0));
    SHOW(futex(&word, FUTEX_TRYLOCK_PI, 0, NULL, NULL, 0));
    SHOW(futex(&word, FUTEX_UNLOCK_PI, 0, NULL, NULL, 0));
    SHOW(word);
    SHOW(futex(&word, FUTEX_UNLOCK_PI, 0, NULL, NULL, 0));
    word = 31999;
    SHOW(futex(&word, FUTEX_LOCK_PI, 0, NULL, NULL, 0));
    pid_t p = fork();
    if (!p)
        for (;;)
            pause();
    word = p;
    SHOW(futex(&word, FUTEX_TRYLOCK_PI, 0, NULL, NULL, 0));
    SHOW(futex(&word, FUTEX_LOCK_PI, 0, &past, NULL, 0));
    kill(p, SIGKILL);
    waitpid(p, NULL, 0);
    SHOW(futex(&word, FUTEX_CMP_REQUEUE_PI, 2, NULL, &word2, 0));
    SHOW(futex(&word, FUTEX_WAIT_REQUEUE_PI, 0, NULL, &word, 0));
}

struct waitv {
    uint64_t val, uaddr;
    uint32_t flags, pad;
};

static void *wake_second(void *arg)
{
    usleep(30000);
    return (void *)(long)futex(arg, FUTEX_WAKE | FUTEX_PRIVATE_FLAG, 5, NULL, NULL, 0);
}

static void waitv(void)
{
    uint32_t f[3] = {1, 2, 3};
    struct waitv v[3] = {{1, (uintptr_t)&f[0], 130, 0}, {2, (uintptr_t)&f[1], 130, 0}, {3, (uintptr_t)&f[2], 130, 0}};
    struct timespec past = {1, 0};
    pthread_t th;
    SHOW(syscall(449, v, 0, 0, NULL, 0));
    SHOW(syscall(449, v, 129, 0, NULL, 0));
    SHOW(syscall(449, v, 3, 1, NULL, 0));
    SHOW(syscall(449, v, 3, 0, &past, CLOCK_MONOTONIC));
    SHOW(syscall(449, v, 3, 0, &past, CLOCK_BOOTTIME));
    v[2].val = 9;
    SHOW(syscall(449, v, 3, 0, NULL, 0));
    v[2].val = 3;
    v[1].flags = 0;
    SHOW(syscall(449, v, 3, 0, NULL, 0));
    v[1].flags = 130;
    pthread_create(&th, NULL, wake_second, &f[1]);
    SHOW(syscall(449, v, 3, 0, NULL, 0));
    void *woken;
    pthread_join(th, &woken);
    SHOW(woken);
}

/* Stress: condition variables, semaphores and barriers by many threads. */
enum { THREADS = 16, ROUNDS = 100 };
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t cond = PTHREAD_COND_INITIALIZER;
static pthread_barrier_t barrier;
static sem_t sem;
static long turn, total;

static void *player(void *arg)
{
    long me = (long)arg;
    for (int i = 0; i < ROUNDS; i++) {
        pthread_mutex_lock(&lock);
        while (turn % THREADS != me)
            pthread_cond_wait(&cond, &lock);
        turn++;
        total++;
        pthread_cond_broadcast(&cond);
        pthread_mutex_unlock(&lock);
        if (i % 10 == 0) {
            sem_post(&sem);
            sem_wait(&sem);
            pthread_barrier_wait(&barrier);
        }
    }
    return NULL;
}

static void stress(void)
{
    pthread_t th[THREADS];
    sem_init(&sem, 0, 0);
    pthread_barrier_init(&barrier, NULL, THREADS);
    for (long i = 0; i < THREADS; i++)
        pthread_create(&th[i], NULL, player, (void *)i);
    for (int i = 0; i < THREADS; i++)
        pthread_join(th[i], NULL);
    SHOW(total);
}

int main(void)
{
    setvbuf(stdout, NULL, _IOLBF, 0);
    basics();
    requeue();
    across_processes();
    interrupted();
    mutexes();
    pi_errors();
    waitv();
    stress();
    return 0;
}

/* Memory calls: mappings, faults, copy on write, threads that change them under each other. One line for each failed check. */
#include "vfs_check.h"
#include <pthread.h>
#include <setjmp.h>
#include <sys/mman.h>
#include <sys/resource.h>

#define P 4096UL

static sigjmp_buf caught;
static volatile int fault_sig, fault_code;
static void *volatile fault_addr;

static void on_fault(int sig, siginfo_t *info, void *context)
{
    fault_sig = sig;
    fault_code = info->si_code;
    fault_addr = info->si_addr;
    siglongjmp(caught, 1);
}

/* The signal that an access of the byte gets, 0 for none. */
static int touch(volatile char *p, int write)
{
    fault_sig = 0;
    if (sigsetjmp(caught, 1))
        return fault_sig;
    if (write)
        *p = 1;
    else
        (void)*p;
    return 0;
}

static int run_at(void *p)
{
    fault_sig = 0;
    if (sigsetjmp(caught, 1))
        return fault_sig;
    ((void (*)(void))p)();
    return 0;
}

static char *anon(size_t n, int prot)
{
    return mmap(NULL, n, prot, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
}

static int wait_status(pid_t pid)
{
    int st = -1;
    CHECK(waitpid(pid, &st, 0) == pid);
    return st;
}

static void faults(void)
{
    char *p = anon(8 * P, PROT_READ | PROT_WRITE);
    static const unsigned char ret = 0xc3;

    p[0] = 1;
    CHECK(mprotect(p, P, PROT_READ) == 0 && touch(p, 0) == 0);
    CHECK(touch(p, 1) == SIGSEGV && fault_code == SEGV_ACCERR && fault_addr == p);
    CHECK(mprotect(p, P, PROT_NONE) == 0);
    CHECK(touch(p, 0) == SIGSEGV && fault_code == SEGV_ACCERR);
    CHECK(mprotect(p, P, PROT_READ | PROT_WRITE) == 0 && touch(p, 1) == 0 && p[0] == 1);
    CHECK(munmap(p + P, P) == 0 && touch(p + P, 0) == SIGSEGV && fault_code == SEGV_MAPERR);
    memcpy(p, &ret, 1);
    CHECK(run_at(p) == SIGSEGV && fault_code == SEGV_ACCERR && fault_addr == p);
    CHECK(mprotect(p, P, PROT_READ | PROT_EXEC) == 0 && run_at(p) == 0);
    CHECK(touch((char *)8, 0) == SIGSEGV && fault_code == SEGV_MAPERR && fault_addr == (void *)8);
    CHECK(mprotect(p, 2 * P, PROT_READ) == -1 && errno == ENOMEM);
    char *s = mmap(NULL, P, PROT_READ, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(touch(s, 0) == 0 && touch(s, 1) == SIGSEGV && fault_code == SEGV_ACCERR && touch(s, 0) == 0);
    CHECK(mprotect(s, P, PROT_READ | PROT_WRITE) == 0 && touch(s, 1) == 0);
    char *w = anon(P, PROT_WRITE); /* writable is readable on x86 */
    CHECK(touch(w, 1) == 0 && touch(w, 0) == 0);
}

static void files(void)
{
    int fd = open("memory.tmp", O_RDWR | O_CREAT | O_TRUNC, 0600), mfd = memfd_create("m", 0);
    int fds[2] = {fd, mfd};

    for (int i = 0; i < 2; i++) {
        char buf[16] = {0};
        CHECK(ftruncate(fds[i], 3 * P + 10) == 0 && pwrite(fds[i], "abc", 3, P) == 3);
        char *s = mmap(NULL, 8 * P, PROT_READ | PROT_WRITE, MAP_SHARED, fds[i], 0);
        char *c = mmap(NULL, 8 * P, PROT_READ | PROT_WRITE, MAP_PRIVATE, fds[i], 0);
        CHECK(!memcmp(s + P, "abc", 3) && !memcmp(c + P, "abc", 3));
        memcpy(c + P, "xyz", 3);
        memcpy(s + 2 * P, "shared", 6);
        CHECK(pread(fds[i], buf, 3, P) == 3 && !memcmp(buf, "abc", 3));
        CHECK(pread(fds[i], buf, 6, 2 * P) == 6 && !memcmp(buf, "shared", 6));
        CHECK(!memcmp(c + 2 * P, "shared", 6));
        CHECK(touch(s + 3 * P + 100, 1) == 0);
        CHECK(touch(s + 4 * P, 0) == SIGBUS && fault_code == BUS_ADRERR && fault_addr == s + 4 * P);
        CHECK(touch(c + 5 * P, 1) == SIGBUS && fault_code == BUS_ADRERR);
        CHECK(read(fds[i], s + 4 * P, 1) == -1 && errno == EFAULT);
        CHECK(ftruncate(fds[i], P) == 0);
        CHECK(touch(s + P, 0) == SIGBUS && touch(c + P, 0) == SIGBUS);
        CHECK(ftruncate(fds[i], 2 * P) == 0 && touch(s + P, 0) == 0 && s[P] == 0 && c[P] == 0);
        CHECK(msync(s, 2 * P, MS_SYNC) == 0);
        CHECK(munmap(s, 8 * P) == 0 && munmap(c, 8 * P) == 0);
    }
    int ro = open("memory.tmp", O_RDONLY);
    CHECK(mmap(NULL, P, PROT_READ | PROT_WRITE, MAP_SHARED, ro, 0) == MAP_FAILED && errno == EACCES);
    char *r = mmap(NULL, P, PROT_READ, MAP_SHARED, ro, 0);
    CHECK(mprotect(r, P, PROT_READ | PROT_WRITE) == -1 && errno == EACCES);
    int wo = open("memory.tmp", O_WRONLY);
    CHECK(mmap(NULL, P, PROT_READ, MAP_PRIVATE, wo, 0) == MAP_FAILED && errno == EACCES);
    CHECK(mmap(NULL, P, PROT_READ, MAP_PRIVATE, 999, 0) == MAP_FAILED && errno == EBADF);
    CHECK(mmap(NULL, P, PROT_READ, MAP_PRIVATE, fd, 1) == MAP_FAILED && errno == EINVAL);
    unlink("memory.tmp");
}

static void remaps(void)
{
    char *p = anon(8 * P, PROT_READ | PROT_WRITE), *q;
    unsigned char vec[4];

    for (int i = 0; i < 8; i++)
        p[i * P] = i + 1;
    CHECK(munmap(p + 4 * P, 4 * P) == 0);
    q = anon(16 * P, PROT_NONE);
    q = mremap(p, 4 * P, 8 * P, MREMAP_MAYMOVE | MREMAP_FIXED, q);
    CHECK(q != MAP_FAILED && q[3 * P] == 4 && q[7 * P] == 0 && touch(p, 0) == SIGSEGV);
    CHECK(mremap(q, 8 * P, 2 * P, 0) == q && touch(q + 2 * P, 0) == SIGSEGV);
    CHECK(mremap(q, 3 * P, 4 * P, MREMAP_MAYMOVE) == MAP_FAILED && errno == EFAULT);
    CHECK(mremap(q + 1, P, P, 0) == MAP_FAILED && errno == EINVAL);
    CHECK(madvise(q, P, MADV_DONTNEED) == 0 && q[0] == 0 && q[P] == 2);
    CHECK(madvise(q, 4 * P, MADV_DONTNEED) == -1 && errno == ENOMEM);
    CHECK(madvise(q, P, 9999) == -1 && errno == EINVAL);
    CHECK(q[P] == 0); /* what there was of it is done */
    q[P] = 1;
    CHECK(mincore(q, 2 * P, vec) == 0 && vec[1] & 1);
    CHECK(mincore(q, 8 * P, vec) == -1);
    CHECK(mmap(q, P, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0) == MAP_FAILED &&
          errno == EEXIST);
    char *b = sbrk(0);
    CHECK(sbrk(3 * P) == b && touch(b + 2 * P, 1) == 0 && sbrk(-3 * P) != (void *)-1);
    CHECK(touch(b + 2 * P, 0) == SIGSEGV);
    const int low = MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT;
    char *h = (char *)0x50000000;
    CHECK(mmap(h, P, PROT_READ, low, -1, 0) == h); /* a hint counts there, too */
    CHECK((q = mmap(h, P, PROT_READ, low, -1, 0)) != h && q >= (char *)0x40000000 && q < (char *)0x80000000);
    CHECK((q = mmap((char *)0x90000000, P, PROT_READ, low, -1, 0)) >= (char *)0x40000000 && q < (char *)0x80000000);
    CHECK(anon(1UL << 40, PROT_NONE) != MAP_FAILED); /* a reservation costs nothing */
    CHECK(anon(1UL << 60, PROT_NONE) == MAP_FAILED && errno == ENOMEM);
}

static void forks(void)
{
    char *p = anon(64 * P, PROT_READ | PROT_WRITE);
    char *s = mmap(NULL, P, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

    for (int i = 0; i < 64; i++)
        p[i * P] = i;
    pid_t pid = fork();
    if (!pid) {
        for (int i = 0; i < 64; i += 3)
            p[i * P] = 100;
        s[1] = 42;
        pid_t grandchild = fork();
        if (!grandchild)
            _exit(p[3 * P] == 100 && p[4 * P] == 4 ? 7 : 8);
        _exit(WEXITSTATUS(wait_status(grandchild)));
    }
    CHECK(WEXITSTATUS(wait_status(pid)) == 7);
    CHECK(s[1] == 42);
    for (int i = 0; i < 64; i++)
        CHECK(p[i * P] == i);
    CHECK(madvise(p, P, MADV_WIPEONFORK) == 0 && madvise(p + P, P, MADV_DONTFORK) == 0);
    p[0] = 1;
    pid = fork();
    if (!pid) {
        if (p[0] != 0)
            _exit(1);
        signal(SIGSEGV, SIG_DFL);
        p[P] = 1;
        _exit(2);
    }
    int st = wait_status(pid);
    CHECK(WIFSIGNALED(st) && WTERMSIG(st) == SIGSEGV);
}

static int depth(int n)
{
    volatile char frame[4000];
    frame[0] = n;
    return n ? depth(n - 1) + frame[0] - n : 0;
}

static void stacks(void)
{
    CHECK(depth(1500) <= 0 || 1); /* 6 MB of stack */
    pid_t pid = fork();
    if (!pid) {
        struct rlimit rl = {1 << 20, 1 << 20};
        setrlimit(RLIMIT_STACK, &rl);
        signal(SIGSEGV, SIG_DFL);
        setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0});
        depth(100000);
        _exit(0);
    }
    int st = wait_status(pid);
    CHECK(WIFSIGNALED(st) && WTERMSIG(st) == SIGSEGV);
    pid = fork();
    if (!pid) {
        struct rlimit rl = {64 << 20, 64 << 20};
        setrlimit(RLIMIT_AS, &rl);
        _exit(anon(128 << 20, PROT_READ) == MAP_FAILED && errno == ENOMEM ? 3 : 4);
    }
    CHECK(WEXITSTATUS(wait_status(pid)) == 3);
}

/* How a child ends that goes down from p, page by page, from one page number to another. */
static int going_down(char *p, int from, int to, rlim_t stack)
{
    pid_t pid = fork();
    if (!pid) {
        signal(SIGSEGV, SIG_DFL);
        setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0});
        setrlimit(RLIMIT_STACK, &(struct rlimit){stack, stack});
        for (int i = from; i < to; i++)
            *(volatile char *)(p - i * P) = i;
        _exit(3);
    }
    int st = wait_status(pid);
    return WIFEXITED(st) ? WEXITSTATUS(st) : -WTERMSIG(st);
}

/* MAP_GROWSDOWN (mmap(2)): a touch below it makes it longer, up to RLIMIT_STACK and a gap above the next mapping. */
static void growing(void)
{
    char *room = anon(32 << 20, PROT_NONE), *p = room + (16 << 20);
    munmap(room, 32 << 20);
    CHECK(mmap(p, P, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_GROWSDOWN | MAP_FIXED, -1, 0) == p);
    for (int i = 0; i < 600; i++)
        *(volatile char *)(p - i * P) = i;
    CHECK(p[-599 * (long)P] == (char)599 && p[-1 * (long)P] == 1);
    CHECK(going_down(p, 600, 900, 8 << 20) == 3);
    CHECK(going_down(p, 600, 900, 3 << 20) == -SIGSEGV);
    CHECK(mmap(p - 1200 * P, P, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == p - 1200 * P);
    CHECK(going_down(p, 600, 900, 8 << 20) == 3);
    CHECK(going_down(p, 600, 1199, 8 << 20) == -SIGSEGV);
    CHECK(mprotect(p, P, PROT_READ | PROT_GROWSDOWN) == 0);
    CHECK(mprotect(p + 8, P, PROT_READ | PROT_GROWSDOWN) == -1 && errno == EINVAL);
    CHECK(mprotect(p, 0, PROT_READ | PROT_GROWSDOWN) == 0);
    CHECK(mprotect(p, -1UL, PROT_READ | PROT_GROWSDOWN) == -1 && errno == ENOMEM);
    CHECK(mprotect(p, -(size_t)p, PROT_READ | PROT_GROWSDOWN) == -1 && errno == ENOMEM);
    CHECK(mprotect(p, -1UL, PROT_READ) == -1 && errno == ENOMEM);
    munmap(room, 32 << 20);
}

/* Threads map, fill, check, protect and unmap memory of their own, while another one forks. */

static volatile long bad;

static void *churn(void *arg)
{
    unsigned seed = (unsigned)(long)arg;

    for (int i = 0; i < 300; i++) {
        size_t n = 1 + rand_r(&seed) % 40;
        unsigned long *p = (void *)anon(n * P, PROT_READ | PROT_WRITE);
        for (size_t k = 0; k < n; k++)
            p[k * 512] = (unsigned long)arg * 1000000 + i * 1000 + k;
        if (rand_r(&seed) % 2)
            p = mremap(p, n * P, (n + 8) * P, MREMAP_MAYMOVE);
        mprotect(p, P, PROT_READ);
        for (size_t k = 0; k < n; k++)
            if (p[k * 512] != (unsigned long)arg * 1000000 + i * 1000 + k)
                __sync_fetch_and_add(&bad, 1);
        munmap(p, n * P);
    }
    return NULL;
}

static void threads(void)
{
    pthread_t t[4];

    for (long i = 0; i < 4; i++)
        pthread_create(&t[i], NULL, churn, (void *)(i + 1));
    for (int i = 0; i < 10; i++) {
        pid_t pid = fork();
        if (!pid)
            _exit(0);
        CHECK(wait_status(pid) == 0);
    }
    for (int i = 0; i < 4; i++)
        pthread_join(t[i], NULL);
    CHECK(bad == 0);
}

int main(void)
{
    struct sigaction sa = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO};

    sigaction(SIGSEGV, &sa, NULL);
    sigaction(SIGBUS, &sa, NULL);
    faults();
    files();
    remaps();
    forks();
    stacks();
    growing();
    threads();
    puts("done");
    return 0;
}

/* Copies that survive SIGBUS and SIGSEGV: host pages that can't be had end in -EFAULT, not in a crash. */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <string.h>

#include "memfile.h"

static __thread sigjmp_buf *recovery;
static struct sigaction old_bus, old_segv;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void on_fault(int sig, siginfo_t *info, void *context)
{
    (void)info;
    (void)context;
    if (recovery)
        siglongjmp(*recovery, 1);
    sigaction(sig, sig == SIGBUS ? &old_bus : &old_segv, NULL); /* not ours: let it happen again */
}

static void install(void)
{
    struct sigaction sa;

    memset(&sa, 0, sizeof(sa));
    sa.sa_sigaction = on_fault;
    sa.sa_flags = SA_SIGINFO | SA_NODEFER;
    sigaction(SIGBUS, &sa, &old_bus);
    sigaction(SIGSEGV, &sa, &old_segv);
}

int guarded_call(int (*fn)(void *), void *arg)
{
    sigjmp_buf here;
    int rc;

    pthread_once(&once, install);
    if (sigsetjmp(here, 0)) {
        recovery = NULL;
        return -EFAULT;
    }
    recovery = &here;
    __asm__ volatile("" ::: "memory");
    rc = fn(arg);
    __asm__ volatile("" ::: "memory");
    recovery = NULL;
    return rc;
}

struct copy {
    void *dst;
    const void *src;
    u64 n;
};

static int do_copy(void *arg)
{
    struct copy *c = arg;
    memcpy(c->dst, c->src, c->n);
    return 0;
}

int guarded_copy(void *dst, const void *src, u64 n)
{
    struct copy c = {dst, src, n};
    return guarded_call(do_copy, &c);
}

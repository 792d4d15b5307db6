/* Calls that are answered on rung 0. See answers.h. */
#include "answers.h"

#include <pthread.h>
#include <stdatomic.h>
#include <sys/syscall.h>

#include "fdt.h"

static const u32 calls[] = {SYS_getpid,  SYS_gettid, SYS_getppid, SYS_getuid,
                            SYS_geteuid, SYS_getgid, SYS_getegid, SYS_futex,
                            SYS_clock_gettime};
enum { NCALLS = sizeof(calls) / sizeof(calls[0]) };

/* What one of them returns. */
static u32 answer(const struct cn_ids *ids, u64 nr)
{
    switch (nr) {
    case SYS_getpid:
        return (u32)ids->pid;
    case SYS_gettid:
        return (u32)ids->tid;
    case SYS_getppid:
        return (u32)__atomic_load_n(&ids->ppid, __ATOMIC_RELAXED);
    case SYS_getuid:
        return ids->uid;
    case SYS_geteuid:
        return ids->euid;
    case SYS_getgid:
        return ids->gid;
    case SYS_getegid:
        return ids->egid;
    default: /* not an id: the platform knows what answers it */
        return 0;
    }
}

enum cn_fast fast_identity(struct cn_task *t)
{
    if (!t->ids.known)
        return CN_UPCALL;
    t->regs.rax = answer(&t->ids, t->regs.orig_rax);
    return CN_DONE;
}

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* the list, and every page */
static struct answers *all;

static void publish(struct answers *a, u32 i)
{
    struct cn_task *t = a->task;
    int known = t->ids.known && !t->slow && !cn_fast_watched(calls[i]);

    cn_ops->ctx_answer(a->ctx, calls[i], known, answer(&t->ids, calls[i]));
}

/* By a thread with K, or for a table that its task can't lose meanwhile. */
static void publish_devices(struct answers *a)
{
    struct cn_task *t = a->task;
    u64 nulls = 0, zeros = 0;

    if (!cn_ops->ctx_devices)
        return;
    if (t->fds && !t->slow && !atomic_load(&files_watched))
        fdt_devices(t->fds, &nulls, &zeros);
    cn_ops->ctx_devices(a->ctx, cn_fast_watched(SYS_write) ? 0 : nulls,
                        cn_fast_watched(SYS_read) ? 0 : zeros);
}

static void publish_all(struct answers *a)
{
    for (u32 i = 0; i < NCALLS; i++)
        publish(a, i);
    publish_devices(a);
}

void answers_begin(struct answers *a, struct cn_task *t, struct cn_ctx *ctx)
{
    if (!cn_ops->ctx_answer)
        return;
    pthread_mutex_lock(&lock);
    a->task = t;
    a->ctx = ctx;
    a->next = all;
    a->link = &all;
    if (all)
        all->link = &a->next;
    all = a;
    publish_all(a);
    pthread_mutex_unlock(&lock);
}

void answers_end(struct answers *a)
{
    pthread_mutex_lock(&lock);
    if (a->link) {
        *a->link = a->next;
        if (a->next)
            a->next->link = a->link;
        a->link = NULL;
    }
    pthread_mutex_unlock(&lock);
}

void answers_publish(struct answers *a)
{
    pthread_mutex_lock(&lock);
    if (a->link)
        publish_all(a);
    pthread_mutex_unlock(&lock);
}

void answers_watch(u32 nr)
{
    pthread_mutex_lock(&lock);
    for (u32 i = 0; i < NCALLS; i++)
        for (struct answers *a = calls[i] == nr ? all : NULL; a; a = a->next)
            publish(a, i);
    for (struct answers *a = nr == SYS_read || nr == SYS_write ? all : NULL; a; a = a->next)
        publish_devices(a);
    pthread_mutex_unlock(&lock);
}

void answers_devices(const struct cn_fdt *fds)
{
    pthread_mutex_lock(&lock);
    for (struct answers *a = all; a; a = a->next)
        if (!fds || a->task->fds == fds)
            publish_devices(a);
    pthread_mutex_unlock(&lock);
}

/* Rung 0. See answers.h. */
#include "answers.h"

#include <pthread.h>
#include <stddef.h>
#include <sys/syscall.h>

#include "fast.h"

static const struct {
    u32 nr;
    size_t id; /* offset of the answer in struct cn_ids */
} calls[] = {
    {SYS_getpid, offsetof(struct cn_ids, pid)},   {SYS_gettid, offsetof(struct cn_ids, tid)},
    {SYS_getppid, offsetof(struct cn_ids, ppid)}, {SYS_getuid, offsetof(struct cn_ids, uid)},
    {SYS_geteuid, offsetof(struct cn_ids, euid)}, {SYS_getgid, offsetof(struct cn_ids, gid)},
    {SYS_getegid, offsetof(struct cn_ids, egid)},
};
enum { NCALLS = sizeof(calls) / sizeof(calls[0]) };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* the list, and every page */
static struct answers *all;

static void publish(struct answers *a, u32 i)
{
    struct cn_task *t = a->task;
    int known = t->ids.known && !t->slow && !cn_fast_watched(calls[i].nr);

    cn_ops->ctx_answer(a->ctx, calls[i].nr, known, *(u32 *)((u8 *)&t->ids + calls[i].id));
}

static void publish_all(struct answers *a)
{
    for (u32 i = 0; i < NCALLS; i++)
        publish(a, i);
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
        for (struct answers *a = calls[i].nr == nr ? all : NULL; a; a = a->next)
            publish(a, i);
    pthread_mutex_unlock(&lock);
}

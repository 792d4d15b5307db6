/* Address spaces of the ptrace platform: the queue of host calls and how it gets into force. */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/futex.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "ptrace.h"

int ptrace_as_new(struct cn_platform *p, struct cn_as **out)
{
    struct cn_as *as = calloc(1, sizeof(*as));
    if (!as)
        return -ENOMEM;
    as->p = p;
    as->queue.files = &p->files;
    pthread_mutex_init(&as->lock, NULL);
    *out = as;
    return 0;
}

void ptrace_as_free(struct cn_as *as)
{
    if (as->spare)
        cn_mother_bury(as->p->mother, as->spare);
    if (as->has_slot)
        cn_mother_slot_free(as->p->mother, as->slot);
    stub_queue_free(&as->queue);
    pthread_mutex_destroy(&as->lock);
    free(as);
}

int as_get_stub(struct cn_as *as, pid_t *pid)
{
    struct cn_stub stub;
    int rc;

    if (as->spare) {
        *pid = as->spare;
        as->spare = 0;
        return 0;
    }
    if (as->has_slot) /* its stubs were killed behind our back and the mappings went with them */
        return -ESRCH;
    rc = cn_mother_take(as->p->mother, &stub);
    if (rc < 0)
        return rc;
    as->slot = stub.slot;
    as->has_slot = 1;
    *pid = stub.pid;
    return 0;
}

int ptrace_as_queue(struct cn_as *as, const struct cn_hostop *op)
{
    int rc;

    pthread_mutex_lock(&as->lock);
    rc = stub_queue_add(&as->queue, op, STUB_FD_CTRL + 1);
    pthread_mutex_unlock(&as->lock);
    return rc;
}

static void futex_wake_all(_Atomic u32 *word)
{
    syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, 0x7fffffff, NULL, NULL, 0);
}

/* Nobody is left to see the mappings, which are not what the memory manager believes. */
static void fail(struct cn_as *as, int rc)
{
    siginfo_t si;

    as->broken = rc;
    for (struct cn_ctx *c = as->ctxs; c; c = c->next)
        if (atomic_load(&c->in_guest))
            kill(c->pid, SIGKILL);
    for (struct cn_ctx *c = as->ctxs; c; c = c->next)
        if (atomic_load(&c->in_guest))
            waitid(P_PID, (id_t)c->pid, &si, WEXITED | WNOWAIT | __WALL);
}

static int flush_locked(struct cn_as *as, pid_t traced)
{
    struct stub_ctrl *ctrl = cn_mother_ctrl(as->p->mother, as->slot);
    u32 done = 0;
    int rc = as->broken;

    while (!rc && done < as->queue.n) {
        u32 n = as->queue.n - done;
        if (n > STUB_MAX_OPS)
            n = STUB_MAX_OPS;
        memcpy(ctrl->op, as->queue.op + done, n * sizeof(*ctrl->op));
        rc = trace_call(traced, STUB_BATCH, STUB_CTRL + offsetof(struct stub_ctrl, op), n);
        done += n;
    }
    /* A stub that died made some of the calls; the next context makes them all again. */
    if (rc == -ESRCH)
        return rc;
    if (rc < 0 && !as->broken)
        fail(as, rc);
    stub_queue_clear(&as->queue);
    atomic_fetch_add(&as->flushes, 1);
    if (atomic_load(&as->sync_waiters))
        futex_wake_all(&as->flushes);
    return rc;
}

int as_flush(struct cn_as *as, pid_t traced)
{
    int rc = as->broken;

    if (rc || !atomic_load(&as->queue.n))
        return rc;
    pthread_mutex_lock(&as->lock);
    rc = flush_locked(as, traced);
    pthread_mutex_unlock(&as->lock);
    return rc;
}

void as_left_guest(struct cn_as *as)
{
    if (CN_UNLIKELY(atomic_load(&as->sync_waiters))) {
        atomic_fetch_add(&as->flushes, 1);
        futex_wake_all(&as->flushes);
    }
}

/*
 * No guest code must run on the old mappings when this returns. Contexts outside the guest flush
 * before they enter it, so only those inside matter: the caller's own stopped context can make the
 * calls for all, otherwise one that is inside is interrupted and its host thread makes them.
 */
int ptrace_as_sync(struct cn_as *as)
{
    pid_t me = cn_gettid();
    int rc = 0;

    pthread_mutex_lock(&as->lock);
    atomic_fetch_add(&as->sync_waiters, 1);
    while (as->queue.n && !(rc = as->broken)) {
        struct cn_ctx *own = NULL, *inside = NULL;
        u32 seen = atomic_load(&as->flushes);
        for (struct cn_ctx *c = as->ctxs; c; c = c->next) {
            if (c->owner == me && c->state == CTX_LIVE)
                own = c;
            if (atomic_load(&c->in_guest))
                inside = c;
        }
        if (!inside)
            break;
        if (own) {
            rc = flush_locked(as, own->pid);
            if (rc != -ESRCH)
                break;
            own->state = CTX_DEAD;
            continue;
        }
        syscall(SYS_tgkill, inside->pid, inside->pid, SIGURG);
        pthread_mutex_unlock(&as->lock);
        syscall(SYS_futex, &as->flushes, FUTEX_WAIT_PRIVATE, seen, NULL, NULL, 0);
        pthread_mutex_lock(&as->lock);
    }
    atomic_fetch_sub(&as->sync_waiters, 1);
    pthread_mutex_unlock(&as->lock);
    return rc;
}

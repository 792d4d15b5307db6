/* Address spaces of the systrap platform: the keeper and what it is asked. */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/futex.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "../run/place.h"
#include "systrap.h"

#define LIFE_CHECK_NS 20000000L /* a keeper that is not done after this may have died */

long stub_futex(volatile void *word, int op, u32 value, i64 timeout_ns)
{
    struct timespec ts = {timeout_ns / 1000000000, timeout_ns % 1000000000};
    long rc = syscall(SYS_futex, word, op, value, timeout_ns < 0 ? NULL : &ts, NULL, 0);
    return rc < 0 ? -errno : rc;
}

/*
 * The keeper makes the calls one after the other. That a wait on `done` was ended by a wake is the
 * proof that it has made them: nobody else can wake there, and no memory the guest could write is
 * involved. A call that fails ends it, with the errno as its status.
 */
static int keeper_run(struct cn_as *as, const struct stub_op *op, u32 n)
{
    struct stub_ctrl *ctrl = cn_mother_ctrl(as->p->mother, as->ctrl_slot);
    int status;
    long rc;

    memcpy(ctrl->op, op, n * sizeof(*op));
    ctrl->count = n;
    __atomic_store_n(&ctrl->seq, ctrl->seq + 1, __ATOMIC_SEQ_CST);
    stub_futex(&ctrl->seq, FUTEX_WAKE, 1, -1);
    for (;;) {
        rc = stub_futex(&ctrl->done, FUTEX_WAIT, 0, LIFE_CHECK_NS);
        if (rc == 0)
            return 0;
        if (rc != -ETIMEDOUT)
            continue;
        if (waitpid(as->keeper, &status, __WALL | WNOHANG) == as->keeper)
            break;
    }
    as->keeper = -1;
    return WIFEXITED(status) && WEXITSTATUS(status) ? -WEXITSTATUS(status) : -ESRCH;
}

static int get_keeper(struct cn_as *as)
{
    struct cn_stub stub;
    int rc;

    if (as->keeper)
        return as->keeper > 0 ? 0 : -ESRCH;
    rc = cn_mother_take(as->p->mother, &stub);
    if (rc < 0)
        return rc;
    as->keeper = stub.pid;
    as->ctrl_slot = stub.slot;
    return 0;
}

static int flush_locked(struct cn_as *as)
{
    u32 done = 0, n = as->queue.n;
    int rc = as->broken;

    if (!rc && n)
        rc = get_keeper(as);
    while (!rc && done < n) {
        u32 part = n - done < STUB_MAX_OPS ? n - done : STUB_MAX_OPS;
        rc = keeper_run(as, as->queue.op + done, part);
        done += part;
    }
    /* After a failure the mappings are not what the memory manager believes: nothing may run on
     * them. */
    if (rc < 0)
        as->broken = rc;
    stub_queue_clear(&as->queue);
    return rc;
}

int space_flush(struct cn_as *as)
{
    int rc;

    if (CN_LIKELY(!atomic_load_explicit(&as->queue.n, memory_order_relaxed)))
        return as->broken;
    pthread_mutex_lock(&as->lock);
    rc = flush_locked(as);
    pthread_mutex_unlock(&as->lock);
    return rc;
}

int space_clone(struct cn_as *as, struct cn_ctx *c)
{
    struct cn_platform *p = as->p;
    struct stub_op ops[2] = {
        {SYS_mmap,
         {c->area_addr, STUB_AREA_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, STUB_FD_AREA,
          (u64)c->slot * STUB_AREA_SIZE}},
        {SYS_clone, {STUB_CTX_FLAGS, 0, 0, c->area_addr}},
    };
    off_t said;
    int rc = as->broken ? as->broken : get_keeper(as);

    if (rc < 0)
        return rc;
    pthread_mutex_lock(&p->clone_lock);
    rc = keeper_run(as, ops, 2);
    said = rc < 0 ? 0 : lseek(cn_mother_ctrl_fd(p->mother), 0, SEEK_CUR);
    pthread_mutex_unlock(&p->clone_lock);
    if (rc < 0)
        as->broken = rc;
    else if (said >> 32)
        rc = -(int)(said & 0xfff);
    else
        c->pid = (pid_t)said;
    return rc;
}

int systrap_as_new(struct cn_platform *p, struct cn_as **out)
{
    struct cn_as *as = calloc(1, sizeof(*as));

    if (!as)
        return -ENOMEM;
    as->p = p;
    as->queue.files = &p->files;
    pthread_mutex_init(&as->lock, NULL);
    pthread_mutex_lock(&p->lock);
    space_reap(p, WNOHANG);
    pthread_mutex_unlock(&p->lock);
    *out = as;
    return 0;
}

/* 1: it is gone. */
static int waited(pid_t pid, int flags)
{
    pid_t got;

    do
        got = waitpid(pid, NULL, __WALL | flags);
    while (got < 0 && errno == EINTR);
    return got != 0;
}

/* 1: nothing of it is left. */
static int bury(struct cn_as *as, int flags)
{
    struct cn_platform *p = as->p;
    struct cn_ctx *c, *next;

    for (c = as->ctxs; c; c = c->next) {
        if (c->pid > 0 && !waited(c->pid, flags))
            return 0;
        c->pid = 0;
    }
    if (as->keeper > 0 && !waited(as->keeper, flags))
        return 0;
    if (as->keeper)
        cn_mother_slot_free(p->mother, as->ctrl_slot);
    for (c = as->ctxs; c; c = next) {
        next = c->next;
        area_put(p, c->slot);
        free(c);
    }
    pthread_mutex_destroy(&as->lock);
    free(as);
    return 1;
}

void space_reap(struct cn_platform *p, int flags)
{
    struct cn_as **link = &p->graves;

    while (*link) {
        struct cn_as *as = *link, *next = as->next;
        if (bury(as, flags))
            *link = next;
        else
            link = &as->next;
    }
}

void systrap_as_free(struct cn_as *as)
{
    static const struct stub_op all = {SYS_munmap, {0, CN_TASK_SIZE}};
    struct cn_platform *p = as->p;
    int emptied;

    stub_queue_free(&as->queue);
    /* Its pages may be reused when this returns: either nothing of it shows them any more, or nobody
     * is left to see. */
    emptied = !as->ctxs || (!as->broken && as->keeper > 0 && keeper_run(as, &all, 1) == 0);
    for (struct cn_ctx *c = as->ctxs; c; c = c->next)
        if (c->pid > 0)
            kill(c->pid, SIGKILL);
    if (as->keeper > 0)
        kill(as->keeper, SIGKILL);
    pthread_mutex_lock(&p->lock);
    if (emptied || !bury(as, 0)) {
        as->next = p->graves;
        p->graves = as;
        space_reap(p, WNOHANG);
    }
    pthread_mutex_unlock(&p->lock);
}

int systrap_as_queue(struct cn_as *as, const struct cn_hostop *op)
{
    int rc;

    pthread_mutex_lock(&as->lock);
    rc = stub_queue_add(&as->queue, op, STUB_FD_AREA + 1);
    pthread_mutex_unlock(&as->lock);
    return rc;
}

/* The keeper changes the page tables of running contexts as well, as another thread's munmap would. */
int systrap_as_sync(struct cn_as *as)
{
    int rc = 0;

    pthread_mutex_lock(&as->lock);
    if (as->queue.n && as->ctxs)
        rc = flush_locked(as);
    pthread_mutex_unlock(&as->lock);
    return rc;
}

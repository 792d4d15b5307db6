/* Address spaces of the systrap platform: the keeper and what it is asked. */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/futex.h>
#include <poll.h>
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

#define BIRTH_MS 500 /* a keeper of the pool has made its context long before that */
#define LIFE_CHECK_NS 20000000L /* a keeper that is not done after this may have died */

long stub_futex(volatile void *word, int op, u32 value, i64 timeout_ns)
{
    struct timespec ts = {timeout_ns / 1000000000, timeout_ns % 1000000000};
    long rc = syscall(SYS_futex, word, op, value, timeout_ns < 0 ? NULL : &ts, NULL, 0);
    return rc < 0 ? -errno : rc;
}

/* Until the keeper says that its batch is made: 0; or its end: the errno it ended with. */
static int await(struct cn_platform *p, int channel, pid_t keeper)
{
    struct pollfd pfd = {.fd = p->event[channel], .events = POLLIN};
    const struct timespec check = {0, LIFE_CHECK_NS};
    int status, rc;
    u64 count;

    for (;;) {
        rc = ppoll(&pfd, 1, &check, NULL);
        if (rc > 0)
            return read(p->event[channel], &count, sizeof(count)) < 0 ? -errno : 0;
        if (rc == 0 && waitpid(keeper, &status, __WALL | WNOHANG) == keeper)
            break;
    }
    return WIFEXITED(status) && WEXITSTATUS(status) ? -WEXITSTATUS(status) : -ESRCH;
}

static i64 told_number(struct cn_platform *p, int channel)
{
    i64 n = lseek(p->number[channel], 0, SEEK_CUR);
    return n >> 32 ? -(n & 0xfff) : n;
}

/*
 * The keeper makes the calls one after the other. Its answer comes through a channel that no guest
 * thread has a descriptor of, so it is the proof that they are made. A call that fails ends the
 * keeper, with the errno as its status. number: what it told, if it made a context; may be NULL.
 */
static int keeper_run(struct cn_as *as, const struct stub_op *op, u32 n, i64 *number)
{
    struct stub_ctrl *ctrl = cn_mother_ctrl(as->p->mother, as->ctrl_slot);
    int channel = channel_get(as->p, 1), cpu = cn_place_cpu(), rc;

    if (cpu != as->keeper_cpu) { /* we wait for it: best on our own core */
        cn_place_pin(as->keeper, cpu);
        as->keeper_cpu = cpu;
    }
    memcpy(ctrl->op, op, n * sizeof(*op));
    ctrl->count = n;
    ctrl->channel = (u32)(STUB_FD_CHANNEL + 2 * channel);
    __atomic_store_n(&ctrl->seq, ctrl->seq + 1, __ATOMIC_SEQ_CST);
    stub_futex(&ctrl->seq, FUTEX_WAKE, 1, -1);
    rc = await(as->p, channel, as->keeper);
    if (rc < 0)
        as->keeper = -1; /* waited for */
    else if (number)
        *number = told_number(as->p, channel);
    channel_put(as->p, channel);
    return rc;
}

static struct cn_ctx *new_ctx(struct cn_as *as, u32 area)
{
    struct cn_ctx *c = calloc(1, sizeof(*c));

    if (!c)
        return NULL;
    c->as = as;
    c->cpu = -1;
    c->slot = area;
    c->area = (struct stub_ctx *)(as->p->areas + (u64)area * STUB_AREA_SIZE);
    c->area_addr = area_addr(area);
    c->state = CTX_DEAD; /* until there is a process */
    c->next = as->ctxs;
    as->ctxs = c;
    return c;
}

/* The context that was made together with the keeper. */
static int adopt_birth(struct cn_as *as)
{
    struct birth *b = &as->p->births[as->ctrl_slot];
    int channel = b->channel, rc;
    struct cn_ctx *c;
    i64 pid;

    b->channel = -1;
    if (channel < 0)
        return 0;
    rc = await(as->p, channel, as->keeper);
    if (rc < 0)
        as->keeper = -1;
    pid = rc < 0 ? 0 : told_number(as->p, channel);
    channel_put(as->p, channel);
    c = new_ctx(as, b->area);
    if (!c) {
        if (pid > 0)
            kill((pid_t)pid, SIGKILL);
        return -ENOMEM;
    }
    if (pid > 0) {
        c->pid = (pid_t)pid;
        c->state = CTX_SPARE;
    }
    return rc;
}

void space_end_births(struct cn_platform *p)
{
    for (u32 i = 0; i < STUB_SLOTS && p->births; i++) {
        struct pollfd pfd = {.fd = -1, .events = POLLIN};
        i64 pid;
        if (p->births[i].channel < 0)
            continue;
        pfd.fd = p->event[p->births[i].channel];
        if (poll(&pfd, 1, BIRTH_MS) != 1 || (pid = told_number(p, p->births[i].channel)) <= 0)
            continue;
        kill((pid_t)pid, SIGKILL);
        waitpid((pid_t)pid, NULL, __WALL);
    }
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
    as->keeper_cpu = -1;
    as->ctrl_slot = stub.slot;
    as->waiters = (struct cn_waiters *)((u8 *)cn_mother_ctrl(as->p->mother, stub.slot) + STUB_CTRL_OPS);
    return adopt_birth(as);
}

static int overlap(const struct stub_op *a, const struct stub_op *b)
{
    return a->arg[0] < b->arg[0] + b->arg[1] && b->arg[0] < a->arg[0] + a->arg[1];
}

static int covers(const struct stub_op *a, const struct stub_op *b)
{
    return a->arg[0] <= b->arg[0] && a->arg[0] + a->arg[1] >= b->arg[0] + b->arg[1];
}

/* Does the queue make it unnecessary to make sure of a call that a context was asked for? */
static int outdated(const struct cn_as *as, const struct stub_op *op)
{
    const struct stub_op *first = as->queue.n ? as->queue.op : NULL;

    return first && covers(first, op) && (first->nr == SYS_mmap || first->nr == op->nr);
}

/* Nobody is left to see the mappings, which are not what the memory manager believes. */
static void fail(struct cn_as *as, int rc)
{
    siginfo_t si;

    as->broken = rc;
    for (struct cn_ctx *c = as->ctxs; c; c = c->next)
        if (c->pid > 0)
            kill(c->pid, SIGKILL);
    for (struct cn_ctx *c = as->ctxs; c; c = c->next)
        if (c->pid > 0)
            waitid(P_PID, (id_t)c->pid, &si, WEXITED | WNOWAIT | __WALL);
}

/* What contexts were asked for and may not have made, then the queue. */
static int flush_locked(struct cn_as *as)
{
    u32 done = 0, n = as->queue.n, asked = 0;
    int rc = as->broken;

    if (!rc && (n || as->nasked))
        rc = get_keeper(as);
    for (u32 i = 0; i < as->nasked; i++)
        if (!outdated(as, &as->asked[i]))
            as->asked[asked++] = as->asked[i];
    if (!rc && asked)
        rc = keeper_run(as, as->asked, asked, NULL);
    while (!rc && done < n) {
        u32 part = n - done < STUB_MAX_OPS ? n - done : STUB_MAX_OPS;
        rc = keeper_run(as, as->queue.op + done, part, NULL);
        done += part;
    }
    if (rc < 0 && !as->broken)
        fail(as, rc);
    as->nasked = 0;
    stub_queue_clear(&as->queue);
    return rc;
}

int space_flush(struct cn_as *as)
{
    int rc;

    if (CN_LIKELY(!atomic_load_explicit(&as->queue.n, memory_order_relaxed) &&
                  !atomic_load_explicit(&as->unsure, memory_order_relaxed)))
        return as->broken;
    pthread_mutex_lock(&as->lock);
    as->unsure = 0;
    rc = flush_locked(as);
    pthread_mutex_unlock(&as->lock);
    return rc;
}

/* Only this thread of the guest can be in need of the address space. */
static int is_alone(const struct cn_ctx *c)
{
    for (const struct cn_ctx *other = c->as->ctxs; other; other = other->next)
        if (other != c && other->state != CTX_SPARE)
            return 0;
    return 1;
}

/* Remembers op, which is about to be asked for. 0: it can't be, next to what is there. */
static int remember(struct cn_as *as, const struct stub_op *op)
{
    struct stub_op *last = as->nasked ? &as->asked[as->nasked - 1] : NULL;

    for (u32 i = 0; i < as->nasked; i++) {
        if (as->asked[i].nr == op->nr && covers(op, &as->asked[i]) && covers(&as->asked[i], op)) {
            as->asked[i] = *op; /* two mprotects of one piece */
            return 1;
        }
        if (overlap(&as->asked[i], op))
            return 0;
    }
    if (last && last->nr == SYS_munmap && op->nr == SYS_munmap &&
        op->arg[0] + op->arg[1] == last->arg[0]) { /* a heap shrinks step by step */
        last->arg[0] = op->arg[0];
        last->arg[1] += op->arg[1];
        return 1;
    }
    if (as->nasked == CTX_ASKED)
        return 0;
    as->asked[as->nasked++] = *op;
    return 1;
}

int space_ask(struct cn_ctx *c)
{
    struct cn_as *as = c->as;
    u32 n, i = 0;

    pthread_mutex_lock(&as->lock);
    n = as->queue.n;
    if (!as->queue.others && n <= STUB_TAKE_OPS && !as->broken && !as->unsure && is_alone(c))
        while (i < n && as->queue.op[i].arg[1] <= STUB_TAKE_MAX && remember(as, &as->queue.op[i])) {
            memcpy((void *)&c->area->take[i], &as->queue.op[i], sizeof(struct stub_op));
            i++;
        }
    /* If some could not be, the keeper makes those that could as well: all in order. */
    if (i && i == n) {
        c->area->take[i].nr = 0;
        c->takes = 1;
        stub_queue_clear(&as->queue);
    }
    pthread_mutex_unlock(&as->lock);
    return c->takes;
}

int space_context(struct cn_as *as, struct cn_ctx **out)
{
    int rc = as->broken ? as->broken : get_keeper(as);
    struct stub_op ops[BIRTH_OPS];
    struct cn_ctx *c;
    i64 number = 0;
    u32 area;

    if (rc < 0)
        return rc;
    for (c = as->ctxs; c; c = c->next)
        if (c->state == CTX_SPARE) {
            *out = c;
            return 0;
        }
    rc = area_get(as->p, &area);
    if (rc < 0)
        return rc;
    /* In the list even when there is no process in the end: its area may be mapped. */
    c = new_ctx(as, area);
    if (!c) {
        area_put(as->p, area);
        return -ENOMEM;
    }
    birth_ops(ops, area);
    rc = keeper_run(as, ops, BIRTH_OPS, &number);
    if (rc < 0) {
        as->broken = rc;
        return rc;
    }
    if (number <= 0)
        return (int)number;
    c->pid = (pid_t)number;
    *out = c;
    return 0;
}

int systrap_as_new(struct cn_platform *p, struct cn_as **out)
{
    struct cn_as *as = calloc(1, sizeof(*as));

    if (!as)
        return -ENOMEM;
    as->p = p;
    as->queue.files = &p->files;
    pthread_mutex_init(&as->lock, NULL);
    pthread_mutex_lock(&p->grave_lock);
    space_reap(p, WNOHANG);
    pthread_mutex_unlock(&p->grave_lock);
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
    if (as->waiters && as->waiters->always)
        memset(as->waiters, 0, sizeof(*as->waiters));
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
    emptied = !as->ctxs || (!as->broken && as->keeper > 0 && keeper_run(as, &all, 1, NULL) == 0);
    for (struct cn_ctx *c = as->ctxs; c; c = c->next)
        if (c->pid > 0)
            kill(c->pid, SIGKILL);
    if (as->keeper > 0)
        kill(as->keeper, SIGKILL);
    pthread_mutex_lock(&p->grave_lock);
    if (emptied || !bury(as, 0)) {
        as->next = p->graves;
        p->graves = as;
        space_reap(p, WNOHANG);
    }
    pthread_mutex_unlock(&p->grave_lock);
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
    if ((as->queue.n || as->nasked) && as->ctxs)
        rc = flush_locked(as);
    pthread_mutex_unlock(&as->lock);
    return rc;
}

struct cn_waiters *systrap_as_waiters(struct cn_as *as)
{
    return as->waiters;
}

/* The queue of host calls of an address space. See queue.h. */
#include "queue.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>

struct stub_file_use {
    u32 queued;  /* mmap calls with it in queues */
    u32 removed; /* to be closed when there are none */
};

void stub_files_init(struct stub_files *f, struct cn_mother *mother)
{
    memset(f, 0, sizeof(*f));
    f->mother = mother;
    pthread_mutex_init(&f->lock, NULL);
}

void stub_files_fini(struct stub_files *f)
{
    pthread_mutex_destroy(&f->lock);
    free(f->uses);
}

static int file_queued(struct stub_files *f, u64 fd)
{
    int rc = 0;

    pthread_mutex_lock(&f->lock);
    if (fd >= f->nuses) {
        u32 n = (u32)fd + 64;
        struct stub_file_use *bigger = realloc(f->uses, n * sizeof(*bigger));
        if (bigger) {
            memset(bigger + f->nuses, 0, (n - f->nuses) * sizeof(*bigger));
            f->uses = bigger;
            f->nuses = n;
        } else {
            rc = -ENOMEM;
        }
    }
    if (!rc)
        f->uses[fd].queued++;
    pthread_mutex_unlock(&f->lock);
    return rc;
}

static void file_done(struct stub_files *f, u64 fd)
{
    int last;

    pthread_mutex_lock(&f->lock);
    last = --f->uses[fd].queued == 0 && f->uses[fd].removed;
    if (last)
        f->uses[fd].removed = 0;
    pthread_mutex_unlock(&f->lock);
    if (last)
        cn_mother_fd_remove(f->mother, (int)fd);
}

void stub_files_remove(struct stub_files *f, int handle)
{
    int busy;

    pthread_mutex_lock(&f->lock);
    busy = (u32)handle < f->nuses && f->uses[handle].queued;
    if (busy)
        f->uses[handle].removed = 1;
    pthread_mutex_unlock(&f->lock);
    if (!busy)
        cn_mother_fd_remove(f->mother, handle);
}

/* A call that continues the last one of the queue is merged into it. */
static int merge(struct stub_queue *q, const struct stub_op *op)
{
    u32 n = q->n;
    struct stub_op *last = n ? &q->op[n - 1] : NULL;

    if (!last || last->nr != op->nr || last->arg[0] + last->arg[1] != op->arg[0])
        return 0;
    if (op->nr == SYS_mmap &&
        (last->arg[2] != op->arg[2] || last->arg[3] != op->arg[3] || last->arg[4] != op->arg[4] ||
         last->arg[5] + last->arg[1] != op->arg[5]))
        return 0;
    if (op->nr == SYS_mprotect && last->arg[2] != op->arg[2])
        return 0;
    last->arg[1] += op->arg[1];
    return 1;
}

static int translate(const struct cn_hostop *op, struct stub_op *call, int lowest_fd)
{
    if ((op->addr | op->len | op->off) & (CN_PAGE_SIZE - 1) || !op->len ||
        op->addr >= CN_TASK_SIZE || op->len > CN_TASK_SIZE - op->addr ||
        op->prot & ~(u32)(PROT_READ | PROT_WRITE | PROT_EXEC))
        return -EINVAL;
    *call = (struct stub_op){.arg = {op->addr, op->len}};
    switch (op->kind) {
    case CN_OP_MAP:
        if (op->fd != STUB_FD_MEM && op->fd < lowest_fd)
            return -EBADF;
        call->nr = SYS_mmap;
        call->arg[2] = op->prot;
        call->arg[3] = MAP_FIXED | MAP_NORESERVE | (op->shared ? MAP_SHARED : MAP_PRIVATE) |
                       (op->populate ? MAP_POPULATE : 0);
        call->arg[4] = (u64)op->fd;
        call->arg[5] = op->off;
        return 0;
    case CN_OP_UNMAP:
        call->nr = SYS_munmap;
        return 0;
    case CN_OP_PROTECT:
        call->nr = SYS_mprotect;
        call->arg[2] = op->prot;
        return 0;
    }
    return -EINVAL;
}

int stub_queue_add(struct stub_queue *q, const struct cn_hostop *op, int lowest_fd)
{
    struct stub_op call;
    int rc = translate(op, &call, lowest_fd);

    if (rc < 0)
        return rc;
    q->others += !op->taken;
    if (merge(q, &call))
        return 0;
    if (q->n == q->cap) {
        u32 cap = q->cap ? 2 * q->cap : 32;
        struct stub_op *grown = realloc(q->op, cap * sizeof(*grown));
        if (!grown)
            return -ENOMEM;
        q->op = grown;
        q->cap = cap;
    }
    if (call.nr == SYS_mmap && call.arg[4] != STUB_FD_MEM &&
        (rc = file_queued(q->files, call.arg[4])) < 0)
        return rc;
    q->op[q->n] = call;
    atomic_fetch_add(&q->n, 1);
    return 0;
}

void stub_queue_clear(struct stub_queue *q)
{
    for (u32 i = 0; i < q->n; i++)
        if (q->op[i].nr == SYS_mmap && q->op[i].arg[4] != STUB_FD_MEM)
            file_done(q->files, q->op[i].arg[4]);
    q->others = 0;
    q->n = 0;
}

void stub_queue_free(struct stub_queue *q)
{
    stub_queue_clear(q);
    free(q->op);
}

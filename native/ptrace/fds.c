/*
 * Host files in the stub fd table. A file may be removed while an address space's queue still has a
 * mapping of it (made and unmapped again before any guest code ran): it is closed when that is made.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>

#include "ptrace.h"

int fd_queued(struct cn_platform *p, u64 fd)
{
    int rc = 0;

    pthread_mutex_lock(&p->fd_lock);
    if (fd >= p->nfd_uses) {
        u32 n = (u32)fd + 64;
        struct fd_use *bigger = realloc(p->fd_uses, n * sizeof(*bigger));
        if (bigger) {
            memset(bigger + p->nfd_uses, 0, (n - p->nfd_uses) * sizeof(*bigger));
            p->fd_uses = bigger;
            p->nfd_uses = n;
        } else {
            rc = -ENOMEM;
        }
    }
    if (!rc)
        p->fd_uses[fd].queued++;
    pthread_mutex_unlock(&p->fd_lock);
    return rc;
}

void fd_calls_done(struct cn_platform *p, const struct stub_op *op, u32 n)
{
    for (u32 i = 0; i < n; i++) {
        u64 fd = op[i].arg[4];
        int last;
        if (op[i].nr != SYS_mmap || fd == STUB_FD_MEM)
            continue;
        pthread_mutex_lock(&p->fd_lock);
        last = --p->fd_uses[fd].queued == 0 && p->fd_uses[fd].removed;
        if (last)
            p->fd_uses[fd].removed = 0;
        pthread_mutex_unlock(&p->fd_lock);
        if (last)
            cn_mother_fd_remove(p->mother, (int)fd);
    }
}

void ptrace_fd_remove(struct cn_platform *p, int handle)
{
    int busy;

    pthread_mutex_lock(&p->fd_lock);
    busy = (u32)handle < p->nfd_uses && p->fd_uses[handle].queued;
    if (busy)
        p->fd_uses[handle].removed = 1;
    pthread_mutex_unlock(&p->fd_lock);
    if (!busy)
        cn_mother_fd_remove(p->mother, handle);
}

/* The ptrace platform: works wherever ptrace(2) does. See platform.h for the contract. */
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <stdlib.h>

#include "ptrace.h"

#define POOL 3

static int ptrace_init(struct cn_platform **out, int memfd)
{
    struct cn_platform *p = calloc(1, sizeof(*p));
    struct sigaction sa;
    int rc;

    if (!p)
        return -ENOMEM;
    /* Each stop would send the sentry a SIGCHLD. */
    if (sigaction(SIGCHLD, NULL, &sa) == 0) {
        sa.sa_flags |= SA_NOCLDSTOP;
        sigaction(SIGCHLD, &sa, NULL);
    }
    rc = cn_mother_start(&p->mother, memfd, POOL, NULL);
    if (rc < 0) {
        free(p);
        return rc;
    }
    stub_files_init(&p->files, p->mother);
    *out = p;
    return 0;
}

static void ptrace_fini(struct cn_platform *p)
{
    cn_mother_stop(p->mother);
    stub_files_fini(&p->files);
    free(p);
}

static int ptrace_fd_install(struct cn_platform *p, int host_fd)
{
    return cn_mother_fd_install(p->mother, host_fd);
}

static void ptrace_fd_remove(struct cn_platform *p, int handle)
{
    stub_files_remove(&p->files, handle);
}

static u64 ptrace_vdso_symbol(struct cn_platform *p, const char *name)
{
    return cn_mother_vdso_symbol(p->mother, name);
}

static int ptrace_failure_fd(struct cn_platform *p)
{
    return cn_mother_pidfd(p->mother);
}

const struct cn_platform_ops cn_ptrace_ops = {
    .name = "ptrace",
    .task_size = CN_TASK_SIZE,
    .shares_core = 1,
    .exact_access = 0,
    .init = ptrace_init,
    .fini = ptrace_fini,
    .fd_install = ptrace_fd_install,
    .fd_remove = ptrace_fd_remove,
    .as_new = ptrace_as_new,
    .as_free = ptrace_as_free,
    .as_queue = ptrace_as_queue,
    .as_sync = ptrace_as_sync,
    .ctx_new = ptrace_ctx_new,
    .ctx_free = ptrace_ctx_free,
    .ctx_switch = ptrace_ctx_switch,
    .ctx_interrupt = ptrace_ctx_interrupt,
    .ctx_get_xstate = ptrace_ctx_get_xstate,
    .ctx_set_xstate = ptrace_ctx_set_xstate,
    .ctx_cpu_ns = ptrace_ctx_cpu_ns,
    .vdso_symbol = ptrace_vdso_symbol,
    .failure_fd = ptrace_failure_fd,
};

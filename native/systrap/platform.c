/* The systrap platform: guest threads in processes that trap by seccomp. See systrap.h. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include "systrap.h"

#define POOL 3
#define AREAS_SIZE ((u64)STUB_AREA_SLOTS * STUB_AREA_SIZE)
#define HWCAP2_HAS_FSGSBASE 2

static void systrap_fini(struct cn_platform *p)
{
    if (p->mother) {
        pthread_mutex_lock(&p->grave_lock);
        space_reap(p, 0);
        pthread_mutex_unlock(&p->grave_lock);
        space_end_births(p);
        cn_mother_stop(p->mother);
        stub_files_fini(&p->files);
    }
    for (int i = 0; i < STUB_CHANNELS; i++) {
        if (p->event[i] >= 0)
            close(p->event[i]);
        if (p->number[i] >= 0)
            close(p->number[i]);
    }
    if (p->areas != MAP_FAILED)
        munmap(p->areas, AREAS_SIZE);
    if (p->area_fd >= 0)
        close(p->area_fd);
    pthread_cond_destroy(&p->channel_freed);
    pthread_mutex_destroy(&p->grave_lock);
    pthread_mutex_destroy(&p->lock);
    free(p->births);
    free(p->free_slots);
    free(p);
}

static int open_files(struct cn_platform *p, int *fds)
{
    fds[0] = p->area_fd = memfd_create("cordon-areas", MFD_CLOEXEC);
    if (p->area_fd < 0 || ftruncate(p->area_fd, (off_t)AREAS_SIZE) < 0)
        return -errno;
    p->areas = mmap(NULL, AREAS_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE,
                    p->area_fd, 0);
    if (p->areas == MAP_FAILED)
        return -errno;
    for (int i = 0; i < STUB_CHANNELS; i++) {
        fds[1 + 2 * i] = p->event[i] = eventfd(0, EFD_CLOEXEC);
        fds[2 + 2 * i] = p->number[i] = memfd_create("cordon-number", MFD_CLOEXEC);
        if (p->event[i] < 0 || p->number[i] < 0)
            return -errno;
        p->channels[p->nchannels++] = i;
    }
    return 0;
}

static int systrap_init(struct cn_platform **out, int memfd)
{
    int fds[1 + 2 * STUB_CHANNELS];
    struct cn_platform *p;
    int rc = -ENOMEM;

    if (!(getauxval(AT_HWCAP2) & HWCAP2_HAS_FSGSBASE))
        return -EOPNOTSUPP; /* how the stub would load fs_base otherwise is not built */
    if (!(p = calloc(1, sizeof(*p))))
        return rc;
    handover_start();
    p->can_patch = __builtin_cpu_supports("bmi2") != 0;
    p->areas = MAP_FAILED;
    p->area_fd = -1;
    memset(p->event, -1, sizeof(p->event));
    memset(p->number, -1, sizeof(p->number));
    pthread_mutex_init(&p->grave_lock, NULL);
    pthread_mutex_init(&p->lock, NULL);
    pthread_cond_init(&p->channel_freed, NULL);
    p->free_slots = calloc(STUB_AREA_SLOTS, sizeof(*p->free_slots));
    p->births = calloc(STUB_SLOTS, sizeof(*p->births));
    if (!p->free_slots || !p->births)
        goto fail;
    for (u32 i = 0; i < STUB_SLOTS; i++)
        p->births[i].channel = -1;
    rc = open_files(p, fds);
    if (rc < 0)
        goto fail;
    rc = cn_mother_start(&p->mother, memfd, POOL,
                         &(struct cn_mother_extra){1 + 2 * STUB_CHANNELS, fds, birth_prepare, p});
    if (rc < 0)
        goto fail;
    stub_files_init(&p->files, p->mother);
    if (cn_xstate_size() <= STUB_AREA_SCRATCH - STUB_AREA_XSAVE)
        p->clock = cn_mother_vdso_symbol(p->mother, "__vdso_clock_gettime");
    *out = p;
    return 0;
fail:
    systrap_fini(p);
    return rc;
}

static int systrap_fd_install(struct cn_platform *p, int host_fd)
{
    return cn_mother_fd_install(p->mother, host_fd);
}

static void systrap_fd_remove(struct cn_platform *p, int handle)
{
    stub_files_remove(&p->files, handle);
}

static u64 systrap_vdso_symbol(struct cn_platform *p, const char *name)
{
    return cn_mother_vdso_symbol(p->mother, name);
}

static int systrap_failure_fd(struct cn_platform *p)
{
    return cn_mother_pidfd(p->mother);
}

const struct cn_platform_ops cn_systrap_ops = {
    .name = "systrap",
    .task_size = CN_TASK_SIZE,
    .shares_core = 1,
    .exact_access = 1,
    .init = systrap_init,
    .fini = systrap_fini,
    .fd_install = systrap_fd_install,
    .fd_remove = systrap_fd_remove,
    .as_new = systrap_as_new,
    .as_free = systrap_as_free,
    .as_queue = systrap_as_queue,
    .as_sync = systrap_as_sync,
    .ctx_new = systrap_ctx_new,
    .ctx_free = systrap_ctx_free,
    .ctx_switch = systrap_ctx_switch,
    .ctx_regs = systrap_ctx_regs,
    .ctx_interrupt = systrap_ctx_interrupt,
    .as_waiters = systrap_as_waiters,
    .ctx_answer = systrap_ctx_answer,
    .ctx_devices = systrap_ctx_devices,
    .ctx_get_xstate = systrap_ctx_get_xstate,
    .ctx_set_xstate = systrap_ctx_set_xstate,
    .ctx_cpu_ns = systrap_ctx_cpu_ns,
    .ctx_waited_ns = systrap_ctx_waited_ns,
    .vdso_symbol = systrap_vdso_symbol,
    .patch_entry = STUB_CALL_ENTRY,
    .failure_fd = systrap_failure_fd,
};

/* The platform in use, and what all platforms share. */
#include "../platform.h"

#include <errno.h>
#include <string.h>

#include "place.h"

const struct cn_platform_ops *cn_ops;
struct cn_platform *cn_plat;

static const struct cn_platform_ops *const platforms[] = {&cn_ptrace_ops, &cn_systrap_ops};

const struct cn_platform_ops *cn_platform_find(const char *name)
{
    for (unsigned i = 0; i < sizeof(platforms) / sizeof(platforms[0]); i++)
        if (!strcmp(platforms[i]->name, name))
            return platforms[i];
    return NULL;
}

int cn_platform_start(const char *name, int memfd)
{
    const struct cn_platform_ops *ops = cn_platform_find(name);
    int rc;

    if (!ops)
        return -ENOENT;
    if (cn_plat)
        return -EBUSY;
    rc = ops->init(&cn_plat, memfd);
    if (rc < 0) {
        cn_plat = NULL;
        return rc;
    }
    cn_ops = ops;
    if (ops->shares_core && (rc = cn_place_start()) < 0) {
        cn_platform_stop();
        return rc;
    }
    return 0;
}

void cn_platform_stop(void)
{
    if (!cn_plat)
        return;
    cn_place_stop();
    cn_ops->fini(cn_plat);
    cn_plat = NULL;
    cn_ops = NULL;
}

int cn_platform_failure_fd(void)
{
    return cn_plat && cn_ops->failure_fd ? cn_ops->failure_fd(cn_plat) : -1;
}

#define USER_CS 0x33
#define USER_SS 0x2b
/* CF PF AF ZF SF TF DF OF NT RF AC ID, as arch/x86/kernel/ptrace.c lets a debugger set. */
#define EFLAGS_USER 0x254dd5UL
#define EFLAGS_FIXED 0x202UL /* IF and the always-one bit */
#define HOST_TASK_SIZE_MAX 0x7ffffffff000UL

/* A data segment selector may be null or name a GDT entry at user level; the guest has no LDT. */
static uint64_t data_selector(uint64_t sel)
{
    return sel > 0xffff || sel & 4 || (sel & 3) != 3 ? 0 : sel;
}

void cn_regs_sanitize(struct cn_regs *r)
{
    r->cs = USER_CS;
    r->ss = USER_SS;
    r->eflags = (r->eflags & EFLAGS_USER) | EFLAGS_FIXED;
    r->ds = data_selector(r->ds);
    r->es = data_selector(r->es);
    r->fs = data_selector(r->fs);
    r->gs = data_selector(r->gs);
    if (r->fs_base >= HOST_TASK_SIZE_MAX)
        r->fs_base = 0;
    if (r->gs_base >= HOST_TASK_SIZE_MAX)
        r->gs_base = 0;
}

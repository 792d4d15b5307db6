/* Does a platform work here? Asked by running a guest on it. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "../platform.h"

#define GUEST_CODE 0x400000UL
#define GUEST_NR 0x1234UL

/* mov $GUEST_NR, %eax; syscall */
static const u8 code[] = {0xb8, GUEST_NR & 0xff, GUEST_NR >> 8, 0, 0, 0x0f, 0x05};

static int fail(char *why, u32 len, const char *what, int rc)
{
    snprintf(why, len, "%s: %s", what, strerror(-rc));
    return rc;
}

static int run_guest(char *why, u32 len)
{
    struct cn_hostop op = {.kind = CN_OP_MAP,
                           .prot = PROT_READ | PROT_EXEC,
                           .addr = GUEST_CODE,
                           .len = CN_PAGE_SIZE,
                           .shared = 1};
    struct cn_regs regs = {.rip = GUEST_CODE};
    struct cn_ctx *ctx = NULL;
    struct cn_as *as = NULL;
    struct cn_stop stop;
    int rc;

    if ((rc = cn_ops->as_new(cn_plat, &as)) < 0)
        return fail(why, len, "cannot make an address space", rc);
    if ((rc = cn_ops->as_queue(as, &op)) < 0 || (rc = cn_ops->ctx_new(as, &ctx)) < 0) {
        fail(why, len, "cannot make a context", rc);
        goto out;
    }
    if ((rc = cn_ops->ctx_switch(ctx, &regs, &stop)) < 0) {
        fail(why, len, "cannot run guest code", rc);
    } else if (stop.reason != CN_STOP_SYSCALL || regs.orig_rax != GUEST_NR ||
               regs.rip != GUEST_CODE + sizeof(code)) {
        snprintf(why, len, "a guest's system call did not stop as one (stop %d, signal %d)",
                 stop.reason, stop.signo);
        rc = -EPROTO;
    }
out:
    if (ctx)
        cn_ops->ctx_free(ctx);
    cn_ops->as_free(as);
    return rc;
}

int cn_platform_probe(const char *name, char *why, uint32_t len)
{
    int memfd = memfd_create("cordon-probe", MFD_CLOEXEC);
    int rc = 0;

    if (memfd < 0 || ftruncate(memfd, CN_PAGE_SIZE) < 0 ||
        pwrite(memfd, code, sizeof(code), 0) < 0) {
        rc = fail(why, len, "cannot make a memory file", -errno);
    } else if ((rc = cn_platform_start(name, memfd)) < 0) {
        fail(why, len, rc == -ENOENT ? "no such platform" : "cannot start its helper process", rc);
    } else {
        rc = run_guest(why, len);
        cn_platform_stop();
    }
    if (memfd >= 0)
        close(memfd);
    return rc;
}

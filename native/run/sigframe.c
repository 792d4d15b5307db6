/*
 * Signal frames of x86-64: what a handler finds on its stack, and the way back.
 *
 * Layout: arch/x86/include/uapi/asm/{sigcontext,ucontext}.h, asm-generic/siginfo.h. Above the frame,
 * 64-byte aligned, lie the XSAVE image and FP_XSTATE_MAGIC2. All of it is the guest's: what
 * rt_sigreturn finds there is hostile, is copied once and goes through cn_regs_sanitize and
 * cn_task_set_xstate.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stddef.h>
#include <string.h>

#include "../mm/mm.h"
#include "sigset.h"
#include "task.h"
#include "xstate.h"

#define RED_ZONE    128
#define XSTATE_ALIGN 64
#define OFF_BV      CN_XSTATE_LEGACY
#define HIGHEST     0x7fffffffffffUL
#define USER_CS     0x33
#define USER_SS     0x2b
#define EFLAGS_TF_DF_RF 0x10500UL
#define NO_CALL     (~0UL)
/* arch/x86/include/uapi/asm/ucontext.h */
#define UC_FLAGS    7 /* UC_FP_XSTATE, UC_SIGCONTEXT_SS, UC_STRICT_RESTORE_SS */

struct ucontext_head {
    u64 flags, link;
    struct cn_stack stack;
    u64 r8, r9, r10, r11, r12, r13, r14, r15, rdi, rsi, rbp, rbx, rdx, rax, rcx, rsp, rip, eflags;
    u16 cs, gs, fs, ss;
    u64 err, trapno, oldmask, cr2, fpstate, reserved[8];
    u64 sigmask;
};

struct frame {
    u64 restorer;
    struct ucontext_head uc;
    u8 info[CN_SIGINFO_SIZE];
};

_Static_assert(offsetof(struct frame, info) == 312 && sizeof(struct frame) == 440, "");

/* The registers that a sigcontext holds. */
#define EACH_REGISTER(X)                                                                \
    X(r8) X(r9) X(r10) X(r11) X(r12) X(r13) X(r14) X(r15) X(rdi) X(rsi) X(rbp) X(rbx) X(rdx) \
    X(rax) X(rcx) X(rsp) X(rip) X(eflags)

uint32_t cn_signal_frame_max(void)
{
    u32 size = sizeof(struct frame) + cn_xstate_size() + FP_XSTATE_MAGIC2_SIZE + XSTATE_ALIGN + 16;

    return (size + 15) & ~15U;
}

static void fill(struct frame *f, const struct cn_task *t, u64 restorer, const u8 *info, u64 saved,
                 u64 fp)
{
    const struct cn_sigtask *s = t->signals;
    const struct cn_regs *r = &t->regs;
    struct ucontext_head *uc = &f->uc;

    memset(f, 0, sizeof(*f));
    f->restorer = restorer;
    uc->flags = UC_FLAGS;
    uc->stack = (struct cn_stack){s->stack, s->stack_flags, 0, s->stack_size};
#define PUT(reg) uc->reg = r->reg;
    EACH_REGISTER(PUT)
#undef PUT
    uc->cs = USER_CS;
    uc->ss = USER_SS;
    uc->err = s->fault_err;
    uc->trapno = s->fault_trapno;
    uc->cr2 = s->fault_addr;
    uc->oldmask = uc->sigmask = saved;
    uc->fpstate = fp;
    memcpy(f->info, info, sizeof(f->info));
}

/* Writes the frame at `at`, with the extended state at fp, in one piece. 0 or -errno. */
static int write_frame(struct cn_task *t, const struct frame *f, u64 at, u64 fp)
{
    static const u32 magic2 = FP_XSTATE_MAGIC2;
    u32 size = cn_xstate_size();
    u64 total = fp - at + size + sizeof(magic2);
    u8 buf[total], *image = buf + (fp - at);
    struct _fpx_sw_bytes sw = {FP_XSTATE_MAGIC1, size + sizeof(magic2), cn_xstate_features(), size,
                               {0}};
    int rc = cn_task_get_xstate(t, image, size);

    if (rc < 0)
        return rc;
    memcpy(buf, f, sizeof(*f));
    memset(buf + sizeof(*f), 0, fp - at - sizeof(*f));
    memcpy(image + CN_XSTATE_LEGACY - sizeof(sw), &sw, sizeof(sw));
    memcpy(image + size, &magic2, sizeof(magic2));
    return cn_mm_copy_out(cn_task_mm(t), at, buf, total);
}

int cn_signal_enter(struct cn_task *t, int sig, const struct cn_sigaction *action,
                    const uint8_t *info, uint64_t saved)
{
    struct cn_sigtask *s = t->signals;
    struct cn_regs *r = &t->regs;
    u64 sp = r->rsp - RED_ZONE, fp, at;
    u32 on = signal_on_stack(s, r->rsp);
    int alt = action->flags & SA_ONSTACK && s->stack_size;
    struct frame f;
    int rc;

    if (!(action->flags & SIG_SA_RESTORER))
        return -EFAULT;
    if (alt && !on)
        sp = s->stack + s->stack_size;
    fp = (sp - cn_xstate_size() - FP_XSTATE_MAGIC2_SIZE) & ~(XSTATE_ALIGN - 1UL);
    at = ((fp - sizeof(f)) & ~15UL) - 8;
    if (at > HIGHEST || (alt && at <= s->stack))
        return -EFAULT;
    fill(&f, t, action->restorer, info, saved, fp);
    rc = write_frame(t, &f, at, fp);
    if (rc < 0)
        return rc;
    cn_task_reset_xstate(t);
    r->rdi = (u64)sig;
    r->rsi = at + offsetof(struct frame, info);
    r->rdx = at + offsetof(struct frame, uc);
    r->rax = 0;
    r->rip = action->handler;
    r->rsp = at;
    r->eflags &= ~EFLAGS_TF_DF_RF;
    r->orig_rax = NO_CALL;
    cn_regs_sanitize(r);
    if (s->stack_flags & SIG_SS_AUTODISARM) {
        s->stack = s->stack_size = 0;
        s->stack_flags = SS_DISABLE;
    }
    signal_block(t, s->blocked | action->mask | (action->flags & SA_NODEFER ? 0 : SIG_BIT(sig)));
    return 0;
}

/* The extended state at fp: a whole XSAVE image if the magic numbers say that there is one, else
 * the legacy part. */
static int restore_xstate(struct cn_task *t, u64 fp)
{
    u32 full = cn_xstate_size(), len = CN_XSTATE_LEGACY, magic2;
    u8 image[full + sizeof(magic2)];
    struct _fpx_sw_bytes sw;
    u64 bv;

    if (cn_mm_copy_in(cn_task_mm(t), fp, image, CN_XSTATE_LEGACY) < 0)
        return -EFAULT;
    memcpy(&sw, image + CN_XSTATE_LEGACY - sizeof(sw), sizeof(sw));
    if (sw.magic1 == FP_XSTATE_MAGIC1 && sw.xstate_size >= CN_XSTATE_LEGACY + CN_XSTATE_HEADER &&
        sw.xstate_size <= full && sw.extended_size >= sw.xstate_size) {
        u32 rest = sw.xstate_size - CN_XSTATE_LEGACY;
        if (cn_mm_copy_in(cn_task_mm(t), fp + CN_XSTATE_LEGACY, image + CN_XSTATE_LEGACY,
                          rest + sizeof(magic2)) < 0)
            return -EFAULT;
        memcpy(&magic2, image + sw.xstate_size, sizeof(magic2));
        if (magic2 == FP_XSTATE_MAGIC2) {
            memset(image + sw.xstate_size, 0, full - sw.xstate_size);
            memcpy(&bv, image + OFF_BV, sizeof(bv));
            bv &= sw.xstate_bv & cn_xstate_features();
            memcpy(image + OFF_BV, &bv, sizeof(bv));
            len = full;
        }
    }
    return cn_task_set_xstate(t, image, len);
}

int cn_rt_sigreturn(struct cn_task *t)
{
    struct cn_regs *r = &t->regs;
    struct ucontext_head uc;
    int rc;

    /* The handler's return took the restorer's address from the stack. */
    if (cn_mm_copy_in(cn_task_mm(t), r->rsp, &uc, sizeof(uc)) < 0)
        return -EFAULT;
    rc = uc.fpstate ? restore_xstate(t, uc.fpstate) : cn_task_reset_xstate(t);
    if (rc < 0)
        return rc;
#define TAKE(reg) r->reg = uc.reg;
    EACH_REGISTER(TAKE)
#undef TAKE
    r->orig_rax = NO_CALL;
    cn_regs_sanitize(r);
    signal_set_stack(t->signals, r->rsp, uc.stack.base, uc.stack.flags, uc.stack.size);
    signal_block(t, uc.sigmask);
    return 0;
}

/*
 * Signals in C over a made-up memory manager and platform: actions, masks, alternate stacks, frames
 * there and back, forged frames. Prints "ok NAME".
 */
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <ucontext.h>

#include "../mm/mm.h"
#include "../run/fastsig.h"
#include "../run/signals.h"
#include "check.h"

/* Guest memory: one mapping, what lies beyond it faults. */
#define BASE 0x10000UL
#define SIZE 0x10000UL
#define STACK (BASE + SIZE - 256)
#define HANDLER 0x401000UL
#define RESTORER 0x402000UL
#define RESTORER_FLAG 0x04000000UL
#define BIT(sig) (1UL << ((sig) - 1))

static u8 guest[SIZE];

static u8 *at(u64 addr, u64 n)
{
    return addr >= BASE && addr <= BASE + SIZE && n <= BASE + SIZE - addr ? guest + addr - BASE : NULL;
}

int cn_mm_copy_in(struct cn_mm *mm, u64 addr, void *buf, u64 n)
{
    (void)mm;
    if (!at(addr, n))
        return -EFAULT;
    memcpy(buf, at(addr, n), n);
    return 0;
}

int cn_mm_copy_out(struct cn_mm *mm, u64 addr, const void *buf, u64 n)
{
    (void)mm;
    if (!at(addr, n))
        return -EFAULT;
    memcpy(at(addr, n), buf, n);
    return 0;
}

struct cn_mm *cn_task_mm(const struct cn_task *t)
{
    (void)t;
    return NULL;
}

/* The extended state of the guest, as a platform would hold it. */
static u8 xstate[16384];
static int interrupts, resets;

int cn_task_get_xstate(struct cn_task *t, void *buf, u32 len)
{
    (void)t;
    CHECK(len <= sizeof(xstate));
    memcpy(buf, xstate, len);
    memset((u8 *)buf + 464, 0, 48);
    return (int)len;
}

int cn_task_set_xstate(struct cn_task *t, const void *buf, u32 len)
{
    u32 mxcsr;

    (void)t;
    memcpy(&mxcsr, (const u8 *)buf + 24, 4);
    if (mxcsr & ~0xffffU)
        return -EINVAL;
    memcpy(xstate, buf, len);
    return 0;
}

int cn_task_reset_xstate(struct cn_task *t)
{
    (void)t;
    memset(xstate, 0, sizeof(xstate));
    resets++;
    return 0;
}

void cn_task_interrupt(struct cn_task *t)
{
    (void)t;
    interrupts++;
}

static struct cn_task task;
static struct cn_sigtask sig;
static struct cn_sighand hand;
static u64 own, shared;

static void fresh(void)
{
    memset(&task, 0, sizeof(task));
    memset(&sig, 0, sizeof(sig));
    memset(&hand, 0, sizeof(hand));
    memset(guest, 0, sizeof(guest));
    own = shared = 0;
    interrupts = resets = 0;
    sig.pending = &own;
    sig.shared_pending = &shared;
    sig.actions = &hand;
    sig.limit = 100;
    sig.stack_flags = SS_DISABLE;
    task.signals = &sig;
    task.ids = (struct cn_ids){.pid = 7, .tid = 7, .uid = 3, .known = 1};
    task.regs = (struct cn_regs){.rsp = STACK, .rip = 0x400002, .rbx = 0xb, .r15 = 0xf, .eflags = 0x602};
    for (unsigned i = 0; i < sizeof(xstate); i++)
        xstate[i] = (u8)(i * 7);
    memset(xstate + 24, 0, 8);
    memset(xstate + 512, 0, 64);
    xstate[512] = 3;
}

static void catch(int n, u64 flags, u64 mask)
{
    hand.action[n] = (struct cn_sigaction){HANDLER, flags | RESTORER_FLAG, RESTORER, mask};
}

static enum cn_fast call(enum cn_fast (*fn)(struct cn_task *), u64 nr, u64 a, u64 b, u64 c, u64 d)
{
    task.regs.orig_rax = task.regs.rax = nr;
    task.regs.rdi = a;
    task.regs.rsi = b;
    task.regs.rdx = c;
    task.regs.r10 = d;
    return fn(&task);
}

static enum cn_fast raise_self(int n)
{
    return call(fast_tgkill, SYS_tgkill, 7, 7, (u64)n, 0);
}

static enum cn_fast go_back(void)
{
    task.regs.rsp += 8; /* the handler's ret */
    task.regs.orig_rax = SYS_rt_sigreturn;
    return fast_rt_sigreturn(&task);
}

static ucontext_t *frame(void)
{
    return (ucontext_t *)at(task.regs.rdx, sizeof(ucontext_t) - 600);
}

static void there_and_back(void)
{
    struct cn_regs before;
    u8 state[2048];
    siginfo_t si;

    fresh();
    memcpy(state, xstate, sizeof(state));
    memset(state + 464, 0, 48);
    catch(SIGUSR1, SA_SIGINFO, BIT(SIGHUP));
    sig.blocked = BIT(SIGALRM);
    before = task.regs;
    CHECK(raise_self(SIGUSR1) == CN_DONE);
    CHECK(task.regs.rip == HANDLER && task.regs.rdi == SIGUSR1 && task.regs.rax == 0);
    CHECK(task.regs.rsp % 16 == 8 && task.regs.rsp < STACK - 128);
    CHECK(!(task.regs.eflags & 0x400) && resets == 1);
    CHECK(sig.blocked == (BIT(SIGALRM) | BIT(SIGHUP) | BIT(SIGUSR1)));
    CHECK(*(u64 *)at(task.regs.rsp, 8) == RESTORER);
    memcpy(&si, at(task.regs.rsi, sizeof(si)), sizeof(si));
    CHECK(si.si_signo == SIGUSR1 && si.si_code == SI_TKILL && si.si_pid == 7 && si.si_uid == 3);
    CHECK((u64)frame()->uc_mcontext.gregs[REG_RSP] == STACK);
    CHECK((u64)frame()->uc_mcontext.fpregs % 64 == 0);
    CHECK(go_back() == CN_DONE);
    CHECK(task.regs.rsp == STACK && task.regs.rip == before.rip && task.regs.rbx == before.rbx);
    CHECK(task.regs.r15 == before.r15 && task.regs.rax == 0 && task.regs.orig_rax == ~0UL);
    CHECK(sig.blocked == BIT(SIGALRM));
    memset(xstate + 464, 0, 48);
    CHECK(memcmp(state, xstate, 464) == 0 && memcmp(state + 576, xstate + 576, 256) == 0);
}

/* Each of these is Python's; nothing has changed then. */
static void not_for_c(void)
{
    struct cn_regs before;

#define UPCALL(what)                                                \
    do {                                                            \
        before = task.regs;                                         \
        before.orig_rax = before.rax = SYS_tgkill;                  \
        before.rdi = before.rsi = 7;                                \
        before.rdx = SIGUSR1;                                       \
        before.r10 = 0;                                             \
        CHECK(raise_self(SIGUSR1) == CN_UPCALL);                    \
        CHECK(memcmp(&before, &task.regs, sizeof(before)) == 0);    \
        CHECK(resets == 0 && interrupts == 0);                      \
    } while (0)
    fresh();
    UPCALL("default action");
    hand.action[SIGUSR1].handler = 1;
    UPCALL("ignored");
    catch(SIGUSR1, (u32)SA_RESETHAND, 0);
    UPCALL("one shot");
    catch(SIGUSR1, 0, 0);
    hand.action[SIGUSR1].flags = 0;
    UPCALL("no restorer");
    catch(SIGUSR1, 0, 0);
    sig.blocked = BIT(SIGUSR1);
    UPCALL("blocked");
    sig.blocked = 0;
    shared = BIT(SIGHUP);
    UPCALL("another one is due");
    sig.blocked = BIT(SIGHUP);
    task.regs.rsp = BASE + 100;
    UPCALL("no stack");
    task.regs.rsp = 50;
    UPCALL("stack wraps");
    task.regs.rsp = 0xffff800000000000;
    UPCALL("stack beyond");
    task.regs.rsp = STACK;
    sig.limit = 0;
    UPCALL("RLIMIT_SIGPENDING");
    sig.limit = 1;
    task.ids.known = 0;
    UPCALL("who is it?");
    task.ids.known = 1;
    CHECK(raise_self(SIGSTOP) == CN_UPCALL && raise_self(65) == CN_UPCALL);
    CHECK(raise_self(-1) == CN_UPCALL && raise_self(SIGCONT) == CN_UPCALL);
    CHECK(raise_self(0) == CN_DONE && task.regs.rax == 0);
    CHECK(call(fast_kill, SYS_kill, 8, SIGUSR1, 0, 0) == CN_UPCALL);
    CHECK(call(fast_tkill, SYS_tkill, 8, SIGUSR1, 0, 0) == CN_UPCALL);
    CHECK(call(fast_kill, SYS_kill, 7, SIGUSR1, 0, 0) == CN_DONE);
}

static void masks(void)
{
    u64 set = BIT(SIGUSR1) | BIT(SIGKILL) | BIT(SIGSTOP);

    fresh();
    memcpy(at(BASE, 8), &set, 8);
    CHECK(call(fast_rt_sigprocmask, 0, SIG_BLOCK, BASE, BASE + 8, 8) == CN_DONE && task.regs.rax == 0);
    CHECK(sig.blocked == BIT(SIGUSR1) && interrupts == 0);
    own = BIT(SIGUSR1);
    CHECK(call(fast_rt_sigprocmask, 0, 77, 0, BASE + 8, 8) == CN_DONE && task.regs.rax == 0);
    memcpy(&set, at(BASE + 8, 8), 8);
    CHECK(set == BIT(SIGUSR1) && interrupts == 0);
    CHECK(call(fast_rt_sigprocmask, 0, SIG_UNBLOCK, BASE, 0, 8) == CN_DONE && task.regs.rax == 0);
    CHECK(sig.blocked == 0 && interrupts == 1);
    CHECK(call(fast_rt_sigprocmask, 0, 77, BASE, 0, 8) == CN_DONE && (i64)task.regs.rax == -EINVAL);
    CHECK(call(fast_rt_sigprocmask, 0, 0, BASE, 0, 4) == CN_DONE && (i64)task.regs.rax == -EINVAL);
    CHECK(call(fast_rt_sigprocmask, 0, 0, 8, 0, 8) == CN_DONE && (i64)task.regs.rax == -EFAULT);
}

static void actions(void)
{
    struct cn_sigaction a = {HANDLER, ~0UL, RESTORER, ~0UL}, copy;

    fresh();
    memcpy(at(BASE, sizeof(a)), &a, sizeof(a));
    CHECK(call(fast_rt_sigaction, 0, SIGUSR1, BASE, 0, 8) == CN_DONE && task.regs.rax == 0);
    cn_sighand_get(&hand, SIGUSR1, &copy);
    CHECK(copy.handler == HANDLER && copy.mask == ~(BIT(SIGKILL) | BIT(SIGSTOP)));
    CHECK(copy.flags & RESTORER_FLAG && !(copy.flags >> 32));
    CHECK(call(fast_rt_sigaction, 0, SIGUSR1, 0, BASE + 64, 8) == CN_DONE && task.regs.rax == 0);
    CHECK(memcmp(at(BASE + 64, sizeof(copy)), &copy, sizeof(copy)) == 0);
    CHECK(call(fast_rt_sigaction, 0, SIGKILL, BASE, 0, 8) == CN_DONE && (i64)task.regs.rax == -EINVAL);
    CHECK(call(fast_rt_sigaction, 0, 65, BASE, 0, 8) == CN_DONE && (i64)task.regs.rax == -EINVAL);
    CHECK(call(fast_rt_sigaction, 0, SIGHUP, 8, 0, 8) == CN_DONE && (i64)task.regs.rax == -EFAULT);
    a.handler = 1;
    memcpy(at(BASE, sizeof(a)), &a, sizeof(a));
    CHECK(call(fast_rt_sigaction, 0, SIGUSR1, BASE, 0, 8) == CN_UPCALL);
    CHECK(hand.action[SIGUSR1].handler == HANDLER);
    CHECK(cn_rt_sigaction(&task, SIGUSR1, BASE, 0, 8, 1) == 0 && hand.action[SIGUSR1].handler == 1);
    catch(SIGHUP, 0, 0);
    cn_sighand_reset_handled(&hand);
    CHECK(hand.action[SIGUSR1].handler == 1 && hand.action[SIGHUP].handler == 0);
}

static void stacks(void)
{
    stack_t s = {.ss_sp = (void *)(BASE + 0x4000), .ss_size = 0x4000};

    fresh();
    memcpy(at(BASE, sizeof(s)), &s, sizeof(s));
    CHECK(call(fast_sigaltstack, 0, BASE, BASE + 64, 0, 0) == CN_DONE && task.regs.rax == 0);
    memcpy(&s, at(BASE + 64, sizeof(s)), sizeof(s));
    CHECK(s.ss_flags == SS_DISABLE);
    catch(SIGUSR1, SA_ONSTACK, 0);
    CHECK(raise_self(SIGUSR1) == CN_DONE);
    CHECK(task.regs.rsp > BASE + 0x4000 && task.regs.rsp < BASE + 0x8000);
    u64 inside = task.regs.rsp;
    CHECK(call(fast_sigaltstack, 0, BASE, 0, 0, 0) == CN_DONE && (i64)task.regs.rax == -EPERM);
    catch(SIGUSR2, SA_ONSTACK, 0);
    CHECK(raise_self(SIGUSR2) == CN_DONE && task.regs.rsp < inside);
    task.regs.rsp = BASE + 0x4100; /* full: no frame may be written below it */
    CHECK(raise_self(SIGUSR2) == CN_UPCALL);
    sig.blocked = 0;
    CHECK(raise_self(SIGUSR2) == CN_UPCALL);
    task.regs.rsp = inside;
    CHECK(go_back() == CN_DONE && task.regs.rsp == STACK);
    s = (stack_t){.ss_sp = (void *)BASE, .ss_size = 100};
    memcpy(at(BASE, sizeof(s)), &s, sizeof(s));
    CHECK(call(fast_sigaltstack, 0, BASE, 0, 0, 0) == CN_DONE && (i64)task.regs.rax == -ENOMEM);
    s.ss_flags = 77;
    memcpy(at(BASE, sizeof(s)), &s, sizeof(s));
    CHECK(call(fast_sigaltstack, 0, BASE, 0, 0, 0) == CN_DONE && (i64)task.regs.rax == -EINVAL);
}

static void faults(void)
{
    siginfo_t si;

    fresh();
    task.stop = (struct cn_stop){.reason = CN_STOP_FAULT, .signo = SIGSEGV, .code = SEGV_MAPERR,
                                 .addr = 0x1234, .trapno = 14, .err = 6};
    CHECK(signal_fault(&task) == 0);
    catch(SIGSEGV, SA_SIGINFO, 0);
    task.slow = 1;
    CHECK(signal_fault(&task) == 0);
    task.slow = 0;
    sig.blocked = BIT(SIGSEGV);
    CHECK(signal_fault(&task) == 0);
    sig.blocked = 0;
    CHECK(signal_fault(&task) == 1 && task.regs.rip == HANDLER);
    memcpy(&si, at(task.regs.rsi, sizeof(si)), sizeof(si));
    CHECK(si.si_signo == SIGSEGV && si.si_code == SEGV_MAPERR && si.si_addr == (void *)0x1234);
    CHECK(frame()->uc_mcontext.gregs[REG_CR2] == 0x1234);
    CHECK(frame()->uc_mcontext.gregs[REG_TRAPNO] == 14 && frame()->uc_mcontext.gregs[REG_ERR] == 6);
}

/* What a guest may put into a frame, or into its place. */
static void forged(void)
{
    struct cn_regs before;
    u32 word = 0xffffffff;
    u8 *fp;

    fresh();
    catch(SIGUSR1, 0, 0);
    CHECK(raise_self(SIGUSR1) == CN_DONE);
    frame()->uc_mcontext.gregs[REG_EFL] = (long)~0UL; /* IOPL, VM, ... */
    frame()->uc_mcontext.gregs[REG_CSGSFS] = 0x10;    /* the kernel's */
    frame()->uc_mcontext.gregs[REG_RIP] = (long)0x8000000000000000;
    memset(&frame()->uc_sigmask, 0xff, 8);
    CHECK(go_back() == CN_DONE);
    CHECK(task.regs.cs == 0x33 && task.regs.ss == 0x2b && !(task.regs.eflags & 0x3000));
    CHECK(sig.blocked == ~(BIT(SIGKILL) | BIT(SIGSTOP)));

    fresh();
    catch(SIGUSR1, 0, 0);
    CHECK(raise_self(SIGUSR1) == CN_DONE);
    fp = at((u64)frame()->uc_mcontext.fpregs, 600);
    memcpy(fp + 24, &word, 4); /* reserved bits of mxcsr */
    before = task.regs;
    before.rsp += 8;
    before.orig_rax = SYS_rt_sigreturn;
    CHECK(go_back() == CN_UPCALL && memcmp(&before, &task.regs, sizeof(before)) == 0);
    memset(fp + 24, 0, 4);
    memcpy(fp + 464 + 16, &word, 4); /* a size beyond all: only the legacy part counts */
    CHECK(fast_rt_sigreturn(&task) == CN_DONE);

    for (u64 rsp = 0; rsp < 64; rsp += 7) {
        fresh();
        task.regs.rsp = rsp % 2 ? BASE + SIZE - rsp : -rsp;
        CHECK(fast_rt_sigreturn(&task) == CN_UPCALL);
    }
    fresh();
    catch(SIGUSR1, 0, 0);
    CHECK(raise_self(SIGUSR1) == CN_DONE);
    frame()->uc_mcontext.fpregs = (void *)(BASE + SIZE - 512); /* the image would reach beyond */
    u64 image = BASE + SIZE - 512;
    u32 sw[] = {0x46505853, 4096, 3, 0, 832};
    memcpy(at(image + 464, 20), sw, 20);
    CHECK(go_back() == CN_UPCALL);
}

int main(void)
{
    static const struct {
        const char *name;
        void (*run)(void);
    } tests[] = {{"there and back", there_and_back}, {"not for C", not_for_c}, {"masks", masks},
                 {"actions", actions}, {"stacks", stacks}, {"faults", faults}, {"forged", forged}};

    for (unsigned i = 0; i < sizeof(tests) / sizeof(*tests); i++) {
        tests[i].run();
        printf("ok %s\n", tests[i].name);
    }
    return 0;
}

/*
 * The mother stub: a freestanding program that clones stubs on the sentry's command and holds the
 * fd table they share.
 *
 * It runs before and beside the guest, never with guest memory mapped: a stub leaves this code
 * (stub_leave) before the sentry maps anything of a guest into it.
 */
#include <asm/unistd_64.h>
#include <linux/audit.h>
#include <linux/auxvec.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/mman.h>
#include <linux/prctl.h>
#include <linux/seccomp.h>

#include "../stub.h"

#define EINVAL 22
#define SIGKILL 9
#define SOL_SOCKET 1
#define SCM_RIGHTS 1
#define MSG_NOSIGNAL 0x4000
#define MSG_CTRUNC 8
#define HOST_TASK_SIZE 0x7ffffffff000UL

_Static_assert(sizeof(struct stub_ctrl) <= STUB_CTRL_OPS, "control page");
_Static_assert(sizeof(struct stub_op) == 56, "entry.S knows this layout");
_Static_assert(__builtin_offsetof(struct stub_ctrl, one) == 24, "systrap.S knows this layout");
_Static_assert(STUB_NR_ANSWERS == 1 << 8, "systrap.S looks at the bits above 8");
#define AT(field, offset) \
    _Static_assert(__builtin_offsetof(struct stub_ctx, field) == (offset), "systrap.S knows this layout")
AT(kind, 4);
AT(sentry_sleeps, 8);
AT(stub_sleeps, 12);
AT(arg, 16);
AT(result, 16);
AT(flags, 24);
AT(frame, 64);
AT(spin, 76);
AT(kick, 80);
AT(save_nr, 84);
AT(xrestore, 88);
AT(fs_base, 96);
AT(r8, 128);
AT(eflags, 264);
AT(stop_fs_base, 288);
AT(ret, 304);
AT(altstack, 320);
AT(take, 384);

struct iovec {
    void *base;
    u64 len;
};
struct msghdr {
    void *name;
    u32 namelen;
    struct iovec *iov;
    u64 iovlen;
    void *control;
    u64 controllen;
    i32 flags;
};
struct fd_cmsg {
    u64 len;
    i32 level, type;
    i32 fd, pad;
};

__attribute__((noreturn)) void stub_leave(u64 lo, u64 hi, void (*next)(void));
#pragma GCC visibility push(hidden)
void stub_park(void);
void stub_keeper(void);
void ctx_handler(void);
#pragma GCC visibility pop
__attribute__((noreturn)) void stub_main(const u64 *stack);

static inline i64 sys6(u64 nr, u64 a, u64 b, u64 c, u64 d, u64 e, u64 f)
{
    i64 ret;
    register u64 r10 __asm__("r10") = d;
    register u64 r8 __asm__("r8") = e;
    register u64 r9 __asm__("r9") = f;
    __asm__ volatile("syscall"
                     : "=a"(ret)
                     : "a"(nr), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                     : "rcx", "r11", "memory");
    return ret;
}
#define sys3(nr, a, b, c) sys6(nr, (u64)(a), (u64)(b), (u64)(c), 0, 0, 0)

__attribute__((noreturn)) static void die(void)
{
    for (;;)
        sys3(__NR_exit_group, 1, 0, 0);
}

#define ARG_LO(n) (__builtin_offsetof(struct seccomp_data, args[n]))
#define ARG_HI(n) (__builtin_offsetof(struct seccomp_data, args[n]) + 4)
#define FIELD(f) (__builtin_offsetof(struct seccomp_data, f))
#define LOAD(off) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, off)
#define RET(action) BPF_STMT(BPF_RET | BPF_K, action)
/* Each skips the next n instructions unless the loaded word is as named. */
#define UNLESS_EQ(k, n) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (u32)(k), 0, n)
#define UNLESS_LESS(k, n) BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, (u32)(k), n, 0)
#define UNLESS_AT_LEAST(k, n) BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, (u32)(k), 0, n)
#define ALLOW(nr) UNLESS_EQ(nr, 1), RET(SECCOMP_RET_ALLOW)
#define TRAP RET(SECCOMP_RET_TRAP)

#define LEN(...) (sizeof((struct sock_filter[]){__VA_ARGS__}) / sizeof(struct sock_filter))
/* The rows of calls made from [start, start + size); the loaded word is the low half of the
 * instruction pointer, and still is when they are skipped. */
#define FROM(start, size, ...)                                                           \
    UNLESS_AT_LEAST(start, 3 + LEN(__VA_ARGS__)),                                        \
        UNLESS_LESS((start) + (size), 2 + LEN(__VA_ARGS__)), LOAD(FIELD(nr)), __VA_ARGS__, TRAP
#define CALL(nr, ...) UNLESS_EQ(nr, LEN(__VA_ARGS__)), __VA_ARGS__
#define GUEST_ADDRESS \
    LOAD(ARG_HI(0)), UNLESS_LESS(CN_TASK_SIZE >> 32, 1), RET(SECCOMP_RET_ALLOW)
#define CHANNEL                                              \
    LOAD(ARG_LO(0)), UNLESS_AT_LEAST(STUB_FD_CHANNEL, 2),     \
        UNLESS_LESS(STUB_FD_SYSTRAP_END, 1), RET(SECCOMP_RET_ALLOW)
#define ONLY_STUB_TEXT                                                                   \
    LOAD(FIELD(arch)), UNLESS_EQ(AUDIT_ARCH_X86_64, 2), LOAD(FIELD(instruction_pointer) + 4), \
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, STUB_TEXT >> 32, 1, 0), TRAP,                \
        LOAD(FIELD(instruction_pointer))
#define MOTHER                                                                            \
    FROM(MOTHER_TEXT, MOTHER_TEXT_SIZE, ALLOW(__NR_recvmsg), ALLOW(__NR_sendmsg),         \
         ALLOW(__NR_clone), ALLOW(__NR_close), ALLOW(__NR_mmap), ALLOW(__NR_prctl),       \
         ALLOW(__NR_getppid), ALLOW(__NR_exit_group)),                                    \
        TRAP

/*
 * ptrace: one filter for mother and stubs (stubs inherit it, so making one costs nothing here); it
 * goes by where the call is made. The mother's text is not mapped in stubs, and they can map nothing
 * there. The stub's text may make mappings in the guest's space, threads of its own kind, sleep, die.
 *
 * All else traps. RET_TRAP rather than a kill: only a guest's vsyscall gets here (SYSEMU sees other
 * calls first) and is answered by the sentry.
 */
static const struct sock_filter filter[] = {
    ONLY_STUB_TEXT,
    FROM(STUB_TEXT, STUB_TEXT_SIZE,
         CALL(__NR_mmap, GUEST_ADDRESS, TRAP),
         CALL(__NR_mprotect, GUEST_ADDRESS, TRAP),
         CALL(__NR_clone, LOAD(ARG_LO(0)), ALLOW(STUB_THREAD_FLAGS), TRAP),
         ALLOW(__NR_munmap), ALLOW(__NR_prctl), ALLOW(__NR_getppid), ALLOW(__NR_pause),
         ALLOW(__NR_exit_group)),
    MOTHER,
};

/*
 * systrap: the filter of mother, keepers, and contexts until they are set up. The keeper may make
 * mappings in the guest's space, map context areas, make contexts. Of a context's rows its own
 * filter (below) leaves futexes only.
 */
static const struct sock_filter systrap_filter[] = {
    ONLY_STUB_TEXT,
    FROM(STUB_KEEPER_TEXT, 0x1000,
         CALL(__NR_mmap, GUEST_ADDRESS, UNLESS_EQ(STUB_AREA >> 32, 3), LOAD(ARG_LO(0)),
              UNLESS_AT_LEAST(STUB_AREA, 1), RET(SECCOMP_RET_ALLOW), TRAP),
         CALL(__NR_munmap, GUEST_ADDRESS, TRAP),
         CALL(__NR_mprotect, GUEST_ADDRESS, TRAP),
         CALL(__NR_clone, LOAD(ARG_LO(0)), ALLOW(STUB_CTX_FLAGS), TRAP),
         CALL(__NR_lseek, CHANNEL, TRAP),
         CALL(__NR_write, CHANNEL, TRAP),
         ALLOW(__NR_futex), ALLOW(__NR_prctl), ALLOW(__NR_getppid),
         ALLOW(__NR_exit_group)),
    FROM(STUB_CTX_TEXT, 0x1000,
         ALLOW(__NR_futex), ALLOW(__NR_prctl), ALLOW(__NR_getppid), ALLOW(__NR_sigaltstack),
         ALLOW(__NR_rt_sigprocmask), ALLOW(__NR_close_range), ALLOW(__NR_seccomp),
         ALLOW(__NR_munmap), ALLOW(__NR_mprotect), ALLOW(__NR_exit_group)),
    /* A keeper to be, leaving the mother's text. */
    FROM(STUB_TEXT, STUB_TEXT_SIZE, ALLOW(__NR_munmap), ALLOW(__NR_exit_group)),
    MOTHER,
};

/* [arg 0, arg 0 + arg 1) is the guest's. */
#define GUEST_RANGE                                                                       \
    LOAD(ARG_HI(0)), UNLESS_LESS(CN_TASK_SIZE >> 32, 5), LOAD(ARG_HI(1)), UNLESS_EQ(0, 3), \
        LOAD(ARG_LO(1)), UNLESS_LESS(STUB_TAKE_MAX + 1, 1)

/*
 * A context's: futexes in context areas, and to take memory, or rights to it other than by
 * PROT_WRITE, from its own address space; all from its own text. Everything else of any kind is a
 * signal that stops it. A guest may jump to those instructions with any registers: it can wake and
 * be woken then as by itself, and lose memory of its own, no more.
 */
__attribute__((section(".stub.ctx.data"))) static const struct sock_filter ctx_filter[] = {
    ONLY_STUB_TEXT,
    FROM(STUB_CTX_TEXT, 0x1000,
         CALL(__NR_munmap, GUEST_RANGE, RET(SECCOMP_RET_ALLOW), TRAP),
         CALL(__NR_mprotect, LOAD(ARG_HI(2)), UNLESS_EQ(0, 9), LOAD(ARG_LO(2)),
              BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, ~(u32)(PROT_READ | PROT_EXEC), 7, 0),
              GUEST_RANGE, RET(SECCOMP_RET_ALLOW), TRAP),
         UNLESS_EQ(__NR_futex, 10), LOAD(ARG_HI(0)), UNLESS_EQ(STUB_AREA >> 32, 8),
         LOAD(ARG_LO(0)), UNLESS_AT_LEAST(STUB_AREA, 6),
         UNLESS_LESS(STUB_AREA + (u64)STUB_AREA_SIZE * STUB_AREA_SLOTS, 5), LOAD(ARG_HI(1)),
         UNLESS_EQ(0, 3), LOAD(ARG_LO(1)), UNLESS_LESS(2, 1), /* FUTEX_WAIT, FUTEX_WAKE */
         RET(SECCOMP_RET_ALLOW)),
    TRAP,
};

struct ctx_prog {
    u16 len;
    const struct sock_filter *filter;
};
extern const struct ctx_prog ctx_prog;
__attribute__((section(".stub.ctx.data"))) const struct ctx_prog ctx_prog = {
    sizeof(ctx_filter) / sizeof(ctx_filter[0]), ctx_filter};

#define SIG_BLOCK 0
#define SIG_IGN 1
#define SA_SIGINFO 4
#define SA_RESTORER 0x04000000
#define SA_ONSTACK 0x08000000
#define SA_NODEFER 0x40000000

struct ksigaction {
    u64 handler, flags, restorer, mask;
};

/* What contexts inherit: the handler for what stops a guest, deafness for all else. Mother and
 * keepers have every signal blocked, so that a fault of theirs is their end. */
static i64 install_handlers(void)
{
    static const u8 stops[] = {4, 5, 7, 8, 11, 23, 31}; /* ILL TRAP BUS FPE SEGV URG SYS */
    struct ksigaction sa = {0};
    u64 all = ~0UL;
    i64 rc;

    if ((rc = sys6(__NR_rt_sigprocmask, SIG_BLOCK, (u64)&all, 0, 8, 0, 0)) < 0)
        return rc;
    sa.handler = SIG_IGN;
    for (u64 sig = 1; sig < 65; sig++)
        if (sig != SIGKILL && sig != 19 && sig != 18 &&
            (rc = sys6(__NR_rt_sigaction, sig, (u64)&sa, 0, 8, 0, 0)) < 0)
            return rc;
    sa.handler = (u64)ctx_handler;
    sa.restorer = (u64)ctx_handler; /* the host wants one; it is never called */
    sa.flags = SA_SIGINFO | SA_RESTORER | SA_ONSTACK | SA_NODEFER;
    for (u64 i = 0; i < sizeof(stops); i++)
        if ((rc = sys6(__NR_rt_sigaction, stops[i], (u64)&sa, 0, 8, 0, 0)) < 0)
            return rc;
    return 0;
}

static i64 install_filter(int systrap)
{
    struct sock_fprog prog = {sizeof(filter) / sizeof(filter[0]), (struct sock_filter *)filter};

    if (systrap)
        prog = (struct sock_fprog){sizeof(systrap_filter) / sizeof(systrap_filter[0]),
                                   (struct sock_filter *)systrap_filter};
    /* SPEC_ALLOW: stubs share no address space with anything secret, so speculation needs no brake.
     */
    return sys3(__NR_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_SPEC_ALLOW, &prog);
}

/* Receives one command; *fd is the fd that came with it or -1. EOF or an error means that the
 * sentry is gone. */
static void receive(struct stub_cmd *cmd, i32 *fd)
{
    struct fd_cmsg c = {0};
    struct iovec iov = {cmd, sizeof(*cmd)};
    struct msghdr m = {.iov = &iov, .iovlen = 1, .control = &c, .controllen = sizeof(c)};
    i64 n;

    do
        n = sys3(__NR_recvmsg, STUB_FD_SOCK, &m, 0);
    while (n == -4); /* EINTR */
    if (n != (i64)sizeof(*cmd))
        die();
    *fd = m.controllen >= 20 && c.level == SOL_SOCKET && c.type == SCM_RIGHTS ? c.fd : -1;
}

static void reply(const struct stub_cmd *cmd, i64 value)
{
    struct stub_reply r = {cmd->op, cmd->arg, value};
    struct iovec iov = {&r, sizeof(r)};
    struct msghdr m = {.iov = &iov, .iovlen = 1};

    if (sys3(__NR_sendmsg, STUB_FD_SOCK, &m, MSG_NOSIGNAL) != (i64)sizeof(r))
        die();
}

/* The life of a new stub until it parks. */
__attribute__((noreturn)) static void become_stub(u32 slot, u64 top, int systrap)
{
    u64 off = (u64)slot * STUB_CTRL_SIZE;

    sys3(__NR_prctl, PR_SET_PDEATHSIG, SIGKILL, 0);
    if (sys6(__NR_mmap, STUB_CTRL, STUB_CTRL_SIZE, PROT_READ, MAP_SHARED | MAP_FIXED, STUB_FD_CTRL,
             off) != (i64)STUB_CTRL)
        die();
    stub_leave(top, HOST_TASK_SIZE, systrap ? stub_keeper : stub_park);
}

/* AT_SYSINFO_EHDR of the initial stack: argc, argv, envp, auxv. */
static u64 find_vdso(const u64 *stack)
{
    const u64 *p = stack + 1 + stack[0] + 1;

    while (*p++)
        ;
    for (; p[0] != AT_NULL; p += 2)
        if (p[0] == AT_SYSINFO_EHDR)
            return p[1];
    return 0;
}

/* Drops everything that was inherited, seals. Returns the address of the host's vDSO (0: not kept)
 * or -errno. */
static i64 settle(const struct stub_cmd *init, const u64 *stack, u64 *top)
{
    struct __user_cap_header_struct caps = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct none[2] = {{0}};
    u64 vdso = find_vdso(stack), end = MOTHER_TEXT + MOTHER_TEXT_SIZE;
    i64 rc;

    /* The stack lies at the very top (no address randomisation), the vDSO between the text and it.
     */
    if (!vdso || !init->above || vdso < STUB_CTRL + STUB_CTRL_SIZE + init->below ||
        vdso + init->above > (u64)stack - 0x10000)
        vdso = 0;
    *top = vdso ? vdso + init->above : end;
    if ((rc = sys3(__NR_munmap, 0, STUB_TEXT, 0)) < 0)
        return rc;
    if (vdso && (rc = sys3(__NR_munmap, end, vdso - init->below - end, 0)) < 0)
        return rc;
    /* Without capabilities of their own, stubs can be traced by a sentry that has none either. */
    if ((rc = sys3(__NR_capset, &caps, none, 0)) < 0)
        return rc;
    sys3(__NR_prctl, PR_SET_NAME, "cordon-stub", 0);
    if ((rc = sys6(__NR_prctl, PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0, 0)) < 0)
        return rc;
    if (init->arg && (rc = install_handlers()) < 0)
        return rc;
    if ((rc = install_filter((int)init->arg)) < 0)
        return rc;
    return (i64)vdso;
}

void stub_main(const u64 *stack)
{
    struct stub_cmd cmd;
    int systrap;
    u64 top;
    i32 fd;

    sys3(__NR_prctl, PR_SET_PDEATHSIG, SIGKILL, 0);
    receive(&cmd, &fd);
    if (cmd.op != STUB_INIT || sys3(__NR_getppid, 0, 0, 0) != (i64)cmd.pid)
        die();
    systrap = (int)cmd.arg;
    reply(&cmd, settle(&cmd, stack, &top));

    for (;;) {
        i64 value = -EINVAL;
        receive(&cmd, &fd);
        switch (cmd.op) {
        case STUB_NEW:
            value = sys6(__NR_clone, STUB_FORK_FLAGS, 0, 0, 0, 0, 0);
            if (value == 0)
                become_stub(cmd.arg, top, systrap);
            break;
        case STUB_FD_INSTALL:
            value = fd >= 0 ? fd : -EINVAL;
            break;
        case STUB_FD_REMOVE:
            if (cmd.arg > (systrap ? STUB_FD_SYSTRAP_END - 1 : STUB_FD_CTRL))
                sys3(__NR_close, cmd.arg, 0, 0);
            continue;
        }
        reply(&cmd, value);
    }
}

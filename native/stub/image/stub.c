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

_Static_assert(sizeof(struct stub_ctrl) <= STUB_CTRL_SIZE, "control page");
_Static_assert(sizeof(struct stub_op) == 56, "entry.S knows this layout");

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

__attribute__((noreturn)) void stub_leave(u64 lo, u64 hi);
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

/*
 * One filter for mother and stubs (stubs inherit it, so making one costs nothing here); it goes by
 * where the call is made. The mother's text is not mapped in stubs, and they can map nothing there.
 *
 * All else traps. RET_TRAP rather than a kill: under ptrace only a guest's vsyscall gets here
 * (SYSEMU sees other calls first) and is answered by the sentry; systrap lives on it.
 */
static const struct sock_filter filter[] = {
    LOAD(FIELD(arch)),
    UNLESS_EQ(AUDIT_ARCH_X86_64, 2),
    LOAD(FIELD(instruction_pointer) + 4),
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, STUB_TEXT >> 32, 1, 0),
    TRAP,
    LOAD(FIELD(instruction_pointer)),
    UNLESS_AT_LEAST(STUB_TEXT, 28),
    UNLESS_LESS(STUB_TEXT + STUB_TEXT_SIZE, 27),

    /* The stub's text: mappings in the guest's space, threads of its own kind, sleep, death. */
    LOAD(FIELD(nr)),
    UNLESS_EQ(__NR_mmap, 4),
    LOAD(ARG_HI(0)),
    UNLESS_LESS(CN_TASK_SIZE >> 32, 1),
    RET(SECCOMP_RET_ALLOW),
    TRAP,
    UNLESS_EQ(__NR_mprotect, 4),
    LOAD(ARG_HI(0)),
    UNLESS_LESS(CN_TASK_SIZE >> 32, 1),
    RET(SECCOMP_RET_ALLOW),
    TRAP,
    UNLESS_EQ(__NR_clone, 4),
    LOAD(ARG_LO(0)),
    ALLOW(STUB_THREAD_FLAGS),
    TRAP,
    ALLOW(__NR_munmap),
    ALLOW(__NR_prctl),
    ALLOW(__NR_getppid),
    ALLOW(__NR_pause),
    ALLOW(__NR_exit_group),
    TRAP,

    /* The mother's. */
    UNLESS_AT_LEAST(MOTHER_TEXT, 18),
    UNLESS_LESS(MOTHER_TEXT + MOTHER_TEXT_SIZE, 17),
    LOAD(FIELD(nr)),
    ALLOW(__NR_recvmsg),
    ALLOW(__NR_sendmsg),
    ALLOW(__NR_clone),
    ALLOW(__NR_close),
    ALLOW(__NR_mmap),
    ALLOW(__NR_prctl),
    ALLOW(__NR_getppid),
    ALLOW(__NR_exit_group),
    TRAP,
};

static i64 install_filter(void)
{
    struct sock_fprog prog = {sizeof(filter) / sizeof(filter[0]), (struct sock_filter *)filter};
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
__attribute__((noreturn)) static void become_stub(u32 slot, u64 top)
{
    u64 off = (u64)slot * STUB_CTRL_SIZE;

    sys3(__NR_prctl, PR_SET_PDEATHSIG, SIGKILL, 0);
    if (sys6(__NR_mmap, STUB_CTRL, STUB_CTRL_SIZE, PROT_READ, MAP_SHARED | MAP_FIXED, STUB_FD_CTRL,
             off) != (i64)STUB_CTRL)
        die();
    stub_leave(top, HOST_TASK_SIZE);
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
    if ((rc = install_filter()) < 0)
        return rc;
    return (i64)vdso;
}

void stub_main(const u64 *stack)
{
    struct stub_cmd cmd;
    u64 top;
    i32 fd;

    sys3(__NR_prctl, PR_SET_PDEATHSIG, SIGKILL, 0);
    receive(&cmd, &fd);
    if (cmd.op != STUB_INIT || sys3(__NR_getppid, 0, 0, 0) != (i64)cmd.pid)
        die();
    reply(&cmd, settle(&cmd, stack, &top));

    for (;;) {
        i64 value = -EINVAL;
        receive(&cmd, &fd);
        switch (cmd.op) {
        case STUB_NEW:
            value = sys6(__NR_clone, STUB_FORK_FLAGS, 0, 0, 0, 0, 0);
            if (value == 0)
                become_stub(cmd.arg, top);
            break;
        case STUB_FD_INSTALL:
            value = fd >= 0 ? fd : -EINVAL;
            break;
        case STUB_FD_REMOVE:
            if (cmd.arg > STUB_FD_CTRL)
                sys3(__NR_close, cmd.arg, 0, 0);
            continue;
        }
        reply(&cmd, value);
    }
}

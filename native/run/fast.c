/* The table of native system calls. See fast.h. */
#define _GNU_SOURCE
#include "fast.h"

#include <errno.h>
#include <stdatomic.h>
#include <sys/syscall.h>

#include "answers.h"
#include "fastio.h"
#include "fastmem.h"
#include "fastpoll.h"
#include "fastsig.h"
#include "fdt.h"
#include "names.h"
#include "stats.h"

static _Atomic u8 watch[CN_NR_SYSCALLS];

static enum cn_fast (*const table[CN_NR_SYSCALLS])(struct cn_task *) = {
    [SYS_access] = fast_access,
    [SYS_brk] = fast_brk,
    [SYS_clock_gettime] = fast_clock_gettime,
    [SYS_clock_nanosleep] = fast_clock_nanosleep,
    [SYS_close] = fast_close,
    [SYS_dup] = fast_dup,
    [SYS_dup2] = fast_dup2,
    [SYS_dup3] = fast_dup3,
    [SYS_faccessat] = fast_faccessat,
    [SYS_fcntl] = fast_fcntl,
    [SYS_fstat] = fast_fstat,
    [SYS_futex] = fast_futex,
    [SYS_getegid] = fast_identity,
    [SYS_geteuid] = fast_identity,
    [SYS_getgid] = fast_identity,
    [SYS_getpid] = fast_identity,
    [SYS_getppid] = fast_identity,
    [SYS_gettid] = fast_identity,
    [SYS_gettimeofday] = fast_gettimeofday,
    [SYS_getuid] = fast_identity,
    [SYS_kill] = fast_kill,
    [SYS_lseek] = fast_lseek,
    [SYS_lstat] = fast_lstat,
    [SYS_madvise] = fast_madvise,
    [SYS_mmap] = fast_mmap,
    [SYS_mprotect] = fast_mprotect,
    [SYS_munmap] = fast_munmap,
    [SYS_nanosleep] = fast_nanosleep,
    [SYS_newfstatat] = fast_newfstatat,
    [SYS_open] = fast_open,
    [SYS_openat] = fast_openat,
    [SYS_poll] = fast_poll,
    [SYS_ppoll] = fast_ppoll,
    [SYS_pread64] = fast_pread64,
    [SYS_preadv] = fast_preadv,
    [SYS_pwrite64] = fast_pwrite64,
    [SYS_pwritev] = fast_pwritev,
    [SYS_read] = fast_read,
    [SYS_readv] = fast_readv,
    [SYS_recvfrom] = fast_recvfrom,
    [SYS_rt_sigaction] = fast_rt_sigaction,
    [SYS_rt_sigprocmask] = fast_rt_sigprocmask,
    [SYS_rt_sigreturn] = fast_rt_sigreturn,
    [SYS_sched_yield] = fast_sched_yield,
    [SYS_sendto] = fast_sendto,
    [SYS_sigaltstack] = fast_sigaltstack,
    [SYS_stat] = fast_stat,
    [SYS_tgkill] = fast_tgkill,
    [SYS_tkill] = fast_tkill,
    [SYS_write] = fast_write,
    [SYS_writev] = fast_writev,
};

int cn_fast_watched(u32 nr)
{
    return atomic_load_explicit(&watch[nr], memory_order_relaxed) != 0;
}

enum cn_fast cn_fast_syscall(struct cn_task *t)
{
    u64 nr = t->regs.orig_rax;

    if (nr >= CN_NR_SYSCALLS)
        return CN_UPCALL;
    if (!table[nr] || t->slow || cn_fast_watched((u32)nr) || !table[nr](t)) {
        cn_count(&cn_stats.calls[nr]);
        return CN_UPCALL;
    }
    cn_count(&cn_stats.fast[nr]);
    return CN_DONE;
}

int cn_watch_set(uint32_t nr, uint32_t bits, int on)
{
    if (nr >= CN_NR_SYSCALLS || bits > 0xff)
        return -EINVAL;
    if (on)
        atomic_fetch_or(&watch[nr], (u8)bits);
    else
        atomic_fetch_and(&watch[nr], (u8)~bits);
    answers_watch(nr);
    return 0;
}

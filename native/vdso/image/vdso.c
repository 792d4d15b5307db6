/*
 * The guest's vDSO, see vdso(7) and ../vdso.h. It runs in the guest, position-independent, without
 * relocations.
 *
 * The host's functions read the host's clock page: right from the first call. What they can't
 * answer (CPU-time clocks, a clock source unfit for user space) they ask by a system call, which
 * the sentry answers like any other.
 */
#include <asm/unistd_64.h>

#include "../vdso.h"

struct timespec64;
struct timeval64;

__attribute__((section(".vdsodata"), visibility("hidden")))
const volatile struct vdso_data vdso_data = {.magic = VDSO_MAGIC};

static inline long syscall3(long nr, long a, long b, long c)
{
    long ret;
    __asm__ volatile("syscall"
                     : "=a"(ret)
                     : "a"(nr), "D"(a), "S"(b), "d"(c)
                     : "rcx", "r11", "memory");
    return ret;
}

int __vdso_clock_gettime(int clock, struct timespec64 *ts)
{
    int (*host)(int, struct timespec64 *) = (void *)vdso_data.clock_gettime;
    return host ? host(clock, ts) : (int)syscall3(__NR_clock_gettime, clock, (long)ts, 0);
}

int __vdso_gettimeofday(struct timeval64 *tv, void *tz)
{
    int (*host)(struct timeval64 *, void *) = (void *)vdso_data.gettimeofday;
    return host ? host(tv, tz) : (int)syscall3(__NR_gettimeofday, (long)tv, (long)tz, 0);
}

long __vdso_time(long *t)
{
    long (*host)(long *) = (void *)vdso_data.time;
    return host ? host(t) : syscall3(__NR_time, (long)t, 0, 0);
}

int __vdso_clock_getres(int clock, struct timespec64 *ts)
{
    int (*host)(int, struct timespec64 *) = (void *)vdso_data.clock_getres;
    return host ? host(clock, ts) : (int)syscall3(__NR_clock_getres, clock, (long)ts, 0);
}

long __vdso_getcpu(unsigned *cpu, unsigned *node, void *unused)
{
    long (*host)(unsigned *, unsigned *, void *) = (void *)vdso_data.getcpu;
    return host ? host(cpu, node, unused) : syscall3(__NR_getcpu, (long)cpu, (long)node, 0);
}

/* The names without a prefix, as Linux exports them. */
#define WEAK(name) __typeof__(__vdso_##name) name __attribute__((weak, alias("__vdso_" #name)))
WEAK(clock_gettime);
WEAK(gettimeofday);
WEAK(time);
WEAK(clock_getres);
WEAK(getcpu);

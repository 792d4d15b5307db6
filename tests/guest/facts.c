/* What a process is told of the machine and of itself: uname, sysinfo, personality, random bytes, limits, scheduling. */
#include "vfs_check.h"
#include <sched.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/sysinfo.h>
#include <sys/utsname.h>
#include <sys/auxv.h>
#include <linux/ioprio.h>
#include <pthread.h>
#include <grp.h>
#include <sys/socket.h>

static void machine(void)
{
    struct utsname u;
    SHOW(uname(&u));
    SHOW(strcmp(u.sysname, "Linux"));
    SHOW(strcmp(u.machine, "x86_64"));
    CHECK(u.release[0] >= '5' && strchr(u.release, '.'));
    SHOW(strlen(u.version) > 0);
    SHOW(syscall(SYS_uname, 8L));
    char name[100];
    SHOW(gethostname(name, sizeof name));
    SHOW(strcmp(name, u.nodename));
    SHOW(syscall(SYS_sethostname, name, 65));
    SHOW(syscall(SYS_sethostname, name, -1));
    struct sysinfo s;
    SHOW(sysinfo(&s));
    CHECK(s.uptime >= 0 && s.totalram > 0 && s.freeram > 0 && s.freeram <= s.totalram && s.procs >= 1);
    SHOW(s.mem_unit);
    SHOW(sysinfo((void *)8));
    SHOW(sysconf(_SC_PAGESIZE));
    SHOW(sysconf(_SC_CLK_TCK));
    SHOW(get_nprocs() > 0 && get_nprocs() <= get_nprocs_conf());
    SHOW(getauxval(AT_PAGESZ));
    SHOW(getauxval(AT_MINSIGSTKSZ) > 500);
    SHOW(getauxval(AT_HWCAP2) & 2);
    SHOW(getauxval(AT_SECURE));
    SHOW(getauxval(AT_UID) == getuid());
    SHOW(getauxval(AT_FLAGS));
}

static void person(void)
{
    SHOW(personality(0xffffffff));
    SHOW(personality(ADDR_NO_RANDOMIZE));
    SHOW(personality(0xffffffff));
    pid_t p = fork();
    if (!p)
        _exit(personality(0xffffffff) == ADDR_NO_RANDOMIZE);
    int st;
    waitpid(p, &st, 0);
    SHOW(WEXITSTATUS(st));
    SHOW(personality(0));
    /* no randomisation: the same addresses each time */
    if (fork() == 0) {
        personality(ADDR_NO_RANDOMIZE);
        execl("/bin/sh", "sh", "-c", "a=$(grep -E 'stack|heap' /proc/self/maps); b=$(grep -E 'stack|heap' /proc/self/maps); [ \"$a\" = \"$b\" ] && echo the same; cat /proc/self/personality", NULL);
    }
    wait(NULL);
    if (fork() == 0) {
        execl("/bin/sh", "sh", "-c", "a=$(grep -E 'stack' /proc/self/maps); b=$(grep -E 'stack' /proc/self/maps); [ \"$a\" = \"$b\" ] || echo different", NULL);
    }
    wait(NULL);
    if (fork() == 0) {
        personality(PER_LINUX32);
        execl("/bin/uname", "uname", "-m", NULL);
    }
    wait(NULL);
    if (fork() == 0) {
        personality(UNAME26);
        execl("/bin/sh", "sh", "-c", "uname -r | cut -c1-4", NULL);
    }
    wait(NULL);
}

static void chance(void)
{
    char a[300] = {0}, b[300] = {0};
    SHOW(getrandom(a, 300, 0));
    SHOW(getrandom(b, 300, GRND_NONBLOCK));
    SHOW(memcmp(a, b, 300) != 0);
    SHOW(getrandom(a, 300, GRND_RANDOM));
    SHOW(getrandom(a, 300, GRND_INSECURE));
    SHOW(getrandom(a, 300, GRND_RANDOM | GRND_INSECURE));
    SHOW(getrandom(a, 300, 0x100));
    SHOW(getrandom((void *)8, 300, 0));
    SHOW(getrandom(a, 0, 0));
    SHOW(getentropy(a, 256));
    SHOW(getentropy(a, 257));
}

static long resident(void *p, size_t n, unsigned char *v)
{
    long sum = 0;
    if (mincore(p, n, v))
        return -1;
    for (size_t i = 0; i < n >> 12; i++)
        sum += v[i] & 1;
    return sum;
}

static void limits(void)
{
    struct rlimit r, want;
    SHOW(getrlimit(RLIMIT_STACK, &r));
    SHOW(r.rlim_cur);
    SHOW(getrlimit(RLIMIT_CORE + 20, &r));
    SHOW(getrlimit(RLIMIT_NOFILE, (void *)8));
    want = (struct rlimit){100, 50};
    SHOW(setrlimit(RLIMIT_NOFILE, &want));
    want = (struct rlimit){RLIM_INFINITY, RLIM_INFINITY};
    SHOW(setrlimit(RLIMIT_NOFILE, &want));
    want = (struct rlimit){20, 30};
    pid_t p = fork();
    int st;
    if (!p) {
        SHOW(setrlimit(RLIMIT_NOFILE, &want));
        SHOW(prlimit(0, RLIMIT_NOFILE, NULL, &r));
        SHOW(r.rlim_cur * 100 + r.rlim_max);
        while (open("/dev/null", O_RDONLY) >= 0)
            ;
        SHOW(errno == EMFILE);
        SHOW(dup(0));
        SHOW(dup2(0, 19));
        SHOW(dup2(0, 20));
        SHOW(fcntl(0, F_DUPFD, 20));
        SHOW(fcntl(0, F_DUPFD, 19));
        SHOW(socket(AF_UNIX, 1, 0));
        want = (struct rlimit){5, 30};
        SHOW(setrlimit(RLIMIT_NOFILE, &want));
        SHOW(write(15, "", 0));
        CHECK(setuid(12345) == 0);
        want = (struct rlimit){5, 40};
        SHOW(setrlimit(RLIMIT_NOFILE, &want));
        want = (struct rlimit){30, 30};
        SHOW(setrlimit(RLIMIT_NOFILE, &want));
        SHOW(prlimit(getppid(), RLIMIT_NOFILE, NULL, &r));
        SHOW(prlimit(1 << 21, RLIMIT_NOFILE, NULL, &r));
        exit(0);
    }
    waitpid(p, &st, 0);
    p = fork();
    if (!p) {
        CHECK(setuid(54321) == 0);
        want = (struct rlimit){3, 3};
        SHOW(setrlimit(RLIMIT_NPROC, &want));
        int n = 0;
        while ((p = fork()) > 0)
            n++;
        if (p == 0) {
            pause();
            exit(0);
        }
        SHOW(n);
        SHOW(errno == EAGAIN);
        signal(SIGTERM, SIG_IGN);
        kill(-1, SIGTERM);
        while (wait(NULL) > 0)
            ;
        exit(0);
    }
    waitpid(p, &st, 0);
    SHOW(st);
    p = fork();
    if (!p) {
        want = (struct rlimit){1 << 20, 1 << 20};
        SHOW(setrlimit(RLIMIT_DATA, &want));
        SHOW(sbrk(2 << 20) == (void *)-1);
        SHOW(mmap(NULL, 2 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED);
        SHOW(mmap(NULL, 2 << 20, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED);
        SHOW(mmap(NULL, 2 << 20, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0) == MAP_FAILED);
        exit(0);
    }
    waitpid(p, &st, 0);
    p = fork();
    if (!p) {
        char name[64];
        signal(SIGSEGV, SIG_DFL);
        want = (struct rlimit){1, 1};
        SHOW(setrlimit(RLIMIT_SIGPENDING, &want));
        sigset_t set;
        sigfillset(&set);
        sigprocmask(SIG_BLOCK, &set, NULL);
        union sigval v = {0};
        CHECK(setuid(23456) == 0);
        SHOW(sigqueue(getpid(), SIGRTMIN, v));
        SHOW(sigqueue(getpid(), SIGRTMIN, v));
        SHOW(kill(getpid(), SIGUSR1));
        (void)name;
        exit(0);
    }
    waitpid(p, &st, 0);
    p = fork();
    if (!p) {
        CHECK(setuid(34567) == 0);
        want = (struct rlimit){65536, 65536};
        SHOW(setrlimit(RLIMIT_MEMLOCK, &want));
        char *m = mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        SHOW(mlock(m, 65536));
        SHOW(mlock(m, 65537));
        SHOW(mlock(m + 65536, 1));
        SHOW(mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_LOCKED, -1, 0) == MAP_FAILED);
        SHOW(munlock(m, 4096));
        SHOW(mlock(m + 65536, 1));
        SHOW(mlock(m + (2 << 20), 1));
        SHOW(mlockall(MCL_CURRENT));
        SHOW(mlockall(0));
        SHOW(mlockall(MCL_ONFAULT));
        SHOW(munlockall());
        SHOW(syscall(SYS_mlock2, m, 4096, 1));
        SHOW(syscall(SYS_mlock2, m, 4096, 2));
        SHOW(mlock((void *)-4096L, 8192));
        char line[100];
        FILE *f = fopen("/proc/self/status", "r");
        while (fgets(line, 100, f))
            if (!strncmp(line, "VmLck", 5))
                printf("%s", line);
        exit(0);
    }
    waitpid(p, &st, 0);
    p = fork();
    if (!p) {
        size_t n = 64 << 20;
        static unsigned char v[16384];
        char *m = mmap(NULL, n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        madvise(m, n, MADV_NOHUGEPAGE);
        SHOW(resident(m, n, v));
        m[5 << 20] = 1;
        SHOW(resident(m, n, v));
        SHOW(v[5 << 8]);
        SHOW(mlock(m, 1 << 20));
        SHOW(resident(m, n, v));
        SHOW(syscall(SYS_mlock2, m + (20 << 20), 1 << 20, 1));
        SHOW(resident(m, n, v));
        char *l = mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_LOCKED, -1, 0);
        SHOW(resident(l, 1 << 20, v));
        exit(0);
    }
    waitpid(p, &st, 0);
}

static void scheduling(void)
{
    struct sched_param sp = {0};
    cpu_set_t set;
    SHOW(sched_getscheduler(0));
    SHOW(sched_get_priority_max(SCHED_FIFO));
    SHOW(sched_get_priority_min(SCHED_RR));
    SHOW(sched_get_priority_max(SCHED_OTHER));
    SHOW(sched_get_priority_max(77));
    SHOW(sched_getparam(0, &sp));
    SHOW(sp.sched_priority);
    SHOW(sched_getparam(-1, &sp));
    SHOW(sched_getparam(1 << 21, &sp));
    SHOW(sched_setscheduler(0, SCHED_BATCH, &sp));
    SHOW(sched_getscheduler(0));
    SHOW(sched_setscheduler(0, SCHED_IDLE, &sp));
    SHOW(sched_getscheduler(0));
    SHOW(sched_setscheduler(0, SCHED_OTHER, &sp));
    sp.sched_priority = 5;
    SHOW(sched_setscheduler(0, SCHED_OTHER, &sp));
    SHOW(sched_setscheduler(0, 77, &sp));
    SHOW(sched_setscheduler(0, SCHED_FIFO | SCHED_RESET_ON_FORK, &sp));
    SHOW(sched_getscheduler(0) == (SCHED_FIFO | SCHED_RESET_ON_FORK));
    SHOW(sched_getparam(0, &sp));
    SHOW(sp.sched_priority);
    pid_t p = fork();
    if (!p)
        _exit(sched_getscheduler(0));
    int st;
    waitpid(p, &st, 0);
    SHOW(WEXITSTATUS(st));
    struct timespec ts;
    sp.sched_priority = 0;
    SHOW(sched_setscheduler(0, SCHED_OTHER, &sp));
    SHOW(sched_rr_get_interval(0, &ts));
    struct { uint32_t size, policy; uint64_t flags; int32_t nice; uint32_t prio; uint64_t a, b, c; uint32_t lo, hi; } at = {.size = sizeof at};
    SHOW(syscall(SYS_sched_getattr, 0, &at, sizeof at, 0));
    SHOW(at.policy);
    SHOW(at.nice);
    at.nice = 3;
    SHOW(syscall(SYS_sched_setattr, 0, &at, 0));
    SHOW(getpriority(PRIO_PROCESS, 0));
    SHOW(syscall(SYS_sched_setattr, 0, &at, 1));
    SHOW(syscall(SYS_sched_getattr, 0, &at, 4, 0));
    SHOW(nice(2));
    SHOW(nice(-1));
    SHOW(setpriority(PRIO_PROCESS, 0, 100));
    SHOW(getpriority(PRIO_PROCESS, 0));
    SHOW(setpriority(PRIO_PROCESS, 0, 0));
    SHOW(getpriority(PRIO_PROCESS, 1 << 21));
    SHOW(getpriority(7, 0));
    SHOW(getpriority(PRIO_PGRP, 0));
    SHOW(getpriority(PRIO_USER, 0) <= 0);
    p = fork();
    if (!p) {
        CHECK(setuid(4242) == 0);
        SHOW(nice(5));
        SHOW(nice(-5));
        SHOW(errno);
        SHOW(setpriority(PRIO_PROCESS, getppid(), 5));
        sp.sched_priority = 1;
        SHOW(sched_setscheduler(0, SCHED_FIFO, &sp));
        exit(0);
    }
    waitpid(p, &st, 0);
    SHOW(sched_getaffinity(0, sizeof set, &set));
    int n = CPU_COUNT(&set);
    SHOW(n == get_nprocs());
    SHOW(syscall(SYS_sched_getaffinity, 0, 1, &set));
    SHOW(syscall(SYS_sched_getaffinity, 0, 128, &set) > 0);
    SHOW(syscall(SYS_sched_getaffinity, 1 << 21, 128, &set));
    CPU_ZERO(&set);
    SHOW(sched_setaffinity(0, sizeof set, &set));
    CPU_SET(1000, &set);
    SHOW(sched_setaffinity(0, sizeof set, &set));
    CPU_SET(0, &set);
    SHOW(sched_setaffinity(0, sizeof set, &set));
    SHOW(sched_getaffinity(0, sizeof set, &set));
    SHOW(CPU_COUNT(&set));
    CHECK(sched_getcpu() >= 0);
    unsigned cpu = 99, node = 99;
    SHOW(syscall(SYS_getcpu, &cpu, &node, NULL));
    SHOW(node);
    SHOW(sched_yield());
    SHOW(syscall(SYS_ioprio_get, 1, 0));
    SHOW(syscall(SYS_ioprio_set, 1, 0, IOPRIO_PRIO_VALUE(2, 3)));
    SHOW(syscall(SYS_ioprio_get, 1, 0) == IOPRIO_PRIO_VALUE(2, 3));
    SHOW(syscall(SYS_ioprio_set, 1, 0, IOPRIO_PRIO_VALUE(7, 3)));
    SHOW(syscall(SYS_ioprio_set, 9, 0, IOPRIO_PRIO_VALUE(2, 3)));
}

int main(void)
{
    setvbuf(stdout, NULL, _IONBF, 0);
    machine();
    person();
    chance();
    limits();
    scheduling();
    return 0;
}

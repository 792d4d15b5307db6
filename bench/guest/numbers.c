/* Classes of calls by number, each made through syscall() so that no libc answers instead. */
#define _GNU_SOURCE
#include "guest.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/sysinfo.h>
#include <sys/timerfd.h>
#include <sys/times.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

static int fd = -1, pair[2];
static char buffer[4096];
static char *page;
static long long one = 1;

static void open_etc(void) { fd = (int)must(open("/etc", O_RDONLY | O_DIRECTORY), "/etc"); }
static void open_passwd(void) { fd = (int)must(open("/etc/passwd", O_RDONLY), "/etc/passwd"); }
static void open_event(void) { fd = (int)must(eventfd(0, 0), "eventfd"); }
static void open_epoll(void) { fd = (int)must(epoll_create1(0), "epoll"); }
static void open_timer(void) { fd = (int)must(timerfd_create(CLOCK_MONOTONIC, 0), "timerfd"); }
static void open_pair(void) { must(socketpair(AF_UNIX, SOCK_DGRAM, 0, pair), "socketpair"); }
static void open_pipe(void) { must(pipe(pair), "pipe"); }
static void close_fd(void) { close(fd); }
static void close_pair(void) { close(pair[0]), close(pair[1]); }
static void make_file(void) { fd = (int)must(open("f", O_RDWR | O_CREAT, 0600), "f"); }
static void drop_file(void) { close(fd), unlink("f"); }

static void map_page(void)
{
    page = mmap(NULL, 65536, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    must(page == MAP_FAILED ? -1 : 0, "mmap");
    page[0] = 1;
}
static void unmap_page(void) { munmap(page, 65536); }

#define CALL(name, ...) \
    static void name(void) { sink = must(syscall(__VA_ARGS__), #name); }
#define FAILS(name, ...) \
    static void name(void) { sink = syscall(__VA_ARGS__); }

CALL(n_getuid, SYS_getuid)
CALL(n_umask, SYS_umask, 022)
CALL(n_uname, SYS_uname, (struct utsname *)buffer)
CALL(n_getcwd, SYS_getcwd, buffer, sizeof(buffer))
CALL(n_times, SYS_times, (struct tms *)buffer)
CALL(n_getrusage, SYS_getrusage, RUSAGE_SELF, (struct rusage *)buffer)
CALL(n_sysinfo, SYS_sysinfo, (struct sysinfo *)buffer)
CALL(n_prlimit, SYS_prlimit64, 0, RLIMIT_NOFILE, NULL, buffer)
CALL(n_getrandom, SYS_getrandom, buffer, 16, 0)
CALL(n_sigprocmask, SYS_rt_sigprocmask, SIG_BLOCK, NULL, buffer, 8)
CALL(n_sigaction, SYS_rt_sigaction, SIGUSR2, NULL, buffer, 8)
CALL(n_sched_yield, SYS_sched_yield)
CALL(n_nanosleep, SYS_nanosleep, buffer, NULL)
CALL(n_kill0, SYS_kill, getpid(), 0)
CALL(n_brk, SYS_brk, 0)
CALL(n_madvise, SYS_madvise, page, 4096, MADV_DONTNEED)
CALL(n_mincore, SYS_mincore, page, 4096, buffer)
CALL(n_mremap, SYS_mremap, page, 65536, 65536, 0)
CALL(n_futex_wake, SYS_futex, buffer, 1 | 128, 1, NULL, NULL, 0)
CALL(n_lseek, SYS_lseek, fd, 0, SEEK_SET)
CALL(n_fstat, SYS_fstat, fd, buffer)
CALL(n_statx, SYS_statx, AT_FDCWD, "/etc/passwd", 0, 0x7ff, buffer)
CALL(n_access, SYS_access, "/etc/passwd", R_OK)
CALL(n_readlink, SYS_readlink, "/proc/self/exe", buffer, sizeof(buffer))
CALL(n_fcntl, SYS_fcntl, fd, F_GETFL)
CALL(n_flock, SYS_flock, fd, 8)
CALL(n_ioctl, SYS_ioctl, pair[0], FIONREAD, buffer)
CALL(n_ftruncate, SYS_ftruncate, fd, 0)
CALL(n_fchmod, SYS_fchmod, fd, 0600)
CALL(n_utimensat, SYS_utimensat, fd, NULL, NULL, 0)
CALL(n_poll, SYS_poll, &(struct pollfd){fd, POLLIN, 0}, 1, -1)
CALL(n_epoll_wait, SYS_epoll_wait, fd, buffer, 8, 0)
FAILS(n_enosys, 500)
FAILS(n_ebadf, SYS_close, -1)

static void n_dup_close(void) { close((int)must(syscall(SYS_dup, 2), "dup")); }

static void n_pipe(void)
{
    must(write(pair[1], buffer, 1), "write");
    must(read(pair[0], buffer, 1), "read");
}

static void n_eventfd(void)
{
    must(write(fd, &one, 8), "write");
    must(read(fd, buffer, 8), "read");
}

static void n_send_recv(void)
{
    must(send(pair[0], buffer, 64, 0), "send");
    must(recv(pair[1], buffer, 64, 0), "recv");
}

static void n_socket_close(void) { close((int)must(socket(AF_UNIX, SOCK_STREAM, 0), "socket")); }

static void n_getdents(void)
{
    must(lseek(fd, 0, SEEK_SET), "lseek");
    must(syscall(SYS_getdents64, fd, buffer, sizeof(buffer)), "getdents");
}

static void n_timerfd(void)
{
    struct itimerspec t = {{0, 0}, {100, 0}};

    must(timerfd_settime(fd, 0, &t, NULL), "timerfd");
}

static void zero(void) { __builtin_memset(buffer, 0, sizeof(buffer)); }

const struct bench numbers[] = {
    {"nr_001_pipe_write_read", n_pipe, open_pipe, close_pair, 1, 0},
    {"nr_003_close_ebadf", n_ebadf, 0, 0, 1, 0},
    {"nr_005_fstat", n_fstat, open_passwd, close_fd, 1, 0},
    {"nr_007_poll", n_poll, open_passwd, close_fd, 1, 0},
    {"nr_008_lseek", n_lseek, open_passwd, close_fd, 1, 0},
    {"nr_012_brk", n_brk, 0, 0, 1, 0},
    {"nr_013_rt_sigaction", n_sigaction, 0, 0, 1, 0},
    {"nr_014_rt_sigprocmask", n_sigprocmask, 0, 0, 1, 0},
    {"nr_016_ioctl", n_ioctl, open_pipe, close_pair, 1, 0},
    {"nr_021_access", n_access, 0, 0, 1, 0},
    {"nr_024_sched_yield", n_sched_yield, 0, 0, 1, 0},
    {"nr_025_mremap", n_mremap, map_page, unmap_page, 1, 0},
    {"nr_027_mincore", n_mincore, map_page, unmap_page, 1, 0},
    {"nr_028_madvise", n_madvise, map_page, unmap_page, 1, 0},
    {"nr_032_dup_close", n_dup_close, 0, 0, 1, 0},
    {"nr_035_nanosleep_0", n_nanosleep, zero, 0, 1, 0},
    {"nr_041_socket_close", n_socket_close, 0, 0, 1, 0},
    {"nr_044_send_recv", n_send_recv, open_pair, close_pair, 1, 0},
    {"nr_062_kill_0", n_kill0, 0, 0, 1, 0},
    {"nr_063_uname", n_uname, 0, 0, 1, 0},
    {"nr_072_fcntl", n_fcntl, open_passwd, close_fd, 1, 0},
    {"nr_073_flock", n_flock, open_passwd, close_fd, 1, 0},
    {"nr_077_ftruncate", n_ftruncate, make_file, drop_file, 1, 0},
    {"nr_079_getcwd", n_getcwd, 0, 0, 1, 0},
    {"nr_089_readlink", n_readlink, 0, 0, 1, 0},
    {"nr_091_fchmod", n_fchmod, make_file, drop_file, 1, 0},
    {"nr_095_umask", n_umask, 0, 0, 1, 0},
    {"nr_098_getrusage", n_getrusage, 0, 0, 1, 0},
    {"nr_099_sysinfo", n_sysinfo, 0, 0, 1, 0},
    {"nr_100_times", n_times, 0, 0, 1, 0},
    {"nr_102_getuid", n_getuid, 0, 0, 1, 0},
    {"nr_202_futex_wake", n_futex_wake, 0, 0, 1, 0},
    {"nr_217_getdents64", n_getdents, open_etc, close_fd, 1, 0},
    {"nr_232_epoll_wait", n_epoll_wait, open_epoll, close_fd, 1, 0},
    {"nr_280_utimensat", n_utimensat, make_file, drop_file, 1, 0},
    {"nr_286_timerfd_settime", n_timerfd, open_timer, close_fd, 1, 0},
    {"nr_290_eventfd", n_eventfd, open_event, close_fd, 1, 0},
    {"nr_302_prlimit64", n_prlimit, 0, 0, 1, 0},
    {"nr_318_getrandom", n_getrandom, 0, 0, 1, 0},
    {"nr_332_statx", n_statx, 0, 0, 1, 0},
    {"nr_500_unknown", n_enosys, 0, 0, 1, 0},
    {0},
};

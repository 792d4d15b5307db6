/* What tells of changes: message queues by thread and by epoll, the mount table by poll. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <mqueue.h>
#include <poll.h>
#include <sched.h>
#include <semaphore.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#define SHOW(e) do { errno = 0; long r_ = (long)(e); printf("%s = %ld %s\n", #e, r_, r_ < 0 ? strerror(errno) : ""); } while (0)

static sem_t told;
static int told_value;

static void tell(union sigval v)
{
    told_value = v.sival_int;
    sem_post(&told);
}

static void by_thread(mqd_t q)
{
    struct sigevent ev = {.sigev_notify = SIGEV_THREAD, .sigev_notify_function = tell, .sigev_value.sival_int = 42};
    char b[8];
    SHOW(mq_notify(q, &ev));
    SHOW(mq_notify(q, &ev));
    SHOW(mq_send(q, "a", 1, 0));
    SHOW(sem_wait(&told));
    SHOW(told_value);
    SHOW(mq_receive(q, b, 8, NULL));
    SHOW(mq_notify(q, &ev));
    SHOW(mq_notify(q, NULL));
    SHOW(mq_send(q, "b", 1, 0));
    SHOW(mq_receive(q, b, 8, NULL));
    char cookie[32];
    struct sigevent bad = {.sigev_notify = SIGEV_THREAD, .sigev_value.sival_ptr = cookie};
    bad.sigev_signo = 0;
    SHOW(syscall(SYS_mq_notify, q, &bad));
    bad.sigev_signo = 99;
    SHOW(syscall(SYS_mq_notify, q, &bad));
    bad.sigev_signo = socket(AF_UNIX, SOCK_STREAM, 0);
    SHOW(syscall(SYS_mq_notify, q, &bad));
    bad.sigev_value.sival_ptr = (void *)8;
    SHOW(syscall(SYS_mq_notify, q, &bad));
    bad.sigev_notify = 77;
    SHOW(syscall(SYS_mq_notify, q, &bad));
}

static void by_epoll(mqd_t q)
{
    struct epoll_event ev = {.events = EPOLLIN}, got = {0};
    int ep = epoll_create1(0);
    SHOW(epoll_ctl(ep, EPOLL_CTL_ADD, q, &ev));
    SHOW(epoll_wait(ep, &got, 1, 0));
    SHOW(mq_send(q, "c", 1, 0));
    SHOW(epoll_wait(ep, &got, 1, 1000));
    SHOW(got.events);
    close(ep);
}

static void mount_table(void)
{
    SHOW(unshare(CLONE_NEWNS));
    SHOW(mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL));
    struct pollfd p = {.fd = open("/proc/self/mounts", O_RDONLY), .events = POLLPRI};
    struct epoll_event ev = {.events = EPOLLPRI}, got = {0};
    int ep = epoll_create1(0), mounts = open("/proc/self/mountinfo", O_RDONLY);
    SHOW(epoll_ctl(ep, EPOLL_CTL_ADD, mounts, &ev));
    SHOW(poll(&p, 1, 0));
    SHOW(epoll_wait(ep, &got, 1, 0));
    SHOW(mount("none", "/tmp", "tmpfs", 0, NULL));
    SHOW(poll(&p, 1, 1000));
    SHOW(p.revents);
    SHOW(poll(&p, 1, 0));
    SHOW(epoll_wait(ep, &got, 1, 1000));
    SHOW(got.events);
    SHOW(umount("/tmp"));
    SHOW(poll(&p, 1, 1000));
    SHOW(p.revents);
}

static void no_streams(void)
{
    int p[2], fds[] = {epoll_create1(0), eventfd(1, 0), open("/", O_RDONLY)};
    SHOW(pipe(p));
    static _Alignas(4096) char much[200000];  /* a page a slot */
    struct iovec v = {much, sizeof much};
    SHOW(vmsplice(p[1], &v, 1, 0));  /* what there is room for, without waiting for more */
    SHOW(vmsplice(p[1], &v, 1, SPLICE_F_NONBLOCK));
    SHOW(read(p[0], much, sizeof much));
    for (int i = 0; i < 3; i++) {
        SHOW(splice(p[0], NULL, fds[i], NULL, 1, 0));
        SHOW(splice(fds[i], NULL, p[1], NULL, 1, 0));
    }
}

static int parent_fd, child_fd;
static char heard[64];

static void on_change(int sig, siginfo_t *si, void *context)
{
    strcat(heard, si->si_fd == parent_fd ? "p" : si->si_fd == child_fd ? "c" : "?");
    (void)sig, (void)context;
}

/* F_NOTIFY: each line says which of a directory (p) and one in it (c) heard of a change. */
static void by_directory(void)
{
    struct sigaction sa = {.sa_sigaction = on_change, .sa_flags = SA_SIGINFO};
    char path[] = "/tmp/noticesXXXXXX";
    const long what = DN_MULTISHOT | DN_ATTRIB | DN_RENAME | DN_CREATE | DN_DELETE;
    if (!mkdtemp(path) || chdir(path) || mkdir("d", 0700)) return;
    sigaction(SIGRTMIN, &sa, NULL);
    close(open("f", O_CREAT | O_WRONLY, 0600));
    parent_fd = open(".", O_RDONLY), child_fd = open("d", O_RDONLY);
    int fds[] = {parent_fd, child_fd};
#define DO(flags, e) \
    for (int i = 0; i < 2; i++) fcntl(fds[i], F_SETSIG, SIGRTMIN), fcntl(fds[i], F_NOTIFY, (flags)); \
    heard[0] = 0, (void)(e), printf("%s: %s\n", #e, heard); \
    for (int i = 0; i < 2; i++) fcntl(fds[i], F_NOTIFY, 0)
    DO(what, chmod("d", 0755));
    DO(what, chmod("f", 0644));
    DO(DN_MULTISHOT | DN_RENAME, rename("f", "d/f"));
    DO(DN_MULTISHOT | DN_RENAME, rename("d/f", "d/g"));
    DO(DN_MULTISHOT | DN_RENAME, rename("d", "e"));
    DO(what, rename("e/g", "g"));
    DO(what, unlink("g"));
    DO(DN_CREATE, mkdir("e/x", 0700));
    rmdir("e/x"), rmdir("e"), chdir("/"), rmdir(path);
}

int main(void)
{
    setvbuf(stdout, NULL, _IOLBF, 0);
    struct mq_attr attr = {.mq_maxmsg = 4, .mq_msgsize = 8};
    sem_init(&told, 0, 0);
    mqd_t q = mq_open("/cordon-notices", O_RDWR | O_CREAT | O_EXCL, 0600, &attr);
    SHOW(mq_unlink("/cordon-notices"));
    by_thread(q);
    by_epoll(q);
    int pair[2];
    SHOW(socketpair(AF_INET, SOCK_DGRAM, 0, pair));
    SHOW(socketpair(AF_INET, SOCK_DGRAM, 6, pair));
    SHOW(socketpair(AF_INET, SOCK_STREAM, 17, pair));
    no_streams();
    mount_table();
    by_directory();
    return 0;
}

/* Readiness and events: poll, select, epoll, inotify. */
#include "vfs_check.h"
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/select.h>

static void caught(int sig)
{
    (void)sig;
}

static void alarm_ms(int ms)
{
    struct itimerval it = {.it_value = {0, ms * 1000}};
    setitimer(ITIMER_REAL, &it, NULL);
}

/* Files and devices are always ready, whoever tells: an answer in C must be the one of Python. */
static void ready_files(void)
{
    int file = open("/etc/passwd", O_RDONLY), null = open("/dev/null", O_WRONLY), zero = open("/dev/zero", O_RDONLY);
    int memory = memfd_create("m", 0), place = open("/etc", O_PATH | O_DIRECTORY), folder = open("/etc", O_RDONLY);
    struct pollfd f[] = {{file, POLLIN}, {null, POLLOUT | POLLPRI}, {-7, POLLIN, 9}, {zero, POLLRDNORM | POLLRDHUP},
                         {memory, 0, 9}, {memory, POLLIN | POLLOUT | POLLRDNORM | POLLWRNORM}};
    SHOW(poll(f, 6, -1));
    for (int i = 0; i < 6; i++)
        SHOW(f[i].revents);
    SHOW(poll(f + 4, 1, 0));
    SHOW(poll(f + 4, 1, 5));
    struct pollfd odd[] = {{file, POLLIN}, {place, POLLIN}, {folder, POLLIN | POLLOUT}, {99, 0}};
    SHOW(poll(odd, 4, 0));
    for (int i = 0; i < 4; i++)
        SHOW(odd[i].revents);

    fd_set in;
    FD_ZERO(&in);
    FD_SET(file, &in);
    SHOW(select(64, &in, NULL, NULL, NULL));
    FD_SET(place, &in);
    fd_set out = in, ex = in;
    SHOW(select(64, &in, &out, &ex, NULL)); /* a place counts as ready for everything */

    struct pollfd many[300], *volatile wild = (void *)8;
    for (int i = 0; i < 300; i++)
        many[i] = (struct pollfd){i % 3 ? file : -1, POLLIN};
    SHOW(poll(many, 64, 0));
    SHOW(poll(many, 65, 0));
    SHOW(poll(many, 300, 0));
    SHOW(poll(wild, 0, 0));
    SHOW(poll(wild, 1, 0));
    struct pollfd *fixed = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    fixed[0] = (struct pollfd){file, POLLIN};
    mprotect(fixed, 4096, PROT_READ);
    SHOW(poll(fixed, 1, 0));

    struct timespec second = {1, 0}, none = {0, 0}, bad = {0, 1000000000}, before = {-1, 0};
    sigset_t set;
    sigemptyset(&set);
    SHOW(syscall(SYS_ppoll, f, 2, &second, &set, 8));
    CHECK(second.tv_sec == 0 && second.tv_nsec > 0);
    SHOW(syscall(SYS_ppoll, f, 2, &none, NULL, 99));
    SHOW(syscall(SYS_ppoll, f, 2, NULL, NULL, 0));
    SHOW(syscall(SYS_ppoll, f + 4, 1, &none, &set, 8));
    SHOW(syscall(SYS_ppoll, f, 2, &bad, NULL, 0));
    SHOW(syscall(SYS_ppoll, f, 2, &before, NULL, 0));
    SHOW(syscall(SYS_ppoll, f, 2, (void *)8, NULL, 0));
    SHOW(syscall(SYS_ppoll, f, 2, &none, &set, 4));
    SHOW(syscall(SYS_ppoll, f, 2, &none, (void *)8, 8));
    mprotect(fixed, 4096, PROT_READ | PROT_WRITE);
    *(struct timespec *)fixed = (struct timespec){5, 0};
    mprotect(fixed, 4096, PROT_READ);
    SHOW(syscall(SYS_ppoll, f, 2, fixed, NULL, 0)); /* what is left has nowhere to go */
    SHOW(fixed[0].fd);
    closefrom(3);
    SHOW(poll(f, 1, 0));
    SHOW(f[0].revents);
}

static void polls(void)
{
    int p[2];
    pipe(p);
    struct pollfd f[4] = {{p[0], POLLIN}, {p[1], POLLOUT}, {-1, POLLIN}, {99, POLLIN}};
    SHOW(poll(f, 3, 0));
    SHOW(f[0].revents);
    SHOW(f[1].revents);
    SHOW(poll(f, 4, 0));
    SHOW(f[3].revents);
    SHOW(poll(f, 1, 20));
    SHOW(poll(NULL, 0, 10));
    SHOW(poll(f, 100000, 0));
    write(p[1], "x", 1);
    SHOW(poll(f, 1, -1));
    SHOW(f[0].revents);
    close(p[1]);
    SHOW(poll(f, 1, -1));
    SHOW(f[0].revents);
    char c;
    read(p[0], &c, 1);
    SHOW(poll(f, 1, -1));
    SHOW(f[0].revents);
    int r = open("/etc/passwd", O_RDONLY);
    struct pollfd g = {r, POLLIN | POLLOUT};
    SHOW(poll(&g, 1, -1));
    SHOW(g.revents);
    closefrom(3);
    pipe(p);
    signal(SIGALRM, caught);
    alarm_ms(50);
    f[0].fd = p[0];
    SHOW(poll(f, 1, 1000));
    struct timespec ts = {1, 0};
    alarm_ms(50);
    SHOW(ppoll(f, 1, &ts, NULL));
    SHOW(ts.tv_sec == 0 && ts.tv_nsec > 0);
    /* A signal that is blocked outside and free inside. */
    sigset_t block, none;
    sigemptyset(&none);
    sigemptyset(&block);
    sigaddset(&block, SIGALRM);
    sigprocmask(SIG_BLOCK, &block, NULL);
    raise(SIGALRM);
    SHOW(ppoll(f, 1, NULL, &none));
    sigset_t now;
    sigprocmask(SIG_BLOCK, NULL, &now);
    SHOW(sigismember(&now, SIGALRM));
    sigprocmask(SIG_UNBLOCK, &block, NULL);
    ts.tv_nsec = 1000000000;
    SHOW(ppoll(f, 1, &ts, NULL));
    closefrom(3);
}

static void selects(void)
{
    int p[2];
    pipe(p);
    fd_set in, out, ex;
    FD_ZERO(&in);
    FD_ZERO(&out);
    FD_ZERO(&ex);
    FD_SET(p[0], &in);
    FD_SET(p[1], &out);
    struct timeval tv = {0, 0};
    SHOW(select(p[1] + 1, &in, &out, &ex, &tv));
    SHOW(FD_ISSET(p[0], &in));
    SHOW(FD_ISSET(p[1], &out));
    FD_SET(p[0], &in);
    tv.tv_usec = 20000;
    SHOW(select(p[0] + 1, &in, NULL, NULL, &tv));
    SHOW(tv.tv_usec);
    FD_ZERO(&in);
    FD_SET(60, &in);
    SHOW(select(61, &in, NULL, NULL, &tv));
    SHOW(select(-1, NULL, NULL, NULL, &tv));
    FD_ZERO(&in);
    FD_SET(p[0], &in);
    write(p[1], "x", 1);
    SHOW(select(1000, &in, NULL, NULL, NULL));
    struct timespec ts = {0, 1000000};
    SHOW(pselect(0, NULL, NULL, NULL, &ts, NULL));
    tv.tv_sec = -1;
    SHOW(select(0, NULL, NULL, NULL, &tv));
    closefrom(3);
}

static int add(int ep, int fd, unsigned events)
{
    struct epoll_event e = {.events = events, .data.u64 = 1000 + fd};
    return epoll_ctl(ep, EPOLL_CTL_ADD, fd, &e);
}

static void show_wait(int line, int ep, int timeout)
{
    struct epoll_event e[8];
    int n = epoll_wait(ep, e, 8, timeout);
    printf("%d: epoll %d:", line, n);
    for (int i = 0; i < n; i++)
        printf(" %lu=%x", (unsigned long)e[i].data.u64, e[i].events);
    printf("%s\n", n < 0 ? strerrorname_np(errno) : "");
}
#define WAIT(ep, ms) show_wait(__LINE__, ep, ms)

static void epolls(void)
{
    int p[2], q[2];
    int ep = SHOW(epoll_create1(EPOLL_CLOEXEC));
    SHOW(epoll_create(0));
    pipe(p);
    pipe(q);
    SHOW(add(ep, p[0], EPOLLIN));
    SHOW(add(ep, p[0], EPOLLIN));
    SHOW(add(ep, p[1], EPOLLOUT | EPOLLET));
    SHOW(add(ep, ep, EPOLLIN));
    SHOW(add(ep, 99, EPOLLIN));
    SHOW(add(p[0], p[1], EPOLLIN));
    int r = open("/etc/passwd", O_RDONLY);
    SHOW(add(ep, r, EPOLLIN));
    WAIT(ep, 0);
    WAIT(ep, 0);
    write(p[1], "ab", 2);
    WAIT(ep, -1);
    WAIT(ep, -1);
    char c;
    read(p[0], &c, 1);
    WAIT(ep, 0);
    read(p[0], &c, 1);
    WAIT(ep, 0);
    struct epoll_event e = {.events = EPOLLIN | EPOLLONESHOT, .data.u64 = 7};
    SHOW(epoll_ctl(ep, EPOLL_CTL_MOD, p[0], &e));
    SHOW(epoll_ctl(ep, EPOLL_CTL_MOD, q[0], &e));
    write(p[1], "x", 1);
    WAIT(ep, -1);
    WAIT(ep, 0);
    SHOW(epoll_ctl(ep, EPOLL_CTL_MOD, p[0], &e));
    WAIT(ep, 0);
    SHOW(epoll_ctl(ep, EPOLL_CTL_DEL, p[0], NULL));
    SHOW(epoll_ctl(ep, EPOLL_CTL_DEL, p[0], NULL));
    /* edge triggered: one report for each write */
    SHOW(add(ep, q[0], EPOLLIN | EPOLLET));
    write(q[1], "1", 1);
    WAIT(ep, 0);
    WAIT(ep, 0);
    write(q[1], "2", 1);
    WAIT(ep, 0);
    WAIT(ep, 0);
    /* a duplicate keeps the registration alive; the last close ends it */
    int d = dup(q[0]);
    close(q[0]);
    write(q[1], "3", 1);
    WAIT(ep, 0);
    close(d);
    WAIT(ep, 0);
    /* nesting */
    int outer = epoll_create1(0), v = eventfd(0, EFD_NONBLOCK);
    SHOW(add(ep, v, EPOLLIN));
    SHOW(add(outer, ep, EPOLLIN));
    SHOW(add(ep, outer, EPOLLIN));
    WAIT(outer, 0);
    uint64_t one = 1;
    write(v, &one, 8);
    struct pollfd pf = {outer, POLLIN};
    SHOW(poll(&pf, 1, -1));
    WAIT(outer, 0);
    WAIT(ep, 0);
    read(v, &one, 8);
    WAIT(outer, 0);
    int deep = ep;
    for (int i = 0; i < 6; i++) {
        int next = epoll_create1(0);
        if (add(next, deep, EPOLLIN) < 0) {
            printf("nesting ends at %d with %s\n", i, strerrorname_np(errno));
            break;
        }
        deep = next;
    }
    struct epoll_event ev;
    SHOW(epoll_wait(ep, &ev, 0, 0));
    SHOW(epoll_wait(p[0], &ev, 1, 0));
    SHOW(epoll_wait(ep, &ev, 1, 20));
    signal(SIGALRM, caught);
    alarm_ms(30);
    SHOW(epoll_wait(ep, &ev, 1, -1));
    /* woken from elsewhere */
    fflush(stdout);
    if (fork() == 0) {
        usleep(50000);
        write(v, &one, 8);
        _exit(0);
    }
    WAIT(ep, 5000);
    wait(NULL);
    close(p[0]);
    WAIT(ep, 0);
    closefrom(3);
}

static void show_events(int line, int fd)
{
    char buf[4096] __attribute__((aligned(8)));
    ssize_t n = read(fd, buf, sizeof buf);
    printf("%d: inotify %s", line, n < 0 ? strerrorname_np(errno) : "");
    unsigned cookie = 0;
    for (char *p = buf; n > 0 && p < buf + n;) {
        struct inotify_event *e = (void *)p;
        printf(" [%d %x %s%s]", e->wd, e->mask, e->len ? e->name : "",
               e->cookie ? (e->cookie == cookie ? " same" : " cookie") : "");
        cookie = e->cookie;
        p += sizeof *e + e->len;
    }
    printf("\n");
}
#define EVENTS(fd) show_events(__LINE__, fd)

static void inotifies(void)
{
    int fd = SHOW(inotify_init1(IN_NONBLOCK));
    SHOW(mkdir("w", 0755));
    SHOW(inotify_add_watch(fd, "w", IN_ALL_EVENTS));
    SHOW(inotify_add_watch(fd, "none", IN_ALL_EVENTS));
    SHOW(inotify_add_watch(fd, "w", 0));
    SHOW(inotify_add_watch(fd, "w", IN_MASK_CREATE | IN_OPEN));
    EVENTS(fd);
    put_file("w/a", "text");
    EVENTS(fd);
    SHOW(chmod("w/a", 0600));
    SHOW(rename("w/a", "w/b"));
    EVENTS(fd);
    SHOW(rename("w/b", "outside"));
    SHOW(rename("outside", "w/c"));
    EVENTS(fd);
    SHOW(inotify_add_watch(fd, "w/c", IN_ALL_EVENTS));
    SHOW(link("w/c", "w/d"));
    SHOW(unlink("w/d"));
    EVENTS(fd);
    int c = open("w/c", O_RDWR);
    char b[4];
    read(c, b, 4);
    write(c, "x", 1);
    EVENTS(fd);
    unlink("w/c");
    EVENTS(fd);
    close(c);
    EVENTS(fd);
    SHOW(mkdir("w/sub", 0755));
    SHOW(rmdir("w/sub"));
    SHOW(symlink("x", "w/s"));
    SHOW(truncate("w/s", 0));
    SHOW(unlink("w/s"));
    int n = 0;
    SHOW(ioctl(fd, FIONREAD, &n));
    SHOW(n);
    EVENTS(fd);
    SHOW(read(fd, b, 4));
    SHOW(inotify_rm_watch(fd, 1));
    SHOW(inotify_rm_watch(fd, 1));
    EVENTS(fd);
    SHOW(inotify_add_watch(fd, "w", IN_CREATE | IN_ONESHOT));
    put_file("w/1", "");
    put_file("w/2", "");
    EVENTS(fd);
    SHOW(inotify_add_watch(fd, "w", IN_DELETE_SELF));
    unlink("w/1");
    unlink("w/2");
    SHOW(rmdir("w"));
    EVENTS(fd);
    closefrom(3);
}

int main(void)
{
    setvbuf(stdout, NULL, _IOLBF, 0);
    umask(022);
    ready_files();
    polls();
    selects();
    epolls();
    inotifies();
    return 0;
}

/* Pipes and FIFOs: capacity, atomicity, ends, poll bits (pipe(7), fifo(7)). */
#include "vfs_check.h"
#include <sys/ioctl.h>

static char page[65536 * 2];

static int bits(int fd, int want)
{
    struct pollfd p = {fd, want, 0};
    poll(&p, 1, 0);
    return p.revents;
}

static void capacity(void)
{
    int p[2], n;

    SHOW(pipe2(p, O_NONBLOCK));
    SHOW(fcntl(p[1], F_GETPIPE_SZ));
    SHOW(write(p[1], page, sizeof page));
    SHOW(write(p[1], page, 1));
    SHOW(bits(p[1], POLLOUT));
    SHOW(read(p[0], page, 1));
    SHOW(write(p[1], page, 1));
    SHOW(bits(p[1], POLLOUT));
    SHOW(read(p[0], page, 4095));
    SHOW(bits(p[1], POLLOUT));
    SHOW(write(p[1], page, 4097));
    SHOW(ioctl(p[0], FIONREAD, &n));
    SHOW(n);
    SHOW(fcntl(p[1], F_SETPIPE_SZ, 4096));
    SHOW(fcntl(p[1], F_SETPIPE_SZ, 100000));
    SHOW(write(p[1], page, sizeof page));
    SHOW(fcntl(p[1], F_SETPIPE_SZ, -1));
    close(p[0]);
    close(p[1]);
    pipe2(p, O_NONBLOCK);
    SHOW(fcntl(p[1], F_SETPIPE_SZ, 0));
    for (n = 0; write(p[1], page, 100) == 100; n++)
        ;
    SHOW(n); /* short writes share a page */
    close(p[0]);
    close(p[1]);
    pipe2(p, O_NONBLOCK);
    for (n = 0; write(p[1], page, 3000) == 3000; n++)
        ;
    SHOW(n); /* these do not */
    SHOW(write(p[1], page, 1000));
    SHOW(write(p[1], page, 1000));
}

static void ends(void)
{
    int p[2];

    signal(SIGPIPE, SIG_IGN);
    pipe2(p, O_NONBLOCK);
    SHOW(read(p[0], page, 10));
    SHOW(read(p[0], page, 0));
    SHOW(bits(p[0], POLLIN));
    SHOW(write(p[1], "abc", 3));
    SHOW(bits(p[0], POLLIN | POLLRDNORM));
    SHOW(write(p[0], "x", 1));
    SHOW(read(p[1], page, 1));
    close(p[1]);
    SHOW(bits(p[0], POLLIN));
    SHOW(read(p[0], page, 10));
    SHOW(read(p[0], page, 10));
    SHOW(bits(p[0], POLLIN));
    close(p[0]);
    pipe(p);
    close(p[0]);
    SHOW(bits(p[1], POLLOUT));
    SHOW(write(p[1], "x", 1));
    SHOW(write(p[1], "x", 0));
    SHOW(lseek(p[1], 0, SEEK_CUR));
    SHOW(pread(p[1], page, 1, 0));
    SHOW(pipe2(p, 0x1234));
    SHOW(pipe((int *)8));
}

static void packets(void)
{
    int p[2];

    pipe2(p, O_DIRECT | O_NONBLOCK);
    SHOW(write(p[1], "first", 5));
    SHOW(write(p[1], "second", 6));
    SHOW(read(p[0], page, 2));
    SHOW(read(p[0], page, 100));
    SHOW(write(p[1], page, 5000));
    SHOW(read(p[0], page, 10000));
    SHOW(read(p[0], page, 10000));
}

static void fifos(void)
{
    int r, w;

    SHOW(mkfifo("f", 0600));
    SHOW(open("f", O_WRONLY | O_NONBLOCK));
    r = SHOW(open("f", O_RDONLY | O_NONBLOCK));
    SHOW(bits(r, POLLIN));
    SHOW(read(r, page, 1));
    w = SHOW(open("f", O_WRONLY));
    SHOW(write(w, "hello", 5));
    SHOW(bits(r, POLLIN));
    close(w);
    SHOW(bits(r, POLLIN));
    SHOW(read(r, page, 100));
    w = SHOW(open("f", O_RDWR | O_NONBLOCK));
    SHOW(bits(r, POLLIN));
    close(r);
    SHOW(bits(w, POLLIN | POLLOUT));
    close(w);
    if (fork() == 0) {
        w = open("f", O_WRONLY);
        write(w, "child", 5);
        _exit(0);
    }
    r = SHOW(open("f", O_RDONLY));
    SHOW(read(r, page, 100));
    SHOW(read(r, page, 100));
    wait(NULL);
}

int main(void)
{
    setvbuf(stdout, NULL, _IOLBF, 0);
    capacity();
    ends();
    packets();
    fifos();
    return 0;
}

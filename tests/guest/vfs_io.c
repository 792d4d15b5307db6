/* Moving data: read, write, vectors, positions, sizes, sendfile, splice, seals, locks. */
#include "vfs_check.h"
#include <linux/falloc.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/sendfile.h>

static void caught(int sig)
{
    (void)sig;
    static const char text[] = "signal\n";
    fflush(stdout);
    (void)!write(1, text, sizeof text - 1);
}

static void vectors(void)
{
    char a[8] = {0}, b[8] = {0};
    int fd = SHOW(open("v", O_CREAT | O_RDWR | O_TRUNC, 0644));
    struct iovec out[3] = {{"abc", 3}, {"", 0}, {"defgh", 5}};
    SHOW(writev(fd, out, 3));
    SHOW(lseek(fd, 0, SEEK_SET));
    struct iovec in[2] = {{a, 2}, {b, 8}};
    SHOW(readv(fd, in, 2));
    SHOW(memcmp(a, "ab", 2) == 0 && memcmp(b, "cdefgh", 6) == 0);
    SHOW(readv(fd, in, 2));
    SHOW(readv(fd, in, 1025));
    SHOW(readv(fd, in, -1));
    SHOW(readv(fd, in, 0));
    SHOW(preadv(fd, in, 2, 6));
    SHOW(preadv(fd, in, 2, -1));
    SHOW(pwritev(fd, out, 3, 100));
    SHOW(preadv2(fd, in, 2, -1, 0));
    SHOW(preadv2(fd, in, 2, 0, 0));
    SHOW(pwritev2(fd, out, 1, 0, RWF_APPEND));
    SHOW(pwritev2(fd, out, 1, 0, 0x1000));
    struct stat st;
    fstat(fd, &st);
    SHOW(st.st_size);
    struct iovec bad[2] = {{a, 2}, {(void *)8, 4}};
    SHOW(preadv(fd, bad, 2, 0));
    SHOW(preadv(fd, bad + 1, 1, 0));
    SHOW(pwritev(fd, bad + 1, 1, 0));
    in[0].iov_len = ~0UL;
    SHOW(readv(fd, in, 2));
    SHOW(read(fd, (void *)8, 10));
    SHOW(write(fd, (void *)8, 10));
    SHOW(read(fd, NULL, 0));
    SHOW(pread(fd, a, 8, 1L << 62));
    SHOW(pwrite(fd, a, 8, 0x7fffffffffffffff));
    SHOW(pread(fd, a, 8, -1));
    close(fd);
}

/* A place that can't take anything: no error where nothing is to be had, and what a pipe holds stays there. */
static void bad_places(void)
{
    char b[8], *none = mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    struct iovec v = {none, 5}, two[2] = {{b, 2}, {none, 5}};
    int p[2], fd = SHOW(open("bad", O_CREAT | O_RDWR | O_TRUNC, 0644));
    SHOW(read(fd, none, 10));
    SHOW(pread(fd, none, 10, 5));
    SHOW(readv(fd, &v, 1));
    SHOW(write(fd, "x", 1));
    SHOW(read(fd, none, 10));
    SHOW(pread(fd, none, 10, 0));
    SHOW(pipe(p));
    SHOW(write(p[1], "abcdef", 6));
    SHOW(read(p[0], none, 1));
    SHOW(read(p[0], b, 1));
    SHOW(readv(p[0], two, 2));
    SHOW(memcmp(b, "bc", 2));
    SHOW(readv(p[0], &v, 1));
    SHOW(read(p[0], b, 8));
    SHOW(memcmp(b, "def", 3));
    close(p[1]);
    SHOW(read(p[0], none, 1));
    closefrom(3);
}

static void positions(void)
{
    struct stat st;
    int fd = SHOW(open("p", O_CREAT | O_RDWR | O_TRUNC, 0644));
    SHOW(lseek(fd, 100, SEEK_SET));
    SHOW(lseek(fd, -200, SEEK_CUR));
    SHOW(lseek(fd, 0, 99));
    SHOW(write(fd, "x", 1));
    SHOW(lseek(fd, 0, SEEK_END));
    SHOW(lseek(fd, 0, SEEK_DATA));
    SHOW(lseek(fd, 0, SEEK_HOLE));
    SHOW(lseek(fd, 101, SEEK_DATA));
    SHOW(ftruncate(fd, 1 << 20));
    SHOW(lseek(fd, 1 << 19, SEEK_DATA));
    SHOW(lseek(fd, 1 << 19, SEEK_HOLE));
    SHOW(ftruncate(fd, -1));
    SHOW(ftruncate(fd, 10));
    SHOW(lseek(fd, 0, SEEK_END));
    char c = 1;
    SHOW(pread(fd, &c, 1, 5));
    SHOW(c);
    SHOW(fallocate(fd, 0, 0, 8192));
    fstat(fd, &st);
    SHOW(st.st_size);
    SHOW(st.st_blocks);
    SHOW(pwrite(fd, "data", 4, 4096));
    SHOW(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 4096, 4096));
    SHOW(pread(fd, &c, 1, 4096));
    SHOW(c);
    SHOW(fallocate(fd, FALLOC_FL_PUNCH_HOLE, 0, 10));
    SHOW(fallocate(fd, FALLOC_FL_KEEP_SIZE, 8192, 4096));
    SHOW(lseek(fd, 0, SEEK_END));
    SHOW(fallocate(fd, 0, -1, 10));
    SHOW(fallocate(fd, 0, 0, 0));
    SHOW(fsync(fd));
    SHOW(fdatasync(fd));
    int n = 0;
    SHOW(lseek(fd, 8000, SEEK_SET));
    SHOW(ioctl(fd, FIONREAD, &n));
    SHOW(n);
    SHOW(ioctl(fd, 0x12345, 0));
    SHOW(posix_fadvise(fd, 0, 0, POSIX_FADV_WILLNEED));
    SHOW(posix_fadvise(fd, 0, 0, 77));
    SHOW(readahead(fd, 0, 100));
    SHOW(syncfs(fd));
    close(fd);
    struct rlimit r = {.rlim_cur = 100, .rlim_max = RLIM_INFINITY};
    SHOW(setrlimit(RLIMIT_FSIZE, &r));
    signal(SIGXFSZ, caught);
    fd = open("lim", O_CREAT | O_RDWR | O_TRUNC, 0644);
    char big[200] = {0};
    SHOW(write(fd, big, 200));
    SHOW(write(fd, big, 200));
    SHOW(ftruncate(fd, 101));
    SHOW(truncate("lim", 101));
    r.rlim_cur = RLIM_INFINITY;
    setrlimit(RLIMIT_FSIZE, &r);
    close(fd);
}

static void pipes(void)
{
    int p[2], q[2];
    char buf[100];
    SHOW(pipe(p));
    SHOW(lseek(p[0], 0, SEEK_CUR));
    SHOW(pread(p[0], buf, 1, 0));
    SHOW(read(p[1], buf, 1));
    SHOW(write(p[0], buf, 1));
    SHOW(fcntl(p[0], F_GETPIPE_SZ));
    SHOW(fcntl(p[0], F_SETPIPE_SZ, 8192));
    SHOW(fcntl(p[0], F_SETFL, O_NONBLOCK));
    SHOW(read(p[0], buf, 1));
    SHOW(write(p[1], "hello", 5));
    SHOW(pipe2(q, O_NONBLOCK | O_CLOEXEC));
    SHOW(tee(p[0], q[1], 100, 0));
    SHOW(splice(p[0], NULL, q[1], NULL, 3, 0));
    SHOW(read(q[0], buf, 100));
    SHOW(memcmp(buf, "hellohel", 8));
    put_file("sp", "file data");
    int fd = open("sp", O_RDWR);
    loff_t off = 5;
    SHOW(splice(fd, &off, p[1], NULL, 100, 0));
    SHOW(off);
    SHOW(splice(fd, NULL, p[1], &off, 100, 0));
    SHOW(splice(fd, NULL, fd, NULL, 100, 0));
    SHOW(splice(p[0], NULL, fd, NULL, 100, 0));
    SHOW(lseek(fd, 0, SEEK_CUR));
    SHOW(splice(p[0], NULL, fd, NULL, 100, SPLICE_F_NONBLOCK));
    SHOW(pread(fd, buf, 100, 0));
    SHOW(memcmp(buf, "lodata", 6));
    struct iovec v = {"vms", 3};
    SHOW(vmsplice(p[1], &v, 1, 0));
    SHOW(read(p[0], buf, 100));
    off = 1;
    SHOW(sendfile(p[1], fd, &off, 4));
    SHOW(off);
    SHOW(read(p[0], buf, 100));
    SHOW(sendfile(p[1], p[0], NULL, 4));
    int out = open("sf", O_CREAT | O_RDWR | O_TRUNC, 0644);
    lseek(fd, 0, SEEK_SET);
    SHOW(sendfile(out, fd, NULL, 1000));
    SHOW(copy_file_range(fd, &off, out, NULL, 1000, 0));
    off = 0;
    SHOW(copy_file_range(fd, &off, out, NULL, 3, 0));
    SHOW(off);
    SHOW(lseek(out, 0, SEEK_CUR));
    SHOW(copy_file_range(fd, NULL, p[1], NULL, 3, 0));
    SHOW(copy_file_range(fd, NULL, out, NULL, 3, 1));
    signal(SIGPIPE, caught);
    close(p[0]);
    SHOW(write(p[1], "x", 1));
    signal(SIGPIPE, SIG_DFL);
    close(q[1]);
    SHOW(read(q[0], buf, 1));
    closefrom(3);
}

static void interrupted(void)
{
    int p[2];
    char c;
    SHOW(pipe(p));
    struct sigaction sa = {.sa_handler = caught};
    sigaction(SIGALRM, &sa, NULL);
    struct itimerval it = {.it_value = {0, 50000}};
    setitimer(ITIMER_REAL, &it, NULL);
    SHOW(read(p[0], &c, 1));
    sa.sa_flags = SA_RESTART;
    sigaction(SIGALRM, &sa, NULL);
    fflush(stdout);
    if (fork() == 0) {
        usleep(200000);
        (void)!write(p[1], "z", 1);
        _exit(0);
    }
    setitimer(ITIMER_REAL, &it, NULL);
    SHOW(read(p[0], &c, 1));
    SHOW(c);
    wait(NULL);
    /* A blocked writer of more than fits gets a short count. */
    static char big[1 << 18];
    setitimer(ITIMER_REAL, &it, NULL);
    SHOW(write(p[1], big, sizeof big));
    closefrom(3);
}

static void seals(void)
{
    int fd = SHOW(memfd_create("m", MFD_ALLOW_SEALING | MFD_CLOEXEC));
    SHOW(memfd_create("m", 0x100));
    SHOW(write(fd, "hello", 5));
    SHOW(fcntl(fd, F_GET_SEALS));
    void *m = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    SHOW(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE));
    munmap(m, 4096);
    SHOW(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW));
    SHOW(ftruncate(fd, 1));
    SHOW(ftruncate(fd, 100));
    SHOW(write(fd, "x", 1));
    SHOW(pwrite(fd, "J", 1, 0));
    SHOW(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE));
    SHOW(pwrite(fd, "J", 1, 0));
    SHOW(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) == MAP_FAILED);
    SHOW(mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, fd, 0) != MAP_FAILED);
    SHOW(fcntl(fd, F_ADD_SEALS, F_SEAL_SEAL));
    SHOW(fcntl(fd, F_ADD_SEALS, F_SEAL_GROW));
    SHOW(fcntl(fd, F_GET_SEALS));
    int f2 = SHOW(memfd_create("n", 0));
    SHOW(fcntl(f2, F_ADD_SEALS, F_SEAL_GROW));
    struct stat st;
    fstat(f2, &st);
    SHOW(st.st_mode);
    SHOW(st.st_nlink);
    int r = SHOW(open("v", O_RDONLY));
    SHOW(fcntl(r, F_GET_SEALS));
    closefrom(3);
}

static void locks(void)
{
    int a = open("lk", O_CREAT | O_RDWR, 0644), b = open("lk", O_RDWR);
    SHOW(flock(a, LOCK_SH));
    SHOW(flock(b, LOCK_SH | LOCK_NB));
    SHOW(flock(a, LOCK_EX | LOCK_NB));
    SHOW(flock(b, LOCK_UN));
    SHOW(flock(a, LOCK_EX | LOCK_NB));
    SHOW(flock(b, LOCK_SH | LOCK_NB));
    SHOW(flock(a, 99));
    int d = dup(a);
    close(a);
    SHOW(flock(b, LOCK_SH | LOCK_NB));
    close(d);
    SHOW(flock(b, LOCK_SH | LOCK_NB));
    struct flock l = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 10, .l_len = 10};
    SHOW(fcntl(b, F_SETLK, &l));
    fflush(stdout);
    if (fork() == 0) {
        struct flock m = {.l_type = F_RDLCK, .l_whence = SEEK_SET, .l_start = 0, .l_len = 0};
        SHOW(fcntl(b, F_SETLK, &m));
        SHOW(fcntl(b, F_GETLK, &m));
        SHOW(m.l_type);
        SHOW(m.l_start);
        SHOW(m.l_len);
        SHOW(m.l_pid == getppid());
        m = (struct flock){.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 20, .l_len = 5};
        SHOW(fcntl(b, F_SETLK, &m));
        m = (struct flock){.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 15, .l_len = -5};
        SHOW(fcntl(b, F_SETLK, &m));
        m = (struct flock){.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 5, .l_len = -6};
        SHOW(fcntl(b, F_SETLK, &m));
        _exit(0);
    }
    wait(NULL);
    l.l_type = F_UNLCK;
    l.l_start = 12;
    l.l_len = 2;
    SHOW(fcntl(b, F_SETLK, &l));
    fflush(stdout);
    if (fork() == 0) {
        struct flock m = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 12, .l_len = 0};
        SHOW(fcntl(b, F_GETLK, &m));
        SHOW(m.l_start);
        SHOW(m.l_len);
        _exit(0);
    }
    wait(NULL);
    int c = open("lk", O_RDONLY);
    close(c); /* ends all POSIX locks of this process */
    fflush(stdout);
    if (fork() == 0) {
        struct flock m = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
        SHOW(fcntl(b, F_SETLK, &m));
        _exit(0);
    }
    wait(NULL);
    c = open("lk", O_RDWR);
    struct flock o = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    SHOW(fcntl(b, F_OFD_SETLK, &o));
    SHOW(fcntl(c, F_OFD_SETLK, &o));
    SHOW(fcntl(c, F_SETLK, &o));
    SHOW(fcntl(c, F_OFD_GETLK, &o));
    SHOW(o.l_pid);
    o.l_pid = 5;
    SHOW(fcntl(c, F_OFD_SETLK, &o));
    int ro = open("lk", O_RDONLY);
    struct flock w = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    SHOW(fcntl(ro, F_SETLK, &w));
    closefrom(3);
    /* deadlock */
    a = open("lk", O_RDWR);
    int p[2];
    SHOW(pipe(p));
    struct flock one = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 1, .l_len = 1};
    struct flock two = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 2, .l_len = 1};
    SHOW(fcntl(a, F_SETLK, &one));
    fflush(stdout);
    if (fork() == 0) {
        fcntl(a, F_SETLK, &two);
        (void)!write(p[1], "x", 1);
        long r = fcntl(a, F_SETLKW, &one);
        _exit(r == 0 ? 7 : 8);
    }
    char ch;
    SHOW(read(p[0], &ch, 1));
    usleep(100000);
    SHOW(fcntl(a, F_SETLKW, &two));
    one.l_type = F_UNLCK;
    SHOW(fcntl(a, F_SETLK, &one));
    int status;
    wait(&status);
    SHOW(WEXITSTATUS(status));
    closefrom(3);
}

int main(void)
{
    setvbuf(stdout, NULL, _IOLBF, 0);
    umask(022);
    vectors();
    bad_places();
    positions();
    pipes();
    interrupted();
    seals();
    locks();
    return 0;
}

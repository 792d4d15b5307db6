/* open(2), openat2(2), descriptors, path resolution. */
#include "vfs_check.h"
#include <linux/openat2.h>
#include <sys/resource.h>

static int openat2(int dir, const char *path, uint64_t flags, uint64_t resolve)
{
    struct open_how how = {.flags = flags, .resolve = resolve};
    return syscall(SYS_openat2, dir, path, &how, sizeof how);
}

static void flags(void)
{
    put_file("a", "hello");
    SHOW(mkdir("d", 0755));
    SHOW(symlink("a", "l"));
    SHOW(symlink("d", "ld"));
    SHOW(symlink("missing", "dangling"));
    SHOW(symlink("loop2", "loop1"));
    SHOW(symlink("loop1", "loop2"));
    SHOW(open("nothing", O_RDONLY));
    SHOW(open("", O_RDONLY));
    SHOW(open("a/x", O_RDONLY));
    SHOW(open("a/", O_RDONLY));
    SHOW(open("a", O_RDONLY | O_DIRECTORY));
    SHOW(open("d", O_WRONLY));
    SHOW(open("d", O_RDWR | O_CREAT, 0644));
    SHOW(open("d/", O_RDWR | O_CREAT, 0644));
    SHOW(open("new/", O_RDWR | O_CREAT, 0644));
    SHOW(open("a", O_CREAT | O_EXCL | O_RDWR, 0644));
    SHOW(open("l", O_CREAT | O_EXCL | O_RDWR, 0644));
    SHOW(open("l", O_RDONLY | O_NOFOLLOW));
    SHOW(open("loop1", O_RDONLY));
    SHOW(open("dangling", O_RDONLY));
    SHOW(open("dangling", O_CREAT | O_EXCL | O_RDWR, 0644));
    int fd = SHOW(open("dangling", O_CREAT | O_RDWR, 0644));
    struct stat st;
    SHOW(stat("missing", &st));
    SHOW(fcntl(fd, F_GETFL));
    SHOW(close(fd));
    SHOW(close(fd));
    fd = SHOW(open("a", O_PATH));
    char buf[16];
    SHOW(read(fd, buf, 1));
    SHOW(write(fd, buf, 1));
    SHOW(fchmod(fd, 0600));
    SHOW(fstat(fd, &st));
    SHOW(fcntl(fd, F_GETFL));
    SHOW(lseek(fd, 0, SEEK_SET));
    close(fd);
    fd = SHOW(open("l", O_PATH | O_NOFOLLOW));
    SHOW(readlinkat(fd, "", buf, sizeof buf));
    SHOW(fstatat(fd, "", &st, AT_EMPTY_PATH));
    SHOW(S_ISLNK(st.st_mode));
    close(fd);
    fd = SHOW(open("a", O_RDWR | O_APPEND));
    SHOW(write(fd, "XY", 2));
    SHOW(lseek(fd, 0, SEEK_CUR));
    SHOW(pwrite(fd, "Z", 1, 0));
    SHOW(pread(fd, buf, 16, 0));
    SHOW(buf[0]);
    SHOW(fcntl(fd, F_SETFL, O_NONBLOCK));
    SHOW(fcntl(fd, F_GETFL));
    close(fd);
    fd = SHOW(open("a", O_WRONLY | O_TRUNC));
    SHOW(fstat(fd, &st));
    SHOW(st.st_size);
    SHOW(read(fd, buf, 1));
    close(fd);
    SHOW(open("a", O_TMPFILE | O_RDWR, 0600));
    SHOW(open(".", O_TMPFILE | O_RDONLY, 0600));
    fd = SHOW(open(".", O_TMPFILE | O_RDWR, 0600));
    SHOW(fstat(fd, &st));
    SHOW(st.st_nlink);
    SHOW(write(fd, "tmp", 3));
    SHOW(linkat(fd, "", AT_FDCWD, "named", AT_EMPTY_PATH));
    SHOW(stat("named", &st));
    SHOW(st.st_nlink);
    SHOW(st.st_size);
    close(fd);
    SHOW(creat("c", 0777));
    SHOW(stat("c", &st));
    SHOW(st.st_mode);
    char name[300];
    memset(name, 'n', 256);
    name[256] = 0;
    SHOW(open(name, O_CREAT | O_RDWR, 0600));
    SHOW(open(name, O_RDONLY));
    name[255] = 0;
    SHOW(open(name, O_CREAT | O_RDWR, 0600));
    static char path[5000];
    for (int i = 0; i < 4095; i += 2)
        memcpy(path + i, "./", 2);
    path[4095] = 0;
    SHOW(stat(path, &st));
    path[4095] = '/';
    path[4096] = 0;
    SHOW(stat(path, &st));
    SHOW(stat("d/./../d/..//a", &st));
    SHOW(stat("ld/", &st));
    SHOW(lstat("ld/", &st));
    SHOW(S_ISDIR(st.st_mode));
    SHOW(lstat("ld", &st));
    SHOW(S_ISLNK(st.st_mode));
    SHOW(stat("l/", &st));
    SHOW(open((char *)8, O_RDONLY));
    closefrom(3);
}

static void how(void)
{
    int d = open("d", O_RDONLY | O_DIRECTORY);
    put_file("d/in", "x");
    symlink("../a", "d/out");
    symlink("/etc/passwd", "d/abs");
    symlink("in", "d/rel");
    SHOW(openat2(d, "in", O_RDONLY, RESOLVE_BENEATH) >= 0);
    SHOW(openat2(d, "rel", O_RDONLY, RESOLVE_BENEATH) >= 0);
    SHOW(openat2(d, "out", O_RDONLY, RESOLVE_BENEATH));
    SHOW(openat2(d, "abs", O_RDONLY, RESOLVE_BENEATH));
    SHOW(openat2(d, "../a", O_RDONLY, RESOLVE_BENEATH));
    SHOW(openat2(d, "/etc/passwd", O_RDONLY, RESOLVE_BENEATH));
    SHOW(openat2(d, "/in", O_RDONLY, RESOLVE_IN_ROOT) >= 0);
    SHOW(openat2(d, "../../in", O_RDONLY, RESOLVE_IN_ROOT) >= 0);
    SHOW(openat2(d, "abs", O_RDONLY, RESOLVE_IN_ROOT));
    SHOW(openat2(d, "rel", O_RDONLY, RESOLVE_NO_SYMLINKS));
    SHOW(openat2(d, "rel", O_PATH | O_NOFOLLOW, RESOLVE_NO_SYMLINKS) >= 0);
    SHOW(openat2(d, "in", O_RDONLY, 0x1000));
    SHOW(openat2(d, "in", O_RDONLY | (1ULL << 40), 0));
    struct open_how h = {.flags = O_RDONLY, .mode = 0600};
    SHOW(syscall(SYS_openat2, d, "in", &h, sizeof h));
    SHOW(syscall(SYS_openat2, d, "in", &h, 8));
    SHOW(openat(d, "in", O_RDONLY) >= 0);
    SHOW(openat(999, "in", O_RDONLY));
    SHOW(openat(999, "/etc/passwd", O_RDONLY) >= 0);
    int f = open("a", O_RDONLY);
    SHOW(openat(f, "in", O_RDONLY));
    closefrom(3);
}

static void descriptors(void)
{
    int fd = SHOW(open("a", O_RDWR));
    SHOW(dup(fd));
    SHOW(dup2(fd, 10));
    SHOW(dup2(fd, fd));
    SHOW(dup2(99, 11));
    SHOW(dup3(fd, fd, 0));
    SHOW(dup3(fd, 12, O_CLOEXEC));
    SHOW(fcntl(12, F_GETFD));
    SHOW(fcntl(10, F_GETFD));
    SHOW(fcntl(fd, F_DUPFD, 20));
    SHOW(fcntl(fd, F_DUPFD_CLOEXEC, 20));
    SHOW(fcntl(21, F_GETFD));
    SHOW(fcntl(21, F_SETFD, 0));
    SHOW(fcntl(21, F_GETFD));
    SHOW(fcntl(fd, F_DUPFD, -1));
    SHOW(lseek(fd, 3, SEEK_SET));
    SHOW(lseek(10, 0, SEEK_CUR));
    SHOW(fcntl(fd, 9999));
    SHOW(syscall(SYS_close_range, 10, 15, 0));
    SHOW(fcntl(10, F_GETFD));
    SHOW(syscall(SYS_close_range, 20, ~0U, CLOSE_RANGE_CLOEXEC));
    SHOW(fcntl(20, F_GETFD));
    SHOW(syscall(SYS_close_range, 5, 4, 0));
    struct rlimit r = {.rlim_cur = 8, .rlim_max = 1024};
    setrlimit(RLIMIT_NOFILE, &r);
    SHOW(dup2(fd, 8));
    SHOW(open("a", O_RDONLY));
    SHOW(open("a", O_RDONLY));
    SHOW(open("a", O_RDONLY));
    SHOW(open("a", O_RDONLY));
    closefrom(3);
    SHOW(open("a", O_RDONLY));
    SHOW(fcntl(3, F_SETOWN, getpid()));
    SHOW(fcntl(3, F_GETOWN) == getpid());
    SHOW(fcntl(3, F_SETSIG, SIGUSR1));
    SHOW(fcntl(3, F_GETSIG));
    closefrom(3);
}

static void text_busy(void)
{
    SHOW(system("cp /bin/sleep ./prog"));
    pid_t pid = fork();
    if (pid == 0) {
        do /* the parent may have it open just now */
            execl("./prog", "prog", "5", NULL);
        while (errno == ETXTBSY);
        _exit(1);
    }
    for (int i = 0; i < 500 && open("prog", O_WRONLY) >= 0; i++) {
        closefrom(3);
        usleep(10000);
    }
    SHOW(open("prog", O_WRONLY));
    SHOW(truncate("prog", 0));
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    int fd = SHOW(open("prog", O_WRONLY));
    SHOW(execl("./prog", "prog", "0", NULL));
    close(fd);
}

int main(void)
{
    setvbuf(stdout, NULL, _IOLBF, 0);
    umask(022);
    flags();
    how();
    descriptors();
    text_busy();
    return 0;
}

/* Names: mkdir, link, unlink, rename, readlink, getdents, chdir, permissions, attributes. */
#include "vfs_check.h"
#include <dirent.h>
#include <linux/fs.h>
#include <sys/statfs.h>
#include <sys/xattr.h>

static int renameat2_(const char *a, const char *b, unsigned f)
{
    return syscall(SYS_renameat2, AT_FDCWD, a, AT_FDCWD, b, f);
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static void list(const char *dir)
{
    DIR *d = opendir(dir);
    char *names[100];
    int n = 0;
    struct dirent *e;
    while (d && (e = readdir(d)) && n < 100) {
        names[n] = malloc(300);
        sprintf(names[n++], "%s:%d", e->d_name, e->d_type);
    }
    qsort(names, n, sizeof *names, by_name);
    printf("list %s:", dir);
    for (int i = 0; i < n; i++)
        printf(" %s", names[i]);
    printf("\n");
    if (d)
        closedir(d);
}

static void names(void)
{
    char buf[4096];
    struct stat st;
    SHOW(mkdir("d", 0777));
    SHOW(mkdir("d", 0777));
    SHOW(mkdir("d/e/f", 0777));
    SHOW(mkdir("d/e/", 02775));
    SHOW(mkdir(".", 0777));
    SHOW(mkdir("..", 0777));
    SHOW(mkdir("/", 0777));
    SHOW(rmdir("d"));
    SHOW(rmdir("d/e/."));
    SHOW(rmdir("d/e/.."));
    SHOW(rmdir("/"));
    SHOW(rmdir("none"));
    put_file("a", "a");
    SHOW(rmdir("a"));
    SHOW(unlink("d"));
    SHOW(unlink("a/"));
    SHOW(unlink("d/"));
    SHOW(unlink("."));
    SHOW(unlink("none"));
    SHOW(link("a", "b"));
    SHOW(link("a", "b"));
    SHOW(link("d", "d2"));
    SHOW(link("none", "x"));
    SHOW(link("a", "x/"));
    SHOW(stat("a", &st));
    SHOW(st.st_nlink);
    SHOW(symlink("a", "l"));
    SHOW(symlink("a", "l"));
    SHOW(symlink("", "l2"));
    SHOW(link("l", "l3"));
    SHOW(lstat("l3", &st));
    SHOW(S_ISLNK(st.st_mode));
    SHOW(linkat(AT_FDCWD, "l", AT_FDCWD, "l4", AT_SYMLINK_FOLLOW));
    SHOW(lstat("l4", &st));
    SHOW(S_ISREG(st.st_mode));
    SHOW(readlink("l", buf, 4096));
    SHOW(readlink("l", buf, 0));
    SHOW(readlink("a", buf, 4096));
    SHOW(lstat("l", &st));
    SHOW(st.st_size);
    SHOW(unlink("a"));
    SHOW(stat("b", &st));
    SHOW(st.st_nlink);
    SHOW(mkfifo("f", 0666));
    SHOW(mknod("n", S_IFREG | 0600, 0));
    SHOW(mknod("s", S_IFSOCK | 0600, 0));
    SHOW(mknod("dir", S_IFDIR | 0600, 0));
    SHOW(open("s", O_RDWR));
    SHOW(open("f", O_WRONLY | O_NONBLOCK));
    list(".");
    list("d");
}

static void renames(void)
{
    struct stat st;
    put_file("r1", "1");
    put_file("r2", "22");
    SHOW(rename("r1", "r2"));
    SHOW(stat("r2", &st));
    SHOW(st.st_size);
    SHOW(rename("r1", "r2"));
    SHOW(mkdir("p", 0755));
    SHOW(mkdir("p/q", 0755));
    SHOW(mkdir("e", 0755));
    SHOW(rename("p", "p/q/r"));
    SHOW(rename("p/q", "p"));
    SHOW(rename("r2", "p"));
    SHOW(rename("p", "r2"));
    SHOW(rename("e", "p"));
    SHOW(rename("p", "e"));
    SHOW(rename("e", "moved/"));
    SHOW(rename("r2", "moved2/"));
    SHOW(rename("moved/.", "x"));
    SHOW(rename("moved", "."));
    SHOW(stat("moved/q", &st));
    put_file("h1", "h");
    SHOW(link("h1", "h2"));
    SHOW(rename("h1", "h2"));
    SHOW(stat("h1", &st));
    SHOW(renameat2_("h1", "r2", RENAME_NOREPLACE));
    SHOW(renameat2_("h1", "r2", RENAME_EXCHANGE));
    SHOW(stat("h1", &st));
    SHOW(st.st_nlink);
    SHOW(renameat2_("r2", "moved", RENAME_EXCHANGE));
    SHOW(stat("r2/q", &st));
    SHOW(renameat2_("r2", "nothing", RENAME_EXCHANGE));
    SHOW(renameat2_("r2", "nothing", RENAME_EXCHANGE | RENAME_NOREPLACE));
    SHOW(renameat2_("r2", "nothing", 64));
    int fd = open("h2", O_RDONLY);
    SHOW(unlink("h2"));
    SHOW(fstat(fd, &st));
    char b[4];
    SHOW(read(fd, b, 4));
    close(fd);
    list(".");
}

static void places(void)
{
    char buf[4096], start[4096];
    getcwd(start, sizeof start);
    SHOW(mkdir("cw", 0755));
    SHOW(chdir("cw"));
    SHOW(strcmp(getcwd(buf, 4096) + strlen(start), "/cw"));
    SHOW(syscall(SYS_getcwd, buf, 2));
    SHOW(rename("../cw", "../cw2"));
    SHOW(strcmp(getcwd(buf, 4096) + strlen(start), "/cw2"));
    SHOW(rmdir("../cw2"));
    SHOW(syscall(SYS_getcwd, buf, 4096));
    SHOW(open("x", O_CREAT | O_RDWR, 0600));
    SHOW(mkdir("x", 0700));
    list(".");
    SHOW(chdir(".."));
    SHOW(strcmp(getcwd(buf, 4096), start));
    int d = open("d", O_RDONLY);
    SHOW(fchdir(d));
    SHOW(fchdir(999));
    SHOW(chdir("/etc/passwd"));
    SHOW(chdir(start));
    close(d);
    umask(027);
    SHOW(umask(022));
}

static void attributes(void)
{
    struct stat st;
    struct statx sx;
    put_file("t", "12345");
    struct timespec ts[2] = {{1000000000, 123456789}, {2000000000, 987654321}};
    SHOW(utimensat(AT_FDCWD, "t", ts, 0));
    SHOW(stat("t", &st));
    SHOW(st.st_atim.tv_sec);
    SHOW(st.st_atim.tv_nsec);
    SHOW(st.st_mtim.tv_sec);
    SHOW(st.st_mtim.tv_nsec);
    ts[0].tv_nsec = UTIME_OMIT;
    ts[1].tv_sec = -5;
    ts[1].tv_nsec = 0;
    SHOW(utimensat(AT_FDCWD, "t", ts, 0));
    SHOW(stat("t", &st));
    SHOW(st.st_atim.tv_sec);
    SHOW(st.st_mtim.tv_sec);
    ts[0].tv_nsec = 1000000000;
    SHOW(utimensat(AT_FDCWD, "t", ts, 0));
    SHOW(utimensat(AT_FDCWD, "none", NULL, 0));
    SHOW(statx(AT_FDCWD, "t", 0, STATX_ALL, &sx));
    SHOW(sx.stx_size);
    SHOW(sx.stx_mode);
    SHOW((sx.stx_mask & STATX_BASIC_STATS) == STATX_BASIC_STATS);
    SHOW(statx(AT_FDCWD, "t", 0, 0x80000000, &sx));
    SHOW(chmod("t", 04755));
    SHOW(stat("t", &st));
    SHOW(st.st_mode);
    SHOW(chown("t", 1000, 1000));
    SHOW(stat("t", &st));
    SHOW(st.st_mode);
    SHOW(st.st_uid);
    SHOW(chown("t", -1, 5));
    SHOW(stat("t", &st));
    SHOW(st.st_uid);
    SHOW(st.st_gid);
    SHOW(truncate("t", 100));
    SHOW(truncate("t", -1));
    SHOW(truncate("d", 0));
    SHOW(truncate("none", 0));
    SHOW(stat("t", &st));
    SHOW(st.st_size);
    SHOW(access("t", R_OK | W_OK));
    SHOW(access("t", 8));
    SHOW(access("none", F_OK));
    SHOW(setxattr("t", "user.one", "1", 1, 0));
    SHOW(setxattr("t", "user.one", "22", 2, XATTR_CREATE));
    SHOW(setxattr("t", "user.two", "22", 2, XATTR_REPLACE));
    SHOW(setxattr("t", "user.two", "22", 2, 0));
    char buf[100];
    SHOW(getxattr("t", "user.two", buf, 100));
    SHOW(getxattr("t", "user.two", NULL, 0));
    SHOW(getxattr("t", "user.two", buf, 1));
    SHOW(getxattr("t", "user.none", buf, 100));
    SHOW(listxattr("t", buf, 100));
    SHOW(listxattr("t", buf, 3));
    SHOW(removexattr("t", "user.one"));
    SHOW(removexattr("t", "user.one"));
    SHOW(setxattr("t", "bad.name", "1", 1, 0));
    SHOW(setxattr("t", "user.", "1", 1, 0));
    symlink("t", "tl");
    SHOW(lsetxattr("tl", "user.x", "1", 1, 0));
    struct statfs fs;
    SHOW(statfs("t", &fs));
    SHOW(fs.f_namelen);
    SHOW(statfs("none", &fs));
}

static void permissions(void)
{
    struct stat st;
    SHOW(mkdir("sticky", 01777));
    SHOW(chmod("sticky", 01777));
    SHOW(mkdir("closed", 0700));
    put_file("closed/x", "x");
    put_file("sticky/root", "r");
    put_file("secret", "s");
    SHOW(chmod("secret", 0640));
    put_file("pub", "p");
    SHOW(chmod("pub", 0666));
    SHOW(mkdir("gdir", 0777));
    SHOW(chown("gdir", 0, 77));
    SHOW(chmod("gdir", 02777));
    fflush(stdout);
    pid_t pid = fork();
    if (pid == 0) {
        SHOW(setgid(1000));
        SHOW(setuid(1000));
        SHOW(open("closed/x", O_RDONLY));
        SHOW(stat("closed/x", &st));
        SHOW(open("secret", O_RDONLY));
        SHOW(access("secret", R_OK));
        SHOW(unlink("sticky/root"));
        SHOW(rename("sticky/root", "sticky/mine"));
        SHOW(open("sticky/own", O_CREAT | O_RDWR, 0600) >= 0);
        SHOW(unlink("sticky/own"));
        SHOW(open("here", O_CREAT | O_RDWR, 0600));
        SHOW(chmod("pub", 0600));
        SHOW(chown("pub", 1000, 1000));
        SHOW(utimensat(AT_FDCWD, "pub", NULL, 0));
        struct timespec ts[2] = {{1, 1}, {2, 2}};
        SHOW(utimensat(AT_FDCWD, "pub", ts, 0));
        SHOW(open("pub", O_RDONLY | O_NOATIME));
        SHOW(open("gdir/f", O_CREAT | O_RDWR, 0666) >= 0);
        SHOW(stat("gdir/f", &st));
        SHOW(st.st_gid);
        SHOW(st.st_uid);
        SHOW(mkdir("gdir/d", 0755));
        SHOW(stat("gdir/d", &st));
        SHOW(st.st_mode);
        SHOW(chmod("gdir/f", 02755));
        SHOW(stat("gdir/f", &st));
        SHOW(st.st_mode);
        SHOW(mknod("gdir/dev", S_IFCHR | 0666, 0x103));
        SHOW(chroot("gdir"));
        _exit(0);
    }
    int status;
    waitpid(pid, &status, 0);
    SHOW(status);
}

int main(void)
{
    setvbuf(stdout, NULL, _IOLBF, 0);
    umask(022);
    names();
    renames();
    places();
    attributes();
    permissions();
    return 0;
}

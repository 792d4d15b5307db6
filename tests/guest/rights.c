/* Credentials and capabilities: the set*id calls, groups, set-id files, capability sets, keep-caps, ambient, securebits, files. */
#include "vfs_check.h"
#include <grp.h>
#include <linux/capability.h>
#include <linux/securebits.h>
#include <sys/fsuid.h>
#include <sys/prctl.h>
#include <sys/xattr.h>

static char self[4096];

static void ids(const char *what)
{
    uid_t r, e, s;
    gid_t rg, eg, sg;
    getresuid(&r, &e, &s);
    getresgid(&rg, &eg, &sg);
    printf("%s: uid %u %u %u fs %u gid %u %u %u fs %u\n", what, r, e, s, setfsuid(-1), rg, eg, sg, setfsgid(-1));
}

static uint64_t caps(int which)
{
    struct __user_cap_header_struct h = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct d[2];
    syscall(SYS_capget, &h, d);
    uint32_t *w = which == 0 ? &d[0].effective : which == 1 ? &d[0].permitted : &d[0].inheritable;
    return *w | (uint64_t)w[3] << 32;
}

static int set_caps(uint64_t eff, uint64_t perm, uint64_t inh)
{
    struct __user_cap_header_struct h = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct d[2] = {{eff, perm, inh}, {eff >> 32, perm >> 32, inh >> 32}};
    return syscall(SYS_capset, &h, d);
}

#define B(c) (1ULL << (c))
static void show_caps(const char *what)
{
    uint64_t some = B(CAP_CHOWN) | B(CAP_KILL) | B(CAP_NET_BIND_SERVICE) | B(CAP_SETUID) | B(CAP_DAC_OVERRIDE);
    printf("%s: e %llx p %llx i %llx amb %d%d bset %d\n", what, (long long)(caps(0) & some), (long long)(caps(1) & some),
           (long long)(caps(2) & some), prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_IS_SET, CAP_KILL, 0, 0),
           prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_IS_SET, CAP_CHOWN, 0, 0), prctl(PR_CAPBSET_READ, CAP_KILL));
}

/* Runs a function in a child. */
static void in_child(void (*f)(void))
{
    int st;
    fflush(stdout);
    pid_t p = fork();
    if (!p) {
        f();
        fflush(stdout);
        _exit(0);
    }
    waitpid(p, &st, 0);
    if (st)
        printf("status %x\n", st);
}

static void run_self(const char *how)
{
    int st;
    fflush(stdout);
    pid_t p = fork();
    if (!p) {
        execl(how[0] == '.' ? how : self, "rights", "show", NULL);
        printf("exec: %s\n", strerrorname_np(errno));
        _exit(1);
    }
    waitpid(p, &st, 0);
}

static void uids(void)
{
    SHOW(setresuid(1, 2, 3));
    ids("setresuid");
    SHOW(setuid(3));
    ids("setuid to saved");
    SHOW(setresuid(-1, 1, -1));
    SHOW(setresuid(-1, 0, -1));
    SHOW(setreuid(-1, 3));
    ids("setreuid");
    SHOW(setreuid(3, -1));
    ids("setreuid real");
    SHOW(setuid(0));
    SHOW(seteuid(99));
    SHOW(setresuid(7, -1, -1));
}

static void real_and_effective(void)
{
    SHOW(setreuid(5, 6));
    ids("setreuid");
    SHOW(setreuid(6, 5));
    ids("swapped");
    SHOW(seteuid(6));
    SHOW(seteuid(5));
    SHOW(setuid(6));
    ids("setuid");
}

static void gids(void)
{
    gid_t list[3] = {10, 20, 30}, got[8];
    SHOW(setgroups(3, list));
    SHOW(getgroups(0, NULL));
    SHOW(getgroups(2, got));
    SHOW(getgroups(8, got));
    SHOW(got[0] + got[1] + got[2]);
    SHOW(setgroups(-1, list));
    SHOW(setgroups(65537, list));
    SHOW(setgroups(3, (void *)8));
    SHOW(setresgid(1, 2, 3));
    SHOW(setregid(-1, 7));
    ids("gids");
    SHOW(setgid(9));
    ids("setgid");
    SHOW(setuid(1));
    SHOW(setgid(10));
    SHOW(setgroups(0, NULL));
    SHOW(setegid(9));
    SHOW(setresgid(-1, -1, 10));
}

static void file_system_ids(void)
{
    put_file("owned", "x");
    SHOW(chown("owned", 50, 60));
    SHOW(chmod("owned", 0640));
    SHOW(setfsgid(60));
    SHOW(setfsuid(51));
    ids("fs ids");
    show_caps("fs ids");
    SHOW(open("owned", O_RDONLY) >= 0);
    SHOW(open("owned", O_RDWR));
    SHOW(setfsuid(50));
    SHOW(open("owned", O_RDWR) >= 0);
    SHOW(chmod("owned", 0600));
    SHOW(setfsuid(0));
    show_caps("back");
    SHOW(setresuid(50, 51, -1));
    SHOW(access("owned", R_OK));
    SHOW(faccessat(AT_FDCWD, "owned", R_OK, AT_EACCESS));
    SHOW(open("owned", O_RDONLY));
    ids("new file");
    int fd = open("mine", O_CREAT | O_RDWR, 0600);
    (void)fd;
}

static void by_caps(void)
{
    put_file("root", "x");
    chmod("root", 0600);
    SHOW(set_caps(B(CAP_CHOWN) | B(CAP_SETUID) | B(CAP_KILL), B(CAP_CHOWN) | B(CAP_SETUID) | B(CAP_KILL), B(CAP_KILL)));
    show_caps("fewer");
    SHOW(set_caps(B(CAP_NET_RAW), B(CAP_NET_RAW), 0));
    SHOW(set_caps(B(CAP_CHOWN), 0, 0));
    SHOW(chown("root", 1, 1));
    SHOW(open("root", O_RDONLY));
    SHOW(chmod("root", 0644));
    SHOW(set_caps(0, B(CAP_CHOWN) | B(CAP_SETUID) | B(CAP_KILL), B(CAP_KILL)));
    SHOW(chown("root", 2, 2));
    SHOW(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_KILL, 0, 0));
    SHOW(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_CHOWN, 0, 0));
    show_caps("ambient");
    struct __user_cap_header_struct h = {_LINUX_CAPABILITY_VERSION_3, 1 << 21};
    struct __user_cap_data_struct d[2];
    SHOW(syscall(SYS_capget, &h, d));
    h.pid = getppid();
    SHOW(syscall(SYS_capget, &h, d));
    SHOW(syscall(SYS_capset, &h, d));
    h.version = 77;
    SHOW(syscall(SYS_capget, &h, NULL));
    SHOW(h.version == _LINUX_CAPABILITY_VERSION_3);
    SHOW(syscall(SYS_capget, (void *)8, NULL));
    /* without a root user: keep-caps and ambient */
    SHOW(prctl(PR_SET_KEEPCAPS, 1));
    SHOW(set_caps(B(CAP_SETUID), B(CAP_CHOWN) | B(CAP_SETUID) | B(CAP_KILL), B(CAP_KILL)));
    SHOW(setuid(500));
    show_caps("kept");
    run_self("exec keeps only ambient ones");
    SHOW(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0));
    run_self("none");
    SHOW(prctl(PR_GET_KEEPCAPS));
    SHOW(prctl(PR_CAPBSET_DROP, CAP_KILL));
    SHOW(prctl(PR_SET_SECUREBITS, SECBIT_NOROOT));
}

static void no_root(void)
{
    SHOW(prctl(PR_CAPBSET_DROP, CAP_KILL));
    SHOW(prctl(PR_CAPBSET_READ, CAP_KILL));
    run_self("bounding set");
    SHOW(prctl(PR_SET_SECUREBITS, SECBIT_NOROOT | SECBIT_NOROOT_LOCKED));
    SHOW(prctl(PR_GET_SECUREBITS));
    SHOW(prctl(PR_SET_SECUREBITS, 0));
    run_self("no root");
    SHOW(prctl(PR_SET_SECUREBITS, SECBIT_NOROOT | SECBIT_NOROOT_LOCKED | SECBIT_KEEP_CAPS_LOCKED));
    SHOW(prctl(PR_SET_KEEPCAPS, 1));
}

static void fixed_up(void)
{
    SHOW(seteuid(1000));
    show_caps("seteuid");
    SHOW(seteuid(0));
    show_caps("back");
    SHOW(prctl(PR_SET_SECUREBITS, SECBIT_NO_SETUID_FIXUP));
    SHOW(setresuid(1000, 1000, 1000));
    show_caps("no fix-up");
}

static void copy_self(const char *to, int mode)
{
    char cmd[5000];
    snprintf(cmd, sizeof cmd, "cp %s %s", self, to);
    system(cmd);
    chmod(to, mode);
}

static void set_id_files(void)
{
    copy_self("./suid", 0755);
    SHOW(chown("suid", 70, 80));
    SHOW(chmod("suid", 06755));
    copy_self("./suidroot", 04755);
    copy_self("./capfile", 0755);
    struct { uint32_t magic; struct { uint32_t p, i; } d[2]; } v = {0x02000001, {{B(CAP_KILL), 0}, {0, 0}}};
    SHOW(setxattr("capfile", "security.capability", &v, sizeof v, 0));
    SHOW(getxattr("capfile", "security.capability", NULL, 0));
    SHOW(setxattr("capfile", "security.capability", &v, 3, 0));
    SHOW(setgid(500));
    SHOW(setuid(500));
    run_self("./suid");
    run_self("./suidroot");
    run_self("./capfile");
    SHOW(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
    run_self("./suid");
    run_self("./suidroot");
    run_self("./capfile");
}

static void set_id_lost(void)
{
    struct stat st;
    put_file("lost", "x");
    SHOW(chmod("lost", 06755));
    SHOW(chown("lost", 500, 500));
    SHOW(stat("lost", &st));
    SHOW(st.st_mode);
    SHOW(chmod("lost", 06777));
    SHOW(setgid(501));
    SHOW(setuid(501));
    int fd = open("lost", O_WRONLY);
    SHOW(write(fd, "y", 1));
    SHOW(stat("lost", &st));
    SHOW(st.st_mode);
    SHOW(chmod("lost", 0777));
    SHOW(chown("lost", 501, 501));
}

/* A child with these user IDs, which ends when its parent has. */
static pid_t somebody(uid_t r, uid_t e, uid_t s)
{
    int end[2];
    char c;
    CHECK(pipe(end) == 0);
    pid_t p = fork();
    if (!p) {
        setresuid(r, e, s);
        close(end[1]);
        read(end[0], &c, 1);
        _exit(0);
    }
    usleep(20000);
    return p;
}

static void killing(void)
{
    pid_t a = somebody(600, 600, 600);
    SHOW(setresuid(601, 601, 601));
    SHOW(kill(a, 0));
    SHOW(kill(a, SIGCONT) == 0);
    SHOW(kill(1, 0));
    SHOW(kill(-1, 0));
}

static void killing2(void)
{
    pid_t a = somebody(600, 602, 603);
    SHOW(setresuid(603, 604, 604));
    SHOW(kill(a, 0));
    SHOW(setresuid(604, 604, 604));
    SHOW(kill(a, 0));
}

int main(int argc, char **argv)
{
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (argc > 1) {
        ids("exec");
        show_caps("exec");
        printf("secure %d dumpable %d keep %d nnp %d\n", (int)secure_getenv("PATH") == 0, prctl(PR_GET_DUMPABLE), prctl(PR_GET_KEEPCAPS),
               prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0));
        return 0;
    }
    strcpy(self, argv[0]); /* relative: who has lost all rights reaches it all the same */
    chmod(".", 0777);
    setgroups(0, NULL);
    in_child(uids);
    in_child(real_and_effective);
    in_child(gids);
    in_child(file_system_ids);
    in_child(by_caps);
    in_child(no_root);
    in_child(fixed_up);
    in_child(set_id_files);
    in_child(set_id_lost);
    in_child(killing);
    in_child(killing2);
    return 0;
}

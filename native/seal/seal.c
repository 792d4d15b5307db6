/* Sealing a process; see seal.h. */
#include "seal.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/mount.h>
#include <linux/seccomp.h>
#include <linux/securebits.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Only in <sys/mount.h>, which in glibc before 2.37 does not go together with <linux/mount.h>. */
#define DETACH_FLAG 2
#define UMOUNT_NOFOLLOW_FLAG 8

static int ret(long r)
{
    return r < 0 ? -errno : (int)r;
}

int cn_mount(const char *source, const char *target, const char *type, unsigned long flags,
             const char *data)
{
    return ret(syscall(SYS_mount, source, target, type, flags, data));
}

int cn_umount(const char *target)
{
    return ret(syscall(SYS_umount2, target, DETACH_FLAG | UMOUNT_NOFOLLOW_FLAG));
}

static int write_file(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    size_t len = strlen(text);
    int r = write(fd, text, len) == (ssize_t)len ? 0 : -errno;
    close(fd);
    return r;
}

static int map_ids(uint32_t euid, uint32_t egid, uint32_t uid, uint32_t gid)
{
    char line[64];
    int r = write_file("/proc/self/setgroups", "deny");
    if (r && r != -ENOENT)
        return r;
    snprintf(line, sizeof line, "%u %u 1", uid, euid);
    r = write_file("/proc/self/uid_map", line);
    if (r)
        return r;
    snprintf(line, sizeof line, "%u %u 1", gid, egid);
    return write_file("/proc/self/gid_map", line);
}

/* CLONE_NEW* flags of CN_NS_* bits. */
static int clone_flags(uint32_t what)
{
    static const struct {
        uint32_t bit;
        int flag;
    } map[] = {
        { CN_NS_USER, CLONE_NEWUSER }, { CN_NS_MOUNT, CLONE_NEWNS }, { CN_NS_PID, CLONE_NEWPID },
        { CN_NS_NET, CLONE_NEWNET },   { CN_NS_IPC, CLONE_NEWIPC },  { CN_NS_UTS, CLONE_NEWUTS },
    };
    int flags = 0;
    for (size_t i = 0; i < sizeof map / sizeof *map; i++)
        if (what & map[i].bit)
            flags |= map[i].flag;
    return flags;
}

int cn_ns_user(void)
{
    return ret(unshare(CLONE_NEWUSER));
}

int cn_ns_join(int fd, uint32_t what)
{
    return ret(setns(fd, clone_flags(what)));
}

int cn_ns_enter(uint32_t what, uint32_t uid, uint32_t gid)
{
    int flags = clone_flags(what);
    uint32_t euid = geteuid(), egid = getegid();
    if (unshare(flags))
        return -errno;
    if (what & CN_NS_USER) {
        int r = map_ids(euid, egid, uid, gid);
        if (r)
            return r;
    }
    if (what & CN_NS_MOUNT)
        return cn_mount(NULL, "/", NULL, MS_REC | MS_SLAVE, NULL);
    return 0;
}

int cn_die_with_parent(int parent)
{
    if (prctl(PR_SET_PDEATHSIG, SIGKILL))
        return -errno;
    return parent && getppid() != parent ? -ESRCH : 0;
}

int cn_outlive_parent(void)
{
    return ret(prctl(PR_SET_PDEATHSIG, 0));
}

int cn_adopt_orphans(void)
{
    return ret(prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0));
}

/* Says the size to a file system's context and carries out `command`. */
static int configure(int context, uint64_t bytes, int command)
{
    char size[24];
    snprintf(size, sizeof(size), "%llu", (unsigned long long)bytes);
    if (syscall(SYS_fsconfig, context, FSCONFIG_SET_STRING, "size", size, 0))
        return -errno;
    return ret(syscall(SYS_fsconfig, context, command, NULL, NULL, 0));
}

int cn_tmpfs_new(uint64_t bytes)
{
    int r, context = ret(syscall(SYS_fsopen, "tmpfs", FSOPEN_CLOEXEC));
    if (context < 0)
        return context;
    if (syscall(SYS_fsconfig, context, FSCONFIG_SET_STRING, "mode", "700", 0))
        r = -errno;
    else
        r = configure(context, bytes, FSCONFIG_CMD_CREATE);
    if (!r)
        r = ret(syscall(SYS_fsmount, context, FSMOUNT_CLOEXEC, 0));
    close(context);
    return r;
}

int cn_tmpfs_resize(int fd, uint64_t bytes)
{
    int r, context = ret(syscall(SYS_fspick, fd, "", FSPICK_CLOEXEC | FSPICK_EMPTY_PATH));
    if (context < 0)
        return context;
    r = configure(context, bytes, FSCONFIG_CMD_RECONFIGURE);
    close(context);
    return r;
}

int cn_tree_clone(int dirfd, const char *source, int deep)
{
    unsigned flags = OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC;
    if (deep)
        flags |= AT_RECURSIVE;
    if (!*source)
        flags |= AT_EMPTY_PATH;
    return ret(syscall(SYS_open_tree, dirfd, source, flags));
}

int cn_tree_attach(int treefd, int dirfd, const char *target)
{
    unsigned flags = MOVE_MOUNT_F_EMPTY_PATH | (*target ? 0 : MOVE_MOUNT_T_EMPTY_PATH);
    return ret(syscall(SYS_move_mount, treefd, "", dirfd, target, flags));
}

int cn_tree_setattr(int treefd, uint32_t attrs, int deep)
{
    struct mount_attr a = { .propagation = MS_PRIVATE };
    if (attrs & CN_MNT_RDONLY)
        a.attr_set |= MOUNT_ATTR_RDONLY;
    if (attrs & CN_MNT_NOSUID)
        a.attr_set |= MOUNT_ATTR_NOSUID;
    if (attrs & CN_MNT_NODEV)
        a.attr_set |= MOUNT_ATTR_NODEV;
    if (attrs & CN_MNT_NOEXEC)
        a.attr_set |= MOUNT_ATTR_NOEXEC;
    unsigned flags = AT_EMPTY_PATH | (deep ? AT_RECURSIVE : 0);
    return ret(syscall(SYS_mount_setattr, treefd, "", flags, &a, sizeof a));
}

int cn_root_pivot(const char *newroot)
{
    /* pivot_root(2), "pivot_root(".", ".")": the old root ends up on top of the new one and is detached. */
    if (chdir(newroot))
        return -errno;
    if (syscall(SYS_pivot_root, ".", "."))
        return -errno;
    if (syscall(SYS_umount2, ".", DETACH_FLAG))
        return -errno;
    return chdir("/") ? -errno : 0;
}

int cn_root_empty(void)
{
    /* Any directory will do as the place; /proc exists wherever the sentry can be started. */
    int r = cn_mount("cordon", "/proc", "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, "size=4k,nr_inodes=1,mode=0555");
    if (!r)
        r = cn_root_pivot("/proc");
    if (r)
        return r;
    return cn_mount(NULL, "/", NULL, MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL);
}

int cn_caps_bound(uint64_t keep)
{
    for (int cap = 0; cap < 64; cap++) {
        if (keep >> cap & 1)
            continue;
        if (prctl(PR_CAPBSET_DROP, cap, 0, 0, 0)) {
            if (errno == EINVAL)
                break; /* past the kernel's last capability */
            return -errno;
        }
    }
    if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0))
        return -errno;
    return ret(prctl(PR_SET_SECUREBITS,
                     SECBIT_NOROOT | SECBIT_NOROOT_LOCKED | SECBIT_NO_CAP_AMBIENT_RAISE |
                         SECBIT_NO_CAP_AMBIENT_RAISE_LOCKED,
                     0, 0, 0));
}

int cn_caps_keep(uint64_t keep)
{
    struct __user_cap_header_struct h = { .version = _LINUX_CAPABILITY_VERSION_3 };
    struct __user_cap_data_struct d[2];
    if (syscall(SYS_capget, &h, d))
        return -errno;
    for (int i = 0; i < 2; i++) {
        d[i].permitted &= (uint32_t)(keep >> (32 * i));
        d[i].effective = d[i].permitted;
        d[i].inheritable = 0;
    }
    return ret(syscall(SYS_capset, &h, d));
}

int cn_no_new_privs(void)
{
    return ret(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
}

int cn_set_dumpable(int on)
{
    return ret(prctl(PR_SET_DUMPABLE, on ? 1 : 0, 0, 0, 0));
}

int cn_close_range(uint32_t first, uint32_t last)
{
    return ret(syscall(SYS_close_range, first, last, 0));
}

int cn_seccomp_install(const uint8_t *program, uint32_t bytes)
{
    if (!bytes || bytes % sizeof(struct sock_filter) || bytes / sizeof(struct sock_filter) > BPF_MAXINSNS)
        return -EINVAL;
    int r = cn_no_new_privs();
    if (r)
        return r;
    struct sock_fprog prog = {
        .len = (unsigned short)(bytes / sizeof(struct sock_filter)),
        .filter = (struct sock_filter *)(uintptr_t)program,
    };
    long n = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &prog);
    if (n > 0)
        return -EBUSY; /* that thread could not be synchronised */
    return ret(n);
}

static char report_head[64];
static int report_fd = 2;

static void report(int sig, siginfo_t *info, void *context)
{
    (void)sig, (void)context;
    char line[160], digits[12];
    size_t n = strlen(report_head), d = 0;
    memcpy(line, report_head, n);
    static const char mid[] = ": host system call ", tail[] = " is not allowed\n";
    memcpy(line + n, mid, sizeof mid - 1);
    n += sizeof mid - 1;
    unsigned nr = (unsigned)info->si_syscall;
    do
        digits[d++] = (char)('0' + nr % 10);
    while ((nr /= 10));
    while (d)
        line[n++] = digits[--d];
    memcpy(line + n, tail, sizeof tail - 1);
    n += sizeof tail - 1;
    if (write(report_fd, line, n) < 0) {
        /* nobody to tell */
    }
    signal(SIGSYS, SIG_DFL);
    sigset_t only;
    sigemptyset(&only);
    sigaddset(&only, SIGSYS);
    syscall(SYS_tgkill, getpid(), (int)syscall(SYS_gettid), SIGSYS);
    sigprocmask(SIG_UNBLOCK, &only, NULL);
    syscall(SYS_exit_group, 128 + SIGSYS);
}

int cn_seccomp_report(const char *who, int fd)
{
    size_t n = strlen(who);
    if (n >= sizeof report_head)
        return -EINVAL;
    memcpy(report_head, who, n + 1);
    report_fd = fd;
    struct sigaction sa = { .sa_sigaction = report, .sa_flags = SA_SIGINFO | SA_NODEFER };
    sigfillset(&sa.sa_mask);
    sigdelset(&sa.sa_mask, SIGSYS);
    return ret(sigaction(SIGSYS, &sa, NULL));
}

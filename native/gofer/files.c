/* Walking, listing and opening host files for the gofer; see gofer.h. */
#include "gofer.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <unistd.h>

#define NAME_LIMIT 255
#define GETATTR_ALL 0x3fffULL /* P9_GETATTR_ALL: everything of Rgetattr */

static u8 *put(u8 *p, u64 v, int bytes)
{
    for (int i = 0; i < bytes; i++)
        *p++ = (u8)(v >> (8 * i));
    return p;
}

static u8 qid_type(uint32_t mode)
{
    return S_ISDIR(mode) ? 0x80 : S_ISLNK(mode) ? 0x02 : 0;
}

static u8 *put_time(u8 *p, const struct statx_timestamp *t)
{
    p = put(p, (u64)t->tv_sec, 8);
    return put(p, t->tv_nsec, 8);
}

static void encode(const struct statx *x, u8 *p)
{
    u32 version = (u32)x->stx_ctime.tv_sec ^ x->stx_ctime.tv_nsec;
    p = put(p, GETATTR_ALL, 8);
    *p++ = qid_type(x->stx_mode);
    p = put(p, version, 4);
    p = put(p, x->stx_ino, 8);
    p = put(p, x->stx_mode, 4);
    p = put(p, x->stx_uid, 4);
    p = put(p, x->stx_gid, 4);
    p = put(p, x->stx_nlink, 8);
    p = put(p, makedev(x->stx_rdev_major, x->stx_rdev_minor), 8);
    p = put(p, x->stx_size, 8);
    p = put(p, x->stx_blksize, 8);
    p = put(p, x->stx_blocks, 8);
    p = put_time(p, &x->stx_atime);
    p = put_time(p, &x->stx_mtime);
    p = put_time(p, &x->stx_ctime);
    p = put_time(p, &x->stx_btime);
    p = put(p, makedev(x->stx_dev_major, x->stx_dev_minor), 8);
    put(p, version, 8);
}

static int get_statx(int dirfd, const char *name, struct statx *x)
{
    int flags = AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT | (*name ? 0 : AT_EMPTY_PATH);
    if (statx(dirfd, name, flags, STATX_BASIC_STATS | STATX_BTIME | STATX_MNT_ID, x))
        return -errno;
    return 0;
}

int cn_gf_stat(int fd, struct cn_gf_node *node, uint8_t *attr)
{
    struct statx x;
    int r = get_statx(fd, "", &x);
    if (r)
        return r;
    node->mode = x.stx_mode;
    node->ino = x.stx_ino;
    node->dev = makedev(x.stx_dev_major, x.stx_dev_minor);
    node->mnt = x.stx_mnt_id;
    encode(&x, attr);
    return 0;
}

int cn_gf_name(const uint8_t *name, uint32_t len)
{
    if (!len || (len == 1 && name[0] == '.') || (len == 2 && name[0] == '.' && name[1] == '.'))
        return -EINVAL;
    if (len > NAME_LIMIT)
        return -ENAMETOOLONG;
    return memchr(name, '/', len) || memchr(name, 0, len) ? -EINVAL : 0;
}

int cn_gf_allowed(const struct cn_gf_policy *policy, const struct cn_gf_node *node, int search)
{
    if (!policy->public_only)
        return 0;
    for (u32 i = 0; i < policy->n && i < CN_GF_MAX_POLICY; i++)
        if (policy->mnt[i] == node->mnt)
            return 0;
    return node->mode & (search ? S_IXOTH : S_IROTH) ? 0 : -EACCES;
}

static int open_beneath(int dirfd, const char *name)
{
    struct open_how how = {
        .flags = O_PATH | O_NOFOLLOW | O_CLOEXEC,
        .resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_SYMLINKS,
    };
    long fd = syscall(SYS_openat2, dirfd, name, &how, sizeof how);
    return fd < 0 ? -errno : (int)fd;
}

int cn_gf_walk(const struct cn_gf_policy *policy, const struct cn_gf_node *from, const uint8_t *names, uint32_t len,
               uint32_t n, struct cn_gf_node *nodes, uint8_t *attrs, int32_t *status)
{
    char name[NAME_LIMIT + 1];
    u32 pos = 0, done = 0;
    *status = 0;
    /* All names first, so that a malformed message has no effect at all. */
    for (u32 i = 0; i < n; i++) {
        if (len - pos < 2)
            return -EBADMSG;
        u32 l = names[pos] | (u32)names[pos + 1] << 8;
        pos += 2;
        if (len - pos < l)
            return -EBADMSG;
        pos += l;
    }
    if (pos != len || n > CN_GF_MAX_WALK)
        return -EBADMSG;
    pos = 0;
    for (; done < n; done++) {
        u32 l = names[pos] | (u32)names[pos + 1] << 8;
        const u8 *bytes = names + pos + 2;
        pos += 2 + l;
        if (!S_ISDIR(from->mode)) {
            *status = S_ISLNK(from->mode) ? -ELOOP : -ENOTDIR;
            break;
        }
        int r = cn_gf_name(bytes, l);
        if (!r)
            r = cn_gf_allowed(policy, from, 1);
        if (r) {
            *status = r;
            break;
        }
        memcpy(name, bytes, l);
        name[l] = 0;
        r = open_beneath(from->fd, name);
        if (r < 0) {
            *status = r;
            break;
        }
        nodes[done].fd = r;
        r = cn_gf_stat(r, &nodes[done], attrs + (size_t)done * CN_GF_ATTR);
        if (r) {
            close(nodes[done].fd);
            *status = r;
            break;
        }
        from = &nodes[done];
    }
    return (int)done;
}

int cn_gf_reopen(int fd, int flags)
{
    char name[16];
    snprintf(name, sizeof name, "%d", fd);
    int r = openat(AT_FDCWD, name, flags | O_CLOEXEC | O_NOCTTY);
    return r < 0 ? -errno : r;
}

int cn_gf_rename(int olddir, const char *oldname, int newdir, const char *newname, uint32_t flags)
{
    return syscall(SYS_renameat2, olddir, oldname, newdir, newname, flags) ? -errno : 0;
}

int cn_gf_utimes(int fd, int64_t asec, int64_t ansec, int64_t msec, int64_t mnsec)
{
    struct timespec t[2] = { { .tv_sec = asec, .tv_nsec = ansec }, { .tv_sec = msec, .tv_nsec = mnsec } };
    char name[16];
    snprintf(name, sizeof name, "%d", fd);
    return utimensat(AT_FDCWD, name, t, 0) ? -errno : 0;
}

int cn_gf_fallocate(int fd, int mode, int64_t off, int64_t len)
{
    return fallocate(fd, mode, off, len) ? -errno : 0;
}

int cn_gf_statfs(int fd, uint64_t *out)
{
    struct statfs s;
    if (fstatfs(fd, &s))
        return -errno;
    out[0] = (u64)s.f_type;
    out[1] = (u64)s.f_bsize;
    out[2] = s.f_blocks;
    out[3] = s.f_bfree;
    out[4] = s.f_bavail;
    out[5] = s.f_files;
    out[6] = s.f_ffree;
    memcpy(&out[7], &s.f_fsid, 8);
    out[8] = (u64)s.f_namelen;
    return 0;
}

struct entry {
    u64 ino;
    i64 off;
    u16 reclen;
    u8 type;
    char name[];
};

static int is_dots(const char *name)
{
    return name[0] == '.' && (!name[1] || (name[1] == '.' && !name[2]));
}

/* One entry at p, which has room for it. dev: of the directory, for CN_GF_DIR_ATTRS. */
static u8 *put_entry(int dirfd, const struct entry *e, size_t l, int attrs, u64 dev, u8 *p)
{
    struct statx x;
    u8 type = e->type;
    if (attrs == CN_GF_DIR_ATTRS && type != DT_DIR && type != DT_UNKNOWN) {
        memset(p, 0, CN_GF_ATTR);
        put(p + 13, e->ino, 8);
        put(p + 137, dev, 8);
        p += CN_GF_ATTR;
    } else if (attrs) {
        if (get_statx(dirfd, e->name, &x)) {
            memset(p, 0, CN_GF_ATTR);
        } else {
            encode(&x, p);
            type = (u8)((x.stx_mode & S_IFMT) >> 12);
        }
        p += CN_GF_ATTR;
    } else {
        *p++ = e->type == DT_DIR ? 0x80 : e->type == DT_LNK ? 0x02 : 0;
        p = put(p, 0, 4);
        p = put(p, e->ino, 8);
    }
    p = put(p, (u64)e->off, 8);
    *p++ = type;
    p = put(p, l, 2);
    memcpy(p, e->name, l);
    return p + l;
}

int cn_gf_readdir(int dirfd, uint64_t offset, int attrs, uint8_t *out, uint32_t cap, int32_t *eof)
{
    char buf[32768] __attribute__((aligned(8)));
    const size_t fixed = (attrs ? CN_GF_ATTR : CN_GF_QID) + 8 + 1 + 2;
    u8 *p = out;
    struct statx dir = { 0 };
    u64 dev;
    *eof = 0;
    if (attrs == CN_GF_DIR_ATTRS && get_statx(dirfd, "", &dir))
        return -errno;
    dev = makedev(dir.stx_dev_major, dir.stx_dev_minor);
    if (lseek(dirfd, (off_t)offset, SEEK_SET) < 0)
        return -errno;
    for (;;) {
        /* No more than can be passed on, roughly: the rest would be read twice. */
        size_t room = cap - (size_t)(p - out);
        size_t want = attrs ? room / 4 : room;
        want = want < 1024 ? 1024 : want > sizeof buf ? sizeof buf : want;
        long got = syscall(SYS_getdents64, dirfd, buf, want);
        if (got < 0)
            return p > out ? (int)(p - out) : -errno;
        if (!got) {
            *eof = 1;
            return (int)(p - out);
        }
        for (long pos = 0; pos < got;) {
            const struct entry *e = (const struct entry *)(buf + pos);
            pos += e->reclen;
            size_t l = strlen(e->name);
            if (attrs && is_dots(e->name))
                continue;
            if (fixed + l > cap - (size_t)(p - out))
                return p > out ? (int)(p - out) : -EINVAL;
            p = put_entry(dirfd, e, l, attrs, dev, p);
        }
    }
}

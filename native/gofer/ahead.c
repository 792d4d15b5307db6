/* Listings of directories that will be asked for next; see gofer.h. */
#include "gofer.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define MAX_DEPTH 16
#define MAX_BLOCKS 1024
#define NAME_LIMIT 255
#define ENTRY (CN_GF_ATTR + 8 + 1 + 2) /* of cn_gf_readdir with attributes, before the name */
#define BLOCK (2 + 8 + 8 + 2 + 4)      /* before and behind a block's name */

struct ahead {
    const struct cn_gf_policy *policy;
    u8 *out;
    u32 at, cap; /* of out */
    u32 blocks;
    int full;
};

static u8 *put(u8 *p, u64 v, int bytes)
{
    for (int i = 0; i < bytes; i++)
        *p++ = (u8)(v >> (8 * i));
    return p;
}

/* A directory in the one of dir for reading; another mount's is left to be asked for. */
static int open_in(const struct cn_gf_node *dir, const char *name)
{
    struct open_how how = {
        .flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC,
        .resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_SYMLINKS | RESOLVE_NO_XDEV,
    };
    return (int)syscall(SYS_openat2, dir->fd, name, &how, sizeof how);
}

static void below(struct ahead *a, const struct cn_gf_node *dir, const u8 *entries, u32 len,
                  u32 index, int depth);

/* The block of one directory, whole or not at all, and those of what is below it. */
static void add(struct ahead *a, const struct cn_gf_node *dir, const u8 *name, u32 l, u32 parent,
                int depth)
{
    char copy[NAME_LIMIT + 1];
    u8 attr[CN_GF_ATTR];
    struct cn_gf_node node;
    int eof = 0;

    if (a->blocks >= MAX_BLOCKS || a->cap - a->at < BLOCK + l)
        a->full = 1;
    if (a->full || cn_gf_name(name, l) || cn_gf_allowed(a->policy, dir, 1))
        return;
    memcpy(copy, name, l);
    copy[l] = 0;
    node.fd = open_in(dir, copy);
    if (node.fd < 0)
        return;
    if (!cn_gf_stat(node.fd, &node, attr) && !cn_gf_allowed(a->policy, &node, 0)) {
        u8 *p = a->out + a->at, *body = p + BLOCK + l;
        u32 room = a->cap - a->at - BLOCK - l;
        int n = cn_gf_readdir(node.fd, 0, CN_GF_DIR_ATTRS, body, room, &eof);
        if (n >= 0 && eof) {
            p = put(p, parent, 2);
            p = put(p, node.ino, 8);
            p = put(p, node.dev, 8);
            p = put(p, l, 2);
            memcpy(p, copy, l);
            put(p + l, (u64)n, 4);
            a->at += BLOCK + l + (u32)n;
            a->blocks++;
            if (depth < MAX_DEPTH)
                below(a, &node, body, (u32)n, a->blocks, depth + 1);
        } else if (n >= 0 || n == -EINVAL) {
            a->full = 1;
        }
    }
    close(node.fd);
}

static void below(struct ahead *a, const struct cn_gf_node *dir, const u8 *entries, u32 len,
                  u32 index, int depth)
{
    for (u32 pos = 0; pos < len && !a->full;) {
        const u8 *e = entries + pos;
        u32 l = e[ENTRY - 2] | (u32)e[ENTRY - 1] << 8;
        if (e[ENTRY - 3] == DT_DIR)
            add(a, dir, e + ENTRY, l, index, depth);
        pos += ENTRY + l;
    }
}

int cn_gf_ahead(const struct cn_gf_policy *policy, const struct cn_gf_node *dir, uint8_t *data,
                uint32_t listed, uint32_t cap, const struct cn_gf_node *parent,
                const uint8_t *names, uint32_t len)
{
    struct ahead a = { .policy = policy, .out = data, .at = listed, .cap = cap };
    u32 pos = 0;

    below(&a, dir, data, listed, 0, 1);
    while (len - pos >= 2 && !a.full) {
        u32 l = names[pos] | (u32)names[pos + 1] << 8;
        if (l > len - pos - 2)
            return -EBADMSG;
        add(&a, parent, names + pos + 2, l, CN_GF_BESIDE, 1);
        pos += 2 + l;
    }
    return (int)(a.at - listed);
}

/* See dirents.h. The sentry's side: what the gofer sends is checked. */
#include "dirents.h"

#include <dirent.h>
#include <errno.h>
#include <stddef.h>
#include <string.h>

#include "../gofer/gofer.h"

#define NAME_LIMIT 255
/* Places in an attribute record (Rgetattr): qid path and gen, which holds the device. */
#define AT_PATH 13
#define AT_DEV  137
#define FIXED   (CN_GF_ATTR + 8 + 1 + 2)

struct record {
    u64 ino;
    i64 off;
    u16 reclen;
    u8 type;
    char name[];
};

#define HEAD offsetof(struct record, name)

static u64 word(const u8 *p)
{
    u64 v;

    memcpy(&v, p, sizeof(v));
    return v;
}

static u16 record_len(const u8 *p)
{
    u16 v;

    memcpy(&v, p + offsetof(struct record, reclen), sizeof(v));
    return v;
}

int64_t cn_dirents_make(const uint8_t *in, uint64_t len, uint64_t dev, uint64_t ino_bits, int64_t first, uint8_t *out,
                        uint64_t cap)
{
    u64 pos = 0, used = 0;

    while (pos < len) {
        struct record head;
        const u8 *name;
        u64 l, size;
        if (len - pos < FIXED)
            return -EPROTO;
        l = in[pos + FIXED - 2] | (u64)in[pos + FIXED - 1] << 8;
        name = in + pos + FIXED;
        if (l > len - pos - FIXED || l > NAME_LIMIT || cn_gf_name(name, (u32)l) < 0)
            return -EPROTO;
        /* One that could not be looked at has no device and no number. */
        if (word(in + pos + AT_DEV) != dev)
            return -EXDEV;
        size = (HEAD + l + 1 + 7) & ~7UL;
        if (cap - used < size)
            return -ENOSPC;
        memset(out + used, 0, size);
        head.ino = word(in + pos + AT_PATH) ^ ino_bits;
        head.off = first++;
        head.reclen = (u16)size;
        head.type = in[pos + FIXED - 3] & 15;
        memcpy(out + used, &head, HEAD);
        memcpy(out + used + HEAD, name, l);
        used += size;
        pos += FIXED + l;
    }
    return (i64)used;
}

int64_t cn_dirents_out(struct cn_mm *mm, uint64_t addr, uint64_t count, const uint8_t *records, uint64_t len, uint64_t *at,
                       uint64_t *index)
{
    u64 end = *at, n = 0;

    while (end < len && record_len(records + end) <= count - (end - *at)) {
        end += record_len(records + end);
        n++;
    }
    if (end == *at)
        return end < len ? -EINVAL : 0;
    if (cn_mm_copy_out(mm, addr, records + *at, end - *at) < 0)
        return -EFAULT;
    n += *index;
    *index = n;
    count = end - *at;
    *at = end;
    return (i64)count;
}

uint64_t cn_dirents_seek(const uint8_t *records, uint64_t len, uint64_t index)
{
    u64 at = 0;

    for (; index && at < len; index--)
        at += record_len(records + at);
    return at;
}

int64_t cn_dirents_last(const uint8_t *in, uint64_t len)
{
    u64 pos = 0, l;
    i64 off = -EPROTO;

    while (pos < len) {
        if (len - pos < FIXED)
            return -EPROTO;
        l = in[pos + FIXED - 2] | (u64)in[pos + FIXED - 1] << 8;
        if (l > len - pos - FIXED)
            return -EPROTO;
        off = (i64)(word(in + pos + CN_GF_ATTR) & INT64_MAX);
        pos += FIXED + l;
    }
    return off;
}

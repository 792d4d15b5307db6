/* Prepares the guest's vDSO image. See vdso.h. */
#define _GNU_SOURCE
#include "vdso.h"

#include <pthread.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>

#include "../platform.h"

/* Made by the build from native/vdso/image. */
extern const u8 cn_vdso_elf[];
extern const u64 cn_vdso_elf_len;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static u8 *image;
static struct cn_platform *made_for;

static u64 host(const char *name)
{
    return cn_ops->vdso_symbol(cn_plat, name);
}

static u32 getcpu_at;

static int fill(u8 *bytes, u64 len)
{
    struct vdso_data data = {
        .magic = VDSO_MAGIC,
        .clock_gettime = host("__vdso_clock_gettime"),
        .gettimeofday = host("__vdso_gettimeofday"),
        .time = host("__vdso_time"),
        .clock_getres = host("__vdso_clock_getres"),
        .getcpu = host("__vdso_getcpu"),
    };
    for (u64 off = 0; off + sizeof(data) <= len; off += 8)
        if (!memcmp(bytes + off, &data.magic, sizeof(data.magic))) {
            memcpy(bytes + off, &data, sizeof(data));
            getcpu_at = (u32)(off + offsetof(struct vdso_data, getcpu));
            return 0;
        }
    return -1;
}

uint32_t cn_vdso_getcpu(void)
{
    return getcpu_at;
}

const uint8_t *cn_vdso_image(uint64_t *len)
{
    u64 size = (cn_vdso_elf_len + CN_PAGE_SIZE - 1) & CN_PAGE_MASK;
    const u8 *ret = NULL;

    if (!cn_plat)
        return NULL;
    pthread_mutex_lock(&lock);
    if (!image) {
        u8 *fresh = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (fresh == MAP_FAILED)
            goto out;
        memcpy(fresh, cn_vdso_elf, cn_vdso_elf_len);
        image = fresh;
    }
    if (made_for != cn_plat) {
        if (fill(image, cn_vdso_elf_len) < 0)
            goto out;
        made_for = cn_plat;
    }
    ret = image;
    *len = size;
out:
    pthread_mutex_unlock(&lock);
    return ret;
}

/* Extended state: sizes by CPUID leaf 0xD, checks as the kernel's (Intel SDM vol. 1, 13.4
 * and 13.8.1). */
#include "xstate.h"

#include <cpuid.h>
#include <errno.h>
#include <string.h>

#include "../platform.h"

#define LEGACY CN_XSTATE_LEGACY
#define HEADER CN_XSTATE_HEADER
#define X87_SSE 3UL
/* Tile data needs a permission (arch_prctl ARCH_REQ_XCOMP_PERM) that stubs never ask for; with it
 * goes the tile configuration. */
#define AMX (1UL << 17 | 1UL << 18)
#define OFF_FCW 0
#define OFF_MXCSR 24
#define OFF_MXCSR_MASK 28
#define OFF_RESERVED 464
#define OFF_BV LEGACY

static u64 xcr0(void)
{
    u32 a, d;
    __asm__ volatile("xgetbv" : "=a"(a), "=d"(d) : "c"(0));
    return (u64)d << 32 | a;
}

static int has_xsave(void)
{
    u32 a, b, c, d;
    return __get_cpuid(1, &a, &b, &c, &d) && c & bit_OSXSAVE;
}

static u32 size_of(u64 features)
{
    u32 size = LEGACY + HEADER;
    for (u32 i = 2; i < 63; i++) {
        u32 a, b, c, d;
        if (!(features >> i & 1) || !__get_cpuid_count(0xd, i, &a, &b, &c, &d))
            continue;
        if (b + a > size)
            size = b + a;
    }
    return (size + 7) & ~7U;
}

uint64_t cn_xstate_features(void)
{
    static u64 features;
    if (!features)
        features = has_xsave() ? xcr0() & ~AMX : X87_SSE;
    return features;
}

uint32_t cn_xstate_size(void)
{
    static u32 size;
    if (!size)
        size = size_of(cn_xstate_features());
    return size;
}

u32 cn_xstate_host_size(void)
{
    static u32 size;
    if (!size)
        size = size_of(has_xsave() ? xcr0() : X87_SSE);
    return size;
}

static u32 mxcsr_mask(void)
{
    static u32 mask;
    if (!mask) {
        __attribute__((aligned(16))) u8 area[LEGACY] = {0};
        __asm__ volatile("fxsave %0" : "+m"(area));
        memcpy(&mask, area + OFF_MXCSR_MASK, 4);
        if (!mask)
            mask = 0xffbf; /* SDM 11.6.6 */
    }
    return mask;
}

void cn_xstate_initial(void *image, u32 len)
{
    u16 fcw = 0x37f;
    u32 mxcsr = 0x1f80, mask = mxcsr_mask();
    u8 *out = image;

    memset(out, 0, len);
    memcpy(out + OFF_FCW, &fcw, sizeof(fcw));
    memcpy(out + OFF_MXCSR, &mxcsr, sizeof(mxcsr));
    memcpy(out + OFF_MXCSR_MASK, &mask, sizeof(mask));
}

int cn_xstate_export(const void *image, void *buf, u32 len)
{
    u32 n = cn_xstate_size();
    u8 *out = buf;
    u64 bv;

    if (len < LEGACY)
        return -EINVAL;
    if (len < n)
        n = LEGACY;
    memcpy(out, image, n);
    memset(out + OFF_RESERVED, 0, LEGACY - OFF_RESERVED);
    if (n > LEGACY) {
        memcpy(&bv, out + OFF_BV, 8);
        bv &= cn_xstate_features();
        memcpy(out + OFF_BV, &bv, 8);
        memset(out + OFF_BV + 8, 0, HEADER - 8);
    }
    return (int)n;
}

int cn_xstate_import(const void *buf, u32 len, void *image, u32 size)
{
    u64 header[HEADER / 8] = {X87_SSE};
    u32 mxcsr, n = LEGACY;
    u8 *out = image;

    if (len < LEGACY)
        return -EINVAL;
    if (len >= cn_xstate_size()) {
        n = cn_xstate_size();
        memcpy(header, (const u8 *)buf + OFF_BV, HEADER);
    }
    memcpy(&mxcsr, (const u8 *)buf + OFF_MXCSR, 4);
    if (mxcsr & ~mxcsr_mask() || header[0] & ~cn_xstate_features())
        return -EINVAL;
    for (int i = 1; i < HEADER / 8; i++)
        if (header[i])
            return -EINVAL;
    memcpy(out, buf, n);
    memset(out + n, 0, size - n);
    memset(out + OFF_RESERVED, 0, LEGACY - OFF_RESERVED);
    memcpy(out + OFF_BV, header, HEADER);
    return 0;
}

/*
 * Call sites that can be patched. See sites.h.
 *
 * One instruction is replaced, so that a thread finds either it or the jump; those between it and
 * the system call instruction stay for threads that are in there, and are done by the trampoline as
 * well. They are of a kind that means the same there: nothing relative to rip, no branches, and no
 * memory but the stack, so that a fault is not seen at an address of ours.
 */
#include "sites.h"

#include <string.h>

#define CALL 2 /* bytes of a system call instruction */
#define ALIGN 16
#define SHORT_MAX 127 /* how far a short jump reaches */

/* The operands of an instruction whose ModRM byte is at p: bytes, if they are registers, or on the
 * stack (stack), or a mere address (lea); else 0. */
static u32 operands(const u8 *p, int stack, int lea)
{
    u32 mod = p[0] >> 6, rm = p[0] & 7;
    static const u32 disp[] = {0, 1, 4};

    if (mod == 3)
        return lea ? 0 : 1;
    if (rm == 4)
        return (stack && p[1] == 0x24) || lea ? 2 + (mod || (p[1] & 7) != 5 ? disp[mod] : 4) : 0;
    return lea && !(mod == 0 && rm == 5) ? 1 + disp[mod] : 0;
}

/* Bytes of the instruction at p if a trampoline can do it, else 0. Looks at four bytes at most. */
static u32 movable(const u8 *p)
{
    u32 rex = (p[0] & 0xf0) == 0x40, n;
    u8 op;

    p += rex;
    op = p[0];
    if (op >> 3 == 0xb8 >> 3) /* mov $imm32, reg */
        return rex && p[-1] & 8 ? 0 : rex + 5;
    switch (op) {
    case 0x89: /* mov */
    case 0x8b:
        n = operands(p + 1, 1, 0);
        return n ? rex + 1 + n : 0;
    case 0x8d: /* lea */
        n = operands(p + 1, 0, 1);
        return n ? rex + 1 + n : 0;
    case 0x01: /* add, or, and, sub, xor, cmp, movslq, test */
    case 0x09:
    case 0x21:
    case 0x29:
    case 0x31:
    case 0x39:
    case 0x63:
    case 0x85:
        return operands(p + 1, 0, 0) ? rex + 2 : 0;
    case 0x80: /* add to cmp, shifts: an immediate byte */
    case 0x83:
    case 0xc1:
        return operands(p + 1, 0, 0) ? rex + 3 : 0;
    case 0x81: /* ... or four */
    case 0xc7: /* mov */
        return operands(p + 1, 0, 0) && (op == 0x81 || (p[1] & 0x38) == 0) ? rex + 6 : 0;
    case 0x0f: /* cmovcc */
        return p[1] >> 4 == 4 && operands(p + 2, 0, 0) ? rex + 3 : 0;
    default:
        return 0;
    }
}

/* `mov $nr, %eax` and movable instructions up to the system call. */
static int is_numbered(const u8 *page, u32 call, u64 nr, struct site *s)
{
    for (u32 len = SITE_JUMP; len <= SITE_MOVES && len < call; len++) {
        u32 at = call - len, next = at + SITE_JUMP, imm, n;
        if (page[at] != 0xb8 || (page[at - 1] & 0xf0) == 0x40)
            continue; /* 0x41 before it: of %r8d */
        memcpy(&imm, page + at + 1, 4);
        while (imm == nr && next < call && (n = movable(page + next)))
            next += n;
        if (imm != nr || next != call)
            continue;
        *s = (struct site){at, len, at};
        return 1;
    }
    return 0;
}

/* One instruction of five bytes or more: the load of an argument from the stack, as in syscall(3)
 * and Go, or `mov $nr, %rax`, as in signal restorers. */
static int is_long(const u8 *page, u32 call, u64 nr, struct site *s)
{
    static const u8 mov_rax[] = {0x48, 0xc7, 0xc0};
    const u8 *load = page + (call < 5 ? 0 : call - 5);
    u32 imm, len = 0;

    if (call >= 7 && !memcmp(page + call - 7, mov_rax, 3)) {
        memcpy(&imm, page + call - 4, 4);
        len = imm == nr ? 7 : 0;
    } else if (call >= 5 && (load[0] & 0xfb) == 0x48 && load[1] == 0x8b &&
               (load[2] & 0xc7) == 0x44 && load[3] == 0x24) {
        len = 5; /* mov disp8(%rsp), reg */
    }
    *s = (struct site){call - len, len, call - len};
    return len != 0;
}

/* May some branch lead to this byte of the page? As far as branches of the page show: at any offset
 * that could be one, so rather too many are seen. */
static int is_target(const u8 *page, u32 at)
{
    for (u32 i = 0; i + 1 < CN_PAGE_SIZE; i++) {
        u8 op = page[i];
        i32 rel;
        if ((op >> 4 == 7 || op == 0xeb || (op & 0xfc) == 0xe0) &&
            i + 2 + (u32)(signed char)page[i + 1] == at)
            return 1;
        if (i + 4 > CN_PAGE_SIZE)
            continue;
        memcpy(&rel, page + i, 4);
        if (i + 4 + (u32)rel == at)
            return 1;
    }
    return 0;
}

/* Bytes of the long NOP at p, else 0. */
static u32 nop(const u8 *p)
{
    static const u8 modrm[] = {0x00, 0x40, 0x44, 0x80, 0x84}, bytes[] = {3, 4, 5, 7, 8};
    u32 prefixes = 0;

    while (prefixes < 10 && (p[prefixes] == 0x66 || p[prefixes] == 0x2e))
        prefixes++;
    p += prefixes;
    if (p[0] == 0x90)
        return prefixes + 1;
    for (u32 i = 0; p[0] == 0x0f && p[1] == 0x1f && i < sizeof(modrm); i++)
        if (p[2] == modrm[i])
            return prefixes + bytes[i];
    return 0;
}

/* What assemblers fill up to an aligned address with, from `at`, has room for a jump, and nothing
 * seems to lead there. */
static int is_padding(const u8 *page, u32 at)
{
    u32 end = at, n;

    if (at >= CN_PAGE_SIZE)
        return 0;
    if (page[at] == 0xcc)
        while (end < CN_PAGE_SIZE && page[end] == 0xcc && (end % ALIGN || end == at))
            end++;
    else
        while (end + 24 <= CN_PAGE_SIZE && (end % ALIGN || end == at) && (n = nop(page + end)))
            end += n;
    return end % ALIGN == 0 && end - at >= SITE_JUMP && !is_target(page, at);
}

/* Where what follows a system call returns and is padded; 0: nowhere known. Nothing runs padding
 * behind a `ret`. */
static u32 find_padding(const u8 *page, u32 rip)
{
    static const u8 compare[] = {0x48, 0x3d}, errors[] = {0xf0, 0xff, 0xff};
    u32 i;

    if (rip + 12 > CN_PAGE_SIZE)
        return 0;
    if (page[rip] == 0xc3) /* musl */
        return is_padding(page, rip + 1) ? rip + 1 : 0;
    if (memcmp(page + rip, compare, 2) || page[rip + 2] > 1 || memcmp(page + rip + 3, errors, 3))
        return 0;
    if (page[rip + 6] == 0x77 && page[rip + 8] == 0xc3 && is_padding(page, rip + 9))
        return rip + 9; /* glibc: ja ...; ret */
    for (i = rip + 6; i + 1 < CN_PAGE_SIZE && i < rip + SHORT_MAX - SITE_JUMP; i++)
        if (page[i] == 0xc3 && page[i + 1] == 0xcc && is_padding(page, i + 1))
            return i + 1; /* Go */
    return 0;
}

/* A short instruction: `xor %eax, %eax`, which is read's number, or a move between registers, and
 * padding near by. */
static int is_short(const u8 *page, u32 call, u64 nr, struct site *s)
{
    u32 len = 0, pad;

    if (call >= 3 && page[call - 2] == 0x89 && page[call - 1] >= 0xc0 &&
        (page[call - 3] & 0xf8) == 0x48)
        len = 3;
    else if (call >= 2 && page[call - 2] == 0x31 && page[call - 1] == 0xc0 && nr == 0)
        len = 2;
    pad = len ? find_padding(page, call + CALL) : 0;
    *s = (struct site){call - len, len, pad};
    return pad != 0;
}

int site_find(const u8 *page, u32 rip, u64 nr, struct site *s)
{
    u32 call = rip - CALL;

    if (rip < CALL || rip > CN_PAGE_SIZE || page[call] != 0x0f || page[call + 1] != 0x05)
        return 0;
    return is_numbered(page, call, nr, s) || is_long(page, call, nr, s) ||
           is_short(page, call, nr, s);
}

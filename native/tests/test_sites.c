/* Which code around a system call instruction is taken for a site that can be patched. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../mm/sites.h"
#include "check.h"

#define CODE(...) (const u8[]){__VA_ARGS__}, sizeof((const u8[]){__VA_ARGS__})
#define SYSCALL 0x0f, 0x05
#define CALLED 0x0f, 0x05, 0xc3

static u8 page[CN_PAGE_SIZE];

/* Puts code into a page of `hlt` so that it begins at `at`; rip: behind its system call instruction.
 */
static int find(const u8 *code, size_t n, u32 at, u64 nr, struct site *s)
{
    u32 rip = 0;

    memset(page, 0xf4, sizeof(page));
    memcpy(page + at, code, n);
    for (u32 i = 0; i + 1 < n && !rip; i++)
        if (code[i] == 0x0f && code[i + 1] == 0x05)
            rip = at + i + 2;
    return site_find(page, rip, nr, s);
}

static void is_site(const u8 *code, size_t n, u32 at, u64 nr, u32 first, u32 len, u32 jump)
{
    struct site s;

    CHECK(find(code, n, at, nr, &s) == 1);
    CHECK(s.at == first && s.len == len && s.jump == jump);
}

static void is_none(const u8 *code, size_t n, u32 at, u64 nr)
{
    struct site s;

    CHECK(find(code, n, at, nr, &s) == 0);
}

static void test_numbered(void)
{
    is_site(CODE(0xb8, 39, 0, 0, 0, CALLED), 64, 39, 64, 5, 64);
    is_none(CODE(0xb8, 39, 0, 0, 0, CALLED), 64, 40);       /* another number */
    is_none(CODE(0x41, 0xb8, 39, 0, 0, 0, CALLED), 64, 39); /* of %r8d */
    /* mov %rbp,%rdi; xor %esi,%esi; mov $1,%edx; mov 8(%rsp),%r10 between */
    is_site(CODE(0xb8, 5, 0, 0, 0, 0x48, 0x89, 0xef, 0x31, 0xf6, 0xba, 1, 0, 0, 0, 0x4c, 0x8b, 0x54,
                 0x24, 8, CALLED),
            64, 5, 64, 20, 64);
    is_none(CODE(0xb8, 5, 0, 0, 0, 0x48, 0x8b, 0x3b, CALLED), 64,
            5); /* mov (%rbx),%rdi may fault */
    is_none(CODE(0xb8, 5, 0, 0, 0, 0x48, 0x8d, 0x3d, 1, 0, 0, 0, CALLED), 64,
            5);                                              /* lea 1(%rip),%rdi */
    is_none(CODE(0xb8, 5, 0, 0, 0, 0x74, 0, CALLED), 64, 5); /* je */
    is_site(CODE(0xb8, 5, 0, 0, 0, 0x48, 0x8d, 0xb3, 1, 0, 0, 0, CALLED), 64, 5, 64, 12,
            64); /* lea 1(%rbx),%rsi */
    is_site(CODE(0xb8, 5, 0, 0, 0, 0x8d, 0x3c, 0xfd, 2, 0, 0, 0, CALLED), 64, 5, 64, 12,
            64); /* lea 2(,%rdi,8),%edi */
    is_none(CODE(0xb8, 5, 0, 0, 0, 0x48, 0xbf, 1, 0, 0, 0, CALLED), 64, 5); /* half a movabs */
}

static void test_long(void)
{
    is_site(CODE(0x4c, 0x8b, 0x4c, 0x24, 8, SYSCALL), 64, 1, 64, 5, 64);
    is_site(CODE(0x48, 0x8b, 0x44, 0x24, 8, SYSCALL), 64, 1, 64, 5, 64);
    is_none(CODE(0x48, 0x8b, 0x45, 0x24, 8, SYSCALL), 64, 1);
    is_site(CODE(0x48, 0xc7, 0xc0, 15, 0, 0, 0, SYSCALL), 64, 15, 64, 7, 64);
    is_none(CODE(0x48, 0xc7, 0xc0, 15, 0, 0, 0, SYSCALL), 64, 16);
}

static void test_short(void)
{
    /* mov %rcx,%rdx; syscall; ret; a NOP of 6 bytes to an aligned address */
    is_site(CODE(0x48, 0x89, 0xca, CALLED, 0x66, 0x0f, 0x1f, 0x44, 0, 0), 68, 1, 68, 3, 74);
    is_none(CODE(0x48, 0x89, 0xca, CALLED, 0x66, 0x0f, 0x1f, 0x44, 0, 0), 67, 1);
    is_none(CODE(0x48, 0x89, 0xca, CALLED, 0x90, 0x90, 0x90, 0x90), 70, 1);       /* room for 4 */
    is_none(CODE(0x48, 0x89, 0x0a, CALLED, 0x66, 0x0f, 0x1f, 0x44, 0, 0), 68, 1); /* to memory */
    is_none(CODE(0x48, 0x89, 0xca, CALLED, 0x66, 0x0f, 0x1f, 0x44, 0, 0, 0xeb, 0xf8), 68,
            1); /* a branch leads there */
    /* Go's: compare, two ends, int3 up to an aligned address */
    is_site(CODE(0x48, 0x89, 0xdf, SYSCALL, 0x48, 0x3d, 1, 0xf0, 0xff, 0xff, 0x76, 1, 0xc3, 0xc3,
                 0xcc, 0xcc, 0xcc, 0xcc, 0xcc),
            76, 1, 76, 3, 91);
    is_none(CODE(0x48, 0x89, 0xdf, SYSCALL, 0x48, 0x3d, 1, 0xf0, 0xff, 0xff, 0x76, 1, 0xc3, 0xc3,
                 0xcc, 0xcc, 0xcc, 0xcc),
            77, 1);
}

/* Any bytes, anywhere: nothing outside of the page is read (ASan) or named. */
static void test_any_bytes(void)
{
    static const u8 likely[] = {0x0f, 0x05, 0xb8, 0xc3, 0xcc, 0x48, 0x89, 0x3d,
                                1,    0xf0, 0xff, 0x66, 0x1f, 0x44, 0x24, 0x8b};
    u8 *heap = malloc(CN_PAGE_SIZE);
    struct site s;

    srandom(5);
    for (int i = 0; i < 20000; i++) {
        u32 rip = (u32)random() % (CN_PAGE_SIZE + 2), near = i % 2 ? 64 : CN_PAGE_SIZE;
        for (u32 k = rip > near ? rip - near : 0; k < CN_PAGE_SIZE && k < rip + near; k++)
            heap[k] = likely[random() % (long)sizeof(likely)];
        if (i % 4 < 2) { /* at an end of the page */
            rip = i % 4 ? CN_PAGE_SIZE - (u32)random() % 8 : (u32)random() % 8;
            if (rip >= 2 && rip <= CN_PAGE_SIZE)
                memcpy(heap + rip - 2, "\x0f\x05", 2);
        }
        if (!site_find(heap, rip, (u64)random() % 2, &s))
            continue;
        CHECK(s.len >= 2 && s.len <= SITE_MOVES && s.at + s.len + 2 == rip);
        CHECK(s.jump + SITE_JUMP <= CN_PAGE_SIZE && (s.jump == s.at || s.jump >= rip));
    }
    free(heap);
}

int main(void)
{
    test_numbered();
    test_long();
    test_short();
    test_any_bytes();
    puts("ok sites");
    return 0;
}

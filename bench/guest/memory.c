/* Address space operations, page faults, bandwidth. */
#define _GNU_SOURCE
#include "guest.h"

#include <string.h>
#include <sys/mman.h>

enum { PAGE = 4096, MIB = 1 << 20, FAULT_AREA = 64 << 20, COPIED = 64 << 20 };

static char *area, *other;
static long at;

static char *map(long size)
{
    char *p = mmap(NULL, (size_t)size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    must(p == MAP_FAILED ? -1 : 0, "mmap");
    return p;
}

static void mmap_1m(void)
{
    char *p = map(MIB);

    for (long i = 0; i < MIB; i += PAGE)
        p[i] = 1;
    must(munmap(p, MIB), "munmap");
}

static void map_pages(void) { area = map(16 * PAGE); memset(area, 1, 16 * PAGE); }
static void unmap_pages(void) { munmap(area, 16 * PAGE); }

static void mprotect_2(void)
{
    must(mprotect(area, PAGE, PROT_READ), "mprotect");
    must(mprotect(area, PAGE, PROT_READ | PROT_WRITE), "mprotect");
}

static void map_faults(void)
{
    area = map(FAULT_AREA);
    madvise(area, FAULT_AREA, MADV_NOHUGEPAGE);
    at = 0;
}

static void page_fault(void)
{
    if (at == FAULT_AREA) {
        munmap(area, FAULT_AREA);
        map_faults();
    }
    area[at] = 1;
    at += PAGE;
}

static void unmap_faults(void) { munmap(area, FAULT_AREA); }

static void map_copies(void)
{
    area = map(COPIED);
    other = map(COPIED);
    memset(area, 1, COPIED);
    memset(other, 1, COPIED);
}

static void mem_copy(void) { memcpy(other, area, COPIED); sink = other[5]; }
static void mem_fill(void) { memset(area, (int)sink, COPIED); sink = area[7] + 1; }
static void unmap_copies(void) { munmap(area, COPIED); munmap(other, COPIED); }

const struct bench memory[] = {
    {"mmap_1m", mmap_1m, 0, 0, 1, 0},
    {"mprotect_2", mprotect_2, map_pages, unmap_pages, 1, 0},
    {"page_fault", page_fault, map_faults, unmap_faults, 1, 0},
    {"mem_copy", mem_copy, map_copies, unmap_copies, 1, 0},
    {"mem_fill", mem_fill, map_copies, unmap_copies, 1, 0},
    {0},
};

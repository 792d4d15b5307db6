/*
 * A platform for the memory manager's tests: an address space is a region of the test process, into
 * which the queued operations are really mapped. Guest accesses are plain loads and stores with
 * faults taken as a platform would.
 */
#ifndef CORDON_TEST_MM_FAKE_H
#define CORDON_TEST_MM_FAKE_H

#include "../mm/mm.h"
#include "../platform.h"

#define ARENA      0x10000000UL
#define ARENA_SIZE (256UL << 20)
#define ARENA_END  (ARENA + ARENA_SIZE)

extern u64 fake_ops_made; /* host operations executed so far */
extern int fake_guess;    /* report accesses as the ptrace platform does */

/* Installs the platform and starts a memory file (memfd). */
void fake_start(void);
/* 0, or what cn_mm_fault said, or -ENXIO for SIGBUS. */
int guest_read(struct cn_mm *mm, u64 addr, void *buf, u64 n);
int guest_write(struct cn_mm *mm, u64 addr, const void *buf, u64 n);
void fake_flush(struct cn_as *as);

#define CHECK(cond)                                                                                \
    do {                                                                                           \
        if (!(cond))                                                                               \
            check_failed(__FILE__, __LINE__, #cond);                                               \
    } while (0)
void check_failed(const char *file, int line, const char *what) __attribute__((noreturn));

#endif

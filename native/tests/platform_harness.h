/*
 * Harness of the platform conformance programs (test_stops.c, test_spaces.c): a memory file, guests
 * of a few instructions assembled into the program, and a main that runs the tests named on the
 * command line.
 *
 * Usage: PROGRAM PLATFORM [TEST...]; prints "ok NAME" for each, and "ok no stub left" at the end.
 */
#ifndef CORDON_PLATFORM_HARNESS_H
#define CORDON_PLATFORM_HARNESS_H

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "../platform.h"
#include "../ptrace/ptrace.h"
#include "../run/place.h"
#include "check.h"

#define CODE 0x400000UL
#define DATA 0x10000000UL
#define PAGES 4096UL /* of the memory file */
#define OFF_CODE 0x1000UL
#define OFF_DATA 0x100000UL

#define EQ(a, b)                                                                          \
    do {                                                                                  \
        u64 a_ = (u64)(a), b_ = (u64)(b);                                                 \
        if (a_ != b_) {                                                                   \
            fprintf(stderr, "%s:%d: %s: %s is %#lx, not %s (%#lx)\n", __FILE__, __LINE__, \
                    __func__, #a, a_, #b, b_);                                            \
            exit(1);                                                                      \
        }                                                                                 \
    } while (0)

static u8 *mem; /* the memory file */
static int memfd;

/* Guest code. */
#define GUEST(name, code)                                                                       \
    extern const u8 g_##name[], g_##name##_end[];                                               \
    __asm__(".pushsection .rodata\n.globl g_" #name "\ng_" #name ":\n" code "\n.globl g_" #name \
            "_end\ng_" #name "_end:\n.popsection\n")

GUEST(syscall_loop, "1: syscall; jmp 1b");
GUEST(spin, "1: incq (%rdi); jmp 1b");
GUEST(load, "mov (%rdi), %rax; syscall");

static struct cn_as *new_as(void)
{
    struct cn_as *as;
    EQ(cn_ops->as_new(cn_plat, &as), 0);
    return as;
}

static void map(struct cn_as *as, u64 addr, u64 len, u32 prot, u64 off)
{
    struct cn_hostop op = {
        .kind = CN_OP_MAP, .prot = prot, .addr = addr, .len = len, .shared = 1, .off = off};
    EQ(cn_ops->as_queue(as, &op), 0);
}

struct vm {
    struct cn_as *as;
    struct cn_ctx *ctx;
    struct cn_regs regs;
    struct cn_stop stop;
};

#define START(vm, name) start(vm, g_##name, (u64)(g_##name##_end - g_##name))
static void start(struct vm *vm, const u8 *code, u64 len)
{
    memset(vm, 0, sizeof(*vm));
    memset(mem + OFF_CODE, 0xcc, 4096);
    memcpy(mem + OFF_CODE, code, len);
    memset(mem + OFF_DATA, 0, 16 * 4096);
    vm->as = new_as();
    EQ(cn_ops->ctx_new(vm->as, &vm->ctx), 0);
    map(vm->as, CODE, 4096, PROT_READ | PROT_EXEC, OFF_CODE);
    map(vm->as, DATA, 16 * 4096, PROT_READ | PROT_WRITE, OFF_DATA);
    vm->regs.rip = CODE;
    vm->regs.rsp = DATA + 16 * 4096 - 64;
    vm->regs.rdi = DATA;
}

static int go(struct vm *vm)
{
    EQ(cn_ops->ctx_switch(vm->ctx, &vm->regs, &vm->stop), 0);
    if (vm->stop.brief)
        cn_ops->ctx_regs(vm->ctx, &vm->regs);
    return vm->stop.reason;
}

static void end(struct vm *vm)
{
    cn_ops->ctx_free(vm->ctx);
    cn_ops->as_free(vm->as);
}

/* A thread that interrupts another one. */
struct race {
    struct vm *vm;
    _Atomic u32 asked, seen;
    _Atomic u32 stop;
};

static void *ticker(void *arg)
{
    struct race *r = arg;
    while (!r->stop) {
        usleep(500);
        cn_ops->ctx_interrupt(r->vm->ctx);
    }
    return NULL;
}

struct test {
    const char *name;
    void (*run)(void);
};

static int harness_main(int argc, char **argv, const struct test *tests, unsigned n,
                        void (*bench)(void))
{
    if (argc < 2)
        return 2;
    memfd = memfd_create("memory", MFD_CLOEXEC);
    CHECK(memfd >= 0 && ftruncate(memfd, PAGES * 4096 * 2) == 0);
    mem = mmap(NULL, PAGES * 4096 * 2, PROT_READ | PROT_WRITE, MAP_SHARED, memfd, 0);
    CHECK(mem != MAP_FAILED);
    int rc = cn_platform_start(argv[1], memfd);
    if (rc < 0) {
        fprintf(stderr, "cannot start platform %s: %s\n", argv[1], strerror(-rc));
        return 1;
    }
    if (argc > 2 && !strcmp(argv[2], "bench") && bench) {
        cn_place_enter();
        bench();
        cn_place_leave();
        n = 0;
    }
    for (unsigned i = 0; i < n; i++) {
        int wanted = argc == 2;
        for (int j = 2; j < argc; j++)
            wanted |= !strcmp(argv[j], tests[i].name);
        if (!wanted)
            continue;
        tests[i].run();
        printf("ok %s\n", tests[i].name);
        fflush(stdout);
    }
    cn_platform_stop();
    EQ(waitpid(-1, NULL, __WALL), -1); /* nobody is left */
    EQ(errno, ECHILD);
    printf("ok no stub left\n");
    return 0;
}

#endif

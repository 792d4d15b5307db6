/*
 * Conformance of a platform with native/platform.h. Usage: test_platform PLATFORM [TEST...]; prints
 * "ok NAME" for each. Guest code is assembled into this program and copied into the memory file.
 */
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

#define CODE 0x400000UL
#define DATA 0x10000000UL
#define PAGES 4096UL /* of the memory file */
#define OFF_CODE 0x1000UL
#define OFF_DATA 0x100000UL

#define CHECK(cond)                                                                          \
    do {                                                                                     \
        if (!(cond)) {                                                                       \
            fprintf(stderr, "%s:%d: %s: failed: %s\n", __FILE__, __LINE__, __func__, #cond); \
            exit(1);                                                                         \
        }                                                                                    \
    } while (0)
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
GUEST(store, "mov %rax, (%rdi); syscall");
GUEST(rmw, "incq (%rdi); syscall");
GUEST(jump, "jmp *%rdi");
GUEST(int3, "int3; nop; syscall");
GUEST(ud2, "ud2");
GUEST(div0, "xor %edx, %edx; xor %ecx, %ecx; div %ecx");
GUEST(int80, "mov $20, %eax; int $0x80; syscall");
GUEST(sysenter, "mov $20, %eax; sysenter; syscall");
GUEST(far32, "push $0x23; push $(0x400000 + 64); lretq; .balign 64; nop; int $0x80; nop; hlt");
GUEST(nops, "nop; nop; nop; nop; syscall");
GUEST(hlt, "hlt");
GUEST(avx_store, "vmovdqu %ymm3, (%rdi); vpaddq %ymm3, %ymm3, %ymm3; syscall; jmp .-2");
GUEST(call_rax, "call *%rax; syscall");
GUEST(vsyscall_time, "mov $0xffffffffff600400, %rax; call *%rax; syscall");

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
    return vm->stop.reason;
}

static void end(struct vm *vm)
{
    cn_ops->ctx_free(vm->ctx);
    cn_ops->as_free(vm->as);
}

static void test_syscall(void)
{
    struct vm vm;
    START(&vm, syscall_loop);
    vm.regs.rax = 39;
    for (int i = 0; i < 100; i++) {
        EQ(go(&vm), CN_STOP_SYSCALL);
        EQ(vm.regs.orig_rax, i ? 1000 + i - 1 : 39);
        EQ(vm.regs.rip, CODE + 2);
        EQ(vm.regs.rdi, DATA);
        vm.regs.rax = 1000 + (u64)i;
    }
    /* Numbers are the guest's 64 bits, and values that look like restart codes mean nothing to the
     * host. */
    u64 odd[] = {(u64)-1, 0x40000000UL | 1, (u64)-512, (u64)-514, (u64)-516, 1UL << 63, 219, 15};
    for (unsigned i = 0; i < sizeof(odd) / sizeof(odd[0]); i++) {
        vm.regs.rax = odd[i];
        cn_ops->ctx_interrupt(vm.ctx);
        EQ(go(&vm), CN_STOP_INTERRUPTED);
        EQ(vm.regs.rax, odd[i]);
        EQ(vm.regs.rip, CODE + 2);
        EQ(go(&vm), CN_STOP_SYSCALL);
        EQ(vm.regs.orig_rax, odd[i]);
        EQ(vm.regs.rip, CODE + 2);
    }
    end(&vm);
}

static void test_registers(void)
{
    struct vm vm;
    START(&vm, syscall_loop);
    for (int round = 0; round < 3; round++) {
        struct cn_regs r =
                           {
                               .r15 = 0x1515151515151515,
                               .r14 = 0x14,
                               .r13 = ~0UL,
                               .r12 = 1UL << 63,
                               .rbp = 0x1234567812345678,
                               .rbx = 3,
                               .r11 = 11,
                               .r10 = 10,
                               .r9 = 9,
                               .r8 = 8,
                               .rax = 1,
                               .rcx = 2,
                               .rdx = 0xdddd,
                               .rsi = 0x5151,
                               .rdi = 0xd1d1,
                               .rip = CODE,
                               .cs = 0x33,
                               .ss = 0x2b,
                               .eflags = round == 1 ? 0xcd7 : 0x202,
                               .rsp = 0xdead0000beef,
                               .fs_base = 0x7f1234567000,
                               .gs_base = round ? 0x12345 : 0,
                           },
                       want;
        want = r;
        want.orig_rax = r.rax;
        vm.regs = r;
        EQ(go(&vm), CN_STOP_SYSCALL);
        want.rip = want.rcx = CODE + 2;
        want.rax = vm.regs.rax; /* not specified at a syscall stop */
        want.eflags |= 0x202;
        want.eflags &= ~0x100UL;
        EQ(vm.regs.r11 & ~0x10000UL, want.eflags);
        want.r11 = vm.regs.r11;
        want.eflags = vm.regs.eflags;
        CHECK(!memcmp(&want, &vm.regs, sizeof(want)));
    }
    end(&vm);
}

static void test_faults(void)
{
    struct vm vm;

    /* A read of nothing: reported as a read until proven otherwise. */
    START(&vm, load);
    vm.regs.rdi = 0x20000000;
    EQ(go(&vm), CN_STOP_FAULT);
    EQ(vm.stop.addr, 0x20000000);
    CHECK(vm.stop.access & CN_ACCESS_READ);
    map(vm.as, 0x20000000, 4096, PROT_READ, OFF_DATA + 4096);
    *(u64 *)(mem + OFF_DATA + 4096) = 4711;
    EQ(go(&vm), CN_STOP_SYSCALL);
    EQ(vm.regs.orig_rax, 4711);
    end(&vm);

    /* A write to a read-only page. */
    for (int rmw = 0; rmw < 2; rmw++) {
        if (rmw)
            START(&vm, rmw);
        else
            START(&vm, store);
        vm.regs.rax = 7;
        vm.regs.rdi = 0x20000008;
        map(vm.as, 0x20000000, 4096, PROT_READ, OFF_DATA + 4096);
        EQ(go(&vm), CN_STOP_FAULT);
        EQ(vm.stop.addr, 0x20000008);
        if (!(vm.stop.access & CN_ACCESS_WRITE)) {
            CHECK(vm.stop.access & CN_ACCESS_GUESS);
            EQ(go(&vm), CN_STOP_FAULT);
            EQ(vm.stop.access, CN_ACCESS_WRITE);
        }
        EQ(vm.regs.rip, CODE);
        struct cn_hostop op = {
            .kind = CN_OP_PROTECT, .prot = PROT_READ | PROT_WRITE, .addr = 0x20000000, .len = 4096};
        EQ(cn_ops->as_queue(vm.as, &op), 0);
        EQ(go(&vm), CN_STOP_SYSCALL);
        EQ(*(u64 *)(mem + OFF_DATA + 4096 + 8), rmw ? 1 : 7);
        end(&vm);
    }

    /* Instruction fetches. */
    START(&vm, jump);
    EQ(go(&vm), CN_STOP_FAULT); /* DATA is not executable */
    EQ(vm.stop.addr, DATA);
    EQ(vm.regs.rip, DATA);
    CHECK(vm.stop.access & CN_ACCESS_EXEC);
    vm.regs.rip = 0x7000;
    EQ(go(&vm), CN_STOP_FAULT);
    CHECK(vm.stop.access & CN_ACCESS_EXEC);
    EQ(vm.stop.addr, 0x7000);
    end(&vm);
}

static void test_exceptions(void)
{
    struct vm vm;
    START(&vm, int3);
    EQ(go(&vm), CN_STOP_EXCEPTION);
    EQ(vm.stop.signo, SIGTRAP);
    EQ(vm.stop.code, SI_KERNEL);
    EQ(vm.regs.rip, CODE + 1);
    EQ(go(&vm), CN_STOP_SYSCALL);
    end(&vm);

    START(&vm, ud2);
    EQ(go(&vm), CN_STOP_EXCEPTION);
    EQ(vm.stop.signo, SIGILL);
    EQ(vm.stop.code, ILL_ILLOPN);
    EQ(vm.stop.addr, CODE);
    EQ(vm.regs.rip, CODE);
    end(&vm);

    START(&vm, div0);
    EQ(go(&vm), CN_STOP_EXCEPTION);
    EQ(vm.stop.signo, SIGFPE);
    EQ(vm.stop.code, FPE_INTDIV);
    EQ(vm.stop.addr, CODE + 4);
    end(&vm);

    START(&vm, hlt);
    EQ(go(&vm), CN_STOP_EXCEPTION);
    EQ(vm.stop.signo, SIGSEGV);
    EQ(vm.stop.code, SI_KERNEL);
    end(&vm);

    START(&vm, load); /* non-canonical address */
    vm.regs.rdi = 0x800000000000;
    EQ(go(&vm), CN_STOP_EXCEPTION);
    EQ(vm.stop.signo, SIGSEGV);
    EQ(vm.stop.code, SI_KERNEL);
    end(&vm);

    START(&vm, load); /* alignment check */
    vm.regs.eflags = 0x40202;
    vm.regs.rdi = DATA + 1;
    EQ(go(&vm), CN_STOP_EXCEPTION);
    EQ(vm.stop.signo, SIGBUS);
    EQ(vm.stop.code, BUS_ADRALN);
    end(&vm);

    START(&vm, nops); /* single step */
    vm.regs.eflags = 0x302;
    for (u64 i = 1; i <= 3; i++) {
        EQ(go(&vm), CN_STOP_EXCEPTION);
        EQ(vm.stop.signo, SIGTRAP);
        EQ(vm.stop.code, TRAP_TRACE);
        EQ(vm.regs.rip, CODE + i);
        CHECK(vm.regs.eflags & 0x100);
    }
    vm.regs.eflags &= ~0x100UL;
    EQ(go(&vm), CN_STOP_SYSCALL);
    end(&vm);
}

/* 32-bit ways into the kernel: none works, none reaches the host. */
static void test_32bit(void)
{
    struct vm vm;
    START(&vm, int80);
    EQ(go(&vm), CN_STOP_EXCEPTION);
    EQ(vm.stop.signo, SIGSEGV);
    EQ(vm.stop.code, SI_KERNEL);
    EQ(vm.regs.rip, CODE + 5);
    EQ(vm.regs.rax, 20);
    vm.regs.rip += 2;
    EQ(go(&vm), CN_STOP_SYSCALL);
    end(&vm);

    START(&vm, sysenter);
    EQ(go(&vm), CN_STOP_EXCEPTION);
    EQ(vm.stop.signo, SIGSEGV);
    end(&vm);

    START(&vm, far32);
    EQ(go(&vm), CN_STOP_EXCEPTION);
    EQ(vm.stop.signo, SIGSEGV);
    end(&vm);
}

static void test_xstate(void)
{
    u32 size = cn_xstate_size();
    u8 *buf = calloc(1, size), *back = calloc(1, size);
    struct vm vm;
    u32 mxcsr = 0x1fa0;
    u64 header;

    START(&vm, avx_store);
    EQ(cn_ops->ctx_get_xstate(vm.ctx, buf, size), size);
    memcpy(buf + 24, &mxcsr, 4);
    header = 7;
    memcpy(buf + 512, &header, 8);
    for (int i = 0; i < 16; i++) {
        buf[160 + 3 * 16 + i] = (u8)(i + 1);   /* xmm3 */
        buf[576 + 3 * 16 + i] = (u8)(i + 101); /* upper half of ymm3 */
    }
    for (int live = 0; live < 2; live++) {
        vm.regs.rip = CODE;
        memset(mem + OFF_DATA, 0, 32);
        EQ(cn_ops->ctx_set_xstate(vm.ctx, buf, size), 0);
        EQ(cn_ops->ctx_get_xstate(vm.ctx, back, size), size);
        CHECK(!memcmp(buf + 160, back + 160, 256) && !memcmp(buf + 576, back + 576, 256));
        EQ(go(&vm), CN_STOP_SYSCALL);
        for (int i = 0; i < 16; i++) {
            EQ(mem[OFF_DATA + (u64)i], i + 1);
            EQ(mem[OFF_DATA + 16 + (u64)i], i + 101);
        }
        EQ(cn_ops->ctx_get_xstate(vm.ctx, back, size), size);
        EQ(*(u64 *)(back + 160 + 48), 2 * *(u64 *)(buf + 160 + 48));
        EQ(*(u32 *)(back + 24), mxcsr);
        EQ(*(u64 *)(back + 512) & ~cn_xstate_features(), 0);
    }
    /* Legacy form: clears the rest. */
    EQ(cn_ops->ctx_set_xstate(vm.ctx, buf, 512), 0);
    EQ(cn_ops->ctx_get_xstate(vm.ctx, back, size), size);
    EQ(back[576 + 48], 0);
    EQ(back[160 + 48], 1);
    /* Hostile forms. */
    mxcsr = 0xffff1f80;
    memcpy(buf + 24, &mxcsr, 4);
    EQ(cn_ops->ctx_set_xstate(vm.ctx, buf, size), -EINVAL);
    mxcsr = 0x1f80;
    memcpy(buf + 24, &mxcsr, 4);
    for (int bit = 0; bit < 64; bit++) {
        header = 1UL << bit;
        memcpy(buf + 512, &header, 8);
        EQ(cn_ops->ctx_set_xstate(vm.ctx, buf, size), header & cn_xstate_features() ? 0 : -EINVAL);
    }
    header = 7;
    memcpy(buf + 512, &header, 8);
    buf[520] = 1;
    EQ(cn_ops->ctx_set_xstate(vm.ctx, buf, size), -EINVAL);
    EQ(cn_ops->ctx_set_xstate(vm.ctx, buf, 511), -EINVAL);
    end(&vm);
    free(buf);
    free(back);
}

/* Interrupts: from another thread at any moment, each must end a switch that began before or after
 * it. */
struct race {
    struct vm *vm;
    _Atomic u32 asked, seen;
    _Atomic u32 stop;
};

static void *interrupter(void *arg)
{
    struct race *r = arg;
    u32 seed = 1;
    while (!r->stop) {
        for (volatile u32 i = (seed = seed * 1103515245 + 12345) >> 20; i; i--)
            ;
        r->asked++;
        cn_ops->ctx_interrupt(r->vm->ctx);
        while (r->seen != r->asked && !r->stop)
            sched_yield();
    }
    return NULL;
}

static void race(struct vm *vm, int rounds)
{
    struct race r = {.vm = vm};
    pthread_t t;
    CHECK(!pthread_create(&t, NULL, interrupter, &r));
    alarm(60);
    for (int n = 0; n < rounds;) {
        int reason = go(vm);
        CHECK(reason == CN_STOP_INTERRUPTED || reason == CN_STOP_SYSCALL);
        if (reason == CN_STOP_INTERRUPTED) {
            n++;
            r.seen = r.asked;
        }
    }
    alarm(0);
    r.stop = 1;
    pthread_join(t, NULL);
}

static void test_interrupt(void)
{
    struct vm vm;
    START(&vm, spin);
    cn_ops->ctx_interrupt(vm.ctx); /* before the first switch */
    EQ(go(&vm), CN_STOP_INTERRUPTED);
    race(&vm, 2000);
    CHECK(*(u64 *)(mem + OFF_DATA));
    end(&vm);
    START(&vm, syscall_loop);
    race(&vm, 2000);
    end(&vm);
}

/* Many threads in one address space. */
struct thread {
    struct vm vm;
    pthread_t t;
};

static void *thread_main(void *arg)
{
    struct thread *th = arg;
    for (u64 i = 0; i < 200; i++) {
        EQ(go(&th->vm), CN_STOP_SYSCALL);
        EQ(th->vm.regs.rdi, th->vm.regs.rbx);
        th->vm.regs.rax = i;
    }
    cn_ops->ctx_free(th->vm.ctx);
    return NULL;
}

static void test_threads(void)
{
    enum { N = 16 };
    static struct thread th[N];
    struct vm vm;
    START(&vm, syscall_loop);
    for (int pass = 0; pass < 2; pass++) {
        /* First while nobody owns the first context, then cloned off the caller's live one. */
        for (int i = 0; i < N; i++) {
            th[i].vm = vm;
            EQ(cn_ops->ctx_new(vm.as, &th[i].vm.ctx), 0);
            th[i].vm.regs.rdi = th[i].vm.regs.rbx = 0x1000UL + (u64)i;
        }
        for (int i = 0; i < N; i++)
            CHECK(!pthread_create(&th[i].t, NULL, thread_main, &th[i]));
        for (int i = 0; i < 100; i++)
            EQ(go(&vm), CN_STOP_SYSCALL);
        for (int i = 0; i < N; i++)
            pthread_join(th[i].t, NULL);
    }
    end(&vm);
}

/* A context freed and made again keeps the mappings; the last one may be freed first or last. */
static void test_recontext(void)
{
    struct vm vm;
    START(&vm, syscall_loop);
    for (int i = 0; i < 20; i++) {
        EQ(go(&vm), CN_STOP_SYSCALL);
        cn_ops->ctx_free(vm.ctx);
        EQ(cn_ops->ctx_new(vm.as, &vm.ctx), 0);
    }
    EQ(go(&vm), CN_STOP_SYSCALL);
    end(&vm);
}

static void test_batch(void)
{
    struct vm vm;
    START(&vm, load);
    for (u64 i = 0; i < 1000; i++) { /* alternating, so that nothing merges */
        *(u64 *)(mem + OFF_DATA + 0x10000 + i * 4096) = i ^ 0x55;
        map(vm.as, 0x30000000 + i * 8192, 4096, PROT_READ, OFF_DATA + 0x10000 + i * 4096);
    }
    for (u64 i = 0; i < 1000; i += 37) {
        vm.regs.rip = CODE;
        vm.regs.rdi = 0x30000000 + i * 8192;
        EQ(go(&vm), CN_STOP_SYSCALL);
        EQ(vm.regs.orig_rax, i ^ 0x55);
    }
    struct cn_hostop op = {.kind = CN_OP_UNMAP, .addr = 0x30000000, .len = 1000 * 8192};
    EQ(cn_ops->as_queue(vm.as, &op), 0);
    vm.regs.rip = CODE;
    EQ(go(&vm), CN_STOP_FAULT);
    /* Contiguous ones merge; the result is the same. */
    for (u64 i = 0; i < 1000; i++)
        map(vm.as, 0x30000000 + i * 4096, 4096, PROT_READ, OFF_DATA + 0x10000 + i * 4096);
    vm.regs.rdi = 0x30000000 + 777 * 4096;
    EQ(go(&vm), CN_STOP_SYSCALL);
    EQ(vm.regs.orig_rax, 777 ^ 0x55);
    /* What must be refused. */
    struct cn_hostop bad[] = {
        {.kind = CN_OP_MAP, .addr = CN_TASK_SIZE, .len = 4096, .prot = PROT_READ, .shared = 1},
        {.kind = CN_OP_MAP,
         .addr = CN_TASK_SIZE - 4096,
         .len = 8192,
         .prot = PROT_READ,
         .shared = 1},
        {.kind = CN_OP_UNMAP, .addr = 0x7fff10000000, .len = 4096},
        {.kind = CN_OP_PROTECT,
         .addr = 0x7fff20000000,
         .len = 4096,
         .prot = PROT_READ | PROT_WRITE},
        {.kind = CN_OP_UNMAP, .addr = 4096, .len = ~0UL & ~4095UL},
        {.kind = CN_OP_UNMAP, .addr = 4096, .len = 0},
        {.kind = CN_OP_UNMAP, .addr = 4095, .len = 4096},
        {.kind = CN_OP_MAP, .addr = 0x10000, .len = 4096, .prot = PROT_READ, .shared = 1, .fd = 1},
        {.kind = CN_OP_MAP, .addr = 0x10000, .len = 4096, .prot = PROT_READ, .shared = 1, .fd = 2},
        {.kind = CN_OP_MAP, .addr = 0x10000, .len = 4096, .prot = 0x100, .shared = 1},
    };
    for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        CHECK(cn_ops->as_queue(vm.as, &bad[i]) < 0);
    vm.regs.rip = CODE;
    EQ(go(&vm), CN_STOP_SYSCALL);
    /* A host call that fails is reported, and the address space runs no more. */
    struct cn_hostop fails = {
        .kind = CN_OP_MAP, .addr = 0x10000, .len = 4096, .prot = PROT_READ, .fd = 999};
    EQ(cn_ops->as_queue(vm.as, &fails), 0);
    EQ(cn_ops->ctx_switch(vm.ctx, &vm.regs, &vm.stop), -EBADF);
    EQ(cn_ops->ctx_switch(vm.ctx, &vm.regs, &vm.stop), -EBADF);
    end(&vm);
}

/* as_sync by a stranger while a context runs in the guest. */
static void *sync_main(void *arg)
{
    struct vm *vm = arg;
    volatile u64 *counter = (u64 *)(mem + OFF_DATA), *other = (u64 *)(mem + OFF_DATA + 0x8000);
    for (int i = 0; i < 200; i++) {
        u64 before = *counter + *other;
        while (*counter + *other == before) /* it runs */
            sched_yield();
        map(vm->as, DATA, 4096, PROT_READ | PROT_WRITE, i & 1 ? OFF_DATA : OFF_DATA + 0x8000);
        EQ(cn_ops->as_sync(vm->as), 0);
        before = i & 1 ? *other : *counter;
        for (volatile int j = 0; j < 20000; j++)
            ;
        EQ(i & 1 ? *other : *counter, before); /* the old page is no longer written */
    }
    cn_ops->ctx_interrupt(vm->ctx);
    return NULL;
}

static void test_sync(void)
{
    struct vm vm;
    pthread_t t;
    START(&vm, spin);
    CHECK(!pthread_create(&t, NULL, sync_main, &vm));
    alarm(60);
    EQ(go(&vm), CN_STOP_INTERRUPTED); /* as_sync is not seen by the caller of ctx_switch */
    alarm(0);
    pthread_join(t, NULL);
    /* With no context in the guest it returns at once. */
    map(vm.as, DATA, 4096, PROT_READ, OFF_DATA);
    EQ(cn_ops->as_sync(vm.as), 0);
    EQ(go(&vm), CN_STOP_FAULT);
    end(&vm);
}

static void *killer(void *arg)
{
    usleep(20000);
    kill(*(pid_t *)arg, SIGKILL);
    return NULL;
}

static void test_died(void)
{
    struct vm vm;
    pthread_t t;
    if (strcmp(cn_ops->name, "ptrace"))
        return;
    START(&vm, spin);
    cn_ops->ctx_interrupt(vm.ctx);
    EQ(go(&vm), CN_STOP_INTERRUPTED);
    pid_t pid = vm.ctx->pid;
    CHECK(!pthread_create(&t, NULL, killer, &pid));
    EQ(go(&vm), CN_STOP_DIED);
    EQ(go(&vm), CN_STOP_DIED);
    pthread_join(t, NULL);
    cn_ops->ctx_interrupt(vm.ctx);
    end(&vm);

    START(&vm, syscall_loop); /* while stopped */
    EQ(go(&vm), CN_STOP_SYSCALL);
    kill(vm.ctx->pid, SIGKILL);
    usleep(20000);
    map(vm.as, 0x50000000, 4096, PROT_READ, OFF_DATA);
    EQ(go(&vm), CN_STOP_DIED);
    EQ(cn_ops->ctx_get_xstate(vm.ctx, &vm, 0), -ESRCH);
    end(&vm);

    START(&vm, syscall_loop); /* other signals from outside do nothing */
    EQ(go(&vm), CN_STOP_SYSCALL);
    for (int sig = 1; sig < 32; sig++)
        if (sig != SIGKILL)
            kill(vm.ctx->pid, sig);
    EQ(go(&vm), CN_STOP_SYSCALL);
    end(&vm);
}

static u64 rnd(u64 *s)
{
    *s ^= *s << 13;
    *s ^= *s >> 7;
    *s ^= *s << 17;
    return *s;
}

static void *ticker(void *arg)
{
    struct race *r = arg;
    while (!r->stop) {
        usleep(500);
        cn_ops->ctx_interrupt(r->vm->ctx);
    }
    return NULL;
}

static void test_hostile_registers(void)
{
    static const u64 special[] = {0,
                                  1,
                                  CODE,
                                  CODE + 1,
                                  DATA,
                                  CN_TASK_SIZE,
                                  0x7fff10000000,
                                  0x7fff10000027,
                                  0x7fff10000096,
                                  0x7fff10000100,
                                  0x7fff20000000,
                                  0x7ffffffff000,
                                  0x7fffffffffff,
                                  0x800000000000,
                                  0xffff800000000000,
                                  0xffffffffff600000,
                                  0xffffffffff600400,
                                  ~0UL,
                                  0x33,
                                  0x2b,
                                  0x23,
                                  0x10,
                                  0x100};
    struct vm vm;
    struct race r = {.vm = &vm};
    pthread_t t;
    u64 seed = (u64)time(NULL) | 1, first = seed;
    START(&vm, syscall_loop);
    EQ(go(&vm), CN_STOP_SYSCALL);
    CHECK(!pthread_create(&t, NULL, ticker, &r));
    alarm(60);
    for (int i = 0; i < 20000; i++) {
        u64 *words = (u64 *)&vm.regs;
        for (unsigned j = 0; j < sizeof(vm.regs) / 8; j++) {
            u64 v = rnd(&seed);
            words[j] = v & 1   ? special[v / 2 % (sizeof(special) / sizeof(special[0]))]
                       : v & 2 ? rnd(&seed)
                               : rnd(&seed) & 0xffffff;
        }
        if (cn_ops->ctx_switch(vm.ctx, &vm.regs, &vm.stop) != 0 || vm.stop.reason == CN_STOP_DIED) {
            fprintf(stderr, "hostile registers: seed %lu round %d\n", first, i);
            exit(1);
        }
    }
    r.stop = 1;
    alarm(0);
    pthread_join(t, NULL);
    memset(&vm.regs, 0, sizeof(vm.regs));
    vm.regs.rip = CODE;
    vm.regs.rax = 5;
    while (go(&vm) == CN_STOP_INTERRUPTED)
        ;
    EQ(vm.stop.reason, CN_STOP_SYSCALL);
    EQ(vm.regs.orig_rax, 5);
    end(&vm);
}

static void test_host_file(void)
{
    struct vm vm;
    int fd = memfd_create("host", MFD_CLOEXEC);
    CHECK(fd >= 0 && ftruncate(fd, 8192) == 0);
    u64 value = 0x1122334455667788;
    EQ(pwrite(fd, &value, 8, 4096), 8);
    int h = cn_ops->fd_install(cn_plat, fd);
    CHECK(h > 0);
    close(fd);
    START(&vm, load);
    struct cn_hostop op = {
        .kind = CN_OP_MAP, .prot = PROT_READ, .addr = 0x20000000, .len = 8192, .fd = h};
    EQ(cn_ops->as_queue(vm.as, &op), 0);
    vm.regs.rdi = 0x20001000;
    EQ(go(&vm), CN_STOP_SYSCALL);
    EQ(vm.regs.orig_rax, value);
    cn_ops->fd_remove(cn_plat, h);
    vm.regs.rip = CODE;
    EQ(go(&vm), CN_STOP_SYSCALL); /* mappings outlive the handle */
    end(&vm);
    CHECK(cn_ops->fd_install(cn_plat, -1) < 0);
    int again = cn_ops->fd_install(cn_plat, memfd);
    EQ(again, h);
    cn_ops->fd_remove(cn_plat, again);
}

static void test_vdso(void)
{
    struct vm vm;
    struct timespec now;
    u64 fn = cn_ops->vdso_symbol(cn_plat, "__vdso_clock_gettime");
    EQ(cn_ops->vdso_symbol(cn_plat, "no_such_function"), 0);
    CHECK(fn >= CN_TASK_SIZE);
    START(&vm, call_rax);
    vm.regs.rax = fn;
    vm.regs.rdi = CLOCK_MONOTONIC;
    vm.regs.rsi = DATA + 64;
    EQ(go(&vm), CN_STOP_SYSCALL);
    EQ(vm.regs.orig_rax, 0); /* it returned 0 and only our own syscall stopped */
    EQ(vm.regs.rip, CODE + 4);
    clock_gettime(CLOCK_MONOTONIC, &now);
    struct timespec *ts = (struct timespec *)(mem + OFF_DATA + 64);
    CHECK(now.tv_sec - ts->tv_sec <= 1 && now.tv_sec >= ts->tv_sec);
    end(&vm);

    START(&vm, vsyscall_time); /* the old page: either a call for the sentry or, where the host has
                                  none, a fault */
    EQ(go(&vm) == CN_STOP_SYSCALL || vm.stop.reason == CN_STOP_FAULT, 1);
    if (vm.stop.reason == CN_STOP_SYSCALL)
        EQ(vm.regs.orig_rax, SYS_time);
    end(&vm);
}

static void test_cpu_time(void)
{
    struct vm vm;
    struct race r = {.vm = &vm};
    pthread_t t;
    START(&vm, spin);
    CHECK(!pthread_create(&t, NULL, ticker, &r));
    for (int i = 0; i < 40; i++)
        go(&vm);
    r.stop = 1;
    pthread_join(t, NULL);
    CHECK(cn_ops->ctx_cpu_ns(vm.ctx) > 1000000);
    end(&vm);
}

/* Address spaces come and go. */
static void test_churn(void)
{
    struct vm vm;
    for (int i = 0; i < 300; i++) {
        START(&vm, syscall_loop);
        if (i % 3)
            EQ(go(&vm), CN_STOP_SYSCALL);
        end(&vm);
    }
}

static u64 now_ns(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (u64)ts.tv_sec * 1000000000 + (u64)ts.tv_nsec;
}

static void bench_as(u32 gap)
{
    struct vm vm;
    u64 t0;
    u64 phase[4] = {0};
    for (int i = 0; i < 300; i++) {
        t0 = now_ns();
        START(&vm, syscall_loop);
        u64 t1 = now_ns();
        go(&vm);
        u64 t2 = now_ns();
        go(&vm);
        u64 t3 = now_ns();
        end(&vm);
        phase[0] += t1 - t0;
        phase[1] += t2 - t1;
        phase[2] += t3 - t2;
        phase[3] += now_ns() - t3;
        usleep(gap);
    }
    printf("address space, every %u us: made %.1f us, entered %.1f us, second call %.1f us, freed "
           "%.1f us\n",
           gap, (double)phase[0] / 300000, (double)phase[1] / 300000, (double)phase[2] / 300000,
           (double)phase[3] / 300000);
}

static void test_bench(void)
{
    enum { N = 20000 };
    struct vm vm;
    u64 t0;
    START(&vm, syscall_loop);
    go(&vm);
    t0 = now_ns();
    for (int i = 0; i < N; i++)
        go(&vm);
    printf("syscall stop and return: %.2f us\n", (double)(now_ns() - t0) / N / 1000);
    t0 = now_ns();
    for (int i = 0; i < 1000; i++) {
        map(vm.as, 0x20000000, 4096, PROT_READ, OFF_DATA);
        go(&vm);
    }
    printf("same with one mapping: %.2f us\n", (double)(now_ns() - t0) / 1000 / 1000);
    end(&vm);
    t0 = now_ns();
    for (int i = 0; i < 1000; i++)
        cn_ops->fd_remove(cn_plat, cn_ops->fd_install(cn_plat, memfd));
    printf("host file installed and removed: %.1f us\n", (double)(now_ns() - t0) / 1000000);
    bench_as(0);
    bench_as(1000);
}

static const struct {
    const char *name;
    void (*run)(void);
} tests[] = {
#define T(name) {#name, test_##name}
    T(syscall),           T(registers), T(faults),    T(exceptions), T(32bit), T(xstate),
    T(interrupt),         T(threads),   T(recontext), T(batch),      T(sync),  T(died),
    T(hostile_registers), T(host_file), T(vdso),      T(cpu_time),   T(churn),
};

int main(int argc, char **argv)
{
    int bench = argc > 2 && !strcmp(argv[2], "bench");
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
    if (bench) {
        cn_place_enter();
        test_bench();
        cn_place_leave();
    }
    for (unsigned i = 0; !bench && i < sizeof(tests) / sizeof(tests[0]); i++) {
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

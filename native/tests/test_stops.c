/* Conformance of a platform, first half: stops, registers, extended state. See platform_harness.h.
 */
#include "platform_harness.h"

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
    CHECK(vm.stop.signo == SIGSEGV || vm.stop.signo == SIGILL); /* AMD does not know it in long mode */
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

static u64 rnd(u64 *s)
{
    *s ^= *s << 13;
    *s ^= *s >> 7;
    *s ^= *s << 17;
    return *s;
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

int main(int argc, char **argv)
{
    static const struct test tests[] = {
#define T(name) {#name, test_##name}
        T(syscall), T(registers),         T(faults), T(exceptions), T(32bit),
        T(xstate),  T(hostile_registers), T(vdso),
    };
    return harness_main(argc, argv, tests, sizeof(tests) / sizeof(tests[0]), NULL);
}

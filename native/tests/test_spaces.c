/* Conformance of a platform, second half: address spaces, threads, interrupts. See
 * platform_harness.h. */
#include "platform_harness.h"

/* Interrupts: from another thread at any moment, each must end a switch that began before or after
 * it. */

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

static u64 now_ns(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (u64)ts.tv_sec * 1000000000 + (u64)ts.tv_nsec;
}

/* On one core, and before all others there: whatever runs contexts has to wait for new stubs, not
 * to ask whether they are ready. (The host lets them run for 50 ms in a second even if it asks.) */
static void *greedy_main(void *arg)
{
    struct sched_param first = {.sched_priority = 1};
    struct vm *vm = arg, second = *vm;

    cn_place_enter();
    EQ(go(vm), CN_STOP_SYSCALL);
    u64 begin = now_ns();
    int allowed = sched_setscheduler(0, SCHED_FIFO, &first) == 0;
    for (int i = 0; i < 100 && allowed; i++) {
        EQ(cn_ops->ctx_new(vm->as, &second.ctx), 0);
        EQ(go(&second), CN_STOP_SYSCALL);
        cn_ops->ctx_free(second.ctx);
    }
    CHECK(now_ns() - begin < 2000000000);
    cn_place_leave();
    return NULL;
}

static void test_greedy(void)
{
    struct vm vm;
    pthread_t t;

    START(&vm, syscall_loop);
    CHECK(!pthread_create(&t, NULL, greedy_main, &vm));
    pthread_join(t, NULL);
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

/* What the guest's own context may be asked to take away, alone and next to other changes; from the
 * next switch on it is gone, whoever makes it, and whatever interrupts. */
static void take(struct vm *vm, int kind, u64 addr, u64 len)
{
    struct cn_hostop op = {
        .kind = kind, .prot = PROT_NONE, .addr = addr, .len = len, .taken = 1};

    EQ(cn_ops->as_queue(vm->as, &op), 0);
}

static void loads(struct vm *vm, u64 addr, int reason)
{
    int stop;

    vm->regs.rip = CODE;
    vm->regs.rdi = addr;
    while ((stop = go(vm)) == CN_STOP_INTERRUPTED)
        ;
    EQ(stop, reason);
}

static void test_taken(void)
{
    enum { AT = 0x30000000, N = 16 };
    struct race r;
    struct vm vm;
    pthread_t t;

    START(&vm, load);
    r = (struct race){.vm = &vm};
    for (int round = 0; round < 1000; round++) {
        if (round == 100)
            CHECK(!pthread_create(&t, NULL, ticker, &r));
        map(vm.as, AT, N * 4096, PROT_READ, OFF_DATA);
        loads(&vm, AT + 15 * 4096, CN_STOP_SYSCALL);
        for (u64 i = N; i-- > 8;) { /* as a heap shrinks */
            take(&vm, CN_OP_UNMAP, AT + i * 4096, 4096);
            loads(&vm, AT + i * 4096, CN_STOP_FAULT);
            loads(&vm, AT + (i - 1) * 4096, CN_STOP_SYSCALL);
        }
        take(&vm, CN_OP_PROTECT, AT, 4096);
        loads(&vm, AT, CN_STOP_FAULT);
        take(&vm, CN_OP_PROTECT, AT, 4096);
        loads(&vm, AT + 4096, CN_STOP_SYSCALL);
        take(&vm, CN_OP_UNMAP, AT, 2 * 4096); /* what was protected just now */
        loads(&vm, AT + 4096, CN_STOP_FAULT);
        for (u64 i = 2; i < 8; i += 2)
            take(&vm, CN_OP_UNMAP, AT + i * 4096, 4096);
        loads(&vm, AT + 2 * 4096, CN_STOP_FAULT);
        loads(&vm, AT + 3 * 4096, CN_STOP_SYSCALL);
        take(&vm, CN_OP_UNMAP, AT + 3 * 4096, 4096);
        map(vm.as, AT + 3 * 4096, 4096, PROT_READ, OFF_DATA); /* again, at once */
        loads(&vm, AT + 3 * 4096, CN_STOP_SYSCALL);
        take(&vm, CN_OP_UNMAP, AT + 5 * 4096, 4096);
        loads(&vm, AT + 5 * 4096, CN_STOP_FAULT);
        map(vm.as, AT + 4 * 4096, 3 * 4096, PROT_READ, OFF_DATA); /* over what was taken */
        loads(&vm, AT + 5 * 4096, CN_STOP_SYSCALL);
        EQ(cn_ops->as_sync(vm.as), 0);
        loads(&vm, AT + 5 * 4096, CN_STOP_SYSCALL);
    }
    r.stop = 1;
    pthread_join(t, NULL);
    for (u64 i = 0; i < 100; i++) { /* pieces that do not merge */
        map(vm.as, AT + i * 8192, 4096, PROT_READ, OFF_DATA);
        loads(&vm, AT + i * 8192, CN_STOP_SYSCALL);
    }
    for (u64 i = 0; i < 100; i++) {
        take(&vm, CN_OP_UNMAP, AT + i * 8192, 4096);
        loads(&vm, AT + i * 8192, CN_STOP_FAULT);
    }
    EQ(cn_ops->as_sync(vm.as), 0);
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

/* What the stub's own text may ask of the host, each with an allowed or a forbidden argument. */
static void test_stub_filter(void)
{
    static const struct {
        struct stub_op op;
        int allowed;
    } calls[] = {
        {{SYS_mmap, {0x10000, 4096, PROT_READ, MAP_FIXED | MAP_SHARED, 0, 0}}, 1},
        {{SYS_mmap, {0x7fff30000000, 4096, PROT_READ, MAP_FIXED | MAP_SHARED, 0, 0}}, 0},
        {{SYS_mprotect, {0x10000, 4096, PROT_READ}}, 1},
        {{SYS_mprotect, {STUB_TEXT, 4096, PROT_READ | PROT_WRITE | PROT_EXEC}}, 0},
        {{SYS_mprotect, {STUB_CTRL, 4096, PROT_READ | PROT_WRITE}}, 0},
        {{SYS_munmap, {0x10000, 4096}}, 1},
        {{SYS_getppid, {0}}, 1},
        {{SYS_clone, {SIGCHLD}}, 0},
        {{SYS_clone, {STUB_FORK_FLAGS}}, 0},
        {{SYS_clone3, {0}}, 0},
        {{SYS_sendmsg, {STUB_FD_SOCK}}, 0},
        {{SYS_recvmsg, {STUB_FD_SOCK}}, 0},
        {{SYS_openat, {0}}, 0},
        {{SYS_close, {0}}, 0},
        {{SYS_execve, {0}}, 0},
        {{SYS_ptrace, {0}}, 0},
        {{SYS_kill, {1, 0}}, 0},
        {{SYS_getppid | 0x40000000, {0}}, 0}, /* x32 */
    };
    struct vm vm;

    if (strcmp(cn_ops->name, "ptrace"))
        return;
    START(&vm, syscall_loop);
    EQ(go(&vm), CN_STOP_SYSCALL);
    for (unsigned i = 0; i < sizeof(calls) / sizeof(calls[0]); i++) {
        struct stub_ctrl *ctrl = cn_mother_ctrl(cn_plat->mother, vm.as->slot);
        ctrl->op[0] = calls[i].op;
        int rc = trace_call(vm.ctx->pid, STUB_BATCH, STUB_CTRL + offsetof(struct stub_ctrl, op), 1);
        if (calls[i].allowed ? rc < 0 : rc != -EFAULT) {
            fprintf(stderr, "stub call %u (row %u): %d\n", (u32)calls[i].op.nr, i, rc);
            exit(1);
        }
    }
    EQ(go(&vm), CN_STOP_SYSCALL);
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

int main(int argc, char **argv)
{
    static const struct test tests[] = {
#define T(name) {#name, test_##name}
        T(interrupt), T(threads),     T(greedy),    T(recontext), T(batch), T(taken),
        T(sync),      T(died),        T(stub_filter), T(host_file), T(cpu_time),  T(churn),
    };
    return harness_main(argc, argv, tests, sizeof(tests) / sizeof(tests[0]), test_bench);
}

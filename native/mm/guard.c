/* Accesses that survive SIGBUS and SIGSEGV: see guard.h. */
#define _GNU_SOURCE
#include "guard.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <ucontext.h>

#include "memfile.h"

/* An instruction that may fault, and where to go on when it does. */
struct fixup {
    u64 at, to;
};

extern const struct fixup __start_cn_fixups[] __attribute__((visibility("hidden")));
extern const struct fixup __stop_cn_fixups[] __attribute__((visibility("hidden")));

#define FIXUP(at, to) ".pushsection cn_fixups,\"aw\"\n.quad " at ", " to "\n.popsection\n"
#define FUNCTION(name) \
    ".globl " name "\n.hidden " name "\n.type " name ", @function\n.p2align 4\n" name ":\n"

/* Small copies go by words, long ones by rep movsb; rcx is what is left, whenever it faults. */
__asm__(".text\n" FUNCTION("guard_copy") "   mov %rdx, %rcx\n"
        "   cmp $128, %rcx\n"
        "   ja 5f\n"
        "0: cmp $8, %rcx\n"
        "   jb 3f\n"
        "1: mov (%rsi), %rax\n"
        "2: mov %rax, (%rdi)\n"
        "   add $8, %rsi\n"
        "   add $8, %rdi\n"
        "   sub $8, %rcx\n"
        "   jmp 0b\n"
        "3: test %rcx, %rcx\n"
        "   jz 6f\n"
        "4: movzbl (%rsi), %eax\n"
        "7: mov %al, (%rdi)\n"
        "   inc %rsi\n"
        "   inc %rdi\n"
        "   dec %rcx\n"
        "   jmp 3b\n"
        "5: rep movsb\n"
        "6: mov %rcx, %rax\n"
        "   ret\n"
        FIXUP("1b", "6b") FIXUP("2b", "6b") FIXUP("4b", "6b") FIXUP("7b", "6b") FIXUP("5b", "6b")
        FUNCTION("guard_zero") "   mov %rsi, %rcx\n"
        "   xor %eax, %eax\n"
        "1: rep stosb\n"
        "2: mov %rcx, %rax\n"
        "   ret\n"
        FIXUP("1b", "2b")
        FUNCTION("guard_load32") "1: mov (%rdi), %eax\n"
        "   mov %eax, (%rsi)\n"
        "   xor %eax, %eax\n"
        "   ret\n"
        "2: mov $-14, %eax\n" /* -EFAULT */
        "   ret\n"
        FIXUP("1b", "2b")
        FUNCTION("guard_store32") "1: mov %esi, (%rdi)\n"
        "   xor %eax, %eax\n"
        "   ret\n"
        "2: mov $-14, %eax\n"
        "   ret\n"
        FIXUP("1b", "2b")
        FUNCTION("guard_cmpxchg32") "   mov %esi, %eax\n"
        "1: lock cmpxchg %edx, (%rdi)\n"
        "   mov %eax, (%rcx)\n"
        "   xor %eax, %eax\n"
        "   ret\n"
        "2: mov $-14, %eax\n"
        "   ret\n"
        FIXUP("1b", "2b"));

_Static_assert(EFAULT == 14, "guard functions return -EFAULT");

static struct sigaction old_bus, old_segv;

static void on_fault(int sig, siginfo_t *info, void *context)
{
    greg_t *rip = &((ucontext_t *)context)->uc_mcontext.gregs[REG_RIP];
    const struct sigaction *old = sig == SIGBUS ? &old_bus : &old_segv;

    for (const struct fixup *f = __start_cn_fixups; f < __stop_cn_fixups; f++) {
        if ((u64)*rip == f->at) {
            /* Nobody copies with the memory file's lock held, so it may be taken here. */
            if (sig == SIGBUS && memfile_covers(info->si_addr) && memfile_relieve())
                return; /* the instruction again */
            *rip = (greg_t)f->to;
            return;
        }
    }
    if (old->sa_flags & SA_SIGINFO)
        old->sa_sigaction(sig, info, context);
    else
        sigaction(sig, old, NULL); /* the instruction faults again, for the one before us */
}

int guard_install(void)
{
    static int installed;
    struct sigaction sa;

    if (installed)
        return 0;
    memset(&sa, 0, sizeof(sa));
    sa.sa_sigaction = on_fault;
    sa.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER;
    if (sigaction(SIGBUS, &sa, &old_bus) < 0 || sigaction(SIGSEGV, &sa, &old_segv) < 0)
        return -errno;
    installed = 1;
    return 0;
}

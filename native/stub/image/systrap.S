/*
 * systrap's part of the stub: the keeper and the contexts.
 *
 * Memory is shared with hostile threads, so nothing here that matters to others reads memory the
 * guest can write. The keeper has no stack and reads read-only pages. A context reads and writes its
 * area, where a sibling can spoil only what is the guest's own: its registers. What a context may
 * ask of the host (ctx_filter in stub.c) is harmless whoever jumps to it.
 */
#include <asm/unistd_64.h>
#include "../stub.h"
#include "macros.h"

#define SIGURG 23
#define SIGTRAP 5
#define SIG_SETMASK 2
#define CLOSE_RANGE_UNSHARE 2
#define SECCOMP_SET_MODE_FILTER 1
#define SECCOMP_FILTER_FLAG_SPEC_ALLOW 4
#define FUTEX_WAIT 0
#define FUTEX_WAKE 1
#define ERRNO_MAX 4095
#define EAGAIN 11
#define FUTEX_WAIT_PRIVATE 128
#define FUTEX_WAKE_PRIVATE 129
/* clock_gettime: REALTIME, MONOTONIC, MONOTONIC_RAW, REALTIME_COARSE, MONOTONIC_COARSE, BOOTTIME, TAI */
#define CLOCKS 0x8f3
#define NR_CLOCKS 12
#define S_XMM(n) (STUB_AREA_SCRATCH + 16 * (n))
#define S_TIME S_XMM(16)
#define WAITERS_MASK (1023 << 2) /* cn_waiters_index */

/* struct stub_ctrl */
#define C_SEQ 8
#define C_COUNT 12
#define C_CHANNEL 16
#define C_ONE 24
#define C_OPS 64
/* struct stub_ctx */
#define A_TURN 0
#define A_KIND 4
#define A_SENTRY_SLEEPS 8
#define A_STUB_SLEEPS 12
#define A_ARG 16
#define A_RESULT 16
#define A_FLAGS 24
#define A_FRAME 64
#define A_INFO 68
#define A_XSAVE 72
#define A_SPIN 76
#define A_KICK 80
#define A_SAVE_NR 84
#define A_XRESTORE 88
#define A_FS 96
#define A_GS 104
#define A_REGS 128
#define A_EFLAGS (A_REGS + 136)
#define A_STOP_FS 288
#define A_STOP_GS 296
#define A_RET 304
#define A_ALTSTACK 320
#define A_TAKE 384
/* TF, NT, RF, AC: not for the short way back. */
#define SLOW_FLAGS 0x54100
#define OP_SIZE 56
/* struct ucontext of the kernel: 40 bytes before its sigcontext */
#define UC(n) (40 + 8 * (n))
#define UC_R8 UC(0)
#define UC_R9 UC(1)
#define UC_R10 UC(2)
#define UC_R11 UC(3)
#define UC_R12 UC(4)
#define UC_R13 UC(5)
#define UC_R14 UC(6)
#define UC_R15 UC(7)
#define UC_RDI UC(8)
#define UC_RSI UC(9)
#define UC_RBP UC(10)
#define UC_RBX UC(11)
#define UC_RDX UC(12)
#define UC_RAX UC(13)
#define UC_RCX UC(14)
#define UC_RSP UC(15)
#define UC_RIP UC(16)
#define UC_EFLAGS UC(17)
#define UC_FPSTATE UC(23)
/* All but AMX tiles, which stubs have no permission for and signal frames no room. */
#define XFEATURES 0xfffbffff
#define USER_CS 0x33
#define USER_SS 0x2b

.macro save_xmm
    .irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
    movups %xmm\n, S_XMM(\n)(%rbx)
    .endr
.endm
.macro load_xmm
    .irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
    movups S_XMM(\n)(%rbx), %xmm\n
    .endr
.endm

.macro save_xstate
    mov $XFEATURES, %eax
    mov $-1, %edx
    xsave64 STUB_AREA_XSAVE(%rbx)
.endm

    .section .stub.keeper, "ax"
    .globl stub_keeper
stub_keeper:
    die_with_sentry %rbx, keeper_die
    xor %r14d, %r14d
keeper_wait:
    mov C_SEQ(%rbx), %eax
    cmp %r14d, %eax
    jne 1f
    lea C_SEQ(%rbx), %rdi
    mov $FUTEX_WAIT, %esi
    mov %r14d, %edx
    xor %r10d, %r10d
    mov $__NR_futex, %eax
    syscall
    jmp keeper_wait
1:  mov %eax, %r14d
    lea C_OPS(%rbx), %r12
    mov C_COUNT(%rbx), %r13d
    test %r13d, %r13d
    jz keeper_done
2:  mov 0(%r12), %r15 /* kept: a new context may look when the page holds other ops */
    mov %r15, %rax
    load_arguments
    syscall
    cmp $__NR_clone, %r15
    je keeper_cloned
    cmp $-ERRNO_MAX, %rax
    jae keeper_failed
3:  add $OP_SIZE, %r12
    dec %r13d
    jnz 2b
keeper_done:
    mov C_CHANNEL(%rbx), %edi
    lea C_ONE(%rbx), %rsi
    mov $8, %edx
    mov $__NR_write, %eax
    syscall
    jmp keeper_wait
keeper_cloned:
    test %rax, %rax
    jz ctx_setup
    cmp $-ERRNO_MAX, %rax
    jb 4f
    neg %rax
    bts $32, %rax
4:  mov C_CHANNEL(%rbx), %edi
    inc %edi
    mov %rax, %rsi
    xor %edx, %edx
    mov $__NR_lseek, %eax
    syscall
    jmp 3b
keeper_failed: /* the mappings are not what the sentry believes: the end, with the errno as status */
    neg %eax
    mov %eax, %edi
    mov $__NR_exit_group, %eax
    syscall
    ud2
keeper_die:
    mov $1, %eax
    jmp keeper_failed

/*
 * Contexts. A SIGURG that comes while the stub's own code runs is dealt with by where that is:
 * before .L_quiet_end it goes on (a stop is on its way, or nothing can have been asked), later, when
 * the sentry has handed the turn over, the context stops again at once (STUB_EARLY).
 */
    .section .stub.ctx, "ax"
ctx_text:
    /* STUB_CALL_ENTRY. A system call clobbers rcx and r11 only: flags, stack and the red zone below
     * it are the guest's. gs_base may be its own choice, too (then this is a call like any other):
     * bits 15 to 46 of base / 64 KiB - the first area / 64 KiB are 0 for all areas. A signal up to
     * .L_hand_over finds the return address in r11 (A_RET in .L_wake) and undoes or completes the call
     * (ctx_undo). */
    rdgsbase %rcx
    rorx $16, %rcx, %rcx
    lea -(STUB_AREA >> 16)(%rcx), %rcx
    rorx $15, %rcx, %rcx
    mov %ecx, %ecx
    jrcxz 1f
    lea -2(%r11), %rcx /* the system call instruction of the site is still there */
    jmp *%rcx
    /* futex(2) on a word: whoever has another value in mind than it holds need not wait for it. */
.L_futex:
    mov %gs:STUB_AREA_ANSWERS + 8 * __NR_futex, %rcx
    jrcxz 4f
    movabs $0xffff800000000003, %rcx
    pext %rcx, %rdi, %rcx
    jrcxz 3f /* aligned, and below the host's end */
    jmp .L_unanswered
3:  rorx $32, %rdi, %rcx
    lea -(STUB_TEXT >> 32)(%rcx), %ecx
    jecxz 4f /* not the guest's */
    lea -FUTEX_WAKE_PRIVATE(%rsi), %ecx
    jecxz .L_wake
    lea -FUTEX_WAIT_PRIVATE(%rsi), %ecx
    jecxz 5f
4:  jmp .L_unanswered
5:  mov %r10, %rcx
    jrcxz .L_word /* no timeout */
    jmp .L_unanswered
.L_word: /* a fault here is a call for the sentry (ctx_nested) */
    mov (%rdi), %ecx
    not %ecx
    lea 1(%rcx, %rdx), %ecx
    jecxz 4b
    mov $-EAGAIN, %rcx
    jmp .L_result
1:  mov $8, %ecx
    shrx %rcx, %rax, %rcx
    jrcxz 2f
    jmp .L_unanswered
2:  lea -__NR_futex(%rax), %ecx
    jecxz .L_futex
    lea -__NR_write(%rax), %ecx
    jecxz .L_null
    mov %gs:STUB_AREA_ANSWERS(, %rax, 8), %rcx
    jrcxz 3f
    mov %ecx, %ecx
    jmp .L_result
3:  jmp .L_unanswered
.L_wake: /* the exchange is a barrier: the word was changed before the count is read */
    xchg %r11, %gs:A_RET
.L_r11_used:
    mov $WAITERS_MASK, %ecx
    pext %rcx, %rdi, %rcx
    movabs $STUB_WAITERS, %r11
    movzwl (%r11, %rcx, 2), %ecx
    mov %gs:A_RET, %r11
.L_r11_back:
    jrcxz .L_result
    jmp .L_unanswered
.L_null: /* write(2): does the descriptor take anything, and is [rsi, rsi + rdx) the guest's? */
    mov $6, %ecx
    shrx %rcx, %rdi, %rcx
    jrcxz 3f
    jmp .L_unanswered
3:  mov $1, %ecx
    shlx %rdi, %rcx, %rcx
    pext %gs:STUB_AREA_NULLS, %rcx, %rcx
    jrcxz 4f
    mov $47, %ecx
    shrx %rcx, %rsi, %rcx
    jrcxz 5f
4:  jmp .L_unanswered
5:  rorx $32, %rsi, %rcx
    lea -(STUB_TEXT >> 32)(%rcx), %ecx
    jecxz 4b
    mov $30, %ecx
    shrx %rcx, %rdx, %rcx
    jrcxz 6f
    jmp .L_unanswered
6:  mov %rdx, %rcx
    jmp .L_result
.L_result:
    mov %rcx, %rax
.L_answered:
    mov %r11, %rcx
    jmp *%rcx
.L_unanswered:
    mov %r11, %rcx
.L_hand_over:
    rdgsbase %r11
    mov %r8, A_REGS+0(%r11)
    mov %r9, A_REGS+8(%r11)
    mov %r10, A_REGS+16(%r11)
    mov %r12, A_REGS+32(%r11)
    mov %r13, A_REGS+40(%r11)
    mov %r14, A_REGS+48(%r11)
    mov %r15, A_REGS+56(%r11)
    mov %rdi, A_REGS+64(%r11)
    mov %rsi, A_REGS+72(%r11)
    mov %rbp, A_REGS+80(%r11)
    mov %rbx, A_REGS+88(%r11)
    mov %rdx, A_REGS+96(%r11)
    mov %rax, A_REGS+104(%r11)
    mov %rcx, A_REGS+112(%r11)
    mov %rsp, A_REGS+144(%r11)
    lea A_REGS+144(%r11), %rsp
    pushfq
    mov %r11, %rbx
    mov %rax, %rcx
    rdfsbase %rax
    mov %rax, A_STOP_FS(%rbx)
    cmp $__NR_clock_gettime, %rcx
    je .L_clock
    cmp %ecx, A_SAVE_NR(%rbx)
    je .L_call_saved
    test %rcx, %rcx
    jz .L_zero
.L_brief:
    testl $SLOW_FLAGS, A_EFLAGS(%rbx)
    jnz .L_call
    cmp $STUB_NR_ANSWERS, %rcx
    jae .L_call
    mov %rdi, A_ARG(%rbx)
    mov %rsi, A_ARG+8(%rbx)
    mov %rdx, A_ARG+16(%rbx)
    mov %r10, A_ARG+24(%rbx)
    mov %r8, A_ARG+32(%rbx)
    mov %r9, A_ARG+40(%rbx)
    mov %ecx, %eax
    shl $8, %eax
    or $STUB_CALL_BRIEF, %eax
    jmp ctx_publish
.L_call:
    mov $STUB_CALL, %eax
    jmp ctx_publish
.L_call_saved:
    save_xstate
    mov $STUB_CALL_SAVED, %eax
    jmp ctx_publish

    .globl ctx_setup
ctx_setup: /* r10: the area */
    mov %r10, %rbx
    die_with_sentry %rcx, ctx_die
    lea A_ALTSTACK(%rbx), %rdi
    xor %esi, %esi
    mov $__NR_sigaltstack, %eax
    syscall
    test %rax, %rax
    jnz ctx_die
    mov $SIG_SETMASK, %edi
    lea no_signals(%rip), %rsi
    xor %edx, %edx
    mov $8, %r10d
    mov $__NR_rt_sigprocmask, %eax
    syscall
    test %rax, %rax
    jnz ctx_die
    /* An own, empty table: contexts reach no file. */
    xor %edi, %edi
    mov $-1, %esi
    mov $CLOSE_RANGE_UNSHARE, %edx
    mov $__NR_close_range, %eax
    syscall
    test %rax, %rax
    jnz ctx_die
    mov $SECCOMP_SET_MODE_FILTER, %edi
    mov $SECCOMP_FILTER_FLAG_SPEC_ALLOW, %esi
    lea ctx_prog(%rip), %rdx
    mov $__NR_seccomp, %eax
    syscall
    test %rax, %rax
    jnz ctx_die
    jmp ctx_wait
ctx_die:
    mov $1, %edi
    mov $__NR_exit_group, %eax
    syscall
    ud2

    .globl ctx_handler
ctx_handler: /* rdi: signal, rsi: siginfo, rdx: ucontext, rsp: on the alternate stack */
    push $2
    popfq
    mov %rsp, %rbx
    and $-STUB_AREA_SIZE, %rbx
    mov UC_RIP(%rdx), %rbp
    movabs $STUB_CTX_TEXT, %rcx
    sub %rcx, %rbp
    cmp $0x1000, %rbp
    jb ctx_nested
    mov UC_RSP(%rdx), %rcx
    sub %rbx, %rcx
    sub $STUB_AREA_SCRATCH, %rcx
    cmp $(STUB_AREA_STACK - STUB_AREA_SCRATCH), %rcx
    jb ctx_in_clock
ctx_save:
    sub %ebx, %edx
    mov %edx, A_FRAME(%rbx)
    sub %ebx, %esi
    mov %esi, A_INFO(%rbx)
    rdfsbase %rax
    mov %rax, A_STOP_FS(%rbx)
    rdgsbase %rax
    mov %rax, A_STOP_GS(%rbx)
    mov $STUB_SIGNAL, %eax
ctx_publish:
    mov %eax, A_KIND(%rbx)
    mov $STUB_STOPPED, %eax
    xchg %eax, A_TURN(%rbx)
    cmpl $0, A_SENTRY_SLEEPS(%rbx)
    je ctx_wait
    lea A_TURN(%rbx), %rdi
    mov $FUTEX_WAKE, %esi
    mov $1, %edx
    mov $__NR_futex, %eax
    syscall
    jmp ctx_wait

ctx_nested:
    cmp $(.L_clock - ctx_text), %rbp
    jb 0f
    cmp $(.L_clock_end - ctx_text), %rbp
    jae 0f
    lea .L_clock_ask(%rip), %rax
    cmp $(.L_clock_saved - ctx_text), %rbp
    jb .L_stop_clock
    /* clock_gettime does not get to its end: its registers are still in the area, so it becomes a call
     * for the sentry. */
ctx_in_clock:
    lea .L_clock_undo(%rip), %rax
.L_stop_clock:
    mov %rax, UC_RIP(%rdx)
    mov %rbx, UC_RBX(%rdx)
    jmp ctx_return
0:  lea .L_call(%rip), %rax
    cmp $(.L_zero - ctx_text), %rbp
    jb 0f
    cmp $(.L_zero_end - ctx_text), %rbp
    jb .L_stop_clock
0:  cmp $SIGTRAP, %edi
    je 1f
    cmp $SIGURG, %edi
    je 1f
    cmp $(.L_word - ctx_text), %rbp
    jne ctx_save /* a guest that jumped here, or a spoiled area */
    lea .L_unanswered(%rip), %rax
    mov %rax, UC_RIP(%rdx)
    jmp ctx_return
1:  cmp $(.L_hand_over - ctx_text), %rbp
    jbe ctx_undo
    cmp $SIGTRAP, %edi
    je ctx_save
    cmp $(.L_quiet_end - ctx_text), %rbp
    jb ctx_return
    cmpl $STUB_RUNS, A_TURN(%rbx)
    jne ctx_return
    xor %eax, %eax
    cmpl %eax, A_XRESTORE(%rbx)
    je 2f
    cmp $(.L_xstate_loaded - ctx_text), %rbp
    jb 1f
2:  mov UC_FPSTATE(%rdx), %eax
    sub %ebx, %eax
    jmp ctx_early
1:  mov UC_RSP(%rdx), %rsp /* this frame is not needed: they must not pile up */
ctx_early: /* eax: where the extended state went, 0: where it was */
    mov %eax, A_XSAVE(%rbx)
    mov $STUB_EARLY, %eax
    jmp ctx_publish

    /* A patched call that has not been handed over, of a guest that is interrupted or steps itself:
     * it is not to see the stub's text. */
ctx_undo:
    mov UC_R11(%rdx), %rax
    cmp $(.L_r11_used - ctx_text), %rbp
    jb 0f
    cmp $(.L_r11_back - ctx_text), %rbp
    jae 0f
    mov A_RET(%rbx), %rax
0:  cmp $(.L_answered - ctx_text), %rbp
    jb 1f
    cmp $(.L_unanswered - ctx_text), %rbp
    jb 2f
1:  sub $2, %rax /* at the system call instruction of the site */
2:  mov %rax, UC_RIP(%rdx)
    jmp ctx_save
ctx_return: /* to the stub's own code, everything as it was */
    mov %rdx, %rbx
    pushq $USER_SS
    pushq UC_RSP(%rbx)
    pushq UC_EFLAGS(%rbx)
    pushq $USER_CS
    pushq UC_RIP(%rbx)
    mov UC_FPSTATE(%rbx), %rcx
    mov $XFEATURES, %eax
    mov $-1, %edx
    xrstor64 (%rcx)
    mov UC_R8(%rbx), %r8
    mov UC_R9(%rbx), %r9
    mov UC_R10(%rbx), %r10
    mov UC_R11(%rbx), %r11
    mov UC_R12(%rbx), %r12
    mov UC_R13(%rbx), %r13
    mov UC_R14(%rbx), %r14
    mov UC_R15(%rbx), %r15
    mov UC_RDI(%rbx), %rdi
    mov UC_RSI(%rbx), %rsi
    mov UC_RBP(%rbx), %rbp
    mov UC_RDX(%rbx), %rdx
    mov UC_RAX(%rbx), %rax
    mov UC_RCX(%rbx), %rcx
    mov UC_RBX(%rbx), %rbx
    iretq

.L_clock_undo:
    load_xmm
.L_clock_ask:
    cmpl $__NR_clock_gettime, A_SAVE_NR(%rbx)
    jne .L_call
    jmp .L_call_saved
.L_quiet_end:

    /* clock_gettime, of a patched call whose registers are saved: the host's vDSO answers. No stop is on
     * its way, so a signal from here to the end, or while the stack is in the scratch space, makes it
     * a call for the sentry after all; one that came a little earlier has set A_KICK. */
.L_clock:
    mov STUB_AREA_CLOCK(%rbx), %rbp
    test %rbp, %rbp
    jz .L_clock_ask
    cmpl $0, A_KICK(%rbx)
    jne .L_clock_ask
    cmp $NR_CLOCKS, %edi
    jae .L_clock_ask
    mov $CLOCKS, %eax
    bt %edi, %eax
    jnc .L_clock_ask
    save_xmm
.L_clock_saved:
    lea STUB_AREA_STACK(%rbx), %rsp
    lea S_TIME(%rbx), %rsi
    cld
    call *%rbp
    load_xmm
    test %eax, %eax
    jnz .L_clock_ask
    mov A_REGS+72(%rbx), %rsi
    mov S_TIME(%rbx), %rax
    mov %rax, (%rsi)
    mov S_TIME+8(%rbx), %rax
    mov %rax, 8(%rsi)
    lea A_REGS(%rbx), %rsp
    pop_registers
    mov $0, %eax
    lea 16(%rsp), %rsp
    popfq
    pop %rsp
    jmp *%rcx
.L_clock_end:

    /* read(2), of a patched call whose registers are saved: is it /dev/zero? A fault is the sentry's to
     * explain, and no stop is on its way: a signal from here to the end makes it a call. */
.L_zero:
    cmp $64, %rdi
    jae .L_brief
    mov STUB_AREA_ZEROS(%rbx), %rax
    bt %rdi, %rax
    jnc .L_brief
    cmpl $0, A_KICK(%rbx)
    jne .L_brief
    mov %rsi, %rax
    shr $32, %rax
    cmp $(STUB_TEXT >> 32), %rax
    jae .L_brief
    mov %rdx, %rax
    shr $30, %rax
    jnz .L_brief
    mov %rsi, %rdi
    mov %rdx, %rcx
    xor %eax, %eax
    cld
    rep stosb
    lea A_REGS(%rbx), %rsp
    pop_registers
    mov %rdx, %rax
    lea 16(%rsp), %rsp
    popfq
    pop %rsp
    jmp *%rcx
.L_zero_end:

ctx_wait:
    mov A_SPIN(%rbx), %r12d
    test %r12d, %r12d
    jz 2f
    rdtsc
    mov %eax, %r13d
1:  cmpl $STUB_STOPPED, A_TURN(%rbx)
    jne ctx_resume
    pause
    rdtsc
    sub %r13d, %eax
    cmp %r12d, %eax
    jb 1b
2:  mov $1, %eax
    xchg %eax, A_STUB_SLEEPS(%rbx)
3:  cmpl $STUB_STOPPED, A_TURN(%rbx)
    jne 4f
    lea A_TURN(%rbx), %rdi
    mov $FUTEX_WAIT, %esi
    mov $STUB_STOPPED, %edx
    xor %r10d, %r10d
    mov $__NR_futex, %eax
    syscall
    jmp 3b
4:  movl $0, A_STUB_SLEEPS(%rbx)
ctx_resume:
    xor %eax, %eax
    cmpl %eax, A_KICK(%rbx)
    jne ctx_early /* the signal came while a return to here made it deaf */
    mov A_FLAGS(%rbx), %edi
    test $STUB_TAKE, %edi
    jnz ctx_take
.L_taken:
    test $STUB_RESULT, %edi
    jz 0f
    mov A_RESULT(%rbx), %rax
    mov %rax, A_REGS+104(%rbx)
    mov A_EFLAGS(%rbx), %rax
    mov %rax, A_REGS+24(%rbx)  /* r11 */
    jmp .L_xstate_loaded
0:  test $STUB_SET_BASES, %edi
    jz 1f
    mov A_FS(%rbx), %rax
    wrfsbase %rax
    mov A_GS(%rbx), %rax
    wrgsbase %rax
1:  test $STUB_SAVE, %edi
    jnz ctx_xsave
    mov A_XRESTORE(%rbx), %ecx
    test %ecx, %ecx
    jz .L_xstate_loaded
    mov $XFEATURES, %eax
    mov $-1, %edx
    xrstor64 (%rbx, %rcx)
.L_xstate_loaded:
    lea A_REGS(%rbx), %rsp
    test $STUB_FAST, %edi
    jz ctx_full
    pop_registers
    lea 16(%rsp), %rsp
    popfq
    pop %rsp
    jmp *%rcx
ctx_full:
    push $2 /* iretq wants no NT flag; the word below the registers is nobody's */
    popfq
    pop_registers
    iretq

ctx_take: /* munmap or mprotect; it may as well be a guest that came here with arguments of its own */
    mov %edi, %r12d
    xor %r13d, %r13d
1:  mov A_TAKE(%rbx, %r13), %rax
    mov A_TAKE+8(%rbx, %r13), %rdi
    mov A_TAKE+16(%rbx, %r13), %rsi
    mov A_TAKE+24(%rbx, %r13), %rdx
    syscall
    test %eax, %eax
    jnz 2f
    add $OP_SIZE, %r13
    cmp %rax, A_TAKE(%rbx, %r13)
    jne 1b
    mov %r12d, %edi
    jmp .L_taken
2:  xor %eax, %eax
    jmp ctx_early

ctx_xsave:
    save_xstate
    mov $STUB_SAVED, %eax
    jmp ctx_publish

    .balign 8
no_signals:
    .quad 0

    .section .note.GNU-stack, "", @progbits

/* What several parts of the stub's assembly do alike. */

#define PR_SET_PDEATHSIG 1
#define SIGKILL 9

/* This process dies with the sentry; goes to `orphan` when that has died already. ctrl: a register. */
.macro die_with_sentry ctrl, orphan
    mov $__NR_prctl, %eax
    mov $PR_SET_PDEATHSIG, %edi
    mov $SIGKILL, %esi
    syscall
    /* The sentry may have died before the line above. */
    mov $__NR_getppid, %eax
    syscall
    movabs $STUB_CTRL, \ctrl
    cmp 0(\ctrl), %rax /* struct stub_ctrl: sentry_pid */
    jne \orphan
.endm

/* The arguments of the struct stub_op at r12. */
.macro load_arguments
    mov 8(%r12), %rdi
    mov 16(%r12), %rsi
    mov 24(%r12), %rdx
    mov 32(%r12), %r10
    mov 40(%r12), %r8
    mov 48(%r12), %r9
.endm

/* The general registers of a struct stub_ctx, in its order; rsp goes from r8 to rip. */
.macro pop_registers
    pop %r8
    pop %r9
    pop %r10
    pop %r11
    pop %r12
    pop %r13
    pop %r14
    pop %r15
    pop %rdi
    pop %rsi
    pop %rbp
    pop %rbx
    pop %rdx
    pop %rax
    pop %rcx
.endm

/* The parts of the stub that run without a stack, in memory the guest shares: they read registers
 * and read-only pages only. */
#include <asm/unistd_64.h>
#include "../stub.h"
#include "macros.h"

    .section .stub.batch, "ax"
    .globl stub_batch
stub_batch:
    test %r13, %r13
    jz 2f
1:  mov 0(%r12), %rax
    load_arguments
    syscall
    cmp $-4095, %rax
    jae 2f
    add $56, %r12
    dec %r13
    jnz 1b
2:  int3
    ud2

    .section .stub.clone, "ax"
    .globl stub_clone
stub_clone:
    mov $__NR_clone, %eax
    mov $STUB_THREAD_FLAGS, %edi
    xor %esi, %esi
    xor %edx, %edx
    xor %r10d, %r10d
    xor %r8d, %r8d
    syscall
    test %rax, %rax
    jz stub_park
    int3
    ud2

    .section .stub.park, "ax"
    .globl stub_park
stub_park:
    die_with_sentry %rbx, stub_die
1:  mov $__NR_pause, %eax
    syscall
    jmp 1b

    .section .stub.rest, "ax"
stub_die:
    mov $__NR_exit_group, %eax
    mov $1, %edi
    syscall
    ud2

    /* stub_leave(lo, hi, next): unmaps the mother's text and [lo, hi), the stack among it, and goes
     * to next: stub_park or stub_keeper. */
    .globl stub_leave
stub_leave:
    mov %rdi, %rbx
    mov %rsi, %rbp
    mov %rdx, %r12
    movabs $MOTHER_TEXT, %rdi
    mov $MOTHER_TEXT_SIZE, %esi
    mov $__NR_munmap, %eax
    syscall
    test %rax, %rax
    jnz stub_die
    mov %rbx, %rdi
    mov %rbp, %rsi
    sub %rdi, %rsi
    mov $__NR_munmap, %eax
    syscall
    test %rax, %rax
    jnz stub_die
    jmp *%r12

    .text
    .globl _start
_start:
    xor %ebp, %ebp
    mov %rsp, %rdi
    and $-16, %rsp
    call stub_main
    ud2

    .section .note.GNU-stack, "", @progbits

/* Like Linux's own: which kernel version this vDSO belongs to. */
    .section .note.cordon, "a", @note
    .balign 4
    .long 6, 4, 0
    .asciz "Linux"
    .balign 4
    .long 6 << 16 | 6 << 8
    .section .note.GNU-stack, "", @progbits

/*
 * Patched call sites: system calls that hand over to the sentry without a trap.
 *
 * A site is `mov $nr, %eax` with a system call instruction soon after it, or a load from the stack
 * in front of one, as in syscall(3), or what signal restorers have. The first instruction becomes a
 * jump to a trampoline in the guest's space, which does what it and those behind it did and goes to
 * the stub with the return address in r11; all others stay, so that every rip a thread may have in
 * or behind the site means what it did. Where no instruction has five bytes (glibc's read, musl, Go)
 * the last one becomes a short jump to the padding after its function, where the long jump finds
 * room.
 * The page is changed in a private copy, mapped in one step: a thread sees the old page or the new
 * one, files and other processes never see any of it.
 */
#ifndef CORDON_PATCH_H
#define CORDON_PATCH_H

#include "mm.h"

/* cdef begin */
/* Call sites are patched, where the platform can use it (on = 1, the default). Before the first
 * guest runs. */
void cn_patch_enable(int on);
/* cdef end */

/* Patches the site whose system call with number nr returns to rip, if it is one. entry: where
 * trampolines go. K held, lock not. 1 when it is patched, 0 when it is not, or -errno. */
int cn_mm_patch_site(struct cn_mm *mm, u64 rip, u64 nr, u64 entry);
int cn_patch_enabled(void);

#endif

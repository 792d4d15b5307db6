/* What code around a system call instruction can be patched, and where (patch.h). */
#ifndef CORDON_SITES_H
#define CORDON_SITES_H

#include "../cordon.h"

#define SITE_JUMP 5  /* bytes of a jump that reaches a trampoline */
#define SITE_MOVES 26 /* most bytes of the instructions a trampoline does instead */

struct site {
    u32 at, len; /* the instructions the trampoline does: offset in the page, bytes */
    u32 jump;    /* where the long jump goes: there, or in padding that a short one leads to */
};

/* Finds the site of the call with number nr whose system call instruction ends at rip, an offset in
 * this page of text. */
int site_find(const u8 *page, u32 rip, u64 nr, struct site *s);

#endif

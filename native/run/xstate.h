/*
 * Extended processor state in the standard XSAVE layout: what guests may see of it and checks of
 * what they hand in. Platforms keep full host images (cn_xstate_host_size bytes); guests get the
 * part cn_xstate_size (platform.h) covers.
 */
#ifndef CORDON_XSTATE_H
#define CORDON_XSTATE_H

#include "../cordon.h"

/* Bytes of a full host image, a multiple of 8: every feature of the host's XCR0. */
u32 cn_xstate_host_size(void);
/* A full image of the initial state, malloc'ed; NULL without memory. */
void *cn_xstate_initial(void);
/* Full image to the guest's form. Returns the bytes written (min(len, cn_xstate_size)) or -EINVAL
 * for len < 512. */
int cn_xstate_export(const void *full, void *buf, u32 len);
/* The guest's form (512 legacy bytes or a whole image) to a malloc'ed full one. -EINVAL when a
 * reserved bit is set. */
int cn_xstate_import(const void *buf, u32 len, void **full);

#endif

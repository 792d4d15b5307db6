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
/* An image starts with the FXSAVE part and the XSAVE header. */
enum { CN_XSTATE_LEGACY = 512, CN_XSTATE_HEADER = 64 };
/* The first len bytes of an image of the initial state; at least CN_XSTATE_LEGACY. */
void cn_xstate_initial(void *image, u32 len);
/* Image to the guest's form; `image` may change meanwhile. Returns the bytes written
 * (min(len, cn_xstate_size)) or -EINVAL for len < 512. */
int cn_xstate_export(const void *image, void *buf, u32 len);
/* The guest's form (512 legacy bytes or a whole image) to an image of `size` bytes, at least
 * cn_xstate_size. -EINVAL when a reserved bit is set; nothing is written then. */
int cn_xstate_import(const void *buf, u32 len, void *image, u32 size);

#endif

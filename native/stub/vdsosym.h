/* Looks functions up in the host's vDSO. */
#ifndef CORDON_VDSOSYM_H
#define CORDON_VDSOSYM_H

#include "../cordon.h"

/* Offset of a dynamic symbol from the start of this process's own vDSO image (the same in every
 * process), or 0. */
u64 cn_vdso_offset(const char *name);

#endif

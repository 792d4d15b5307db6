/* The host's auxiliary vector, for the capabilities of the processor that guests are told of. */
#ifndef CORDON_EXEC_AUXV_H
#define CORDON_EXEC_AUXV_H

#include "../cordon.h"

/* cdef begin */
/* The value of an entry of this process's auxiliary vector (AT_*), 0 when there is none. */
uint64_t cn_getauxval(uint64_t type);
/* cdef end */

#endif

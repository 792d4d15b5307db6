#include "auxv.h"

#include <sys/auxv.h>

uint64_t cn_getauxval(uint64_t type)
{
    return getauxval(type);
}

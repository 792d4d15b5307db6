/* The guest's vDSO: an ELF image of ours that calls the host's vDSO, or else makes the system call.
 */
#ifndef CORDON_VDSO_H
#define CORDON_VDSO_H

#include "../cordon.h"

/* Addresses of the host's functions in every address space, 0 where there is none: the first bytes
 * after the image's ELF header and program headers (section .vdsodata), filled in by cn_vdso_image.
 */
struct vdso_data {
    u64 magic;
    u64 clock_gettime, gettimeofday, time, clock_getres, getcpu;
};
#define VDSO_MAGIC 0x6f736476646f6372UL /* "rcdovdso" */

/* cdef begin */
/* The image: whole pages, to be mapped read + exec in one piece (first address goes into
 * AT_SYSINFO_EHDR). The bytes are patched with the platform's host vDSO addresses and constant
 * while the platform runs. NULL before cn_platform_start. */
const uint8_t *cn_vdso_image(uint64_t *len);
/* Where in it the address of the host's getcpu stands: with a 0 there the guest's makes the call. */
uint32_t cn_vdso_getcpu(void);
/* cdef end */

#endif

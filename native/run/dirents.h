/* Directory listings as getdents64(2) has them: made from what the gofer sends, handed to the guest in pieces. */
#ifndef CORDON_DIRENTS_H
#define CORDON_DIRENTS_H

#include "../mm/mm.h"

/* cdef begin */
/* Records (struct linux_dirent64) of the entries in `in`, which are as cn_gf_readdir makes them with attrs; d_off counts up
 * from `first`, the place after the first entry. All are of device dev; ino_bits are put over each inode number. Bytes of out
 * used; -EPROTO: that is no listing; -EXDEV: something is of another device; -ENOSPC: cap is too small (len always does). */
int64_t cn_dirents_make(const uint8_t *in, uint64_t len, uint64_t dev, uint64_t ino_bits, int64_t first, uint8_t *out,
                        uint64_t cap);
/* The offset of the last entry in such an `in`, or -EPROTO. */
int64_t cn_dirents_last(const uint8_t *in, uint64_t len);
/* Copies as many whole records from byte *at on as fit into count bytes of the guest, and moves *at and *index (records
 * before *at) behind them. Bytes copied, 0 at the end; -EINVAL: not even one fits; -EFAULT. */
int64_t cn_dirents_out(struct cn_mm *mm, uint64_t addr, uint64_t count, const uint8_t *records, uint64_t len, uint64_t *at,
                       uint64_t *index);
/* The byte where record number `index` starts, len when there are fewer. */
uint64_t cn_dirents_seek(const uint8_t *records, uint64_t len, uint64_t index);
/* cdef end */

#endif

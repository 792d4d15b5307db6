/* read(2), write(2) and kin on descriptions that C knows (files.h), for the table of fast.c. */
#ifndef CORDON_FASTIO_H
#define CORDON_FASTIO_H

#include "fast.h"

enum cn_fast fast_read(struct cn_task *t);
enum cn_fast fast_write(struct cn_task *t);
enum cn_fast fast_pread64(struct cn_task *t);
enum cn_fast fast_pwrite64(struct cn_task *t);
enum cn_fast fast_readv(struct cn_task *t);
enum cn_fast fast_writev(struct cn_task *t);
enum cn_fast fast_preadv(struct cn_task *t);
enum cn_fast fast_pwritev(struct cn_task *t);
enum cn_fast fast_lseek(struct cn_task *t);
enum cn_fast fast_recvfrom(struct cn_task *t);
enum cn_fast fast_sendto(struct cn_task *t);

#endif

/*
 * The end of descriptions that Python need not see at once (CN_END_LATER).
 *
 * One that nobody has open any more waits for Python to take it apart, at the next call of any task that
 * Python sees; or it is kept as a spare for the next open of the same name by the same flags, root,
 * working directory and credentials, as long as nothing has changed that an open could depend on
 * (names.h). Python sees a spare as open, but for that: with any change spares end, before the guest
 * goes on.
 */
#ifndef CORDON_REOPEN_H
#define CORDON_REOPEN_H

#include "files.h"

/* cdef begin */
/* Indexes of up to n descriptions that ended; Python takes them apart, unless it refers to them or
 * they have got a number again. K held. */
int cn_files_ended(int *index, int n);
/* Nothing refers to f, and its file is as it was opened: it may be a spare. 0: no, take it apart. K
 * held. */
int cn_file_spare(struct cn_file *f);
/* The call that t is in has opened f by a name, for reading only, in file systems whose changes are all
 * known; permission and flags were checked. */
void cn_file_opened(struct cn_task *t, struct cn_file *f);
/* cdef end */

/* The last number of f, which still counts, is in no table. */
void reopen_ended(struct cn_file *f);
/* A spare that was opened by that key; its number counts already. NULL: there is none. */
struct cn_file *reopen_take(const struct name_key *key);
/* Is there something for cn_files_ended? */
int reopen_pending(void);

#endif

/*
 * Being asked before somebody opens a directory (fanotify(7) permission events).
 */
#ifndef CORDON_WATCH_OPENS_H
#define CORDON_WATCH_OPENS_H

#include "../cordon.h"

/* cdef begin */
/* A descriptor (non-blocking) that is readable while another process waits to open the directory `dirfd`. Needs CAP_SYS_ADMIN of the
 * host. Waiters go on when it is closed. */
int cn_opens_watch(int dirfd);
/* Lets all go on that wait now; their number. Opens by the calling process itself don't wait for it: they would wait for ever. */
int cn_opens_allow(int fd);
/* cdef end */

#endif

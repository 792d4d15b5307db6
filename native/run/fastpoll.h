/* poll(2) and ppoll(2) on descriptions that C knows (files.h), for the table of fast.c. */
#ifndef CORDON_FASTPOLL_H
#define CORDON_FASTPOLL_H

#include "fast.h"

enum cn_fast fast_poll(struct cn_task *t);
enum cn_fast fast_ppoll(struct cn_task *t);

#endif

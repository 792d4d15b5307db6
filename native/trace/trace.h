/*
 * The profile of a run: fixed-size records of what each task's host thread turns to, for --profile.
 *
 * A record begins a phase that lasts until the thread's next record. Whoever hooks in asks
 * cn_trace_on first, so that nothing is paid when no profile is taken. Records are gathered in one
 * buffer and written to a descriptor when it is full and at the end.
 */
#ifndef CORDON_TRACE_H
#define CORDON_TRACE_H

#include "../cordon.h"

struct cn_task;

/* cdef begin */
enum {
    CN_TRACE_GUEST = 1,  /* goes into the guest; result: the answer of the call before. Hand-over is part of it */
    CN_TRACE_STOP = 2,   /* came out: rung 1 or a page fault at work; nr: the call, reason: CN_STOP_* */
    CN_TRACE_LOCK = 3,   /* waits for the kernel lock */
    CN_TRACE_KERNEL = 4, /* rung 2: Python */
    CN_TRACE_BLOCK = 5,  /* sleeps */
    CN_TRACE_GOFER = 6,  /* waits for an answer of the gofer */
    CN_TRACE_NAME = 7    /* no phase: args[0] thread group, args[1] task, 16 bytes from args[2] on: its name */
};

struct cn_trace_record {
    uint64_t time; /* ns, CLOCK_MONOTONIC */
    uint32_t thread; /* host thread as the sentry sees it */
    uint16_t nr;
    uint8_t phase;
    uint8_t reason;
    uint64_t args[3];
    int64_t result;
};

/* From now on records go to fd, at most `limit` of them. 0 or -errno. Once, before tasks run. */
int cn_trace_start(int fd, uint64_t limit);
/* Names the calling thread's task. */
void cn_trace_name(uint32_t tgid, uint32_t tid, const char *name, uint32_t len);
/* Writes what is gathered and records no more. How many there were, those beyond the limit included. */
uint64_t cn_trace_stop(void);
/* cdef end */

extern int cn_trace_on;

/* The calling thread turns to a phase with its task t. */
void cn_trace_mark(const struct cn_task *t, int phase);
/* A phase within another: begin, then end goes back to the one before. Without a task. */
void cn_trace_begin(int phase);
void cn_trace_end(void);

#endif

/* Records for --profile. See trace.h. */
#define _GNU_SOURCE
#include "trace.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "../run/run.h"

enum { GATHERED = 8192 };

int cn_trace_on;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct cn_trace_record *gathered;
static u32 filled;
static int out = -1;
static u64 seen, most;

static _Thread_local u32 self;
static _Thread_local u8 phase_now, phase_before;

static void write_out(void)
{
    const char *p = (const char *)gathered;
    size_t left = filled * sizeof(*gathered);

    while (left) {
        ssize_t n = write(out, p, left);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0) { /* nowhere to go: the profile ends here */
            cn_trace_on = 0;
            break;
        }
        p += n;
        left -= (size_t)n;
    }
    filled = 0;
}

static void add(struct cn_trace_record *r)
{
    struct timespec ts;

    if (!self)
        self = (u32)gettid();
    r->thread = self;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    r->time = (u64)ts.tv_sec * 1000000000 + (u64)ts.tv_nsec;
    pthread_mutex_lock(&lock);
    if (gathered && seen++ < most) {
        gathered[filled++] = *r;
        if (filled == GATHERED)
            write_out();
    }
    pthread_mutex_unlock(&lock);
}

int cn_trace_start(int fd, uint64_t limit)
{
    gathered = calloc(GATHERED, sizeof(*gathered));
    if (!gathered)
        return -ENOMEM;
    out = fd;
    most = limit;
    cn_trace_on = 1;
    return 0;
}

uint64_t cn_trace_stop(void)
{
    pthread_mutex_lock(&lock);
    cn_trace_on = 0;
    if (gathered)
        write_out();
    free(gathered);
    gathered = NULL;
    pthread_mutex_unlock(&lock);
    return seen;
}

void cn_trace_mark(const struct cn_task *t, int phase)
{
    struct cn_trace_record r = {.phase = (u8)phase, .nr = 0xffff};

    phase_now = (u8)phase;
    if (phase == CN_TRACE_GUEST)
        r.result = (i64)t->regs.rax;
    if (phase == CN_TRACE_STOP) {
        r.reason = (u8)t->stop.reason;
        if (r.reason == CN_STOP_SYSCALL) {
            r.nr = (u16)(t->regs.orig_rax < 0xffff ? t->regs.orig_rax : 0xffff);
            r.args[0] = t->regs.rdi;
            r.args[1] = t->regs.rsi;
            r.args[2] = t->regs.rdx;
        }
    }
    add(&r);
}

void cn_trace_begin(int phase)
{
    struct cn_trace_record r = {.phase = (u8)phase, .nr = 0xffff};

    phase_before = phase_now;
    phase_now = (u8)phase;
    add(&r);
}

void cn_trace_end(void)
{
    struct cn_trace_record r = {.phase = phase_before, .nr = 0xffff};

    if (!phase_before)
        return; /* began before the profile, or in no phase */
    phase_now = phase_before;
    add(&r);
}

void cn_trace_name(uint32_t tgid, uint32_t tid, const char *name, uint32_t len)
{
    struct cn_trace_record r = {.phase = CN_TRACE_NAME, .nr = 0xffff};
    char text[16] = {0};

    memcpy(text, name, len < 15 ? len : 15);
    r.args[0] = tgid;
    r.args[1] = tid;
    memcpy(&r.args[2], text, 8);
    memcpy(&r.result, text + 8, 8);
    add(&r);
}

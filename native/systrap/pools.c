/* Context areas, channels, and the first contexts of keepers. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "systrap.h"

int area_get(struct cn_platform *p, u32 *slot)
{
    struct stub_ctx *a;
    int rc = 0;

    pthread_mutex_lock(&p->lock);
    if (p->nfree)
        *slot = p->free_slots[--p->nfree];
    else if (p->next_slot < STUB_AREA_SLOTS)
        *slot = p->next_slot++;
    else
        rc = -EAGAIN;
    pthread_mutex_unlock(&p->lock);
    if (rc < 0)
        return rc;
    a = (struct stub_ctx *)(p->areas + (u64)*slot * STUB_AREA_SIZE);
    a->altstack[0] = area_addr(*slot) + STUB_AREA_STACK;
    a->altstack[2] = STUB_AREA_ANSWERS - STUB_AREA_STACK;
    a->turn = STUB_STOPPED;
    return 0;
}

void area_put(struct cn_platform *p, u32 slot)
{
    /* What one guest process left there is not for another to see. */
    fallocate(p->area_fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
              (off_t)((u64)slot * STUB_AREA_SIZE), STUB_AREA_SIZE);
    pthread_mutex_lock(&p->lock);
    p->free_slots[p->nfree++] = slot;
    pthread_mutex_unlock(&p->lock);
}

int channel_get(struct cn_platform *p, int wait)
{
    int channel = -1;

    pthread_mutex_lock(&p->lock);
    while (!p->nchannels && wait)
        pthread_cond_wait(&p->channel_freed, &p->lock);
    /* Births leave some: they keep theirs until somebody takes the keeper. */
    if (p->nchannels > (wait ? 0 : STUB_CHANNELS / 2))
        channel = p->channels[--p->nchannels];
    pthread_mutex_unlock(&p->lock);
    return channel;
}

void channel_put(struct cn_platform *p, int channel)
{
    pthread_mutex_lock(&p->lock);
    p->channels[p->nchannels++] = channel;
    pthread_cond_signal(&p->channel_freed);
    pthread_mutex_unlock(&p->lock);
}

static struct stub_op map_area(u64 addr, u64 len, u64 prot)
{
    return (struct stub_op){
        SYS_mmap, {addr, len, prot, MAP_SHARED | MAP_FIXED, STUB_FD_AREA, addr - STUB_AREA}};
}

void birth_ops(struct stub_op op[BIRTH_OPS], u32 area)
{
    u64 addr = area_addr(area);

    op[0] = map_area(addr, STUB_AREA_ANSWERS, PROT_READ | PROT_WRITE);
    op[1] = map_area(addr + STUB_AREA_ANSWERS, STUB_AREA_SIZE - STUB_AREA_ANSWERS, PROT_READ);
    op[2] = (struct stub_op){SYS_clone, {STUB_CTX_FLAGS, 0, 0, addr}};
}

void birth_prepare(void *arg, u32 slot, struct stub_ctrl *ctrl)
{
    struct cn_platform *p = arg;
    struct birth *b = &p->births[slot];

    ctrl->one = 1;
    ctrl->seq = 0;
    if (b->channel < 0) { /* else a stub that could not be made had it */
        b->channel = channel_get(p, 0);
        if (b->channel < 0)
            return;
        if (area_get(p, &b->area) < 0) {
            channel_put(p, b->channel);
            b->channel = -1;
            return;
        }
    }
    birth_ops(ctrl->op, b->area);
    ctrl->count = BIRTH_OPS;
    ctrl->channel = (u32)(STUB_FD_CHANNEL + 2 * b->channel);
    ctrl->seq = 1; /* not what a keeper starts with */
}

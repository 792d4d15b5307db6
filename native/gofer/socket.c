/* 9P messages over a stream socket, with passed descriptors; see gofer.h. */
#include "gofer.h"
#include "../trace/trace.h"

#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define MAX_SOCKETS 256
#define MAX_PASSED 8
#define HEADER 7 /* size[4] type[1] tag[2] */
#define TYPE 4
#define TVERSION 100

int cn_p9_wait(const int *fds, uint32_t n)
{
    struct pollfd p[MAX_SOCKETS];
    if (!n || n > MAX_SOCKETS)
        return -EINVAL;
    for (u32 i = 0; i < n; i++)
        p[i] = (struct pollfd){ .fd = fds[i], .events = POLLIN };
    while (poll(p, n, -1) < 0)
        if (errno != EINTR)
            return -errno;
    for (u32 i = 0; i < n; i++)
        if (p[i].revents)
            return (int)i;
    return -EAGAIN;
}

int cn_p9_recv(int fd, uint8_t *buf, uint32_t have, uint32_t cap)
{
    if (have >= cap)
        return -EINVAL;
    for (;;) {
        ssize_t r = recv(fd, buf + have, cap - have, 0);
        if (r >= 0)
            return (int)r;
        if (errno == ECONNRESET)
            return 0;
        if (errno != EINTR)
            return -errno;
    }
}

/* Writes all of n pieces (they are used up), with descriptor `pass` on the first byte if >= 0. */
static int send_all(int fd, struct iovec *iov, size_t n, int pass)
{
    union {
        struct cmsghdr head;
        char space[CMSG_SPACE(sizeof(int))];
    } control;
    struct msghdr msg = { .msg_iov = iov, .msg_iovlen = n };
    if (pass >= 0) {
        memset(&control, 0, sizeof control);
        msg.msg_control = &control;
        msg.msg_controllen = sizeof control;
        control.head.cmsg_len = CMSG_LEN(sizeof(int));
        control.head.cmsg_level = SOL_SOCKET;
        control.head.cmsg_type = SCM_RIGHTS;
        memcpy(CMSG_DATA(&control.head), &pass, sizeof pass);
    }
    for (;;) {
        while (msg.msg_iovlen && !msg.msg_iov->iov_len) {
            msg.msg_iov++;
            msg.msg_iovlen--;
        }
        if (!msg.msg_iovlen)
            return 0;
        ssize_t r = sendmsg(fd, &msg, MSG_NOSIGNAL);
        if (r < 0) {
            if (errno == EINTR)
                continue;
            return -errno;
        }
        for (size_t i = 0; r > 0; i++) {
            size_t part = (size_t)r < msg.msg_iov[i].iov_len ? (size_t)r : msg.msg_iov[i].iov_len;
            msg.msg_iov[i].iov_base = (char *)msg.msg_iov[i].iov_base + part;
            msg.msg_iov[i].iov_len -= part;
            r -= (ssize_t)part;
        }
        msg.msg_control = NULL; /* went with the first bytes */
        msg.msg_controllen = 0;
    }
}

int cn_p9_send(int fd, const uint8_t *buf, uint32_t len, int pass)
{
    struct iovec iov = { .iov_base = (void *)(uintptr_t)buf, .iov_len = len };
    return send_all(fd, &iov, 1, pass);
}

/* Takes the descriptors of one recvmsg into passed[0..*n); closes what is over. */
static void take_fds(struct msghdr *msg, int *passed, u32 *n, int *too_many, int *lost)
{
    for (struct cmsghdr *c = CMSG_FIRSTHDR(msg); c; c = CMSG_NXTHDR(msg, c)) {
        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
            continue;
        size_t count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (size_t i = 0; i < count; i++) {
            int fd;
            memcpy(&fd, CMSG_DATA(c) + i * sizeof fd, sizeof fd);
            if (*n < 1) {
                passed[(*n)++] = fd;
            } else {
                close(fd);
                *too_many = 1;
            }
        }
    }
    if (msg->msg_flags & MSG_CTRUNC && !*n)
        *lost = 1; /* the descriptor table is full */
}

/* One message, no more and no less. */
static int receive(int fd, u8 *reply, u32 cap, int *passed)
{
    u32 have = 0, want = 0, nfds = 0;
    int too_many = 0, lost = 0;
    while (!want || have < want) {
        char control[CMSG_SPACE(MAX_PASSED * sizeof(int))] __attribute__((aligned(8)));
        struct iovec iov = { .iov_base = reply + have, .iov_len = cap - have };
        struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control };
        ssize_t r = recvmsg(fd, &msg, MSG_CMSG_CLOEXEC);
        if (r < 0 && errno == EINTR)
            continue;
        if (r < 0)
            return errno == ECONNRESET ? -EPIPE : -errno;
        take_fds(&msg, passed, &nfds, &too_many, &lost);
        if (!r)
            return -EPIPE;
        have += (u32)r;
        if (!want && have >= 4) {
            want = reply[0] | (u32)reply[1] << 8 | (u32)reply[2] << 16 | (u32)reply[3] << 24;
            if (want < 7 || want > cap)
                return -EPROTO;
        }
        if (want && have > want)
            return -EPROTO;
        if (have == cap && have < want)
            return -EPROTO;
    }
    if (lost && !nfds)
        *passed = -2;
    return too_many ? -EPROTO : (int)want;
}

int cn_p9_call(int fd, const uint8_t *request, uint32_t len, uint32_t last, uint8_t *reply, uint32_t cap, int32_t *passed)
{
    int got = -1;
    *passed = -1;
    if (cap < HEADER || len < HEADER || last > len - HEADER)
        return -EINVAL;
    u32 cpu = (u32)sched_getcpu();
    u8 tag[2] = { (u8)cpu, (u8)(cpu >> 8 & 0x7f) };
    if (request[last + TYPE] == TVERSION)
        tag[0] = tag[1] = 0xff; /* NOTAG */
    const u32 at = last + TYPE + 1;
    struct iovec iov[3] = {
        { .iov_base = (void *)(uintptr_t)request, .iov_len = at },
        { .iov_base = tag, .iov_len = sizeof tag },
        { .iov_base = (void *)(uintptr_t)(request + at + sizeof tag), .iov_len = len - at - sizeof tag },
    };
    if (CN_UNLIKELY(cn_trace_on))
        cn_trace_begin(CN_TRACE_GOFER);
    int r = send_all(fd, iov, 3, -1);
    if (!r)
        r = receive(fd, reply, cap, &got);
    if (CN_UNLIKELY(cn_trace_on))
        cn_trace_end();
    if (r >= 0 && memcmp(reply + TYPE + 1, tag, sizeof tag))
        r = -EPROTO;
    if (r < 0 && got >= 0) {
        close(got);
        got = -1;
    }
    *passed = got;
    return r;
}

int cn_p9_follow(uint32_t cpu)
{
    cpu_set_t set;
    if (cpu >= CPU_SETSIZE)
        return -EINVAL;
    CPU_ZERO(&set);
    CPU_SET(cpu, &set);
    return sched_setaffinity(0, sizeof set, &set) ? -errno : 0;
}

/* 9P messages over a stream socket, with passed descriptors; see gofer.h. */
#include "gofer.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define MAX_SOCKETS 256
#define MAX_PASSED 8

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

int cn_p9_send(int fd, const uint8_t *buf, uint32_t len, int pass)
{
    union {
        struct cmsghdr head;
        char space[CMSG_SPACE(sizeof(int))];
    } control;
    struct iovec iov = { .iov_base = (void *)(uintptr_t)buf, .iov_len = len };
    struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };
    if (pass >= 0) {
        memset(&control, 0, sizeof control);
        msg.msg_control = &control;
        msg.msg_controllen = sizeof control;
        control.head.cmsg_len = CMSG_LEN(sizeof(int));
        control.head.cmsg_level = SOL_SOCKET;
        control.head.cmsg_type = SCM_RIGHTS;
        memcpy(CMSG_DATA(&control.head), &pass, sizeof pass);
    }
    while (iov.iov_len) {
        ssize_t r = sendmsg(fd, &msg, MSG_NOSIGNAL);
        if (r < 0) {
            if (errno == EINTR)
                continue;
            return -errno;
        }
        iov.iov_base = (char *)iov.iov_base + r;
        iov.iov_len -= (size_t)r;
        msg.msg_control = NULL; /* went with the first bytes */
        msg.msg_controllen = 0;
    }
    return 0;
}

/* Takes the descriptors of one recvmsg into passed[0..*n); closes what is over. */
static void take_fds(struct msghdr *msg, int *passed, u32 *n, int *too_many)
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
    if (msg->msg_flags & MSG_CTRUNC)
        *too_many = 1;
}

/* One message, no more and no less. */
static int receive(int fd, u8 *reply, u32 cap, int *passed)
{
    u32 have = 0, want = 0, nfds = 0;
    int too_many = 0;
    while (!want || have < want) {
        char control[CMSG_SPACE(MAX_PASSED * sizeof(int))] __attribute__((aligned(8)));
        struct iovec iov = { .iov_base = reply + have, .iov_len = cap - have };
        struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control };
        ssize_t r = recvmsg(fd, &msg, MSG_CMSG_CLOEXEC);
        if (r < 0 && errno == EINTR)
            continue;
        if (r < 0)
            return errno == ECONNRESET ? -EPIPE : -errno;
        take_fds(&msg, passed, &nfds, &too_many);
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
    return too_many ? -EPROTO : (int)want;
}

int cn_p9_call(int fd, const uint8_t *request, uint32_t len, uint8_t *reply, uint32_t cap, int32_t *passed)
{
    int got = -1;
    *passed = -1;
    if (cap < 7)
        return -EINVAL;
    int r = cn_p9_send(fd, request, len, -1);
    if (!r)
        r = receive(fd, reply, cap, &got);
    if (r < 0 && got >= 0) {
        close(got);
        got = -1;
    }
    *passed = got;
    return r;
}

/* Host sockets; see hostsock.h. */
#define _GNU_SOURCE
#include "hostsock.h"

#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <time.h>

#include <linux/sockios.h>

_Static_assert(sizeof(struct sockaddr_in6) == CN_NET_ADDR, "the largest address");

static int ret(int r)
{
    return r < 0 ? -errno : r;
}

int cn_net_socket(int domain, int type, int protocol)
{
    return ret(socket(domain, type | SOCK_NONBLOCK | SOCK_CLOEXEC, protocol));
}

static int int_option(int fd, int level, int name)
{
    int value = -1;
    socklen_t len = sizeof value;

    return getsockopt(fd, level, name, &value, &len) < 0 ? -1 : value;
}

int cn_net_is_inet(int fd)
{
    int domain = int_option(fd, SOL_SOCKET, SO_DOMAIN);
    int type = int_option(fd, SOL_SOCKET, SO_TYPE);
    int protocol = int_option(fd, SOL_SOCKET, SO_PROTOCOL);

    if (domain != AF_INET && domain != AF_INET6)
        return -EINVAL;
    if (type == SOCK_STREAM && protocol == IPPROTO_TCP)
        return 0;
    return type == SOCK_DGRAM && protocol == IPPROTO_UDP ? 0 : -EINVAL;
}

/* Copies an address that is one of the two kinds. */
static int take_address(struct sockaddr_in6 *out, const uint8_t *addr, uint32_t len)
{
    memset(out, 0, sizeof *out);
    if (len > sizeof *out)
        return -EINVAL;
    memcpy(out, addr, len);
    if (out->sin6_family == AF_INET && len == sizeof(struct sockaddr_in))
        return 0;
    return out->sin6_family == AF_INET6 && len == sizeof *out ? 0 : -EINVAL;
}

int cn_net_bind(int fd, const uint8_t *addr, uint32_t len)
{
    struct sockaddr_in6 a;

    if (take_address(&a, addr, len))
        return -EINVAL;
    return ret(bind(fd, (struct sockaddr *)&a, len));
}

int cn_net_connect(int fd, const uint8_t *addr, uint32_t len)
{
    struct sockaddr_in6 a;

    if (len == 2 && !addr[0] && !addr[1]) {
        memset(&a, 0, sizeof a); /* AF_UNSPEC */
        return ret(connect(fd, (struct sockaddr *)&a, sizeof(struct sockaddr)));
    }
    if (take_address(&a, addr, len))
        return -EINVAL;
    return ret(connect(fd, (struct sockaddr *)&a, len));
}

int cn_net_listen(int fd, int backlog)
{
    return ret(listen(fd, backlog));
}

int cn_net_accept(int fd)
{
    return ret(accept4(fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC));
}

int cn_net_name(int fd, int peer, uint8_t *addr)
{
    socklen_t len = CN_NET_ADDR;
    int r = peer ? getpeername(fd, (struct sockaddr *)addr, &len)
                 : getsockname(fd, (struct sockaddr *)addr, &len);

    return r < 0 ? -errno : (int)(len > CN_NET_ADDR ? CN_NET_ADDR : len);
}

int cn_net_shutdown(int fd, int how)
{
    return ret(shutdown(fd, how));
}

int cn_net_getopt(int fd, int level, int name, uint8_t *value, uint32_t room)
{
    socklen_t len = room;

    return getsockopt(fd, level, name, value, &len) < 0 ? -errno : (int)len;
}

int cn_net_setopt(int fd, int level, int name, const uint8_t *value, uint32_t len)
{
    return ret(setsockopt(fd, level, name, value, len));
}

int cn_net_poll(int fd)
{
    struct pollfd p = {.fd = fd, .events = POLLIN | POLLOUT | POLLRDNORM | POLLWRNORM | POLLRDHUP};

    while (poll(&p, 1, 0) < 0)
        if (errno != EINTR)
            return -errno;
    return p.revents;
}

int cn_net_queued(int fd, int out)
{
    int n = 0;

    return ioctl(fd, out ? SIOCOUTQ : SIOCINQ, &n) < 0 ? -errno : n;
}

int64_t cn_net_read(int fd, uint8_t *buf, uint64_t n, int peek)
{
    ssize_t r;

    do
        r = recv(fd, buf, n, peek ? MSG_PEEK | MSG_DONTWAIT : MSG_DONTWAIT);
    while (r < 0 && errno == EINTR);
    return r < 0 ? -errno : r;
}

int64_t cn_net_write(int fd, const uint8_t *buf, uint64_t n)
{
    ssize_t r;

    do
        r = send(fd, buf, n, MSG_NOSIGNAL | MSG_DONTWAIT);
    while (r < 0 && errno == EINTR);
    return r < 0 ? -errno : r;
}

static void map_v4(uint8_t *out, const void *ip)
{
    memset(out, 0, 10);
    memset(out + 10, 0xff, 2);
    memcpy(out + 12, ip, 4);
}

static void note_control(struct cn_net_info *info, const struct cmsghdr *c)
{
    const void *data = CMSG_DATA(c);
    size_t len = c->cmsg_len - CMSG_LEN(0);
    struct in_pktinfo four;
    struct in6_pktinfo six;
    struct timespec ts;

    if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_TIMESTAMPNS && len >= sizeof ts) {
        memcpy(&ts, data, sizeof ts);
        info->time_ns = (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
    } else if (c->cmsg_level == SOL_IP && c->cmsg_type == IP_PKTINFO && len >= sizeof four) {
        memcpy(&four, data, sizeof four);
        map_v4(info->dest, &four.ipi_addr);
        info->has_dest = 1;
        info->ifindex = four.ipi_ifindex;
    } else if (c->cmsg_level == SOL_IPV6 && c->cmsg_type == IPV6_PKTINFO && len >= sizeof six) {
        memcpy(&six, data, sizeof six);
        memcpy(info->dest, &six.ipi6_addr, 16);
        info->has_dest = 1;
        info->ifindex = (int32_t)six.ipi6_ifindex;
    } else if (((c->cmsg_level == SOL_IP && c->cmsg_type == IP_TTL) ||
                (c->cmsg_level == SOL_IPV6 && c->cmsg_type == IPV6_HOPLIMIT)) &&
               len >= sizeof(int)) {
        memcpy(&info->ttl, data, sizeof(int));
    } else if (c->cmsg_level == SOL_IP && c->cmsg_type == IP_TOS && len >= 1) {
        info->tos = *(const uint8_t *)data;
    } else if (c->cmsg_level == SOL_IPV6 && c->cmsg_type == IPV6_TCLASS && len >= sizeof(int)) {
        memcpy(&info->tos, data, sizeof(int));
    }
}

int64_t cn_net_recv(int fd, uint8_t *buf, uint64_t n, int peek, struct cn_net_info *info)
{
    union {
        struct cmsghdr head;
        char space[512];
    } control;
    struct iovec iov = {buf, n};
    struct msghdr msg = {.msg_name = info->source,
                         .msg_namelen = CN_NET_ADDR,
                         .msg_iov = &iov,
                         .msg_iovlen = 1,
                         .msg_control = &control,
                         .msg_controllen = sizeof control};
    ssize_t r;

    memset(info, 0, sizeof *info);
    info->ttl = -1;
    do
        r = recvmsg(fd, &msg, MSG_DONTWAIT | MSG_TRUNC | (peek ? MSG_PEEK : 0));
    while (r < 0 && errno == EINTR);
    if (r < 0)
        return -errno;
    info->source_len = msg.msg_namelen > CN_NET_ADDR ? CN_NET_ADDR : msg.msg_namelen;
    for (struct cmsghdr *c = CMSG_FIRSTHDR(&msg); c; c = CMSG_NXTHDR(&msg, c))
        note_control(info, c);
    return r;
}

/* Appends a control message; the buffer has room for all that there can be. */
static void add_control(struct msghdr *msg, int level, int type, const void *data, size_t len)
{
    struct cmsghdr *c = (struct cmsghdr *)((char *)msg->msg_control + msg->msg_controllen);

    c->cmsg_level = level;
    c->cmsg_type = type;
    c->cmsg_len = CMSG_LEN(len);
    memcpy(CMSG_DATA(c), data, len);
    msg->msg_controllen += CMSG_SPACE(len);
}

static void add_source(struct msghdr *msg, const uint8_t *source)
{
    static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};

    if (!memcmp(source, mapped, sizeof mapped)) {
        struct in_pktinfo info = {0};
        memcpy(&info.ipi_spec_dst, source + 12, 4);
        add_control(msg, SOL_IP, IP_PKTINFO, &info, sizeof info);
    } else {
        struct in6_pktinfo info = {0};
        memcpy(&info.ipi6_addr, source, 16);
        add_control(msg, SOL_IPV6, IPV6_PKTINFO, &info, sizeof info);
    }
}

int64_t cn_net_send(int fd, const uint8_t *buf, uint64_t n, const uint8_t *to, uint32_t to_len,
                    const uint8_t *source, int ttl, int tos)
{
    union {
        struct cmsghdr head;
        char space[CMSG_SPACE(sizeof(struct in6_pktinfo)) + 2 * CMSG_SPACE(sizeof(int))];
    } control;
    struct iovec iov = {(void *)buf, n};
    struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
    struct sockaddr_in6 a;
    ssize_t r;

    if (to_len) {
        if (take_address(&a, to, to_len))
            return -EINVAL;
        msg.msg_name = &a;
        msg.msg_namelen = to_len;
    }
    if (source || ttl >= 0 || tos >= 0) {
        int six = int_option(fd, SOL_SOCKET, SO_DOMAIN) == AF_INET6;
        memset(&control, 0, sizeof control);
        msg.msg_control = &control;
        if (source)
            add_source(&msg, source);
        if (ttl >= 0)
            add_control(&msg, six ? SOL_IPV6 : SOL_IP, six ? IPV6_HOPLIMIT : IP_TTL, &ttl, sizeof ttl);
        if (tos >= 0)
            add_control(&msg, six ? SOL_IPV6 : SOL_IP, six ? IPV6_TCLASS : IP_TOS, &tos, sizeof tos);
    }
    do
        r = sendmsg(fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL);
    while (r < 0 && errno == EINTR);
    return r < 0 ? -errno : r;
}

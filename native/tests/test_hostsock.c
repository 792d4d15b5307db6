/*
 * Unit tests of native/net: host sockets over lo, with hostile addresses and descriptors.
 *
 * Usage: test_hostsock; prints "ok NAME" for each test. Builds with -fsanitize=address,undefined.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "../net/hostsock.h"
#include "check.h"

static struct sockaddr_in lo(void)
{
    return (struct sockaddr_in){ .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
}

static void test_addresses(void)
{
    int s = cn_net_socket(AF_INET, SOCK_STREAM, IPPROTO_TCP);
    struct sockaddr_in a = lo();
    uint8_t junk[64];

    CHECK(s >= 0 && cn_net_is_inet(s) == 0);
    CHECK(fcntl(s, F_GETFL) & O_NONBLOCK && fcntl(s, F_GETFD) & FD_CLOEXEC);
    for (uint32_t len = 0; len < sizeof junk; len++)
        for (int family = 0; family < 256; family++) {
            memset(junk, 0, sizeof junk);
            junk[0] = (uint8_t)family;
            if ((family == AF_INET && len == 16) || (family == AF_INET6 && len == 28))
                continue;
            CHECK(cn_net_bind(s, junk, len) == -EINVAL);
            CHECK((family == 0 && len == 2) || cn_net_connect(s, junk, len) == -EINVAL);
        }
    CHECK(cn_net_bind(s, (uint8_t *)&a, sizeof a) == 0);
    int pair[2], null = open("/dev/null", O_RDWR);
    CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0);
    CHECK(cn_net_is_inet(pair[0]) == -EINVAL && cn_net_is_inet(null) == -EINVAL && cn_net_is_inet(-1) == -EINVAL);
    close(s), close(null), close(pair[0]), close(pair[1]);
}

static void test_stream(void)
{
    int l = cn_net_socket(AF_INET, SOCK_STREAM, IPPROTO_TCP), c = cn_net_socket(AF_INET, SOCK_STREAM, IPPROTO_TCP), s;
    struct sockaddr_in a = lo();
    uint8_t name[CN_NET_ADDR], buf[8];
    int one = 1;

    CHECK(cn_net_bind(l, (uint8_t *)&a, sizeof a) == 0 && cn_net_listen(l, 4) == 0);
    CHECK(cn_net_accept(l) == -EAGAIN);
    CHECK(cn_net_name(l, 0, name) == sizeof a && cn_net_name(l, 1, name + 0) == -ENOTCONN);
    CHECK(cn_net_name(l, 0, name) == sizeof a);
    CHECK(cn_net_connect(c, name, sizeof a) == -EINPROGRESS);
    struct pollfd p = { c, POLLOUT, 0 };
    CHECK(poll(&p, 1, 1000) == 1 && cn_net_poll(c) & POLLOUT);
    CHECK((s = cn_net_accept(l)) >= 0 && fcntl(s, F_GETFL) & O_NONBLOCK);
    CHECK(cn_net_read(s, buf, 8, 0) == -EAGAIN);
    CHECK(cn_net_write(c, (const uint8_t *)"hello", 5) == 5);
    p.fd = s, p.events = POLLIN;
    CHECK(poll(&p, 1, 1000) == 1 && cn_net_queued(s, 0) == 5);
    CHECK(cn_net_read(s, buf, 2, 1) == 2 && cn_net_read(s, buf, 8, 0) == 5 && !memcmp(buf, "hello", 5));
    CHECK(cn_net_setopt(c, IPPROTO_TCP, TCP_NODELAY, (uint8_t *)&one, sizeof one) == 0);
    CHECK(cn_net_getopt(c, IPPROTO_TCP, TCP_NODELAY, buf, 4) == 4 && buf[0]);
    CHECK(cn_net_shutdown(c, SHUT_WR) == 0 && poll(&p, 1, 1000) == 1 && cn_net_read(s, buf, 8, 0) == 0);
    CHECK(cn_net_write(c, buf, 1) == -EPIPE);
    close(l), close(c), close(s);
}

static void test_datagrams(void)
{
    int a = cn_net_socket(AF_INET6, SOCK_DGRAM, IPPROTO_UDP), b = cn_net_socket(AF_INET, SOCK_DGRAM, IPPROTO_UDP), one = 1;
    struct sockaddr_in6 any = { .sin6_family = AF_INET6 };
    struct cn_net_info info;
    uint8_t name[CN_NET_ADDR], buf[8];

    CHECK(cn_net_bind(a, (uint8_t *)&any, sizeof any) == 0 && cn_net_name(a, 0, name) == sizeof any);
    CHECK(cn_net_setopt(a, IPPROTO_IPV6, IPV6_RECVPKTINFO, (uint8_t *)&one, sizeof one) == 0);
    CHECK(cn_net_setopt(a, SOL_SOCKET, SO_TIMESTAMPNS, (uint8_t *)&one, sizeof one) == 0);
    struct sockaddr_in to = lo();
    memcpy(&to.sin_port, name + 2, 2);
    uint8_t source[16] = { [10] = 0xff, [11] = 0xff, [12] = 127, [15] = 9 };
    CHECK(cn_net_send(b, (const uint8_t *)"datagram!", 9, (uint8_t *)&to, sizeof to, source, 7, 4) == 9);
    CHECK(cn_net_send(b, buf, 1, name, 5, NULL, -1, -1) == -EINVAL);
    struct pollfd p = { a, POLLIN, 0 };
    CHECK(poll(&p, 1, 1000) == 1);
    CHECK(cn_net_recv(a, buf, 4, 1, &info) == 9 && !memcmp(buf, "data", 4));
    CHECK(cn_net_recv(a, buf, 8, 0, &info) == 9);
    CHECK(info.source_len == sizeof any && info.source[8 + 15] == 9 && info.has_dest && info.dest[15] == 1 && info.time_ns);
    CHECK(cn_net_recv(a, buf, 8, 0, &info) == -EAGAIN);
    close(a), close(b);
}

int main(void)
{
    static const struct {
        const char *name;
        void (*run)(void);
    } tests[] = {
        { "addresses", test_addresses },
        { "stream", test_stream },
        { "datagrams", test_datagrams },
    };
    for (size_t i = 0; i < sizeof tests / sizeof *tests; i++) {
        tests[i].run();
        printf("ok %s\n", tests[i].name);
    }
    return 0;
}

/* UDP over lo: names, messages, control data, errors, options (udp(7), ip(7), ipv6(7)). */
#include "inet.h"
#include <netinet/ip.h>
#include <netinet/udp.h>

static long send4(int s, const char *ip, int port, const char *text, int flags)
{
    struct sockaddr_in a = in4(ip, port);
    return sendto(s, text, strlen(text), flags, (struct sockaddr *)&a, sizeof a);
}

static long send6(int s, const char *ip, int port, const char *text, int flags)
{
    struct sockaddr_in6 a = in6(ip, port);
    return sendto(s, text, strlen(text), flags, (struct sockaddr *)&a, sizeof a);
}

/* Receives with control data and prints it. */
static long get_msg(int s, int size, int room, int flags)
{
    char control[500] = {0};
    struct sockaddr_in6 a;
    struct iovec iov[2] = {{buf, size / 2}, {buf + 1000, size - size / 2}};
    struct msghdr h = {.msg_name = &a, .msg_namelen = sizeof a, .msg_iov = iov, .msg_iovlen = 2, .msg_control = control,
                       .msg_controllen = room};
    usleep(2000);
    long n = recvmsg(s, &h, flags | MSG_DONTWAIT);
    if (n < 0)
        return n;
    print_name("from", &a, h.msg_namelen);
    printf("  flags %x controllen %zu\n", h.msg_flags, h.msg_controllen);
    for (struct cmsghdr *c = CMSG_FIRSTHDR(&h); c; c = CMSG_NXTHDR(&h, c)) {
        printf("  cmsg len %zu level %d type %d", c->cmsg_len, c->cmsg_level, c->cmsg_type);
        char text[64] = "";
        if (c->cmsg_level == SOL_IP && c->cmsg_type == IP_PKTINFO) {
            struct in_pktinfo *i = (void *)CMSG_DATA(c);
            printf(" index %d dst %s", i->ipi_ifindex, inet_ntop(AF_INET, &i->ipi_spec_dst, text, sizeof text));
            printf(" addr %s", inet_ntop(AF_INET, &i->ipi_addr, text, sizeof text));
        } else if (c->cmsg_level == SOL_IPV6 && c->cmsg_type == IPV6_PKTINFO) {
            struct in6_pktinfo *i = (void *)CMSG_DATA(c);
            printf(" index %d addr %s", i->ipi6_ifindex, inet_ntop(AF_INET6, &i->ipi6_addr, text, sizeof text));
        } else if (c->cmsg_level == SOL_IP && c->cmsg_type == IP_TOS)
            printf(" %d", *CMSG_DATA(c));
        else if (c->cmsg_level != SOL_SOCKET)
            printf(" %d", *(int *)CMSG_DATA(c));
        else {
            struct timeval *tv = (void *)CMSG_DATA(c);
            printf(" recent %d", labs(tv->tv_sec - time(NULL)) < 3);
        }
        printf("\n");
    }
    return n;
}

static void unbound(void)
{
    int s = udp();
    char c;
    SHOW(bits(s));
    SHOW(names(s));
    SHOW(send(s, "x", 1, 0));
    SHOW(recv(s, buf, 1, MSG_DONTWAIT));
    SHOW(shutdown(s, SHUT_RD));
    SHOW(recv(s, buf, 1, MSG_DONTWAIT));
    s = udp();
    SHOW(listen(s, 1));
    SHOW(accept(s, NULL, NULL));
    SHOW(send4(s, "127.0.0.1", 9, "nobody", 0));
    SHOW(names(s));
    SHOW(send4(s, "127.0.0.1", 0, "port 0", 0));
    SHOW(send4(s, "192.0.2.1", 9, "no route", 0));
    SHOW(send4(s, "127.255.255.255", 9, "broadcast", 0));
    SHOW(send4(s, "127.0.0.1", 9, "urgent", MSG_OOB));
    SHOW(send(s, "x", 1, 0));
    struct sockaddr_in a = in4("127.0.0.1", 9);
    SHOW(sendto(s, &c, 1, 0, (struct sockaddr *)&a, 8));
    a.sin_family = AF_UNIX;
    SHOW(sendto(s, &c, 1, 0, (struct sockaddr *)&a, sizeof a));
    SHOW(recv(s, buf, 1, MSG_OOB | MSG_DONTWAIT));
    SHOW(recv(s, buf, 1, MSG_ERRQUEUE | MSG_DONTWAIT));
}

static void messages(void)
{
    int a = udp(), b = udp(), n;
    bind4(a, "127.0.0.1", 3001);
    bind4(b, "127.0.0.1", 3002);
    SHOW(send4(a, "127.0.0.1", 3002, "one", 0));
    SHOW(send4(a, "127.0.0.1", 3002, "", 0));
    SHOW(send4(a, "127.0.0.1", 3002, "second", 0));
    SHOW(bits(b));
    SHOW(ioctl(b, FIONREAD, &n));
    SHOW(n);
    SHOW(recv(b, buf, 2, MSG_PEEK));
    SHOW(recv(b, buf, 2, MSG_TRUNC));
    SHOW(ioctl(b, FIONREAD, &n));
    SHOW(n);
    SHOW(recv(b, buf, 10, 0));
    SHOW(get_msg(b, 4, 0, 0));
    SHOW(recv(b, buf, 10, MSG_DONTWAIT));
    SHOW(write(a, "x", 1));
    SHOW(connect4(a, "127.0.0.1", 3002));
    SHOW(names(a));
    SHOW(write(a, "written", 7));
    SHOW(read(b, buf, 3));
    SHOW(recv(b, buf, 10, MSG_DONTWAIT));
    SHOW(send4(b, "127.0.0.1", 3001, "answer", 0));
    int c = udp();
    bind4(c, "127.0.0.1", 3003);
    SHOW(send4(c, "127.0.0.1", 3001, "stranger", 0));
    SHOW(recv(a, buf, 100, MSG_DONTWAIT));
    SHOW(recv(a, buf, 100, MSG_DONTWAIT));
    SHOW(connect4(a, "127.0.0.1", 3003));
    SHOW(send4(a, "127.0.0.1", 3002, "elsewhere", 0));
    SHOW(recv(b, buf, 100, 0));
    SHOW(unconnect(a));
    SHOW(names(a));
    memset(buf, 'x', sizeof buf);
    connect4(a, "127.0.0.1", 3002);
    SHOW(send(a, buf, 65507, 0));
    SHOW(send(a, buf, 65508, 0));
    SHOW(recv(b, buf, 100000, 0));
    SHOW(shutdown(b, SHUT_RD));
    SHOW(recv(b, buf, 1, 0));
    SHOW(read(b, buf, 1));
    SHOW(bits(b));
    SHOW(shutdown(a, SHUT_WR));
    SHOW(send(a, "x", 1, MSG_NOSIGNAL));
    SHOW(bits(a));
    int many = 0;
    b = udp();
    bind4(b, "127.0.0.1", 3005);
    set(b, SOL_SOCKET, SO_RCVBUF, 4000);
    a = udp();
    connect4(a, "127.0.0.1", 3005);
    for (int i = 0; i < 200; i++)
        many += send(a, "flood", 5, 0) == 5;
    int got = 0;
    while (recv(b, buf, 10, MSG_DONTWAIT) == 5)
        got++;
    SHOW(many);
    SHOW(got > 0 && got < 100);
}

static void refused(void)
{
    int s = udp();
    SHOW(connect4(s, "127.0.0.1", 9));
    SHOW(send(s, "x", 1, 0));
    SHOW(bits(s));
    SHOW(recv(s, buf, 1, MSG_DONTWAIT));
    SHOW(recv(s, buf, 1, MSG_DONTWAIT));
    SHOW(send(s, "x", 1, 0));
    usleep(2000);
    SHOW(send(s, "x", 1, 0));
    SHOW(send(s, "x", 1, 0));
    usleep(2000);
    SHOW(get(s, SOL_SOCKET, SO_ERROR));
    SHOW(get(s, SOL_SOCKET, SO_ERROR));
}

static void ports(void)
{
    int a = udp(), b = udp(), c = udp6();
    SHOW(bind4(a, "0.0.0.0", 3100));
    SHOW(bind4(b, "127.0.0.1", 3100));
    SHOW(bind6(c, "::", 3100));
    set(a, SOL_SOCKET, SO_REUSEADDR, 1);
    set(b, SOL_SOCKET, SO_REUSEADDR, 1);
    SHOW(bind4(b, "127.0.0.1", 3100));
    int s = udp();
    send4(s, "127.0.0.1", 3100, "exact", 0);
    send4(s, "127.0.0.2", 3100, "wild", 0);
    SHOW(recv(b, buf, 100, MSG_DONTWAIT));
    SHOW(recv(a, buf, 100, MSG_DONTWAIT));
    SHOW(recv(a, buf, 100, MSG_DONTWAIT));
    int d = udp();
    set(d, SOL_SOCKET, SO_REUSEADDR, 1);
    SHOW(bind4(d, "127.0.0.1", 3100));
    send4(s, "127.0.0.1", 3100, "newest", 0);
    SHOW(recv(d, buf, 100, MSG_DONTWAIT));
    SHOW(recv(b, buf, 100, MSG_DONTWAIT));
    bind4(s, "127.0.0.1", 3101);
    SHOW(bind4(s, "127.0.0.1", 3102));
    SHOW(connect4(d, "127.0.0.1", port_of(s)));
    send4(s, "127.0.0.1", 3100, "connected", 0);
    SHOW(recv(d, buf, 100, MSG_DONTWAIT));
    int e = udp();
    SHOW(connect4(e, "127.0.0.1", 3100));
    SHOW(names(e));
    SHOW(bind4(e, "127.0.0.1", 3110));
    e = udp();
    bind4(e, "0.0.0.0", 3111);
    connect4(e, "127.0.0.9", 3100);
    SHOW(names(e));
    unconnect(e);
    SHOW(names(e));
}

static void six(void)
{
    int a = udp6(), b = udp6(), c = udp();
    SHOW(bind6(a, "::", 3200));
    SHOW(send6(b, "::1", 3200, "six", 0));
    SHOW(get_msg(a, 100, 500, 0));
    SHOW(send4(c, "127.0.0.1", 3200, "four", 0));
    SHOW(get_msg(a, 100, 500, 0));
    SHOW(send6(b, "::ffff:127.0.0.1", 3200, "mapped", 0));
    SHOW(get_msg(a, 100, 500, 0));
    SHOW(send4(b, "127.0.0.1", 3200, "sockaddr_in", 0));
    SHOW(get_msg(a, 100, 500, 0));
    SHOW(send6(b, "2001:db8::1", 3200, "x", 0));
    set(b, SOL_IPV6, IPV6_V6ONLY, 1);
    int d = udp6();
    SHOW(connect4(d, "127.0.0.1", 3200));
    SHOW(names(d));
    d = udp6();
    set(d, SOL_IPV6, IPV6_V6ONLY, 1);
    SHOW(connect4(d, "127.0.0.1", 3200));
    SHOW(send6(d, "::ffff:127.0.0.1", 3200, "x", 0));
    memset(buf, 'y', sizeof buf);
    connect6(d, "::1", 3200);
    SHOW(send(d, buf, 65527, 0));
    SHOW(send(d, buf, 65528, 0));
    SHOW(recv(a, buf, 100000, MSG_DONTWAIT));
}

static void control(void)
{
    int a = udp(), b = udp(), s = udp6(), r = udp6();
    bind4(a, "0.0.0.0", 3300);
    SHOW(set(a, SOL_IP, IP_PKTINFO, 1));
    SHOW(set(a, SOL_IP, IP_RECVTTL, 1));
    SHOW(set(a, SOL_IP, IP_RECVTOS, 1));
    send4(b, "127.0.0.3", 3300, "info", 0);
    SHOW(get_msg(a, 100, 500, 0));
    set(b, SOL_IP, IP_TTL, 9);
    set(b, SOL_IP, IP_TOS, 0x10);
    send4(b, "127.0.0.1", 3300, "info", 0);
    SHOW(get_msg(a, 100, 500, 0));
    send4(b, "127.0.0.1", 3300, "info", 0);
    SHOW(get_msg(a, 100, 20, 0));
    SHOW(set(a, SOL_SOCKET, SO_TIMESTAMP, 1));
    send4(b, "127.0.0.1", 3300, "time", 0);
    SHOW(get_msg(a, 2, 500, 0));
    char space[CMSG_SPACE(sizeof(struct in_pktinfo))] = {0};
    struct sockaddr_in to = in4("127.0.0.1", 3300);
    struct iovec iov = {"from", 4};
    struct msghdr h = {.msg_name = &to, .msg_namelen = sizeof to, .msg_iov = &iov, .msg_iovlen = 1, .msg_control = space,
                       .msg_controllen = sizeof space};
    struct cmsghdr *c = CMSG_FIRSTHDR(&h);
    c->cmsg_level = SOL_IP, c->cmsg_type = IP_PKTINFO, c->cmsg_len = CMSG_LEN(sizeof(struct in_pktinfo));
    struct in_pktinfo *i = (void *)CMSG_DATA(c);
    inet_pton(AF_INET, "127.0.0.77", &i->ipi_spec_dst);
    SHOW(sendmsg(b, &h, 0));
    SHOW(get_msg(a, 100, 500, 0));
    c->cmsg_type = IP_TTL, c->cmsg_len = CMSG_LEN(sizeof(int));
    *(int *)CMSG_DATA(c) = 3;
    SHOW(sendmsg(b, &h, 0));
    SHOW(get_msg(a, 100, 500, 0));
    *(int *)CMSG_DATA(c) = 300;
    SHOW(sendmsg(b, &h, 0));
    c->cmsg_type = 99;
    SHOW(sendmsg(b, &h, 0));
    bind6(r, "::", 3301);
    SHOW(set(r, SOL_IPV6, IPV6_RECVPKTINFO, 1));
    SHOW(set(r, SOL_IPV6, IPV6_RECVHOPLIMIT, 1));
    SHOW(set(r, SOL_IPV6, IPV6_RECVTCLASS, 1));
    send6(s, "::1", 3301, "six", 0);
    SHOW(get_msg(r, 100, 500, 0));
    send4(b, "127.0.0.1", 3301, "four", 0);
    SHOW(get_msg(r, 100, 500, 0));
    struct mmsghdr v[3];
    struct iovec w[3] = {{buf, 10}, {buf + 10, 10}, {buf + 20, 10}};
    memset(v, 0, sizeof v);
    for (int k = 0; k < 3; k++)
        v[k].msg_hdr.msg_iov = &w[k], v[k].msg_hdr.msg_iovlen = 1;
    connect4(b, "127.0.0.1", 3300);
    SHOW(sendmmsg(b, v, 3, 0));
    usleep(2000);
    SHOW(recvmmsg(a, v, 3, MSG_DONTWAIT, NULL));
    SHOW(v[2].msg_len);
    SHOW(recvmmsg(a, v, 3, MSG_DONTWAIT, NULL));
}

static void refusals(void)
{
    int s = udp();
    struct ip_mreqn m = {.imr_ifindex = 0};
    inet_pton(AF_INET, "224.0.0.251", &m.imr_multiaddr);
    SHOW(setsockopt(s, SOL_IP, IP_ADD_MEMBERSHIP, &m, sizeof m));
    struct ipv6_mreq m6 = {.ipv6mr_interface = 7};
    SHOW(setsockopt(s, SOL_IPV6, IPV6_ADD_MEMBERSHIP, &m6, sizeof m6));
    SHOW(send4(s, "224.0.0.251", 5353, "x", 0));
}

/* A datagram in pieces: MSG_MORE, UDP_CORK. */
static void pieces(void)
{
    int r = udp(), s = udp(), v = 7;
    socklen_t len = sizeof v;
    bind4(r, "127.0.0.1", 3310);
    SHOW(send(s, "none", 4, MSG_MORE));
    connect4(s, "127.0.0.1", 3310);
    SHOW(send(s, "one", 3, MSG_MORE));
    SHOW(send(s, "two", 3, MSG_MORE));
    SHOW(recv(r, buf, 100, MSG_DONTWAIT));
    SHOW(send(s, "three", 5, 0));
    usleep(2000);
    SHOW(recv(r, buf, 100, MSG_DONTWAIT));
    SHOW(memcmp(buf, "onetwothree", 11));
    SHOW(getsockopt(s, SOL_UDP, UDP_CORK, &v, &len));
    SHOW(v);
    SHOW(set(s, SOL_UDP, UDP_CORK, 1));
    SHOW(write(s, "a", 1));
    SHOW(write(s, "bc", 2));
    SHOW(recv(r, buf, 100, MSG_DONTWAIT));
    SHOW(set(s, SOL_UDP, UDP_CORK, 0));
    usleep(2000);
    SHOW(recv(r, buf, 100, MSG_DONTWAIT));
    SHOW(memcmp(buf, "abc", 3));
    SHOW(write(s, "d", 1));
    usleep(2000);
    SHOW(recv(r, buf, 100, MSG_DONTWAIT));
    SHOW(send(s, buf, 60000, MSG_MORE));
    SHOW(send(s, buf, 6000, 0));
    SHOW(send(s, "e", 1, 0));
    usleep(2000);
    SHOW(recv(r, buf, 100, MSG_DONTWAIT));
    SHOW(set(s, SOL_UDP, 99, 0));
}

int main(void)
{
    setvbuf(stdout, NULL, _IOLBF, 0);
    unbound();
    messages();
    refused();
    ports();
    six();
    control();
    refusals();
    pieces();
    return 0;
}

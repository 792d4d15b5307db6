/* TCP over lo: names, connections, ends, errors, options (tcp(7), ip(7), ipv6(7), socket(7)). */
#include "inet.h"
#include <sys/wait.h>

/* A listener on a port that the kernel chooses. */
static int listener(const char *ip)
{
    int s = tcp();
    bind4(s, ip, 0);
    listen(s, 5);
    return s;
}

static void pair(int *a, int *b)
{
    int l = listener("127.0.0.1");
    *a = tcp();
    connect4(*a, "127.0.0.1", port_of(l));
    *b = accept(l, NULL, NULL);
    close(l);
}

static void making(void)
{
    SHOW(socket(AF_INET, SOCK_STREAM, IPPROTO_TCP) > 0);
    SHOW(socket(AF_INET, SOCK_STREAM, IPPROTO_UDP));
    SHOW(socket(AF_INET, SOCK_DGRAM, IPPROTO_TCP));
    SHOW(socket(AF_INET, SOCK_STREAM, 300));
    SHOW(socket(AF_INET, SOCK_STREAM, -1));
    SHOW(socket(AF_INET, SOCK_SEQPACKET, 0));
    SHOW(socket(AF_INET, SOCK_RDM, 0));
    SHOW(socket(AF_INET, 0, 0));
    SHOW(socket(AF_INET6, SOCK_STREAM, IPPROTO_TCP) > 0);
    SHOW(socket(AF_INET, SOCK_DGRAM, IPPROTO_ICMP));
    int p[2];
    SHOW(socketpair(AF_INET, SOCK_STREAM, 0, p));
    int s = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    SHOW(fcntl(s, F_GETFL) & O_NONBLOCK);
    SHOW(fcntl(s, F_GETFD));
    SHOW(get(s, SOL_SOCKET, SO_DOMAIN));
    SHOW(get(s, SOL_SOCKET, SO_TYPE));
    SHOW(get(s, SOL_SOCKET, SO_PROTOCOL));
    SHOW(get(udp6(), SOL_SOCKET, SO_PROTOCOL));
}

static void fresh(void)
{
    int s = tcp();
    SHOW(bits(s));
    SHOW(names(s));
    SHOW(recv(s, buf, 1, 0));
    SHOW(send(s, "x", 1, MSG_NOSIGNAL));
    SHOW(accept(s, NULL, NULL));
    SHOW(shutdown(s, SHUT_RDWR));
    SHOW(shutdown(s, 7));
    SHOW(listen(s, 1));
    SHOW(port_of(s) > 32767);
    SHOW(get(s, SOL_SOCKET, SO_ACCEPTCONN));
    SHOW(listen(s, 3));
    SHOW(recv(s, buf, 1, 0));
    SHOW(connect4(s, "127.0.0.1", 1));
    SHOW(bits(s));
    int n;
    SHOW(ioctl(s, FIONREAD, &n));
}

static void binding(void)
{
    int s = tcp(), u = tcp(), v = tcp6();
    struct sockaddr_in a = in4("127.0.0.1", 0);
    SHOW(bind4(s, "192.0.2.77", 0));
    SHOW(bind(s, (struct sockaddr *)&a, 8));
    a.sin_family = AF_INET6;
    SHOW(bind(s, (struct sockaddr *)&a, sizeof a));
    a.sin_family = AF_UNSPEC;
    SHOW(bind(s, (struct sockaddr *)&a, sizeof a));
    SHOW(bind4(s, "127.0.0.1", 2345));
    SHOW(bind4(s, "127.0.0.1", 2346));
    SHOW(names(s));
    SHOW(bind4(u, "127.0.0.1", 2345));
    SHOW(bind4(u, "0.0.0.0", 2345));
    SHOW(bind6(v, "::", 2345));
    SHOW(set(v, SOL_IPV6, IPV6_V6ONLY, 1));
    SHOW(bind6(v, "::", 2345));
    SHOW(set(v, SOL_IPV6, IPV6_V6ONLY, 0));
    SHOW(bind4(u, "127.0.0.2", 2345));
    SHOW(names(u));
    close(u);
    u = tcp();
    SHOW(set(s, SOL_SOCKET, SO_REUSEADDR, 1));
    SHOW(bind4(u, "127.0.0.1", 2345));
    SHOW(set(u, SOL_SOCKET, SO_REUSEADDR, 1));
    SHOW(bind4(u, "127.0.0.1", 2345));
    SHOW(listen(u, 1));
    SHOW(listen(s, 1));
    close(u);
    SHOW(listen(s, 1));
    u = tcp();
    set(u, SOL_SOCKET, SO_REUSEADDR, 1);
    SHOW(bind4(u, "127.0.0.1", 2345));
    close(s), close(u), close(v);
    s = tcp(), u = tcp();
    SHOW(set(s, SOL_SOCKET, SO_REUSEPORT, 1));
    SHOW(set(u, SOL_SOCKET, SO_REUSEPORT, 1));
    SHOW(bind4(s, "0.0.0.0", 2400));
    SHOW(bind4(u, "0.0.0.0", 2400));
    SHOW(listen(s, 1));
    SHOW(listen(u, 1));
    v = tcp();
    SHOW(bind4(v, "0.0.0.0", 2400));
    SHOW(bind4(v, "127.255.255.255", 2401));
    SHOW(bind4(v, "224.0.0.1", 2401));
    v = tcp6();
    SHOW(bind6(v, "::1", 2402));
    SHOW(names(v));
    v = tcp6();
    SHOW(bind6(v, "::ffff:127.0.0.1", 2402));
    SHOW(names(v));
    v = tcp6();
    SHOW(bind6(v, "fe80::1", 2402));
    SHOW(bind6(v, "2001:db8::1", 2402));
    SHOW(bind4(v, "127.0.0.1", 2403));
    struct sockaddr_in6 b = in6("::1", 2404);
    SHOW(bind(v, (struct sockaddr *)&b, 20));
    SHOW(bind(v, (struct sockaddr *)&b, 24));
}

static void connecting(void)
{
    int l = listener("127.0.0.1"), s = tcp(), c;
    struct sockaddr_in6 a;
    socklen_t n = sizeof a;
    SHOW(connect4(s, "127.0.0.1", 1));
    SHOW(bits(s));
    SHOW(get(s, SOL_SOCKET, SO_ERROR));
    SHOW(connect4(s, "127.0.0.1", port_of(l)));
    SHOW(names(s));
    SHOW(connect4(s, "127.0.0.1", port_of(l)));
    SHOW(bits(l));
    SHOW((c = accept(l, (struct sockaddr *)&a, &n)) > 0);
    print_name("accepted", &a, n);
    SHOW(names(c));
    SHOW(bits(c));
    SHOW(bits(s));
    SHOW(listen(s, 1));
    SHOW(accept(s, NULL, NULL));
    fcntl(l, F_SETFL, O_NONBLOCK);
    SHOW(accept(l, NULL, NULL));
    s = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    SHOW(connect4(s, "127.0.0.1", port_of(l)));
    SHOW(bits(s));
    SHOW(get(s, SOL_SOCKET, SO_ERROR));
    SHOW(connect4(s, "127.0.0.1", port_of(l)));
    SHOW(connect4(s, "127.0.0.1", port_of(l)));
    s = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    SHOW(connect4(s, "127.0.0.1", 1));
    SHOW(bits(s));
    SHOW(get(s, SOL_SOCKET, SO_ERROR));
    SHOW(get(s, SOL_SOCKET, SO_ERROR));
    s = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    SHOW(connect4(s, "127.0.0.1", 1));
    usleep(2000);
    SHOW(connect4(s, "127.0.0.1", 1));
    s = tcp();
    SHOW(connect4(s, "192.0.2.1", 80));
    SHOW(connect4(s, "0.0.0.0", port_of(l)));
    SHOW(names(s));
    s = tcp();
    struct sockaddr_in b = in4("127.0.0.1", 80);
    SHOW(connect(s, (struct sockaddr *)&b, 10));
    SHOW(connect(s, (struct sockaddr *)&b, 1));
    b.sin_family = AF_UNIX;
    SHOW(connect(s, (struct sockaddr *)&b, sizeof b));
    SHOW(unconnect(s));
    SHOW(connect4(s, "127.0.0.1", port_of(l)));
    SHOW(unconnect(s));
    n = sizeof a;
    SHOW(getpeername(s, (struct sockaddr *)&a, &n));
    SHOW(connect4(s, "127.0.0.5", port_of(l)));
    close(l);
}

static void ends(void)
{
    int a, b, n;
    pair(&a, &b);
    SHOW(write(a, "hello", 5));
    SHOW(bits(b));
    SHOW(ioctl(b, FIONREAD, &n));
    SHOW(n);
    SHOW(ioctl(b, SIOCATMARK, &n));
    SHOW(recv(b, buf, 2, MSG_PEEK));
    SHOW(recv(b, buf, 100, MSG_PEEK));
    SHOW(recv(b, NULL, 2, MSG_TRUNC));
    SHOW(read(b, buf, 100));
    SHOW(recv(b, buf, 100, MSG_DONTWAIT));
    SHOW(recv(b, buf, 1, MSG_OOB));
    struct sockaddr_in6 from;
    socklen_t len = sizeof from;
    write(a, "xyz", 3);
    SHOW(recvfrom(b, buf, 100, 0, (struct sockaddr *)&from, &len));
    SHOW(len);
    struct sockaddr_in to = in4("127.0.0.9", 9);
    SHOW(sendto(a, "q", 1, 0, (struct sockaddr *)&to, sizeof to));
    SHOW(read(b, buf, 100));
    SHOW(shutdown(a, SHUT_WR));
    SHOW(bits(a));
    SHOW(bits(b));
    SHOW(write(a, "x", 1));
    SHOW(read(b, buf, 1));
    SHOW(read(b, buf, 1));
    SHOW(write(b, "late", 4));
    SHOW(read(a, buf, 100));
    SHOW(shutdown(b, SHUT_WR));
    SHOW(bits(a));
    SHOW(bits(b));
    SHOW(read(a, buf, 1));
    SHOW(names(b));
    SHOW(shutdown(b, SHUT_RDWR));
    close(a), close(b);

    printf("-- the peer closes\n");
    pair(&a, &b);
    close(b);
    SHOW(bits(a));
    SHOW(read(a, buf, 1));
    SHOW(write(a, "x", 1));
    SHOW(bits(a));
    SHOW(read(a, buf, 1));
    SHOW(write(a, "x", 1));
    SHOW(write(a, "x", 1));
    SHOW(get(a, SOL_SOCKET, SO_ERROR));
    close(a);

    printf("-- the peer closes with bytes unread\n");
    pair(&a, &b);
    write(a, "unread", 6);
    write(b, "bytes", 5);
    close(b);
    SHOW(bits(a));
    SHOW(read(a, buf, 100));
    SHOW(read(a, buf, 100));
    SHOW(read(a, buf, 100));
    SHOW(write(a, "x", 1));
    SHOW(bits(a));
    close(a);

    printf("-- reset by linger\n");
    pair(&a, &b);
    struct linger l = {1, 0};
    SHOW(setsockopt(b, SOL_SOCKET, SO_LINGER, &l, sizeof l));
    close(b);
    SHOW(bits(a));
    SHOW(write(a, "x", 1));
    SHOW(write(a, "x", 1));
    SHOW(read(a, buf, 1));
    close(a);

    printf("-- reading end shut\n");
    pair(&a, &b);
    SHOW(shutdown(a, SHUT_RD));
    SHOW(bits(a));
    SHOW(read(a, buf, 1));
    SHOW(write(b, "abc", 3));
    SHOW(read(a, buf, 2));
    SHOW(bits(b));
    close(a), close(b);

    printf("-- a listener closes\n");
    int s = listener("127.0.0.1"), c = tcp();
    connect4(c, "127.0.0.1", port_of(s));
    close(s);
    SHOW(bits(c));
    SHOW(read(c, buf, 1));
    s = listener("127.0.0.1");
    SHOW(shutdown(s, SHUT_WR));
    SHOW(shutdown(s, SHUT_RD));
    SHOW(accept(s, NULL, NULL));
    SHOW(bits(s));
}

static void filling(void)
{
    int a, b;
    long total = 0, n;
    pair(&a, &b);
    set(a, SOL_SOCKET, SO_SNDBUF, 20000);
    fcntl(a, F_SETFL, O_NONBLOCK);
    memset(buf, 'x', sizeof buf);
    while ((n = write(a, buf, 10000)) > 0)
        total += n;
    SHOW(n);
    SHOW(total > 20000);
    SHOW(bits(a));
    long got = 0;
    fcntl(b, F_SETFL, O_NONBLOCK);
    while ((n = read(b, buf, sizeof buf)) > 0)
        got += n;
    usleep(100000);
    while ((n = read(b, buf, sizeof buf)) > 0)
        got += n;
    SHOW(got == total);
    SHOW(bits(a));
    if (fork() == 0) {
        fcntl(a, F_SETFL, 0);
        for (int i = 0; i < 100; i++)
            write(a, buf, 30000);
        _exit(0);
    }
    close(a);
    fcntl(b, F_SETFL, 0);
    got = 0;
    SHOW(recv(b, buf, 100000, MSG_WAITALL));
    while ((n = read(b, buf, sizeof buf)) > 0)
        got += n;
    SHOW(got);
    wait(NULL);
}

static void dual(void)
{
    int l = tcp6(), s, c;
    SHOW(get(l, SOL_IPV6, IPV6_V6ONLY));
    bind6(l, "::", 0);
    listen(l, 5);
    s = tcp();
    SHOW(connect4(s, "127.0.0.1", port_of(l)));
    c = accept(l, NULL, NULL);
    SHOW(names(c));
    s = tcp6();
    SHOW(connect6(s, "::1", port_of(l)));
    SHOW(names(s));
    c = accept(l, NULL, NULL);
    SHOW(names(c));
    s = tcp6();
    SHOW(connect6(s, "::ffff:127.0.0.1", port_of(l)));
    SHOW(names(s));
    s = tcp6();
    SHOW(connect4(s, "127.0.0.1", port_of(l)));
    set(s, SOL_IPV6, IPV6_V6ONLY, 1);
    SHOW(connect6(s, "::ffff:127.0.0.1", port_of(l)));
    SHOW(connect6(s, "2001:db8::1", 80));
    SHOW(connect6(s, "::", port_of(l)));
    SHOW(names(s));
}

static void choices(void)
{
    static const struct { int level, name; const char *text; } all[] = {
#define O(l, n) {l, n, #n}
        O(SOL_TCP, TCP_NODELAY), O(SOL_TCP, TCP_CORK), O(SOL_TCP, TCP_KEEPIDLE), O(SOL_TCP, TCP_KEEPINTVL),
        O(SOL_TCP, TCP_KEEPCNT), O(SOL_TCP, TCP_SYNCNT), O(SOL_TCP, TCP_QUICKACK), O(SOL_TCP, TCP_USER_TIMEOUT),
        O(SOL_TCP, TCP_FASTOPEN_CONNECT), O(SOL_SOCKET, SO_KEEPALIVE), O(SOL_SOCKET, SO_REUSEADDR),
        O(SOL_SOCKET, SO_REUSEPORT), O(SOL_SOCKET, SO_BROADCAST), O(SOL_SOCKET, SO_OOBINLINE), O(SOL_SOCKET, SO_PRIORITY),
        O(SOL_SOCKET, SO_RCVBUF), O(SOL_SOCKET, SO_SNDBUF), O(SOL_SOCKET, SO_TIMESTAMP), O(SOL_SOCKET, SO_RCVLOWAT),
        O(SOL_IP, IP_TOS), O(SOL_IP, IP_TTL), O(SOL_IP, IP_RECVTTL), O(SOL_IP, IP_PKTINFO), O(SOL_IP, IP_MTU_DISCOVER),
        O(SOL_IP, IP_MULTICAST_TTL), O(SOL_IP, IP_MULTICAST_LOOP), O(SOL_IP, IP_FREEBIND), O(SOL_IP, IP_RECVERR),
        O(SOL_IPV6, IPV6_V6ONLY), O(SOL_IPV6, IPV6_UNICAST_HOPS), O(SOL_IPV6, IPV6_TCLASS), O(SOL_IPV6, IPV6_RECVPKTINFO),
        O(SOL_IPV6, IPV6_MULTICAST_HOPS), O(17, 1), O(99, 1), O(SOL_TCP, 77), O(SOL_IP, 77),
    };
    int kinds[] = {tcp(), tcp6(), udp(), udp6()};
    for (unsigned i = 0; i < sizeof all / sizeof all[0]; i++)
        for (int k = 0; k < 4; k++) {
            if (all[i].name == SO_RCVLOWAT && all[i].level == SOL_SOCKET)
                continue; /* only 1 here */
            if (all[i].level == 17 && k > 1)
                continue; /* UDP_CORK */
            if (all[i].name == TCP_FASTOPEN_CONNECT && all[i].level == SOL_TCP)
                continue;
            int s = kinds[k], before = get(s, all[i].level, all[i].name), r[6], g[6];
            int values[] = {1, 0, 5, 300, -1, 100000};
            for (int v = 0; v < 6; v++) {
                if (all[i].level == SOL_SOCKET && (all[i].name == SO_RCVBUF || all[i].name == SO_SNDBUF) && values[v] < 0)
                    values[v] = 4000; /* the most depends on the machine */
                if (all[i].name == SO_PRIORITY && all[i].level == SOL_SOCKET && values[v] > 6)
                    values[v] = 3;
                r[v] = set(s, all[i].level, all[i].name, values[v]) ? -errno : 0;
                g[v] = get(s, all[i].level, all[i].name);
            }
            printf("%s %d: %d;", all[i].text, k, before);
            for (int v = 0; v < 6; v++)
                printf(" %d %d", r[v], g[v]);
            printf("\n");
        }
    int s = tcp();
    char name[16] = "";
    socklen_t n = sizeof name;
    SHOW(setsockopt(s, SOL_TCP, TCP_CONGESTION, "reno", 4));
    SHOW(getsockopt(s, SOL_TCP, TCP_CONGESTION, name, &n));
    printf("%s %d\n", name, n);
    SHOW(setsockopt(s, SOL_TCP, TCP_CONGESTION, "nosuch", 6));
    SHOW(setsockopt(s, SOL_TCP, TCP_NODELAY, "\1", 1));
    SHOW(setsockopt(s, SOL_IP, IP_TTL, "\7", 1));
    SHOW(get(s, SOL_IP, IP_TTL));
    SHOW(get(s, SOL_IP, IP_MTU));
    int a, b;
    pair(&a, &b);
    SHOW(get(a, SOL_IP, IP_MTU));
    struct tcp_info info;
    n = sizeof info;
    SHOW(getsockopt(a, SOL_TCP, TCP_INFO, &info, &n));
    SHOW(info.tcpi_state);
    SHOW(n >= 104);
    shutdown(b, SHUT_WR);
    usleep(2000);
    n = 10;
    SHOW(getsockopt(a, SOL_TCP, TCP_INFO, &info, &n));
    SHOW(info.tcpi_state);
    struct timeval tv = {0, 30000};
    SHOW(setsockopt(b, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof tv));
    SHOW(recv(b, buf, 1, 0));
    set(b, SOL_TCP, TCP_NODELAY, 1);
    int l = tcp();
    set(l, SOL_TCP, TCP_NODELAY, 1);
    bind4(l, "127.0.0.1", 0);
    listen(l, 1);
    int c = tcp();
    connect4(c, "127.0.0.1", port_of(l));
    int d = accept(l, NULL, NULL);
    SHOW(get(d, SOL_TCP, TCP_NODELAY));
}

static void backlog(void)
{
    int l = tcp(), s[6], ok = 0;
    bind4(l, "127.0.0.1", 0);
    listen(l, 1);
    for (int i = 0; i < 4; i++) {
        s[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
        connect4(s[i], "127.0.0.1", port_of(l));
    }
    for (int i = 0; i < 4; i++)
        ok += (bits(s[i]) & POLLOUT) != 0;
    SHOW(ok);
    SHOW(connect4(s[3], "127.0.0.1", port_of(l)));
    SHOW(send(s[3], "x", 1, 0));
    SHOW(recv(s[3], buf, 1, 0));
    SHOW(names(s[3]));
    close(l);
    SHOW(read(s[0], buf, 1));
}

int main(void)
{
    setvbuf(stdout, NULL, _IOLBF, 0);
    signal(SIGPIPE, SIG_IGN);
    making();
    fresh();
    binding();
    connecting();
    ends();
    filling();
    dual();
    choices();
    backlog();
    return 0;
}

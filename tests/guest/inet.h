/* What the tests of internet sockets share. */
#include "vfs_check.h"
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

static char buf[300000];

/* What poll says, the moment lo's deferred work is done. */
static int bits(int fd)
{
    struct pollfd p = {fd, POLLIN | POLLOUT | POLLRDHUP, 0};
    usleep(2000);
    poll(&p, 1, 0);
    return p.revents;
}

static struct sockaddr_in in4(const char *ip, int port)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(port)};
    inet_pton(AF_INET, ip, &a.sin_addr);
    return a;
}

static struct sockaddr_in6 in6(const char *ip, int port)
{
    struct sockaddr_in6 a = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
    inet_pton(AF_INET6, ip, &a.sin6_addr);
    return a;
}

static int bind4(int s, const char *ip, int port)
{
    struct sockaddr_in a = in4(ip, port);
    return bind(s, (struct sockaddr *)&a, sizeof a);
}

static int bind6(int s, const char *ip, int port)
{
    struct sockaddr_in6 a = in6(ip, port);
    return bind(s, (struct sockaddr *)&a, sizeof a);
}

static int connect4(int s, const char *ip, int port)
{
    struct sockaddr_in a = in4(ip, port);
    return connect(s, (struct sockaddr *)&a, sizeof a);
}

static int connect6(int s, const char *ip, int port)
{
    struct sockaddr_in6 a = in6(ip, port);
    return connect(s, (struct sockaddr *)&a, sizeof a);
}

static int unconnect(int s)
{
    struct sockaddr a = {.sa_family = AF_UNSPEC};
    return connect(s, &a, sizeof a);
}

static int set(int s, int level, int name, int value) { return setsockopt(s, level, name, &value, sizeof value); }

static int get(int s, int level, int name)
{
    int v = 0;
    socklen_t n = sizeof v;
    if (getsockopt(s, level, name, &v, &n))
        return -errno;
    return v;
}

static int port_of(int s)
{
    struct sockaddr_in6 a;
    socklen_t n = sizeof a;
    if (getsockname(s, (struct sockaddr *)&a, &n))
        return -1;
    return ntohs(a.sin6_port);
}

/* Prints an address; a port above 32767 was chosen by the kernel. */
static void print_name(const char *what, void *addr, socklen_t n)
{
    struct sockaddr_in *a = addr;
    struct sockaddr_in6 *b = addr;
    char text[64] = "";
    if (!n)
        printf("  %s none\n", what);
    else {
        int port = ntohs(a->sin_port);
        inet_ntop(a->sin_family, a->sin_family == AF_INET ? (void *)&a->sin_addr : (void *)&b->sin6_addr, text, sizeof text);
        printf("  %s %s port %d length %d\n", what, text, port > 32767 ? -1 : port, n);
    }
}

static int names(int s)
{
    struct sockaddr_in6 a;
    socklen_t n = sizeof a;
    if (getsockname(s, (struct sockaddr *)&a, &n))
        return -errno;
    print_name("local", &a, n);
    n = sizeof a;
    if (getpeername(s, (struct sockaddr *)&a, &n))
        return -errno;
    print_name("peer", &a, n);
    return 0;
}

static int tcp(void) { return socket(AF_INET, SOCK_STREAM, 0); }
static int tcp6(void) { return socket(AF_INET6, SOCK_STREAM, 0); }
static int udp(void) { return socket(AF_INET, SOCK_DGRAM, 0); }
static int udp6(void) { return socket(AF_INET6, SOCK_DGRAM, 0); }

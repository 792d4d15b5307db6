/* Interfaces, addresses and routes of a namespace that has only lo: netlink, ioctls, C library (netlink(7), netdevice(7)). */
#include "inet.h"
#include <ifaddrs.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <netdb.h>

static int nl(int protocol) { return socket(AF_NETLINK, SOCK_RAW, protocol); }

static void sockets(void)
{
    struct sockaddr_nl a = {.nl_family = AF_NETLINK};
    socklen_t n = sizeof a;
    int s = nl(NETLINK_ROUTE), u;
    SHOW(s > 0);
    SHOW(socket(AF_NETLINK, SOCK_STREAM, NETLINK_ROUTE));
    SHOW(socket(AF_NETLINK, SOCK_RAW, 77));
    SHOW(get(s, SOL_SOCKET, SO_DOMAIN));
    SHOW(get(s, SOL_SOCKET, SO_PROTOCOL));
    SHOW(bits(s));
    SHOW(recv(s, buf, 10, MSG_DONTWAIT));
    SHOW(bind(s, (struct sockaddr *)&a, 8));
    SHOW(bind(s, (struct sockaddr *)&a, sizeof a));
    SHOW(getsockname(s, (struct sockaddr *)&a, &n));
    SHOW(a.nl_pid == (unsigned)getpid());
    u = nl(NETLINK_ROUTE);
    SHOW(bind(u, (struct sockaddr *)&a, sizeof a));
    a.nl_pid = 0;
    SHOW(bind(u, (struct sockaddr *)&a, sizeof a));
    n = sizeof a;
    getsockname(u, (struct sockaddr *)&a, &n);
    SHOW(a.nl_pid != (unsigned)getpid() && a.nl_pid);
    SHOW(getpeername(u, (struct sockaddr *)&a, &n));
    SHOW(a.nl_pid);
    SHOW(listen(u, 1));
    SHOW(set(u, 270, NETLINK_EXT_ACK, 1));
    SHOW(get(u, 270, NETLINK_EXT_ACK));
    SHOW(set(u, 270, 99, 1));
}

/* Sends a request and prints what comes. */
static void ask(int kind, int flags, int family, const void *more, int size)
{
    struct { struct nlmsghdr h; char body[200]; } q = {.h = {.nlmsg_type = kind, .nlmsg_flags = flags, .nlmsg_seq = 7}};
    static char answer[70000];
    int s = nl(NETLINK_ROUTE), done = 0, left;
    if (more)
        memcpy(q.body, more, size);
    else
        q.body[0] = family;
    q.h.nlmsg_len = NLMSG_LENGTH(size);
    printf("-- request %d flags %x family %d\n", kind, flags, family);
    SHOW(send(s, &q, q.h.nlmsg_len, 0) == q.h.nlmsg_len);
    while (!done && (left = recv(s, answer, sizeof answer, MSG_DONTWAIT)) > 0)
        for (struct nlmsghdr *h = (void *)answer; NLMSG_OK(h, left); h = NLMSG_NEXT(h, left)) {
            int size = 0, skip = 0;
            printf("  type %d flags %x seq %d mine %d", h->nlmsg_type, h->nlmsg_flags & ~NLM_F_DUMP_FILTERED, h->nlmsg_seq,
                   h->nlmsg_pid != 0);
            if (h->nlmsg_type == NLMSG_ERROR)
                printf(" error %d", *(int *)NLMSG_DATA(h));
            else if (h->nlmsg_type == RTM_NEWLINK) {
                struct ifinfomsg *i = NLMSG_DATA(h);
                printf(" index %d type %d flags %x", i->ifi_index, i->ifi_type, i->ifi_flags);
                size = sizeof *i;
            } else if (h->nlmsg_type == RTM_NEWADDR) {
                struct ifaddrmsg *i = NLMSG_DATA(h);
                printf(" family %d prefix %d flags %x scope %d index %d", i->ifa_family, i->ifa_prefixlen, i->ifa_flags,
                       i->ifa_scope, i->ifa_index);
                size = sizeof *i;
            } else if (h->nlmsg_type == RTM_NEWROUTE) {
                struct rtmsg *r = NLMSG_DATA(h);
                printf(" family %d dst/%d table %d protocol %d scope %d type %d", r->rtm_family, r->rtm_dst_len, r->rtm_table,
                       r->rtm_protocol, r->rtm_scope, r->rtm_type);
                size = sizeof *r;
            }
            if (h->nlmsg_type == NLMSG_DONE || h->nlmsg_type == NLMSG_ERROR)
                done = 1;
            int room = h->nlmsg_len - NLMSG_LENGTH(size);
            struct rtattr *a = (void *)((char *)NLMSG_DATA(h) + NLMSG_ALIGN(size));
            for (skip = !size; !skip && RTA_OK(a, room); a = RTA_NEXT(a, room)) {
                int link = h->nlmsg_type == RTM_NEWLINK, kind = a->rta_type & 0x3fff;
                if (link && kind != IFLA_IFNAME && kind != IFLA_MTU && kind != IFLA_TXQLEN && kind != IFLA_ADDRESS &&
                    kind != IFLA_BROADCAST && kind != IFLA_OPERSTATE && kind != IFLA_QDISC)
                    continue;
                if ((h->nlmsg_type == RTM_NEWADDR && (kind == IFA_CACHEINFO || kind > IFA_FLAGS)) ||
                    (h->nlmsg_type == RTM_NEWROUTE && (kind == RTA_CACHEINFO || kind == RTA_PREF || kind == RTA_PRIORITY)))
                    continue;
                printf(" %d:", kind);
                for (unsigned k = 0; k < RTA_PAYLOAD(a); k++)
                    printf("%02x", ((unsigned char *)RTA_DATA(a))[k]);
            }
            printf("\n");
        }
    close(s);
}

static void requests(void)
{
    ask(RTM_GETLINK, NLM_F_REQUEST | NLM_F_DUMP, 0, NULL, 1);
    ask(RTM_GETADDR, NLM_F_REQUEST | NLM_F_DUMP, AF_INET, NULL, 1);
    ask(RTM_GETADDR, NLM_F_REQUEST | NLM_F_DUMP, AF_INET6, NULL, 1);
    ask(RTM_GETROUTE, NLM_F_REQUEST | NLM_F_DUMP, AF_INET, NULL, 1);
    ask(RTM_GETNEIGH, NLM_F_REQUEST | NLM_F_DUMP, AF_INET, NULL, 1);
    struct ifinfomsg lo = {.ifi_index = 1};
    ask(RTM_GETLINK, NLM_F_REQUEST, 0, &lo, sizeof lo);
    lo.ifi_index = 44;
    ask(RTM_GETLINK, NLM_F_REQUEST, 0, &lo, sizeof lo);
    struct { struct ifinfomsg i; struct rtattr a; char name[4]; } named = {.a = {7, IFLA_IFNAME}, .name = "lo"};
    ask(RTM_GETLINK, NLM_F_REQUEST | NLM_F_ACK, 0, &named, 16 + 8);
    lo.ifi_index = 1, lo.ifi_flags = lo.ifi_change = IFF_UP;
    ask(RTM_NEWLINK, NLM_F_REQUEST | NLM_F_ACK, 0, &lo, sizeof lo);
    ask(250, NLM_F_REQUEST | NLM_F_DUMP, 0, NULL, 1);
    struct { struct rtmsg r; struct rtattr a; unsigned char ip[4]; } to = {
        .r = {.rtm_family = AF_INET, .rtm_dst_len = 32}, .a = {8, RTA_DST}, .ip = {192, 0, 2, 1}};
    ask(RTM_GETROUTE, NLM_F_REQUEST, 0, &to, sizeof to);
}

static void ioctls(void)
{
    struct ifreq r[4];
    struct ifconf c = {sizeof r, {(char *)r}};
    int s = udp();
    SHOW(ioctl(s, SIOCGIFCONF, &c));
    SHOW(c.ifc_len / sizeof r[0]);
    SHOW(strcmp(r[0].ifr_name, "lo"));
    print_name("lo", &r[0].ifr_addr, 16);
    c.ifc_len = 3, c.ifc_req = r;
    SHOW(ioctl(s, SIOCGIFCONF, &c));
    SHOW(c.ifc_len);
    c.ifc_req = NULL;
    SHOW(ioctl(s, SIOCGIFCONF, &c));
    SHOW(c.ifc_len / sizeof r[0]);
    memset(r, 0, sizeof r);
    strcpy(r[0].ifr_name, "lo");
    SHOW(ioctl(s, SIOCGIFFLAGS, &r[0]));
    printf("%x\n", r[0].ifr_flags);
    SHOW(ioctl(s, SIOCGIFINDEX, &r[0]));
    SHOW(r[0].ifr_ifindex);
    SHOW(ioctl(s, SIOCGIFMTU, &r[0]));
    SHOW(r[0].ifr_mtu);
    SHOW(ioctl(s, SIOCGIFTXQLEN, &r[0]));
    SHOW(r[0].ifr_qlen);
    SHOW(ioctl(s, SIOCGIFMETRIC, &r[0]));
    SHOW(ioctl(s, SIOCGIFHWADDR, &r[0]));
    SHOW(r[0].ifr_hwaddr.sa_family);
    SHOW(ioctl(s, SIOCGIFADDR, &r[0]));
    print_name("address", &r[0].ifr_addr, 16);
    SHOW(ioctl(s, SIOCGIFNETMASK, &r[0]));
    print_name("mask", &r[0].ifr_addr, 16);
    SHOW(ioctl(s, SIOCGIFBRDADDR, &r[0]));
    print_name("broadcast", &r[0].ifr_addr, 16);
    r[0].ifr_ifindex = 1;
    SHOW(ioctl(s, SIOCGIFNAME, &r[0]));
    r[0].ifr_ifindex = 9;
    SHOW(ioctl(s, SIOCGIFNAME, &r[0]));
    strcpy(r[0].ifr_name, "eth7");
    SHOW(ioctl(s, SIOCGIFFLAGS, &r[0]));
    SHOW(ioctl(s, SIOCGIFADDR, NULL));
    strcpy(r[0].ifr_name, "lo");
    SHOW(ioctl(tcp6(), SIOCGIFINDEX, &r[0]));
    SHOW(ioctl(nl(NETLINK_ROUTE), SIOCGIFINDEX, &r[0]));
}

static void library(void)
{
    struct ifaddrs *list;
    SHOW(getifaddrs(&list));
    for (struct ifaddrs *i = list; i; i = i->ifa_next) {
        char text[64] = "";
        int family = i->ifa_addr ? i->ifa_addr->sa_family : -1;
        if (family == AF_INET || family == AF_INET6)
            inet_ntop(family, family == AF_INET ? (void *)&((struct sockaddr_in *)i->ifa_addr)->sin_addr
                                                : (void *)&((struct sockaddr_in6 *)i->ifa_addr)->sin6_addr, text, sizeof text);
        printf("  %s family %d flags %x %s\n", i->ifa_name, family, i->ifa_flags, text);
    }
    SHOW(if_nametoindex("lo"));
    char name[IF_NAMESIZE] = "";
    SHOW(if_indextoname(1, name) != NULL);
    SHOW(strcmp(name, "lo"));
    struct if_nameindex *x = if_nameindex();
    SHOW(x && x[0].if_index == 1 && x[1].if_index == 0);
    struct addrinfo hints = {.ai_flags = AI_ADDRCONFIG | AI_NUMERICSERV, .ai_socktype = SOCK_STREAM}, *found = NULL;
    SHOW(getaddrinfo("127.0.0.1", "80", &hints, &found));
    hints.ai_flags |= AI_PASSIVE;
    SHOW(getaddrinfo(NULL, "80", &hints, &found));
    for (; found; found = found->ai_next)
        print_name("passive", found->ai_addr, found->ai_addrlen);
}

int main(void)
{
    setvbuf(stdout, NULL, _IOLBF, 0);
    sockets();
    requests();
    ioctls();
    library();
    return 0;
}

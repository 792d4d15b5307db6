/*
 * Host sockets of the guest's AF_INET and AF_INET6 sockets. The broker makes, binds and connects them, the sentry does the rest.
 *
 * Nothing here blocks (descriptors are non-blocking) or allocates. Functions return 0 or a value >= 0, or -errno. Buffers are the
 * caller's; an address buffer has CN_NET_ADDR bytes.
 */
#ifndef CORDON_HOSTSOCK_H
#define CORDON_HOSTSOCK_H

#include "../cordon.h"

/* cdef begin */
enum { CN_NET_ADDR = 28 }; /* struct sockaddr_in6, the largest */

/* The broker's part. Descriptors are made non-blocking and close-on-exec. */
int cn_net_socket(int domain, int type, int protocol);
/* AF_INET or AF_INET6 TCP or UDP socket? Else -EINVAL; the sentry's word is not taken for it. */
int cn_net_is_inet(int fd);
/* -EINVAL unless the address is a whole sockaddr_in or sockaddr_in6 (for connect also the family alone, AF_UNSPEC). */
int cn_net_bind(int fd, const uint8_t *addr, uint32_t len);
int cn_net_connect(int fd, const uint8_t *addr, uint32_t len);

/* The sentry's part. */
int cn_net_listen(int fd, int backlog);
int cn_net_accept(int fd);
/* Local or peer's address: its length. */
int cn_net_name(int fd, int peer, uint8_t *addr);
int cn_net_shutdown(int fd, int how);
/* Length of the value. */
int cn_net_getopt(int fd, int level, int name, uint8_t *value, uint32_t room);
int cn_net_setopt(int fd, int level, int name, const uint8_t *value, uint32_t len);
/* POLL* bits that are ready. */
int cn_net_poll(int fd);
/* Bytes that can be read (SIOCINQ), or that are not acknowledged (SIOCOUTQ). */
int cn_net_queued(int fd, int out);

/* Bytes of a stream. peek: leave them there. */
int64_t cn_net_read(int fd, uint8_t *buf, uint64_t n, int peek);
int64_t cn_net_write(int fd, const uint8_t *buf, uint64_t n);

/* What comes with a datagram. */
struct cn_net_info {
    uint8_t source[28];
    uint32_t source_len;
    uint8_t dest[16]; /* local address, IPv4 as ::ffff:a.b.c.d; has_dest */
    int32_t has_dest;
    int32_t ifindex;
    int32_t ttl; /* -1: not told */
    int32_t tos;
    int64_t time_ns; /* CLOCK_REALTIME, 0: not told */
};
/* The datagram's whole length, of which at most n bytes were stored. */
int64_t cn_net_recv(int fd, uint8_t *buf, uint64_t n, int peek, struct cn_net_info *info);
/* to_len 0: to the peer. source: NULL, or 16 bytes (IPv4 mapped) of the local address to send from. ttl, tos: -1 for the
 * socket's own. */
int64_t cn_net_send(int fd, const uint8_t *buf, uint64_t n, const uint8_t *to, uint32_t to_len,
                    const uint8_t *source, int ttl, int tos);
/* cdef end */

#endif

/*
 * The gofer's hands: walking, listing and opening host files beneath a directory descriptor, encoded as 9P2000.L has it, and
 * 9P messages over a stream socket with passed descriptors. No function takes a path of more than one component from a peer.
 */
#ifndef CORDON_GOFER_H
#define CORDON_GOFER_H

#include "../cordon.h"

/* cdef begin */
enum {
    CN_GF_ATTR = 153,  /* bytes of an attribute record: the body of Rgetattr; its gen field holds the host's st_dev */
    CN_GF_QID = 13,
    CN_GF_ATTRS = 1, /* of cn_gf_readdir */
    CN_GF_DIR_ATTRS = 2,
    CN_GF_BESIDE = 0xffff,
    CN_GF_MAX_WALK = 64,
    CN_GF_MAX_POLICY = 64
};

/* public_only: only what everybody may read is served, whatever the gofer's own power, but for these mounts (host mount ids). */
struct cn_gf_policy {
    uint32_t public_only;
    uint32_t n;
    uint64_t mnt[64];
};

/* One thing found: an O_PATH descriptor and what the server must know about it. */
struct cn_gf_node {
    int32_t fd;
    uint32_t mode;
    uint64_t ino, dev, mnt;
};

/* Attributes of a descriptor (O_PATH too): fills node (fd stays) and 153 bytes. 0 or -errno. */
int cn_gf_stat(int fd, struct cn_gf_node *node, uint8_t *attr);
/* Walks up to n names (each len[2] bytes, as in Twalk) from `from`. Component i becomes nodes[i] and attrs[i * 153]. Never follows
 * a link, never leaves upwards; crosses mounts. Stops after something that is no directory. Returns how many were found;
 * *status is 0 or the -errno of the next one (-ENOENT ...). -EBADMSG: the names are malformed (nothing is open then). */
int cn_gf_walk(const struct cn_gf_policy *policy, const struct cn_gf_node *from, const uint8_t *names, uint32_t len,
    uint32_t n, struct cn_gf_node *nodes, uint8_t *attrs, int32_t *status);
/* Checks one name of a peer: 0, -EINVAL (empty, ".", "..", "/" or NUL in it), -ENAMETOOLONG. */
int cn_gf_name(const uint8_t *name, uint32_t len);
/* May what is in node be opened, listed, searched under the policy? 0 or -EACCES. */
int cn_gf_allowed(const struct cn_gf_policy *policy, const struct cn_gf_node *node, int search);
/* A new description of the regular file or directory behind an O_PATH descriptor; the process's cwd must be its own
 * /proc/self/fd. Returns the descriptor or -errno. */
int cn_gf_reopen(int fd, int flags);
/* renameat2(2). Names are single components, NUL-terminated. */
int cn_gf_rename(int olddir, const char *oldname, int newdir, const char *newname, uint32_t flags);
/* utimensat(2) of what is behind an O_PATH descriptor; nsec may be UTIME_NOW or UTIME_OMIT. cwd as for cn_gf_reopen. */
int cn_gf_utimes(int fd, int64_t asec, int64_t ansec, int64_t msec, int64_t mnsec);
/* statfs(2) of a descriptor: type bsize blocks bfree bavail files ffree fsid namelen. */
int cn_gf_statfs(int fd, uint64_t *out);
/* Entries of an open directory from `offset` (0 or one it gave), encoded to at most cap bytes of out. Plain: as Rreaddir
 * (qid offset type name). CN_GF_ATTRS: attr[153] offset[8] type[1] name[s] for each, without "." and ".."; an attr of valid 0 was
 * not to be had. CN_GF_DIR_ATTRS: attributes of directories alone; other records have valid 0, qid path and device. Returns the bytes or -errno (-EINVAL: cap too small for the next entry); *eof is 1 when there is no more. */
int cn_gf_readdir(int dirfd, uint64_t offset, int attrs, uint8_t *out, uint32_t cap, int32_t *eof);
/* Reads directories ahead: those below `dir`, depth first, whose `listed` bytes of entries (of cn_gf_readdir with attributes; all there
 * are) data begins with, then those in `parent` that names tells (each len[2] bytes) and what is below them. Appends a block for each that
 * may be read, is on the same mount and fits as a whole: parent[2] ino[8] dev[8] name[s] size[4] entries (CN_GF_DIR_ATTRS), where
 * parent is 0 for dir, the number of an earlier block, or CN_GF_BESIDE. Stops at what does not fit in cap (of all of data).
 * The bytes appended, or -EBADMSG: the names are malformed. */
int cn_gf_ahead(const struct cn_gf_policy *policy, const struct cn_gf_node *dir, uint8_t *data, uint32_t listed, uint32_t cap,
    const struct cn_gf_node *parent, const uint8_t *names, uint32_t len);

/* fallocate(2), for the sentry on a donated descriptor. */
int cn_gf_fallocate(int fd, int mode, int64_t off, int64_t len);

/* Waits until one of n stream sockets is readable or closed. Its index, or -errno. */
int cn_p9_wait(const int *fds, uint32_t n);
/* Reads what is there (at least a byte; waits for it) to buf[have..cap). Bytes, 0 at end, -errno. Passed descriptors are dropped. */
int cn_p9_recv(int fd, uint8_t *buf, uint32_t have, uint32_t cap);
/* Writes all of buf, with descriptor `pass` if >= 0. 0 or -errno. */
int cn_p9_send(int fd, const uint8_t *buf, uint32_t len, int pass);
/* Writes the request, whose last message begins at `last`, and reads one message to reply. The tag of the last message becomes the
 * number of the CPU that this runs on, so that our server can follow its client: a wake-up of another core costs several times what
 * the whole call does. Returns the answer's bytes; a descriptor that came with it is in *passed, -1 for none, -2 when one could not be taken
 * because this process has too many.
 * -EPIPE: the peer has gone. -EPROTO: what came is not exactly one message of 7 to cap bytes with that tag, or has several descriptors
 * (which are closed). Any other -errno is the socket's. After an error the connection is of no use any more. */
int cn_p9_call(int fd, const uint8_t *request, uint32_t len, uint32_t last, uint8_t *reply, uint32_t cap, int32_t *passed);
/* Moves the calling thread to the CPU of its client (a tag of cn_p9_call). */
int cn_p9_follow(uint32_t cpu);
/* cdef end */

#endif

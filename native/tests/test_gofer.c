/*
 * Unit tests of native/gofer: names, walks, listings and messages, with hostile input.
 *
 * Usage: test_gofer; prints "ok NAME" for each test. Builds with -fsanitize=address,undefined.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../gofer/gofer.h"
#include "check.h"

static int top;
static struct cn_gf_node root;
static const struct cn_gf_policy open_policy;

static u32 put_name(u8 *p, const char *name)
{
    u32 l = (u32)strlen(name);
    p[0] = (u8)l;
    p[1] = (u8)(l >> 8);
    memcpy(p + 2, name, l);
    return l + 2;
}

static int walk2(const char *a, const char *b, i32 *status)
{
    u8 names[1024], attrs[2 * CN_GF_ATTR];
    struct cn_gf_node nodes[2];
    u32 n = 1, len = put_name(names, a);
    if (b) {
        len += put_name(names + len, b);
        n = 2;
    }
    int r = cn_gf_walk(&open_policy, &root, names, len, n, nodes, attrs, status);
    for (int i = 0; i < r; i++)
        close(nodes[i].fd);
    return r;
}

static void test_names(void)
{
    CHECK(cn_gf_name((const u8 *)"a", 1) == 0);
    CHECK(cn_gf_name((const u8 *)"..a", 3) == 0);
    CHECK(cn_gf_name((const u8 *)"", 0) == -EINVAL);
    CHECK(cn_gf_name((const u8 *)".", 1) == -EINVAL);
    CHECK(cn_gf_name((const u8 *)"..", 2) == -EINVAL);
    CHECK(cn_gf_name((const u8 *)"a/b", 3) == -EINVAL);
    CHECK(cn_gf_name((const u8 *)"a\0b", 3) == -EINVAL);
    u8 big[300];
    memset(big, 'x', sizeof big);
    CHECK(cn_gf_name(big, 255) == 0);
    CHECK(cn_gf_name(big, 256) == -ENAMETOOLONG);
}

static void test_walk(void)
{
    i32 status;
    CHECK(walk2("dir", "file", &status) == 2 && status == 0);
    CHECK(walk2("dir", "none", &status) == 1 && status == -ENOENT);
    CHECK(walk2("link", "file", &status) == 1 && status == -ELOOP);
    CHECK(walk2("dir", "..", &status) == 1 && status == -EINVAL);
    CHECK(walk2("..", NULL, &status) == 0 && status == -EINVAL);
}

static void test_malformed_walks_open_nothing(void)
{
    u8 names[64], attrs[CN_GF_MAX_WALK * CN_GF_ATTR];
    struct cn_gf_node nodes[CN_GF_MAX_WALK];
    i32 status;
    u32 len = put_name(names, "dir");
    for (u32 cut = 0; cut < len; cut++)
        CHECK(cn_gf_walk(&open_policy, &root, names, cut, 1, nodes, attrs, &status) == -EBADMSG);
    CHECK(cn_gf_walk(&open_policy, &root, names, len + 1, 1, nodes, attrs, &status) == -EBADMSG);
    CHECK(cn_gf_walk(&open_policy, &root, names, len, 2, nodes, attrs, &status) == -EBADMSG);
    CHECK(cn_gf_walk(&open_policy, &root, names, len, 0xffffffff, nodes, attrs, &status) == -EBADMSG);
    srand(1);
    int spare = dup(0);
    for (int i = 0; i < 20000; i++) {
        u8 noise[48];
        for (size_t k = 0; k < sizeof noise; k++)
            noise[k] = (u8)(rand() >> 7 & (k % 2 ? 3 : 0xff));
        u32 l = (u32)rand() % sizeof noise;
        int r = cn_gf_walk(&open_policy, &root, noise, l, (u32)rand() % 5, nodes, attrs, &status);
        for (int k = 0; k < r; k++)
            close(nodes[k].fd);
    }
    close(spare);
    int again = dup(0);
    CHECK(again == spare); /* no descriptor was lost */
    close(again);
}

static void test_policy(void)
{
    struct cn_gf_policy policy = { .public_only = 1 };
    struct cn_gf_node node = { .mode = S_IFREG | 0640, .mnt = 7 };
    CHECK(cn_gf_allowed(&policy, &node, 0) == -EACCES);
    node.mode |= 04;
    CHECK(cn_gf_allowed(&policy, &node, 0) == 0);
    CHECK(cn_gf_allowed(&policy, &node, 1) == -EACCES);
    policy.n = 1;
    policy.mnt[0] = 7;
    CHECK(cn_gf_allowed(&policy, &node, 1) == 0);
    policy.n = 0xffffffff; /* is not believed beyond the table */
    node.mnt = 8;
    CHECK(cn_gf_allowed(&policy, &node, 1) == -EACCES);
}

static void test_listing(void)
{
    static u8 out[65536];
    int fd = openat(top, "many", O_RDONLY | O_DIRECTORY);
    CHECK(fd >= 0);
    u64 offset = 0;
    i32 eof = 0;
    int seen = 0;
    while (!eof) {
        int n = cn_gf_readdir(fd, offset, 1, out, 2000, &eof);
        CHECK(n >= 0);
        for (int pos = 0; pos < n;) {
            const u8 *e = out + pos + CN_GF_ATTR;
            memcpy(&offset, e, 8);
            pos += CN_GF_ATTR + 11 + (e[9] | e[10] << 8);
            CHECK(pos <= n);
            seen++;
        }
    }
    CHECK(seen == 200);
    CHECK(cn_gf_readdir(fd, 0, 1, out, CN_GF_ATTR, &eof) == -EINVAL);
    CHECK(cn_gf_readdir(top, 0, 1, out, 1000, &eof) == -EBADF);
    close(fd);
}

/* The blocks that a directory's listing brings along; checks that they fill what cn_gf_ahead says. */
static int ahead(const struct cn_gf_policy *policy, const char *name, u32 cap, const u8 *names, u32 len)
{
    static u8 out[65536];
    u8 attr[CN_GF_ATTR];
    struct cn_gf_node dir;
    i32 eof = 0;
    int blocks = 0;
    dir.fd = openat(top, name, O_RDONLY | O_DIRECTORY);
    CHECK(dir.fd >= 0 && cn_gf_stat(dir.fd, &dir, attr) == 0);
    int listed = cn_gf_readdir(dir.fd, 0, CN_GF_DIR_ATTRS, out, cap, &eof);
    CHECK(listed >= 0 && eof);
    int n = cn_gf_ahead(policy, &dir, out, (u32)listed, cap, &root, names, len);
    close(dir.fd);
    if (n < 0)
        return n;
    CHECK(listed + n <= (int)cap);
    for (int pos = listed; pos < listed + n; blocks++) {
        u32 parent = out[pos] | (u32)out[pos + 1] << 8, l = out[pos + 18] | (u32)out[pos + 19] << 8, size;
        CHECK(parent == CN_GF_BESIDE || (int)parent <= blocks);
        memcpy(&size, out + pos + 20 + l, 4);
        pos += (int)(24 + l + size);
        CHECK(pos <= listed + n);
    }
    return blocks;
}

static void test_ahead(void)
{
    u8 names[1024];
    struct cn_gf_policy policy = { .public_only = 1 };
    int spare = dup(0);
    CHECK(mkdirat(top, "tree", 0755) == 0 && mkdirat(top, "tree/a", 0755) == 0 && mkdirat(top, "tree/a/b", 0755) == 0);
    CHECK(mkdirat(top, "tree/c", 0711) == 0 && mkdirat(top, "tree/c/d", 0755) == 0);
    CHECK(symlinkat("a", top, "tree/link") == 0);
    CHECK(ahead(&open_policy, "tree", 65536, NULL, 0) == 4);
    CHECK(ahead(&policy, "tree", 65536, NULL, 0) == 2); /* c may not be listed: nothing below it */
    u32 len = put_name(names, "many");
    len += put_name(names + len, "..");
    len += put_name(names + len, "link");
    len += put_name(names + len, "none");
    len += put_name(names + len, "tree/a");
    len += put_name(names + len, "dir");
    CHECK(ahead(&open_policy, "tree", 65536, names, len) == 6);
    CHECK(ahead(&open_policy, "tree", 20000, names, len) == 4); /* many does not fit */
    for (u32 cap = 600; cap < 3000; cap++)
        CHECK(ahead(&open_policy, "tree", cap, NULL, 0) >= 0);
    CHECK(ahead(&open_policy, "tree", 65536, names, 5) == -EBADMSG);
    close(spare);
    int again = dup(0);
    CHECK(again == spare); /* no descriptor was lost */
    close(again);
}

/* What a client makes of `data`, sent with `fds` descriptors, as the answer. */
static int answer(const void *data, u32 len, int fds)
{
    int pair[2];
    CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) == 0);
    char control[CMSG_SPACE(4 * sizeof(int))] = { 0 };
    struct iovec iov = { .iov_base = (void *)(uintptr_t)data, .iov_len = len };
    struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };
    if (fds) {
        msg.msg_control = control;
        msg.msg_controllen = CMSG_SPACE((size_t)fds * sizeof(int));
        struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN((size_t)fds * sizeof(int));
        for (int i = 0; i < fds; i++)
            memcpy(CMSG_DATA(c) + (size_t)i * sizeof(int), &(int){ 0 }, sizeof(int));
    }
    CHECK(sendmsg(pair[1], &msg, 0) == (ssize_t)len);
    shutdown(pair[1], SHUT_WR);
    u8 request[7] = { 7, 0, 0, 0, 100, 0, 0 }, reply[64]; /* Tversion: its tag is known */
    i32 passed = -2;
    int r = cn_p9_call(pair[0], request, sizeof request, 0, reply, sizeof reply, &passed);
    CHECK(passed == -1 || r >= 0);
    if (passed >= 0)
        close(passed);
    close(pair[0]);
    close(pair[1]);
    return r;
}

static void test_answers(void)
{
    int spare = dup(0);
    CHECK(answer("\7\0\0\0e\377\377", 7, 0) == 7);
    CHECK(answer("\7\0\0\0e\377\377", 7, 1) == 7);
    CHECK(answer("\7\0\0\0e\377\377", 7, 3) == -EPROTO); /* more descriptors than an answer has */
    CHECK(answer("\7\0\0\0e\1\0", 7, 0) == -EPROTO);     /* another tag */
    CHECK(answer("\6\0\0\0e\377", 6, 1) == -EPROTO);     /* too short */
    CHECK(answer("\7\0\0\0e\377\377x", 8, 1) == -EPROTO); /* more than one message */
    CHECK(answer("\100\1\0\0e\377\377", 7, 1) == -EPROTO); /* longer than the buffer */
    CHECK(answer("\10\0\0\0e\377\377", 7, 1) == -EPIPE);   /* cut off */
    CHECK(answer("\7\0", 2, 0) == -EPIPE);
    close(spare);
    int again = dup(0);
    CHECK(again == spare);
    close(again);
}

int main(void)
{
    char where[] = "/tmp/test_gofer.XXXXXX";
    CHECK(mkdtemp(where));
    top = open(where, O_PATH | O_DIRECTORY | O_CLOEXEC);
    CHECK(top >= 0);
    u8 attr[CN_GF_ATTR];
    root.fd = top;
    CHECK(cn_gf_stat(top, &root, attr) == 0);
    CHECK(mkdirat(top, "dir", 0755) == 0 && mkdirat(top, "many", 0755) == 0);
    close(openat(top, "dir/file", O_CREAT | O_WRONLY, 0644));
    CHECK(symlinkat("dir", top, "link") == 0);
    for (int i = 0; i < 200; i++) {
        char name[64];
        snprintf(name, sizeof name, "many/%0*d", 1 + i % 40, i);
        close(openat(top, name, O_CREAT | O_WRONLY, 0644));
    }
    static const struct {
        const char *name;
        void (*run)(void);
    } tests[] = {
        { "names", test_names },     { "walk", test_walk },
        { "policy", test_policy },   { "malformed_walks_open_nothing", test_malformed_walks_open_nothing },
        { "listing", test_listing }, { "ahead", test_ahead },
        { "answers", test_answers },
    };
    for (size_t i = 0; i < sizeof tests / sizeof *tests; i++) {
        tests[i].run();
        printf("ok %s\n", tests[i].name);
    }
    char command[64];
    snprintf(command, sizeof command, "rm -r %s", where);
    return system(command) ? 1 : 0;
}

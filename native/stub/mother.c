/* Starting and commanding the mother stub. See mother.h. */
#define _GNU_SOURCE
#include "mother.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/personality.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../run/place.h"
#include "vdsosym.h"

#define MAX_FDS 64 /* of a mother at her start */

#ifndef MFD_EXEC
#define MFD_EXEC 0x10U
#endif

struct cn_mother {
    pthread_mutex_t lock;
    pid_t pid;
    int pidfd;
    int sock;
    int ctrl_fd;
    u8 *ctrl;
    u64 vdso; /* ELF header of the host's vDSO in the stubs, or 0 */
    int cpu; /* the mother is pinned to, -1 none */
    u32 pool, nready, npending;
    struct cn_stub *ready; /* pool entries */
    u32 nfree, next_slot;  /* freed slots first, then never used ones */
    u32 *free_slots;
    void (*fresh)(void *arg, u32 slot, struct stub_ctrl *ctrl); /* NULL: plain stubs */
    void *fresh_arg;
    pid_t *dying; /* killed, not yet waited for */
    u32 ndying, dying_cap;
};

__attribute__((noinline)) static int image_fd(void)
{
    int fd = memfd_create("cordon-stub", MFD_CLOEXEC | MFD_EXEC);
    if (fd < 0 && errno == EINVAL) /* before Linux 6.3 */
        fd = memfd_create("cordon-stub", MFD_CLOEXEC);
    if (fd < 0)
        return -errno;
    for (u64 off = 0; off < cn_stub_elf_len;) {
        ssize_t n = pwrite(fd, cn_stub_elf + off, cn_stub_elf_len - off, (off_t)off);
        if (n < 0) {
            int err = -errno;
            close(fd);
            return err;
        }
        off += (u64)n;
    }
    return fd;
}

/* The child of vfork: shares the sentry's memory until exec, so it makes nothing but system calls.
 */
static void exec_mother(int image, const int *fds, int n, volatile int *error)
{
    static char name[] = "cordon-stub";
    char *argv[] = {name, NULL}, *envp[] = {NULL};
    struct rlimit stack = {8 << 20, 8 << 20}, none = {0, 0};
    sigset_t empty;

    /* A fixed layout: the stack at the very top, the vDSO below it and above the guest's space. */
    if (personality(ADDR_NO_RANDOMIZE) < 0 || setrlimit(RLIMIT_STACK, &stack) < 0 ||
        setrlimit(RLIMIT_CORE, &none) < 0)
        goto out;
    /* No terminal signals for stubs. */
    setsid();
    for (int i = 0; i < n; i++)
        if (dup2(fds[i], i) < 0)
            goto out;
    if (syscall(SYS_close_range, n, ~0U, CLOSE_RANGE_CLOEXEC) < 0)
        goto out;
    sigemptyset(&empty);
    sigprocmask(SIG_SETMASK, &empty, NULL);
    syscall(SYS_execveat, image, "", argv, envp, AT_EMPTY_PATH);
out:
    *error = errno;
    _exit(127);
}

static pid_t spawn(int memfd, int sock, int ctrl_fd, const struct cn_mother_extra *extra)
{
    volatile int error = 0;
    int fds[MAX_FDS], from[MAX_FDS] = {memfd, sock, ctrl_fd}, image;
    int nfds = STUB_FD_AREA + (extra ? extra->nfds : 0);
    sigset_t all, old;
    pid_t pid = -1;

    if (nfds > MAX_FDS)
        return -EINVAL;
    for (int i = 0; i < nfds; i++) {
        fds[i] = -1;
        if (i >= STUB_FD_AREA)
            from[i] = extra->fds[i - STUB_FD_AREA];
    }
    image = image_fd();
    if (image < 0)
        return image;
    for (int i = 0; i < nfds; i++) /* above the numbers they will have */
        if ((fds[i] = fcntl(from[i], F_DUPFD_CLOEXEC, MAX_FDS)) < 0) {
            error = errno;
            goto out;
        }
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    pid = vfork();
    if (pid == 0)
        exec_mother(image, fds, nfds, &error);
    if (pid < 0)
        error = errno;
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (pid > 0 && error) {
        waitpid(pid, NULL, 0);
        pid = -1;
    }
out:
    for (int i = 0; i < nfds; i++)
        if (fds[i] >= 0)
            close(fds[i]);
    close(image);
    return pid > 0 ? pid : -error;
}

/* The extent of vvar and vDSO, from this process's own: `below` bytes before the ELF header,
 * `above` from it on. */
static void vdso_extent(u64 *below, u64 *above)
{
    u64 lo = 0, hi = 0, elf = getauxval(AT_SYSINFO_EHDR);
    char line[512];
    FILE *f = fopen("/proc/self/maps", "re");

    *below = *above = 0;
    if (!f)
        return;
    while (fgets(line, sizeof(line), f)) {
        unsigned long start, end;
        if (sscanf(line, "%lx-%lx", &start, &end) != 2 ||
            (!strstr(line, "[vvar") && !strstr(line, "[vdso]")))
            continue;
        if (!hi)
            lo = start;
        else if (start != hi) /* not adjacent: nothing we know how to keep */
            elf = 0;
        hi = end;
    }
    fclose(f);
    if (elf && lo <= elf && elf < hi) {
        *below = elf - lo;
        *above = hi - elf;
    }
}

static int send_cmd(struct cn_mother *m, const struct stub_cmd *cmd, int fd)
{
    union {
        struct cmsghdr h;
        char space[CMSG_SPACE(sizeof(int))];
    } c;
    struct iovec iov = {(void *)cmd, sizeof(*cmd)};
    struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
    ssize_t n;

    if (fd >= 0) {
        memset(&c, 0, sizeof(c));
        msg.msg_control = &c;
        msg.msg_controllen = sizeof(c.space);
        c.h.cmsg_level = SOL_SOCKET;
        c.h.cmsg_type = SCM_RIGHTS;
        c.h.cmsg_len = CMSG_LEN(sizeof(int));
        memcpy(CMSG_DATA(&c.h), &fd, sizeof(int));
    }
    do
        n = sendmsg(m->sock, &msg, MSG_NOSIGNAL);
    while (n < 0 && errno == EINTR);
    return n < 0 ? -errno : 0;
}

/* Waits until there is a reply. -ESRCH when the mother is gone: the socket doesn't tell, because
 * the stubs have her end of it, too. */
static int await_reply(struct cn_mother *m)
{
    struct pollfd p[2] = {{m->sock, POLLIN, 0}, {m->pidfd, POLLIN, 0}};
    int rc;

    do
        rc = poll(p, 2, -1);
    while (rc < 0 && errno == EINTR);
    return rc < 0 ? -errno : p[0].revents ? 0 : -ESRCH;
}

/* Takes one reply off the socket; stubs go into the pool. Returns its op, 0 when there is none now,
 * or -errno. Flags: 0 waits, MSG_DONTWAIT doesn't. */
static int take_reply(struct cn_mother *m, int flags, i64 *value)
{
    struct stub_reply r;
    ssize_t n;
    int rc;

    for (;;) {
        do
            n = recv(m->sock, &r, sizeof(r), MSG_DONTWAIT);
        while (n < 0 && errno == EINTR);
        if (n >= 0)
            break;
        if (errno != EAGAIN)
            return -errno;
        if (flags & MSG_DONTWAIT)
            return 0;
        if ((rc = await_reply(m)) < 0)
            return rc;
    }
    if (n != (ssize_t)sizeof(r))
        return -ESRCH; /* the mother is gone */
    *value = r.value;
    if (r.op == STUB_NEW) {
        m->npending--;
        if (r.value > 0)
            m->ready[m->nready++] = (struct cn_stub){(pid_t)r.value, r.arg};
        else
            m->free_slots[m->nfree++] = r.arg;
    }
    return (int)r.op;
}

static void pin_mother(struct cn_mother *m, int cpu)
{
    if (cpu != m->cpu)
        cn_place_pin(m->pid, cpu);
    m->cpu = cpu;
}

static int request_stub(struct cn_mother *m)
{
    struct stub_cmd cmd = {.op = STUB_NEW};
    int rc;

    pin_mother(m, -1); /* nobody waits for this one, if the pool is large enough */
    if (m->nfree)
        cmd.arg = m->free_slots[--m->nfree];
    else if (m->next_slot < STUB_SLOTS)
        cmd.arg = m->next_slot++;
    else
        return -EAGAIN;
    cn_mother_ctrl(m, cmd.arg)->sentry_pid = (u64)getpid();
    if (m->fresh)
        m->fresh(m->fresh_arg, cmd.arg, cn_mother_ctrl(m, cmd.arg));
    rc = send_cmd(m, &cmd, -1);
    if (rc < 0)
        m->free_slots[m->nfree++] = cmd.arg;
    else
        m->npending++;
    return rc;
}

static void reap(struct cn_mother *m, int flags)
{
    u32 keep = 0;
    for (u32 i = 0; i < m->ndying; i++) {
        pid_t got;
        do
            got = waitpid(m->dying[i], NULL, __WALL | flags);
        while (got < 0 && errno == EINTR);
        if (got == 0)
            m->dying[keep++] = m->dying[i];
    }
    m->ndying = keep;
}

int cn_mother_start(struct cn_mother **out, int memfd, u32 pool,
                    const struct cn_mother_extra *extra)
{
    struct cn_mother *m = calloc(1, sizeof(*m));
    struct stub_cmd init = {.op = STUB_INIT, .arg = extra != NULL, .pid = (u64)getpid()};
    int sv[2] = {-1, -1}, rc = -ENOMEM;
    i64 value = 0;

    if (!m)
        return -ENOMEM;
    m->pidfd = m->sock = m->ctrl_fd = m->cpu = -1;
    m->ctrl = MAP_FAILED;
    m->pool = pool ? pool : 1;
    if (extra) {
        m->fresh = extra->fresh;
        m->fresh_arg = extra->arg;
    }
    pthread_mutex_init(&m->lock, NULL);
    m->ready = calloc(m->pool + 1, sizeof(*m->ready));
    m->free_slots = calloc(STUB_SLOTS, sizeof(*m->free_slots));
    if (!m->ready || !m->free_slots)
        goto fail;
    m->ctrl_fd = memfd_create("cordon-stub-control", MFD_CLOEXEC);
    if (m->ctrl_fd < 0 || ftruncate(m->ctrl_fd, (off_t)STUB_SLOTS * STUB_CTRL_SIZE) < 0)
        goto fail_errno;
    m->ctrl = mmap(NULL, (u64)STUB_SLOTS * STUB_CTRL_SIZE, PROT_READ | PROT_WRITE,
                   MAP_SHARED | MAP_NORESERVE, m->ctrl_fd, 0);
    if (m->ctrl == MAP_FAILED || socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sv) < 0)
        goto fail_errno;
    m->sock = sv[0];
    m->pid = rc = spawn(memfd, sv[1], m->ctrl_fd, extra);
    close(sv[1]);
    if (rc < 0) {
        m->pid = 0;
        goto fail;
    }
    m->pidfd = (int)syscall(SYS_pidfd_open, m->pid, 0);
    if (m->pidfd < 0)
        goto fail_errno;
    vdso_extent(&init.below, &init.above);
    if ((rc = send_cmd(m, &init, -1)) < 0)
        goto fail;
    rc = take_reply(m, 0, &value);
    if (rc != STUB_INIT || value < 0) {
        rc = rc < 0 ? rc : value < 0 ? (int)value : -EPROTO;
        goto fail;
    }
    m->vdso = (u64)value;
    for (u32 i = 0; i < m->pool; i++)
        if ((rc = request_stub(m)) < 0)
            goto fail;
    *out = m;
    return 0;

fail_errno:
    rc = -errno;
fail:
    cn_mother_stop(m);
    return rc;
}

void cn_mother_stop(struct cn_mother *m)
{
    i64 value;

    if (m->pid > 0) {
        while (m->npending && take_reply(m, 0, &value) > 0)
            ;
        for (u32 i = 0; i < m->nready; i++)
            cn_mother_bury(m, m->ready[i].pid);
        cn_mother_bury(m, m->pid);
        reap(m, 0);
    }
    if (m->pidfd >= 0)
        close(m->pidfd);
    if (m->sock >= 0)
        close(m->sock);
    if (m->ctrl != MAP_FAILED)
        munmap(m->ctrl, (u64)STUB_SLOTS * STUB_CTRL_SIZE);
    if (m->ctrl_fd >= 0)
        close(m->ctrl_fd);
    pthread_mutex_destroy(&m->lock);
    free(m->dying);
    free(m->free_slots);
    free(m->ready);
    free(m);
}

int cn_mother_pidfd(const struct cn_mother *m)
{
    return m->pidfd;
}

int cn_mother_take(struct cn_mother *m, struct cn_stub *out)
{
    i64 value = 0;
    int rc = 0;

    pthread_mutex_lock(&m->lock);
    reap(m, WNOHANG);
    while (m->npending && (rc = take_reply(m, MSG_DONTWAIT, &value)) > 0)
        ;
    while (rc >= 0 && !m->nready) {
        if (!m->npending && (rc = request_stub(m)) < 0)
            break;
        rc = take_reply(m, 0, &value);
        if (rc == STUB_NEW && value < 0)
            rc = (int)value;
    }
    if (m->nready) {
        *out = m->ready[--m->nready];
        rc = 0;
        while (m->nready + m->npending < m->pool && request_stub(m) == 0)
            ;
    }
    pthread_mutex_unlock(&m->lock);
    return rc;
}

struct stub_ctrl *cn_mother_ctrl(struct cn_mother *m, u32 slot)
{
    return (struct stub_ctrl *)(m->ctrl + (u64)slot * STUB_CTRL_SIZE);
}

void cn_mother_bury(struct cn_mother *m, pid_t pid)
{
    kill(pid, SIGKILL);
    pthread_mutex_lock(&m->lock);
    reap(m, WNOHANG);
    if (m->ndying == m->dying_cap) {
        u32 cap = m->dying_cap ? 2 * m->dying_cap : 64;
        pid_t *grown = realloc(m->dying, cap * sizeof(*grown));
        if (grown) {
            m->dying = grown;
            m->dying_cap = cap;
        }
    }
    if (m->ndying < m->dying_cap)
        m->dying[m->ndying++] = pid;
    else
        waitpid(pid, NULL, __WALL); /* no memory to remember it */
    pthread_mutex_unlock(&m->lock);
}

void cn_mother_slot_free(struct cn_mother *m, u32 slot)
{
    pthread_mutex_lock(&m->lock);
    m->free_slots[m->nfree++] = slot;
    pthread_mutex_unlock(&m->lock);
}

int cn_mother_fd_install(struct cn_mother *m, int host_fd)
{
    struct stub_cmd cmd = {.op = STUB_FD_INSTALL};
    i64 value = 0;
    int rc;

    pthread_mutex_lock(&m->lock);
    pin_mother(m, cn_place_cpu()); /* we wait for her: best on our own core */
    rc = send_cmd(m, &cmd, host_fd);
    if (rc == 0)
        do
            rc = take_reply(m, 0, &value);
        while (rc > 0 && rc != STUB_FD_INSTALL);
    pthread_mutex_unlock(&m->lock);
    return rc < 0 ? rc : (int)value;
}

void cn_mother_fd_remove(struct cn_mother *m, int fd)
{
    struct stub_cmd cmd = {.op = STUB_FD_REMOVE, .arg = (u32)fd};

    pthread_mutex_lock(&m->lock);
    send_cmd(m, &cmd, -1);
    pthread_mutex_unlock(&m->lock);
}

u64 cn_mother_vdso_symbol(struct cn_mother *m, const char *name)
{
    u64 off = m->vdso ? cn_vdso_offset(name) : 0;
    return off ? m->vdso + off : 0;
}

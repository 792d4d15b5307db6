/* What the guest tests of files share: one line a check, so that a native and a sandboxed run can be compared. */
#ifndef VFS_CHECK_H
#define VFS_CHECK_H
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* Prints the expression, its value and, when it is -1, the error. */
#define SHOW(e)                                                                                    \
    ({                                                                                             \
        errno = 0;                                                                                 \
        long v_ = (long)(e);                                                                       \
        printf("%d: %s = %ld%s%s\n", __LINE__, #e, v_, v_ == -1 ? " " : "",                        \
               v_ == -1 ? strerrorname_np(errno) : "");                                            \
        v_;                                                                                        \
    })

/* For values that differ between runs (descriptors are the same, addresses are not). */
#define CHECK(e)                                                                                   \
    do {                                                                                           \
        errno = 0;                                                                                 \
        if (!(e))                                                                                  \
            printf("%d: FAILED %s (%s)\n", __LINE__, #e, strerrorname_np(errno));                  \
    } while (0)

static inline void put_file(const char *name, const char *text)
{
    int fd = open(name, O_CREAT | O_WRONLY | O_TRUNC, 0644);
    if (fd < 0 || write(fd, text, strlen(text)) != (ssize_t)strlen(text))
        printf("cannot write %s: %s\n", name, strerrorname_np(errno));
    close(fd);
}
#endif

#define _GNU_SOURCE
#include "opens.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/fanotify.h>
#include <unistd.h>

int cn_opens_watch(int dirfd)
{
    int fd = fanotify_init(FAN_CLASS_CONTENT | FAN_CLOEXEC | FAN_NONBLOCK, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    if (fanotify_mark(fd, FAN_MARK_ADD, FAN_OPEN_PERM | FAN_ONDIR, dirfd, NULL)) {
        int r = -errno;
        close(fd);
        return r;
    }
    return fd;
}

int cn_opens_allow(int fd)
{
    _Alignas(struct fanotify_event_metadata) char buffer[4096];
    int allowed = 0;
    for (;;) {
        ssize_t n = read(fd, buffer, sizeof buffer);
        if (n < 0)
            return errno == EAGAIN ? allowed : -errno;
        struct fanotify_event_metadata *event = (void *)buffer;
        for (; FAN_EVENT_OK(event, n); event = FAN_EVENT_NEXT(event, n)) {
            if (event->fd < 0)
                continue;
            struct fanotify_response response = { event->fd, FAN_ALLOW };
            if (write(fd, &response, sizeof response) == sizeof response)
                allowed++;
            close(event->fd);
        }
    }
}

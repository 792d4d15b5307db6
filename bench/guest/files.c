/* Reading, writing, making and listing files. */
#define _GNU_SOURCE
#include "guest.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { BLOCK = 65536, WRITTEN = 64 << 20 };

static int fd = -1;
static char buffer[BLOCK];
static char path[4200];

static const char *in_data(const char *name)
{
    snprintf(path, sizeof(path), "%s/%s", data_dir, name);
    return path;
}

static void open_big(void) { fd = (int)must(open(in_data("big"), O_RDONLY), path); }
static void close_fd(void) { close(fd); }
static void pread_4k(void) { must(pread(fd, buffer, 4096, 8192), "pread"); }

static void seq_read(void)
{
    open_big();
    while (must(read(fd, buffer, BLOCK), "read") > 0) {
    }
    close_fd();
}

static void seq_write(void)
{
    fd = (int)must(open("written", O_WRONLY | O_CREAT | O_TRUNC, 0600), "written");
    for (long done = 0; done < WRITTEN; done += BLOCK)
        must(write(fd, buffer, BLOCK), "write");
    close_fd();
}

static void remove_written(void) { unlink("written"); }

static void create_unlink(void)
{
    close((int)must(open("created", O_WRONLY | O_CREAT | O_EXCL, 0600), "created"));
    must(unlink("created"), "unlink");
}

static void readdir_1000(void)
{
    DIR *d = opendir(in_data("many"));
    long n = 0;

    if (!d)
        must(-1, path);
    while (readdir(d))
        n++;
    closedir(d);
    if (n < 1000)
        exit(3);
}

const struct bench files[] = {
    {"pread_4k", pread_4k, open_big, close_fd, 1, 0},
    {"seq_read", seq_read, 0, 0, 1, 1},
    {"seq_write", seq_write, 0, remove_written, 1, 1},
    {"create_unlink", create_unlink, 0, 0, 1, 0},
    {"readdir_1000", readdir_1000, 0, 0, 1, 0},
    {0},
};

/*
 * The sentry's side of the mother stub: starting it, the shared fd table, the pool of ready stubs,
 * their burial. Every function may be called by any thread.
 */
#ifndef CORDON_MOTHER_H
#define CORDON_MOTHER_H

#include <sys/types.h>

#include "stub.h"

struct cn_mother;

/* A parked stub process (systrap: a keeper): nobody traces it, its memory below CN_TASK_SIZE is
 * empty. */
struct cn_stub {
    pid_t pid;
    u32 slot;
};

/* What a platform adds to the mother's table and to new stubs (systrap). */
struct cn_mother_extra {
    int nfds;
    const int *fds; /* get the numbers from STUB_FD_AREA on */
    /* Fills the control page of a stub that is about to be made; arg. Under the mother's lock. */
    void (*fresh)(void *arg, u32 slot, struct stub_ctrl *ctrl);
    void *arg;
};

/* Starts the mother with memfd as fd 0 of all stubs and keeps `pool` ready stubs: parked ones, with
 * `extra` keepers (else NULL; it is copied). The mother dies with the calling thread. Needs
 * /proc/self/maps to know the extent of the host's vDSO (without it stubs have none). 0 or -errno. */
int cn_mother_start(struct cn_mother **out, int memfd, u32 pool,
                    const struct cn_mother_extra *extra);
/* Kills the mother and every stub not yet buried, waits for all. */
void cn_mother_stop(struct cn_mother *m);

/* Readable (poll) once the mother has died; the mother's own. */
int cn_mother_pidfd(const struct cn_mother *m);

/* A ready stub, from the pool when it has one. 0 or -errno. */
int cn_mother_take(struct cn_mother *m, struct cn_stub *out);
/* The stub's control page, writable. */
struct stub_ctrl *cn_mother_ctrl(struct cn_mother *m, u32 slot);
/* Kills a stub (any number of threads of one slot, one call each) and waits for it now or at a
 * later call. */
void cn_mother_bury(struct cn_mother *m, pid_t pid);
/* Gives a slot back after all stubs that used it were buried. */
void cn_mother_slot_free(struct cn_mother *m, u32 slot);

/* fd numbers in the stubs' table; -errno. */
int cn_mother_fd_install(struct cn_mother *m, int host_fd);
void cn_mother_fd_remove(struct cn_mother *m, int fd);

/* Address of a function of the host's vDSO in every stub, or 0. */
u64 cn_mother_vdso_symbol(struct cn_mother *m, const char *name);

/* The stub image, made by the build from native/stub/image. */
extern const u8 cn_stub_elf[];
extern const u64 cn_stub_elf_len;

#endif

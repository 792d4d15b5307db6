/*
 * Sealing a process: namespaces, roots, capabilities, seccomp.
 *
 * Every function acts on the calling thread or process, returns 0 or a value >= 0, or -errno. None of them allocates or
 * prints, except the SIGSYS report. Used by the gofer and by the sentry, as root and in a user namespace.
 */
#ifndef CORDON_SEAL_H
#define CORDON_SEAL_H

#include "../cordon.h"

/* cdef begin */
enum {
    CN_NS_USER = 1,
    CN_NS_MOUNT = 2,
    CN_NS_PID = 4, /* for the next child */
    CN_NS_NET = 8,
    CN_NS_IPC = 16,
    CN_NS_UTS = 32
};
/* New namespaces (CN_NS_* bits). With CN_NS_USER the caller's uid and gid are mapped to `uid` and `gid` alone (setgroups
 * denied); both are ignored otherwise. With CN_NS_MOUNT no mount made later reaches the host. */
int cn_ns_enter(uint32_t what, uint32_t uid, uint32_t gid);
/* A new user namespace with no ids mapped yet: a process outside writes the maps. */
int cn_ns_user(void);
/* Joins the namespace that `fd` is (/proc/PID/ns/..., or a file bound over one), which must be of the one kind `what`. */
int cn_ns_join(int fd, uint32_t what);

/* SIGKILL when the parent thread dies; -ESRCH when the parent is not `parent` any more (0: don't check). */
int cn_die_with_parent(int parent);
/* Takes that back. */
int cn_outlive_parent(void);
/* Descendants that lose their parent become children of this process (PR_SET_CHILD_SUBREAPER), which is to reap them. */
int cn_adopt_orphans(void);

/* mount(2) with MS_* flags. Strings may be NULL. */
int cn_mount(const char *source, const char *target, const char *type, unsigned long flags, const char *data);
/* A new tmpfs of `bytes` (0: no limit) for its owner alone, detached: an O_PATH fd of its root. */
int cn_tmpfs_new(uint64_t bytes);
/* Gives the tmpfs whose root `fd` is another size (0: no limit). -EINVAL: more is in use. */
int cn_tmpfs_resize(int fd, uint64_t bytes);
/* A (recursive, if deep) clone of what `source` is, as a detached mount's O_PATH fd (open_tree(2)). */
int cn_tree_clone(int dirfd, const char *source, int deep);
/* Attaches a detached mount to the place that `target` is (a directory, or a file for a file), move_mount(2). */
int cn_tree_attach(int treefd, int dirfd, const char *target);
enum { CN_MNT_RDONLY = 1, CN_MNT_NOSUID = 2, CN_MNT_NODEV = 4, CN_MNT_NOEXEC = 8 };
/* Sets attributes of a mount, of all below it if deep (mount_setattr(2)), and makes it private. */
int cn_tree_setattr(int treefd, uint32_t attrs, int deep);
int cn_umount(const char *target); /* MNT_DETACH | UMOUNT_NOFOLLOW */

/* Makes `newroot` (a mount point) the root, and detaches the old one; cwd is "/" then. */
int cn_root_pivot(const char *newroot);
/* Makes an empty read-only tmpfs the root. Needs CN_NS_MOUNT. */
int cn_root_empty(void);

/* Drops from the bounding set every capability not in `keep` (bit n for CAP_n), clears the ambient set, and locks
 * SECBIT_NOROOT: no exec gains anything. Needs CAP_SETPCAP. */
int cn_caps_bound(uint64_t keep);
/* Permitted and effective become those of `keep` that are permitted now, inheritable none. This thread only. */
int cn_caps_keep(uint64_t keep);
int cn_no_new_privs(void);
int cn_set_dumpable(int on);
int cn_close_range(uint32_t first, uint32_t last);

/* Installs a BPF program (array of struct sock_filter) on all threads (TSYNC). Sets no_new_privs first. */
int cn_seccomp_install(const uint8_t *program, uint32_t bytes);
/* A filter's SECCOMP_RET_TRAP then prints "<who>: host system call N is not allowed" to fd and ends the process by SIGSYS. */
int cn_seccomp_report(const char *who, int fd);
/* cdef end */

#endif

"""The sentry's own confinement: namespaces, empty root, no capabilities, a seccomp allow-list (rows in seccomp.toml).

    isolate()       first, before memory file and platform: new namespaces, init of an own pid namespace, nothing an exec could gain
    seal(platform)  last, before the first guest instruction and before any other thread starts: empty root, no capabilities, filter

Each layer is put in place or SandboxError says in one sentence which one failed and why.
"""

from __future__ import annotations

import os
import resource
import signal
import sys
from typing import Final, NoReturn

from native import confined
from native._core import lib
from sentry.errors import SandboxError
from sentry.filter import PROGRAMS

TERMINAL_SIGNALS: Final = (signal.SIGINT, signal.SIGQUIT, signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU)


def need(r: int, layer: str) -> int:
    if r < 0:
        raise SandboxError(f"cannot seal the sentry: {layer}: {os.strerror(-r)}")
    return r


def isolate(network: bool = False) -> None:
    """Moves the process into new user, mount, pid, ipc, uts and (unless `network`) net namespaces.

    Returns in a new child, which is init of the pid namespace and dies with its parent; the calling process stays behind, waits for
    it and ends the way it ended. Call it single-threaded.
    """
    if len(os.listdir("/proc/self/task")) != 1:
        raise SandboxError("cannot seal the sentry: it has more than one thread already")
    for sig in TERMINAL_SIGNALS:
        signal.signal(sig, signal.SIG_IGN)
    need(lib.cn_die_with_parent(os.getppid()), "tie it to its starter")
    what = lib.CN_NS_USER | lib.CN_NS_MOUNT | lib.CN_NS_PID | lib.CN_NS_IPC | lib.CN_NS_UTS
    if not network:
        what |= lib.CN_NS_NET
    need(lib.cn_ns_enter(what, os.geteuid(), os.getegid()), "new namespaces")
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child:
        wait_and_follow(child)
    # In a new pid namespace the parent has no number, so its death within the fork can't be seen: the sockets' end tells then.
    need(lib.cn_die_with_parent(0), "tie it to its starter")
    need(lib.cn_caps_bound(0), "capability bounding set")
    need(lib.cn_no_new_privs(), "no_new_privs")
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    confined.room_for_descriptors()


def wait_and_follow(child: int) -> NoReturn:
    """The outer process: holds nothing open, and ends as the child did."""
    lib.cn_close_range(0, 0xFFFFFFFF)
    status = os.waitpid(child, 0)[1]
    if os.WIFSIGNALED(status):
        sig = os.WTERMSIG(status)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        if sig != signal.SIGKILL:
            signal.signal(sig, signal.SIG_DFL)
        os.kill(os.getpid(), sig)
    os._exit(os.waitstatus_to_exitcode(status) & 0xFF)


def seal(platform: str, log: int = 2) -> None:
    """Empty root, all capabilities gone, seccomp filter for `platform`. Everything needed later must be imported and open by now.

    A forbidden host call afterwards writes one line to `log` and ends the sentry by SIGSYS.
    """
    program = PROGRAMS.get(platform)
    if program is None:
        raise SandboxError(f"cannot seal the sentry: there is no filter for platform {platform}")
    if len(os.listdir("/proc/self/task")) != 1:
        raise SandboxError("cannot seal the sentry: it has more than one thread already")
    need(lib.cn_root_empty(), "empty root")
    need(lib.cn_caps_keep(0), "capabilities")
    need(lib.cn_set_dumpable(0), "dumpable")
    need(lib.cn_seccomp_report(b"sentry", log), "seccomp report")
    need(lib.cn_seccomp_install(program, len(program)), "seccomp filter")

"""The sentry's own confinement: namespaces, empty root, no capabilities, a seccomp allow-list (rows in seccomp.toml).

    isolate()       first, before memory file and platform: new namespaces, init of an own pid namespace, nothing an exec could gain
    seal(platform)  last, before the first guest instruction and before any other thread starts: empty root, no capabilities, filter

Each layer is put in place or SandboxError says in one sentence which one failed and why.
"""

from __future__ import annotations


def isolate(network: bool = False) -> None:
    """Moves the process into new user, mount, pid, ipc, uts and (unless `network`) net namespaces.

    Returns in a new child, which is init of the pid namespace and dies with its parent; the calling process stays behind, waits for
    it and ends the way it ended. Call it single-threaded.
    """
    raise NotImplementedError


def seal(platform: str, log: int = 2) -> None:
    """Empty root, all capabilities gone, seccomp filter for `platform`. Everything needed later must be imported and open by now.

    A forbidden host call afterwards writes one line to `log` and ends the sentry by SIGSYS.
    """
    raise NotImplementedError

"""The gofer process: reads its spec, confines itself, serves until the sentry has gone.

    python -I -m gofer.main FD        the spec is read from the inherited descriptor FD (gofer/spec.py)
    run(spec)                         the same in a fork of a process that has imported this already

In order: namespaces (a user namespace, too, without CAP_SYS_ADMIN), a child as init of the pid namespace, the exported
trees as the only root, no capability but what serving them needs, seccomp filter. Exits 0 when all
connections are closed, 1 with one sentence when it can't start.
"""

from __future__ import annotations

import gc
import os
import sys
from typing import Final, NoReturn

from gofer import view
from gofer.extension import ExtendedConnection
from gofer.filter import PROGRAMS
from gofer.spec import GoferError, GoferSpec, parse
from native import confined
from native._core import ffi, lib

# capability.h
CAP_CHOWN: Final = 0
CAP_DAC_OVERRIDE: Final = 1
CAP_DAC_READ_SEARCH: Final = 2
CAP_FOWNER: Final = 3
CAP_FSETID: Final = 4
CAP_SETFCAP: Final = 31
CAPS_RO: Final = 1 << CAP_DAC_READ_SEARCH
CAPS_RW: Final = (
    CAPS_RO | 1 << CAP_CHOWN | 1 << CAP_DAC_OVERRIDE | 1 << CAP_FOWNER | 1 << CAP_FSETID | 1 << CAP_SETFCAP
)


def need(r: int, what: str) -> int:
    if r < 0:
        raise GoferError(f"gofer: cannot {what}: {os.strerror(-r)}")
    return r


def log(spec: GoferSpec, line: str) -> None:
    try:
        os.write(spec.log if spec.log >= 0 else 2, line.encode("utf-8", "surrogateescape") + b"\n")
    except OSError:
        pass


def enter(spec: GoferSpec) -> bool:
    """New namespaces. True: as root, with real capabilities."""
    admin = confined.has_admin()
    what = lib.CN_NS_MOUNT | lib.CN_NS_PID | lib.CN_NS_NET | lib.CN_NS_IPC | lib.CN_NS_UTS
    if not admin:
        what |= lib.CN_NS_USER
    uid = spec.uid if spec.uid >= 0 else os.geteuid()
    gid = spec.gid if spec.gid >= 0 else os.getegid()
    need(lib.cn_ns_enter(what, uid, gid), "make its namespaces")
    return admin


class Mapper:
    """The outer process's part in the inner one's user namespace: writes its id maps, which takes rights outside of it."""

    def __init__(self, spec: GoferSpec) -> None:
        self.spec: GoferSpec = spec
        self.asked: tuple[int, int] = os.pipe()
        self.done: tuple[int, int] = os.pipe()
        #: The inner process changes the root of both.
        self.proc: int = os.open("/proc", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)

    def serve(self, pid: int) -> None:
        """In the outer process: when the inner one asks. It ends without an answer if the maps can't be written."""
        os.close(self.asked[1])
        os.close(self.done[0])
        if os.read(self.asked[0], 1) == b"m":
            try:
                for name, rows in (("uid_map", self.spec.uid_map), ("gid_map", self.spec.gid_map)):
                    text = "".join(f"{inside} {outside} {count}\n" for inside, outside, count in rows)
                    fd = os.open(f"{pid}/{name}", os.O_WRONLY | os.O_CLOEXEC, dir_fd=self.proc)
                    os.write(fd, text.encode())
                    os.close(fd)
                os.write(self.done[1], b"m")
            except OSError as e:
                log(self.spec, f"gofer: cannot map ids: {os.strerror(e.errno or 0)}")
        os.close(self.asked[0])
        os.close(self.done[1])
        os.close(self.proc)

    def enter(self) -> None:
        """In the inner process: new user namespace, its root."""
        need(lib.cn_ns_user(), "make its user namespace")
        os.write(self.asked[1], b"m")
        os.close(self.asked[1])
        os.close(self.done[1])
        os.close(self.proc)
        if os.read(self.done[0], 1) != b"m":
            raise GoferError("gofer: cannot map ids (uid_map, gid_map): the host refuses the maps")
        os.close(self.done[0])
        os.close(self.asked[0])
        os.setresgid(0, 0, 0)
        os.setgroups([])
        os.setresuid(0, 0, 0)


def confine(spec: GoferSpec, privileged: bool, mapper: Mapper | None) -> list[ExtendedConnection]:
    """Everything between the new namespaces and the first message."""
    magic = need(lib.cn_tree_clone(view.AT_FDCWD, b"/proc/self/fd", 0), "reach its descriptors")
    roots = view.build(spec.exports, privileged)
    os.fchdir(magic)
    os.close(magic)
    if mapper is not None:
        mapper.enter()
    os.umask(0)
    readonly = all(e.readonly for e in spec.exports)
    keep = CAPS_RO if readonly else CAPS_RW
    need(lib.cn_caps_bound(0), "drop capabilities")
    need(lib.cn_caps_keep(keep), "drop capabilities")
    connections = [
        ExtendedConnection(e.fd, root.fd, e.readonly, root.policy)
        for e, root in zip(spec.exports, roots, strict=True)
    ]
    program = PROGRAMS["ro" if readonly else "rw"]
    need(lib.cn_seccomp_report(b"gofer", spec.log if spec.log >= 0 else 2), "prepare its seccomp filter")
    need(lib.cn_seccomp_install(program, len(program)), "install its seccomp filter")
    return connections


def serve(connections: list[ExtendedConnection]) -> None:
    """Answers until every connection is closed."""
    while connections:
        which = 0
        if len(connections) > 1:
            which = int(lib.cn_p9_wait(ffi.new("int[]", [c.sock for c in connections]), len(connections)))
            if which < 0:
                continue
        c = connections[which]
        if not c.serve_ready():
            c.close()
            del connections[which]


def run(spec: GoferSpec) -> NoReturn:
    """Serves the spec; the process ends here."""
    code = 1
    try:
        parent = os.getppid()
        need(lib.cn_die_with_parent(parent), "tie itself to its starter")
        privileged = enter(spec)
        me = os.getpid()
        mapper = Mapper(spec) if spec.uid_map else None
        child = os.fork()
        if child:
            if mapper is not None:
                mapper.serve(child)
            for e in spec.exports:
                os.close(e.fd)
            if spec.ready >= 0:
                os.close(spec.ready)
            confined.end_like(os.waitpid(child, 0)[1])
        # In the new pid namespace the parent's number can't be seen (0), so a parent that died before this line is missed only if it
        # died within the fork; the sockets' end ends the gofer then.
        need(lib.cn_die_with_parent(0), f"tie itself to process {me}")
        confined.room_for_descriptors()  # each fid holds one
        connections = confine(spec, privileged, mapper)
        spec.ready = confined.tell(spec.ready, "ok")
        gc.freeze()
        gc.enable()
        serve(connections)
        code = 0
    except GoferError as refused:
        log(spec, str(refused))
        spec.ready = confined.tell(spec.ready, f"error: {refused}")
    except OSError as failed:
        log(spec, f"gofer: cannot start: {failed}")
        spec.ready = confined.tell(spec.ready, f"error: gofer: cannot start: {failed}")
    os._exit(code)


def read_spec(fd: int) -> GoferSpec:
    with os.fdopen(fd, "rb") as f:
        return parse(f.read())


def main(argv: list[str]) -> int:
    if len(argv) != 2 or not argv[1].isdigit():
        print("usage: python -I -m gofer.main FD   (started by cordon)", file=sys.stderr)
        return 2
    try:
        spec = read_spec(int(argv[1]))
    except (GoferError, OSError) as e:
        print(e, file=sys.stderr)
        return 1
    run(spec)


if __name__ == "__main__":
    sys.exit(main(sys.argv))

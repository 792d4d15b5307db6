"""`exec`: a further process in a running container, and the host process that stands for it."""

from __future__ import annotations

import os
import signal
import socket
import traceback

from cordon.control import Connection, ControlError, own
from cordon.oci import console, keeper, lifecycle, operations, translate
from cordon.oci.cgroups import Groups
from cordon.oci.config import Process
from cordon.oci.container import Line
from cordon.oci.creation import check_preserved, heard, write_pid
from cordon.oci.errors import RuntimeFailure, executable, log, why
from cordon.oci.foreground import Terminal
from cordon.oci.state import State, StateDir
from cordon.oci.title import set_title
from cordon.spawn import close_all_but


class Execution:
    """One `exec`."""

    def __init__(self, d: StateDir, state: State, process: Process) -> None:
        self.directory = d
        self.state = state
        self.process = process
        self.console_socket = ""
        self.pid_file = ""
        self.preserve = 0

    def start(self, terminal: Terminal | None) -> int:
        """Starts it; the number of the process that stands for it, our child. `terminal`: the caller's, to be connected."""
        lifecycle.after(self.state.id, self.state.status(), lifecycle.EXEC)
        check_preserved(self.preserve)
        if self.process.terminal and not self.console_socket and terminal is None:
            raise RuntimeFailure("exec: a terminal without --console-socket can't be detached")
        ours, theirs = socket.socketpair()
        master_in, master_out = socket.socketpair() if terminal is not None else (None, None)
        creator = os.getpid()
        keeper.block_signals()
        pid = os.fork()
        if pid == 0:
            self.stand_in(creator, theirs, master_out)
        theirs.close()
        try:
            heard(Line(ours.detach()), "ready", pid)
            if self.pid_file:
                write_pid(self.pid_file, pid)
            if (
                terminal is not None
                and master_out is not None
                and master_in is not None
                and self.process.terminal
            ):
                master_out.close()
                terminal.connect(socket.recv_fds(master_in, 16, 1)[1][0])
        except BaseException:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            raise
        return pid

    def stand_in(self, creator: int, to_creator: socket.socket, master_out: socket.socket | None) -> None:
        """The child: never returns."""
        status = 70
        line = Line(to_creator.detach())
        try:
            from native._core import lib

            if lib.cn_die_with_parent(creator) < 0:
                os._exit(1)
            k = self.prepare(line.fd, master_out)
            k.take_signals()
            lib.cn_outlive_parent()
            line.say({"ready": True})
            os.close(line.fd)
            status = k.run()
        except RuntimeFailure as e:
            line.say({"error": str(e), "status": e.status})
        except OSError as e:
            line.say({"error": f"exec: {why(e)}", "status": 1})
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)

    def prepare(self, to_creator: int, master_out: socket.socket | None) -> keeper.Keeper:
        """Asks the sandbox to run the process."""
        p = self.process
        os.setsid()
        set_title(f"cordon: exec in {self.state.id}: {' '.join(p.args)}")
        Groups(self.state.cgroups).join(0)
        preserve = [own(fd) for fd in range(3, 3 + self.preserve)]
        slave = -1
        if p.terminal:
            master, slave = console.open_pair(p.rows, p.columns)
            console.own(slave, p.user.uid, p.user.gid)
            if self.console_socket:
                console.send(self.console_socket, master)
            elif master_out is not None:
                console.send_fd(master_out.fileno(), master)
            os.close(master)
            console.control(slave)
            stdio = [slave]
        else:
            stdio = [own(fd) for fd in (0, 1, 2)]
        fds = [*stdio, *preserve]
        places = list(range(len(fds)))
        document = translate.process(p, places[: len(stdio)], places[len(stdio) :])
        try:
            line = Connection.open(operations.socket_path(self.directory, self.state))
            pid = line.exec(self.state.id, document, fds, tie=True)
        except ControlError as e:
            status = e.status if e.status in (126, 127) else 1
            raise RuntimeFailure(
                f'exec in container "{self.state.id}": {executable(e.message, e.status)}', status
            ) from None
        null = os.open("/dev/null", os.O_RDWR)
        for fd in (0, 1, 2):
            os.dup2(null, fd)
        close_all_but([0, 1, 2, to_creator, line.fileno(), slave, log.keep()])
        return keeper.Keeper(line, self.state.id, pid, p.terminal)

"""`create`: from a bundle to a container that waits for `start`. Also what `run` begins with."""

from __future__ import annotations

import json
import os
import signal
import socket
import time

from cordon.oci import config as configs
from cordon.oci import hooks, lifecycle, pods
from cordon.oci.cgroups import Groups, hierarchies
from cordon.oci.config import Config
from cordon.oci.container import Line, Order, fork_container
from cordon.oci.errors import RuntimeFailure, log, rfc3339, why
from cordon.oci.ids import Root, check
from cordon.oci.namespaces import check_paths
from cordon.oci.state import SOCKET_FILE, State, StateDir, start_time
from cordon.oci.translate import Plan, network_of

#: Descriptors to have beside those that are preserved.
LOG_FILE = "log"


class Request:
    """What `create` and `run` were asked for."""

    def __init__(self, cid: str, bundle: str, root: str) -> None:
        self.id = check(cid)
        self.bundle = os.path.abspath(bundle)
        self.root = root
        self.pid_file = ""
        self.console_socket = ""
        #: Descriptors 3, 4... that the guest gets.
        self.preserve = 0
        #: auto, ptrace, systrap or kvm.
        self.platform = "auto"
        #: cgroupfs or disabled.
        self.cgroup_manager = "cgroupfs"
        self.debug_log = ""
        self.strace = False
        self.watchdog = 0
        self.watchdog_ends = False
        #: Without a console socket the caller itself takes the terminal's master.
        self.foreground = False


class Creation:
    """One creation. `run` makes the container or raises RuntimeFailure with nothing left behind."""

    def __init__(self, request: Request) -> None:
        self.request = request
        self.directory: StateDir
        self.state: State
        self.groups = Groups({})
        self.pid = 0
        #: The terminal's master with `foreground`, else -1.
        self.master = -1

    def run(self) -> State:
        r = self.request
        check_preserved(r.preserve)
        config = configs.load(r.bundle)
        rootfs = config.root_path(r.bundle)
        if config.process is None:
            raise RuntimeFailure(f"{r.bundle}/config.json: process is missing")
        if config.process.terminal and not r.console_socket and not r.foreground:
            raise RuntimeFailure(
                f"{r.bundle}/config.json: process.terminal is true, so --console-socket is needed"
            )
        check_paths(config)
        plan = Plan(config, r.bundle, rootfs)
        platform = platform_of(r.platform)
        self.directory = StateDir.make(Root(r.root, make=True), r.id)
        try:
            self.make(config, plan, platform, rootfs)
        except BaseException:
            self.undo()
            raise
        self.directory.close()
        return self.state

    def make(self, config: Config, plan: Plan, platform: str, rootfs: str) -> None:
        r, directory = self.request, self.directory
        state = self.state = first_state(r, config, rootfs)
        directory.write(state)
        pod = pods.sandbox_of(config, directory)
        if config.linux.resources.unified or r.cgroup_manager != "disabled":
            mounted, where = hierarchies(), config.linux.cgroups_path or f"cordon/{r.id}"
            state.cgroups = Groups.plan(mounted, where)
            directory.write(state)
            self.groups = Groups.make(mounted, where, False)
            state.cgroups = self.groups.made
            directory.write(state)
            self.groups.limit(config.linux.resources)
            self.groups.limit_devices(config.linux.resources.devices)
        order = Order(state, plan)
        order.platform = platform
        order.console_socket = os.path.abspath(r.console_socket) if r.console_socket else ""
        master_in, master_out = socket.socketpair()
        order.console_fd = master_out.fileno()
        order.preserve = list(range(3, 3 + r.preserve))
        order.dir_fd = directory.fd
        order.strace = r.strace
        order.watchdog, order.watchdog_ends = r.watchdog, r.watchdog_ends
        order.groups = self.groups
        if pod is None:
            pods.check_network(config, directory)
            order.listen = listen(directory)
        else:
            state.sandbox = pod.id
            order.sandbox_socket = pod.socket
            plan.share = pod.shared(config)
        errors = os.open(
            LOG_FILE,
            os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW,
            0o600,
            dir_fd=directory.fd,
        )
        order.debug_log = errors
        if r.debug_log:
            order.debug_log = open_debug_log(r.debug_log)
        self.pid, line = fork_container(order, errors)
        state.pid, state.started = self.pid, start_time(self.pid)
        directory.write(state)
        heard(line, "namespaces", self.pid)
        # prestart is older than the status "creating": hooks of that kind were given "created"
        for moment, status in (("prestart", lifecycle.CREATED), ("createRuntime", lifecycle.CREATING)):
            plain = json.dumps(state.to_oci(status)).encode()
            hooks.run_all(moment, [h.to_plain() for h in config.hooks[moment]], plain)
        line.say({"go": True})
        heard(line, "ready", self.pid)
        master_out.close()
        if state.terminal and not r.console_socket:
            self.master = socket.recv_fds(master_in, 16, 1)[1][0]
        master_in.close()
        state.phase = lifecycle.after(r.id, state.phase, lifecycle.READY)
        state.creator = state.creator_started = 0
        directory.write(state)
        if r.pid_file:
            write_pid(r.pid_file, self.pid)
        self.pid = 0

    def undo(self) -> None:
        """After a failure: everything that was made goes."""
        if self.pid:
            try:
                os.kill(self.pid, signal.SIGKILL)
                os.waitpid(self.pid, 0)
            except (ProcessLookupError, ChildProcessError):
                pass
        try:
            self.groups.remove()
        except RuntimeFailure as e:
            log.write("warning", str(e))
        self.directory.remove()
        self.directory.close()


def first_state(r: Request, config: Config, rootfs: str) -> State:
    state = State(r.id, r.bundle)
    state.oci_version = config.version
    state.rootfs = rootfs
    state.creator, state.creator_started = os.getpid(), start_time(os.getpid())
    state.created = rfc3339(time.time())
    state.owner = os.environ.get("USER", "") or str(os.geteuid())
    state.annotations = config.annotations
    process = config.process
    assert process is not None
    state.terminal = process.terminal
    state.hooks = {
        moment: [h.to_plain() for h in config.hooks[moment]]
        for moment in ("startContainer", "poststart", "poststop")
        if config.hooks[moment]
    }
    state.process = {
        "env": process.env,
        "cwd": process.cwd,
        "user": {
            "uid": process.user.uid,
            "gid": process.user.gid,
            "umask": process.user.umask,
            "additionalGids": process.user.groups,
        },
        "noNewPrivileges": process.no_new_privileges,
    }
    if process.capabilities is not None:
        state.process["capabilities"] = process.capabilities
    state.loopback = network_of(config) == "none"
    state.memory = max(0, config.linux.resources.memory or 0)
    state.pids = max(0, config.linux.resources.pids or 0)
    return state


def heard(line: Line, what: str, pid: int) -> None:
    """Waits for one message of the container process; its failure is ours."""
    message = line.hear()
    if message is None:
        raise RuntimeFailure(f"the container process {pid} ended before it said {what!r}")
    if "error" in message:
        raise RuntimeFailure(str(message["error"]), int(message.get("status", 1)))
    if what not in message:
        raise RuntimeFailure(f"the container process {pid} said something else than {what!r}")


def listen(directory: StateDir) -> int:
    """The control socket, bound in the state directory and listening."""
    import _socket

    s = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC)
    s.bind(f"/proc/self/fd/{directory.fd}/{SOCKET_FILE}")
    s.listen(64)
    return s.detach()


def check_preserved(count: int) -> None:
    for fd in range(3, 3 + count):
        try:
            os.fstat(fd)
        except OSError:
            raise RuntimeFailure(f"--preserve-fds {count}: descriptor {fd} is not open") from None


def platform_of(name: str) -> str:
    """The platform to use."""
    from cordon.options import Options
    from cordon.spawn import platform_of as choose

    options = Options(["-"])
    options.platform = name
    return choose(options)


def open_debug_log(path: str) -> int:
    try:
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    except OSError as e:
        raise RuntimeFailure(f"debug log {path}: {why(e)}") from None


def write_pid(path: str, pid: int) -> None:
    """Writes the pid file in one step: whoever waits for it never reads half a number."""
    directory, name = os.path.split(os.path.abspath(path))
    temporary = os.path.join(directory, f".{name}.{os.getpid()}")
    try:
        with open(temporary, "w") as f:
            f.write(str(pid))
        os.rename(temporary, path)
    except OSError as e:
        raise RuntimeFailure(f"pid file {path}: {why(e)}") from None

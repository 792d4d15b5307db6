"""What is known of a container between commands: <root>/<id>/state.json, written atomically, changed under a lock.

    <root>/<id>/state.json      this document (STATE_VERSION)
    <root>/<id>/control.sock    the sandbox's control socket (docs/control-protocol.md)
    <root>/<id>/exit            how it ended, written by the container process: {"status": as a shell says it}

The lock is flock(2) on the state directory itself, so that it goes with it.
"""

from __future__ import annotations

import fcntl
import json
import os
import select
import time

from cordon.oci import lifecycle
from cordon.oci.errors import NoContainer, RuntimeFailure, why
from cordon.oci.ids import Root

# `typing` itself would be a tenth of a management command's time
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

STATE_VERSION = 2
STATE_FILE = "state.json"
SOCKET_FILE = "control.sock"
EXIT_FILE = "exit"
#: Seconds to wait for another command on the same container.
LOCK_PATIENCE = 30.0


class State:
    """The document. Everything that later commands need, so that they read neither bundle nor config.json."""

    def __init__(self, cid: str, bundle: str) -> None:
        self.id = cid
        self.oci_version = "1.0.0"
        #: Absolute.
        self.bundle = bundle
        self.rootfs = ""
        #: creating, created, running or paused (cordon/oci/lifecycle.py).
        self.phase = lifecycle.CREATING
        #: The container process and the time of its start in clock ticks since boot, which tells it from a later one of that number.
        self.pid = 0
        self.started = 0
        #: The creating command, the same way, while the phase is "creating".
        self.creator = 0
        self.creator_started = 0
        #: RFC 3339.
        self.created = ""
        #: User name or number of who created it.
        self.owner = ""
        self.annotations: dict[str, str] = {}
        #: Id of the container whose sandbox this one lives in; "" for its own.
        self.sandbox = ""
        #: Its network is the sentry's own loopback: who joins its network namespace would not meet it there.
        self.loopback = False
        self.terminal = False
        #: Hierarchy directory -> made by us (else it was there before).
        self.cgroups: dict[str, bool] = {}
        #: Hooks for later moments.
        self.hooks: dict[str, list[dict[str, Any]]] = {}
        #: The environment and ids that `exec COMMAND` starts from.
        self.process: dict[str, Any] = {}
        #: Guest memory in bytes and tasks, 0 for no limit.
        self.memory = 0
        self.pids = 0

    def to_json(self) -> bytes:
        return json.dumps({"version": STATE_VERSION, **vars(self)}, indent=1).encode()

    @classmethod
    def from_json(cls, data: bytes, path: str) -> State:
        """RuntimeFailure when it is no such document."""
        try:
            value = json.loads(data)
        except (ValueError, RecursionError):
            raise RuntimeFailure(f"{path}: not JSON") from None
        if not isinstance(value, dict) or value.pop("version", None) != STATE_VERSION:
            raise RuntimeFailure(f"{path}: not a state document of version {STATE_VERSION}")
        state = cls("", "")
        for name, default in vars(state).items():
            if type(value.get(name)) is not type(default):
                raise RuntimeFailure(f"{path}: {name} is missing or not of type {type(default).__name__}")
            setattr(state, name, value[name])
        return state

    def status(self) -> str:
        """The status now."""
        if self.pid and alive(self.pid, self.started):
            return self.phase
        if self.phase == lifecycle.CREATING and self.creator and alive(self.creator, self.creator_started):
            return lifecycle.CREATING
        return lifecycle.STOPPED

    def to_oci(self, status: str) -> dict[str, Any]:
        """The state as the OCI specification has it, with what engines print besides."""
        return {
            "ociVersion": self.oci_version,
            "id": self.id,
            "status": status,
            "pid": 0 if status == lifecycle.STOPPED else self.pid,
            "bundle": self.bundle,
            "rootfs": self.rootfs,
            "created": self.created,
            "owner": self.owner,
            "annotations": self.annotations,
        }


def start_time(pid: int) -> int:
    """When a process started, in clock ticks since boot; 0 if it has ended or is a zombie."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as f:
            fields = f.read().rpartition(b")")[2].split()
    except OSError:
        return 0
    return 0 if fields[0] in (b"Z", b"X") else int(fields[19])


def ended(pidfd: int, seconds: float | None) -> bool:
    """Waits so long (None: as long as it takes) for the end of a process; False: it goes on."""
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(None if seconds is None else seconds * 1000))


def alive(pid: int, started: int) -> bool:
    return start_time(pid) == started != 0


class StateDir:
    """A container's state directory, open. `close` it, or use it in a `with`."""

    def __init__(self, root: Root, cid: str, fd: int) -> None:
        self.root = root
        self.id = cid
        self.fd = fd
        self.path = os.path.join(root.path, cid)
        self.locked = False

    @classmethod
    def open(cls, root: Root, text: str, abbreviated: bool = True) -> StateDir:
        """That of a container that exists. NoContainer, RuntimeFailure."""
        cid = root.find(text, abbreviated)
        try:
            fd = os.open(cid, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=root.fd)
        except FileNotFoundError:
            raise NoContainer(text) from None
        except OSError as e:
            wrong = "is not a directory" if e.errno in (20, 40) else why(e)  # ENOTDIR, ELOOP
            raise RuntimeFailure(
                f'container "{cid}": its state {os.path.join(root.path, cid)} {wrong}'
            ) from None
        return cls(root, cid, fd)

    @classmethod
    def make(cls, root: Root, cid: str) -> StateDir:
        """A new one, locked. RuntimeFailure when there is one."""
        try:
            os.mkdir(cid, 0o700, dir_fd=root.fd)
        except FileExistsError:
            raise RuntimeFailure(f'container with id "{cid}" exists already') from None
        except OSError as e:
            raise RuntimeFailure(f"state directory {os.path.join(root.path, cid)}: {why(e)}") from None
        made = cls.open(root, cid, False)
        made.lock()
        return made

    def lock(self, patience: float = LOCK_PATIENCE) -> None:
        """Waits until no other command changes this container. NoContainer when it went meanwhile."""
        give_up = time.monotonic() + patience
        while True:
            try:
                fcntl.flock(self.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= give_up:
                    raise RuntimeFailure(
                        f'container "{self.id}": another command has worked on it for {patience:g} seconds'
                    ) from None
                time.sleep(0.01)
        self.locked = True
        if os.fstat(self.fd).st_nlink == 0:
            raise NoContainer(self.id)

    def unlock(self) -> None:
        fcntl.flock(self.fd, fcntl.LOCK_UN)
        self.locked = False

    def read_file(self, name: str) -> bytes | None:
        """A small file of the directory, None if there is none."""
        try:
            fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK, dir_fd=self.fd)
        except OSError:
            return None
        with open(fd, "rb") as f:
            try:
                return f.read(1 << 20)
            except OSError:
                return None

    def read(self) -> State:
        """The state. RuntimeFailure when it can't be made out (a creation that was cut off; `delete --force` removes it)."""
        data = self.read_file(STATE_FILE)
        if data is None:
            if os.fstat(self.fd).st_nlink == 0:
                raise NoContainer(self.id)
            raise RuntimeFailure(
                f'container "{self.id}": its creation was cut off; only delete --force can be done'
            )
        return State.from_json(data, os.path.join(self.path, STATE_FILE))

    def write(self, state: State) -> None:
        """Replaces the state in one step."""
        write_file(self.fd, STATE_FILE, state.to_json())

    def end(self) -> dict[str, Any]:
        """How the container ended, as the container process wrote it down; {} when it could not."""
        try:
            value = json.loads(self.read_file(EXIT_FILE) or b"{}")
        except (ValueError, RecursionError):
            value = None
        return value if isinstance(value, dict) else {}

    def exit_status(self) -> int:
        """As a shell says it; 137 when nobody could write it down."""
        status = self.end().get("status")
        return status if isinstance(status, int) else 137

    def ended_by_itself(self) -> bool:
        """Did the sentry say how the container's first process ended?"""
        end = self.end()
        return "exit" in end or "killed" in end

    def remove(self) -> None:
        """Removes the directory and what is in it."""
        for name in os.listdir(self.fd):
            try:
                os.unlink(name, dir_fd=self.fd)
            except IsADirectoryError:
                os.rmdir(name, dir_fd=self.fd)
            except FileNotFoundError:
                pass
        try:
            os.rmdir(self.id, dir_fd=self.root.fd)
        except FileNotFoundError:
            pass

    def close(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def __enter__(self) -> StateDir:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def write_file(dir_fd: int, name: str, data: bytes) -> None:
    """Writes a file beside its old version, then takes its place. Call it under the lock."""
    temporary = f".{name}.new"
    try:
        os.unlink(temporary, dir_fd=dir_fd)
    except FileNotFoundError:
        pass
    fd = os.open(
        temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=dir_fd
    )
    with open(fd, "wb") as f:
        f.write(data)
    os.rename(temporary, name, src_dir_fd=dir_fd, dst_dir_fd=dir_fd)

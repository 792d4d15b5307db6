"""What the commands do with a container that is there: start, kill, pause, wait, delete, update. Imports little."""

from __future__ import annotations

import os
import signal

from cordon.oci import lifecycle
from cordon.oci.errors import NotRunning, RuntimeFailure, log
from cordon.oci.state import SOCKET_FILE, State, StateDir, alive, ended

# `typing` itself would be a tenth of a management command's time
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from cordon.oci.resources import Resources

#: Seconds that a killed container process may take to end.
PATIENCE = 20.0


def signal_number(text: str) -> int:
    """The number of a signal given as a number or as a name with or without SIG."""
    name = text.upper().removeprefix("SIG")
    if name.isascii() and name.isdigit():
        number = int(name)
    elif name.startswith("RTMIN+") and name[6:].isdigit():
        number = int(signal.SIGRTMIN) + int(name[6:])
    elif name.startswith("RTMAX-") and name[6:].isdigit():
        number = int(signal.SIGRTMAX) - int(name[6:])
    else:
        number = int(getattr(signal, "SIG" + name, 0)) if name.isalnum() else 0
    if not 0 < number <= 64:
        raise RuntimeFailure(f"signal {text!r}: there is no such signal")
    return number


def socket_path(d: StateDir, state: State) -> str:
    """The control socket of a container's sandbox."""
    return os.path.join(d.root.path, state.sandbox or state.id, SOCKET_FILE)


def call(d: StateDir, state: State, name: str, args: dict[str, Any]) -> dict[str, Any]:
    """One request about a container to its sandbox. NotRunning when it has ended, RuntimeFailure."""
    from cordon.control import Connection, ControlError

    try:
        with Connection.open(socket_path(d, state)) as c:
            return c.call(name, {"container": state.id, **args})
    except ControlError as e:
        if e.code == "gone" or (e.code == "not-running" and "container not running" in e.message):
            raise NotRunning(state.id, state.status()) from None
        raise RuntimeFailure(
            f'cannot {name} container "{state.id}": {e.message}', e.status if e.status in (126, 127) else 1
        ) from None


def start(d: StateDir, state: State) -> None:
    """Releases a created container. The caller holds the lock."""
    following = lifecycle.after(state.id, state.status(), lifecycle.START)
    if "startContainer" in state.hooks:
        run_start_hooks(d, state)
    try:
        call(d, state, "start", {})
    except NotRunning:
        wait(d, state)
        if not d.ended_by_itself():  # else it was so short that the sandbox had gone before it answered
            raise
    state.phase = following
    d.write(state)
    if "poststart" in state.hooks:
        import json

        from cordon.oci import hooks

        plain = json.dumps(state.to_oci(lifecycle.RUNNING)).encode()
        hooks.run_lenient("poststart", state.hooks["poststart"], plain)


def run_start_hooks(d: StateDir, state: State) -> None:
    """A failure stops the container."""
    import json

    from cordon.oci import guesthooks

    plain = json.dumps(state.to_oci(lifecycle.CREATED)).encode()
    try:
        guesthooks.run_all(
            socket_path(d, state), state.id, state.process, state.hooks["startContainer"], plain
        )
    except RuntimeFailure:
        end(state)
        raise


def kill(d: StateDir, state: State, number: int, everything: bool) -> None:
    status = state.status()
    lifecycle.after(state.id, status, lifecycle.KILL)
    args: dict[str, Any] = {"signal": number}
    if everything:
        args["mode"] = "all"
    if number == signal.SIGKILL and not everything and status == lifecycle.CREATED:
        end(state)
        return
    try:
        call(d, state, "signal", args)
    except NotRunning:
        if number != signal.SIGKILL:
            raise
        end(state)  # the sentry does not answer any more, or all ended meanwhile, as was asked


def pause(d: StateDir, state: State, event: str) -> None:
    """`event`: lifecycle.PAUSE or RESUME. The caller holds the lock."""
    following = lifecycle.after(state.id, state.status(), event)
    call(d, state, event, {})
    state.phase = following
    d.write(state)


def end(state: State) -> None:
    """Kills a container process and with it all of its sandbox; returns when it has ended."""
    if not alive(state.pid, state.started):
        return
    try:
        fd = os.pidfd_open(state.pid)
    except ProcessLookupError:
        return
    try:
        if not alive(state.pid, state.started):  # the number has gone to another since
            return
        signal.pidfd_send_signal(fd, signal.SIGKILL)
        if not ended(fd, PATIENCE):
            raise RuntimeFailure(
                f'container "{state.id}": its process {state.pid} does not end after SIGKILL'
            )
    except ProcessLookupError:
        pass
    finally:
        os.close(fd)


def wait(d: StateDir, state: State) -> int:
    """Until the container has ended; its status as a shell says it."""
    if alive(state.pid, state.started):
        try:
            fd = os.pidfd_open(state.pid)
        except ProcessLookupError:
            return d.exit_status()
        ended(fd, None)
        os.close(fd)
    return d.exit_status()


def delete(d: StateDir, force: bool) -> None:
    """Removes a container: its process if it is forced to or was never started, cgroups, state; runs poststop hooks."""
    if force:
        break_off_creation(d)
    d.lock()
    state: State | None = None
    try:
        state = d.read()
    except RuntimeFailure as e:
        if not force:
            raise
        log.write("debug", str(e))
    if state is None:
        d.remove()
        return
    status = state.status()
    if force or status == lifecycle.CREATED:
        end(state)
        status = state.status()
    lifecycle.after(state.id, status, lifecycle.DELETE)
    if state.cgroups:
        from cordon.oci.cgroups import Groups

        groups = Groups(state.cgroups)
        groups.remove()
    d.remove()
    if "poststop" in state.hooks:
        import json

        from cordon.oci import hooks

        hooks.run_lenient(
            "poststop", state.hooks["poststop"], json.dumps(state.to_oci(lifecycle.STOPPED)).encode()
        )


def break_off_creation(d: StateDir) -> None:
    """Ends a creation that goes on meanwhile: it then undoes what it did."""
    try:
        state = d.read()
    except RuntimeFailure:
        return
    if state.phase == lifecycle.CREATING:
        end(state)


def need_live(state: State) -> None:
    """NotRunning when the container has ended."""
    status = state.status()
    if status == lifecycle.STOPPED:
        raise NotRunning(state.id, status)


def update(d: StateDir, state: State, resources: Resources) -> None:
    """New limits for the sentry and the cgroup. The caller holds the lock."""
    from cordon.oci.cgroups import Groups

    args: dict[str, Any] = {}
    if resources.memory is not None:
        from cordon.oci import memory

        state.memory = max(0, resources.memory)
        args["memory"] = state.memory
        if not state.sandbox:
            memory.raise_to(state.pid, state.memory)
    if resources.pids is not None:
        state.pids = max(0, resources.pids)
        args["pids"] = state.pids
    if args:
        call(d, state, "update", args)
    if state.cgroups:
        Groups.known(state.cgroups).limit(resources)
    d.write(state)

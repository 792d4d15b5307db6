"""The life of a container as a state machine: which event leads from which status to which.

              ready            start            pause
    creating -------> created -------> running -------> paused
        |                |               |  ^   resume    |
        |                |               |  +-------------+
        +----- end ------+------ end ----+------ end -----+----> stopped ---delete---> deleted

`stopped` is never written down: it is the status of a container whose container process has ended or is a zombie.
"""

from __future__ import annotations

from cordon.oci.errors import NotRunning, RuntimeFailure

CREATING = "creating"
CREATED = "created"
RUNNING = "running"
PAUSED = "paused"
STOPPED = "stopped"
DELETED = "deleted"
STATUSES = (CREATING, CREATED, RUNNING, PAUSED, STOPPED)

READY = "ready"
START = "start"
PAUSE = "pause"
RESUME = "resume"
END = "end"
DELETE = "delete"
#: What needs a live guest but changes no status.
EXEC = "exec"
KILL = "kill"
UPDATE = "update"

NEXT = {
    (CREATING, READY): CREATED,
    (CREATED, START): RUNNING,
    (RUNNING, PAUSE): PAUSED,
    (PAUSED, RESUME): RUNNING,
    (STOPPED, DELETE): DELETED,
    (RUNNING, EXEC): RUNNING,
    (CREATED, KILL): CREATED,
    (RUNNING, KILL): RUNNING,
    (PAUSED, KILL): PAUSED,
    (CREATED, UPDATE): CREATED,
    (RUNNING, UPDATE): RUNNING,
    (PAUSED, UPDATE): PAUSED,
    **{(status, END): STOPPED for status in STATUSES},
}


def after(cid: str, status: str, event: str) -> str:
    """The status that an event leads to. RuntimeFailure says why it can't happen now."""
    following = NEXT.get((status, event))
    if following is not None:
        return following
    if status == STOPPED and event in (KILL, PAUSE, RESUME, EXEC, UPDATE):
        raise NotRunning(cid, status)
    if event == DELETE:
        raise RuntimeFailure(f'cannot delete container "{cid}": it is {status}, not stopped')
    if event == START and status in (RUNNING, PAUSED):
        raise RuntimeFailure(f'cannot start container "{cid}": it was started already and is {status}')
    what = "exec in" if event == EXEC else event
    raise RuntimeFailure(f'cannot {what} container "{cid}": it is {status}')

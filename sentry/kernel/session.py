"""Sessions and process groups (credentials(7), setsid(2), setpgid(2))."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sentry.fs.tty.terminal import TTY
    from sentry.kernel.threadgroup import ThreadGroup


class Session:
    """Process groups that share a controlling terminal."""

    def __init__(self, sid: int, leader: ThreadGroup | None) -> None:
        self.sid: int = sid
        self.leader: ThreadGroup | None = leader  # None once it exited
        self.groups: list[ProcessGroup] = []
        self.tty: TTY | None = None  # controlling terminal; its `session` and `foreground` point back
        self.old_foreground: ProcessGroup | None = (
            None  # after the terminal was hung up, until the leader exits
        )

    def foreground(self) -> ProcessGroup | None:
        """The job that may read from the controlling terminal."""
        return self.tty.foreground if self.tty is not None else None

    def lost_foreground(self) -> None:
        """The foreground job is gone."""
        if self.tty is not None:
            self.tty.foreground = None


class ProcessGroup:
    """A job. It exists while it has members (zombies included)."""

    def __init__(self, pgid: int, session: Session) -> None:
        self.pgid: int = pgid
        self.session: Session = session
        self.members: list[ThreadGroup] = []
        session.groups.append(self)

    def add(self, tg: ThreadGroup) -> None:
        self.members.append(tg)
        tg.pgrp = self

    def remove(self, tg: ThreadGroup) -> None:
        """The last member takes the group with it, the last group its session."""
        self.members.remove(tg)
        if self.members:
            return
        session = self.session
        session.groups.remove(self)
        pidns = tg.pidns
        pidns.pgroups.pop(self.pgid, None)
        if self is session.foreground():
            session.lost_foreground()
        if not session.groups:
            pidns.sessions.pop(session.sid, None)

    def orphaned(self) -> bool:
        """No living member has a parent in another group of the same session (POSIX): nobody can continue it."""
        for tg in self.members:
            parent = tg.parent
            if tg.fostered and not tg.dead:
                return False
            if tg.dead or parent is None:
                continue
            if parent.pgrp is not self and parent.pgrp.session is self.session:
                return False
        return True

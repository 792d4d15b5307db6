"""epoll(7) instances: interest lists, ready lists."""

from __future__ import annotations

from sentry.vfs.file import File


class EpollItem:
    """One registration of an open file description with an epoll instance."""

    def __init__(self, file: File) -> None:
        self.file: File = file

    def file_gone(self) -> None:
        """The description's last reference is gone."""
        raise NotImplementedError

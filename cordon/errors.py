"""What goes wrong in the front, as one sentence that names the object and the cause."""

from __future__ import annotations

#: Exit status of `cordon do` when the sandbox itself failed, as container engines do.
STATUS_FAILED = 125
#: When --timeout ended it, as timeout(1) does.
STATUS_TIMEOUT = 124


class CordonError(Exception):
    """A sandbox could not be started or kept running; the text is the one sentence the user sees."""

    def __init__(self, text: str, status: int = STATUS_FAILED) -> None:
        super().__init__(text)
        self.status = status

"""The line between the front and the sentry: one JSON object a line, each way.

From the front: {"signal": N} (to the terminal's foreground group or the first process), {"kill": true} (the sandbox ends).
From the sentry, one line when it ends: {"exit": status} or {"killed": signal, "core": bool}, or {"error": sentence, "status": n}
when it could not start or go on, with "exceeded": [limit, ...] and "usage": {"utime_ns", "stime_ns", "peak_bytes"}.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from typing import Any, Final

MAX_LINE: Final = 65536


class Channel:
    """One end of the control socket. An fd of -1 makes a channel that says nothing (tests)."""

    def __init__(self, fd: int) -> None:
        self.fd: int = fd
        self.pending: bytes = b""

    def send(self, message: dict[str, Any]) -> None:
        """Writes one line; a front that has gone is ignored (its death ends the sandbox by itself)."""
        if self.fd < 0:
            return
        try:
            os.write(self.fd, json.dumps(message).encode() + b"\n")
        except OSError:
            self.fd = -1

    def serve(self, handle: Callable[[dict[str, Any]], None]) -> None:
        """Calls `handle` for each object until the other end closes; lines that are no object end the conversation."""
        while self.fd >= 0:
            end = self.pending.find(b"\n")
            if end < 0:
                if len(self.pending) > MAX_LINE:
                    return
                try:
                    data = os.read(self.fd, 4096)
                except OSError:
                    return
                if not data:
                    return
                self.pending += data
                continue
            line = self.pending[:end]
            self.pending = self.pending[end + 1 :]
            try:
                message = json.loads(line)
            except ValueError:
                return
            if not isinstance(message, dict):
                return
            handle(message)

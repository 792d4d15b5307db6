"""The sentry process: reads its spec, builds the kernel, seals itself, runs the first program, says how it ended.

Started by the front as `python -I -c ...` or as a fork of it, with the spec on an inherited descriptor.
"""

from __future__ import annotations

import os
import sys
import traceback
from typing import Any

from sentry import spec as specs
from sentry.control.channel import Channel
from sentry.errors import SandboxError


def read_all(fd: int) -> bytes:
    """The whole of an inherited descriptor, which is then closed."""
    chunks: list[bytes] = []
    while True:
        data = os.read(fd, 1 << 16)
        if not data:
            break
        chunks.append(data)
    os.close(fd)
    return b"".join(chunks)


def run(spec: specs.Spec, channel: Channel) -> int:
    """Builds the sandbox, runs it to its end; the wait status of the first process."""
    from sentry import loader

    sandbox = loader.build(spec, channel)
    return sandbox.run()


def main(spec_fd: int) -> int:
    """Exit status of the sentry process: 0 when the first process ended and its status was reported."""
    channel = Channel(-1)
    try:
        spec = specs.parse(read_all(spec_fd))
        channel = Channel(spec.control)
        run(spec, channel)
    except SandboxError as e:
        message: dict[str, Any] = {"error": str(e), "status": e.status}
        channel.send(message)
        if channel.fd < 0:
            print(f"cordon: {e}", file=sys.stderr)
        return 1
    except Exception as e:  # a bug: said as one, with its trace on stderr
        traceback.print_exc()
        channel.send({"error": f"internal error in the sentry: {type(e).__name__}: {e}", "status": 70})
        return 1
    return 0

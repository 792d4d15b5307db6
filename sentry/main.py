"""The sentry process: reads its spec, builds the kernel, seals itself, runs the first program, says how it ended.

Started by the front as `python -I -c ...` or as a fork of it, with the spec on an inherited descriptor.
"""

from __future__ import annotations

import gc
import os
import sys

from sentry import seal, threads
from sentry import spec as specs
from sentry.control import wire
from sentry.errors import SandboxError, trace


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


def main(spec_fd: int) -> int:
    """Exit status of the sentry process: 0 when the first container ended and its status was told."""
    line = -1
    gc.disable()  # nothing that is made at start-up is garbage
    sys.unraisablehook = threads.unraisable
    try:
        document = read_all(spec_fd)
        line = specs.owners_line(document)
        spec = specs.parse(document)
        seal.isolate(network=False)
        from sentry import loader  # after the fork, which would have to copy it

        sandbox = loader.build(spec)
        gc.freeze()
        gc.enable()
        return 0 if sandbox.run() else 1
    except SandboxError as e:
        complain(line, "failed", str(e), e.status)
        return 1
    except Exception as bug:  # said as one, with its trace on stderr
        print(trace(bug), file=sys.stderr, flush=True)
        complain(line, "internal", f"internal error in the sentry: {type(bug).__name__}: {bug}", 70)
        return 1


def complain(line: int, code: str, sentence: str, status: int) -> None:
    """Tells the owner why there is no sandbox (any more); on stderr if there is nobody."""
    if line < 0:
        print(f"cordon: {sentence}", file=sys.stderr)
        return
    named = {127: "not-found", 126: "not-executable"}.get(status, code)
    try:
        os.write(line, wire.pack({"id": wire.NOBODY, "error": wire.error(named, sentence, status)}))
    except OSError:  # it has gone
        pass

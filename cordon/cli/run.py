"""cordon run: create, start, wait for the end, delete."""

from __future__ import annotations

from cordon.cli.flags import SWITCH, Command, Flag


def main(argv: list[str]) -> int:
    """The exit status is the container's."""
    from cordon.cli.creating import FLAGS, request_of
    from cordon.oci import foreground, operations
    from cordon.oci.creation import Creation
    from cordon.oci.ids import Root
    from cordon.oci.state import StateDir

    flags = {
        **FLAGS,
        "detach": Flag(SWITCH, "", "return when the container runs", "d"),
        "keep": Flag(SWITCH, "", "do not delete the container at its end"),
    }
    a = Command(
        "run", "Creates and starts a container, waits for its end and deletes it.", flags, ("ID",)
    ).parse(argv)
    request = request_of(a)
    detach = "detach" in a.on
    request.foreground = not detach
    creation = Creation(request)
    creation.run()
    terminal = None
    if creation.master >= 0:
        terminal = foreground.Terminal()
        terminal.connect(creation.master)
    with StateDir.open(Root(request.root), request.id, False) as d:
        try:
            d.lock()
            operations.start(d, d.read())
            d.unlock()
        except BaseException:
            d.unlock()
            operations.delete(d, True)
            raise
        if detach:
            return 0
        try:
            pid = d.read().pid
            status = foreground.follow(pid, terminal)
        finally:
            if "keep" not in a.on:
                operations.delete(d, True)
    return status

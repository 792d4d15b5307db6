"""cordon create: makes a container from a bundle; it waits for `start`."""

from __future__ import annotations

from cordon.cli.flags import Command


def main(argv: list[str]) -> int:
    from cordon.cli.creating import FLAGS, request_of
    from cordon.oci.creation import Creation

    a = Command("create", "Makes a container from a bundle; it waits for `start`.", FLAGS, ("ID",)).parse(
        argv
    )
    Creation(request_of(a)).run()
    return 0

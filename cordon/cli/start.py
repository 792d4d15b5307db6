"""cordon start: lets the user's program of a created container run."""

from __future__ import annotations

from cordon.cli.flags import Command
from cordon.cli.runtime import open_container


def main(argv: list[str]) -> int:
    a = Command("start", "Starts the user's program of a created container.", {}, ("ID",)).parse(argv)
    from cordon.oci import operations

    with open_container(a.words[0]) as d:
        d.lock()
        operations.start(d, d.read())
    return 0

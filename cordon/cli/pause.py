"""cordon pause: suspends all processes of a container."""

from __future__ import annotations

from cordon.cli.flags import Command
from cordon.cli.runtime import open_container


def main(argv: list[str]) -> int:
    a = Command("pause", "Suspends all processes of a container.", {}, ("ID",)).parse(argv)
    from cordon.oci import lifecycle, operations

    with open_container(a.words[0]) as d:
        d.lock()
        operations.pause(d, d.read(), lifecycle.PAUSE)
    return 0

"""cordon wait: waits for the end of a container."""

from __future__ import annotations

from cordon.cli.flags import Command
from cordon.cli.runtime import open_container


def main(argv: list[str]) -> int:
    """The exit status is the container's."""
    a = Command(
        "wait", "Waits for the end of a container; the exit status is the container's.", {}, ("ID",)
    ).parse(argv)
    from cordon.oci import operations

    with open_container(a.words[0]) as d:
        return operations.wait(d, d.read())

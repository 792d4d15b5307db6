"""cordon delete: removes what is left of a stopped container."""

from __future__ import annotations

from cordon.cli.flags import SWITCH, Command, Flag
from cordon.cli.runtime import open_container
from cordon.oci.errors import NoContainer

COMMAND = Command(
    "delete",
    "Deletes a stopped container.",
    {"force": Flag(SWITCH, "", "end it first if it runs; no error if there is none", "f")},
    ("ID",),
)


def main(argv: list[str]) -> int:
    from cordon.oci import operations

    a = COMMAND.parse(argv)
    force = "force" in a.on
    try:
        with open_container(a.words[0], abbreviated=not force) as d:
            operations.delete(d, force)
    except NoContainer:
        if not force:
            raise
    return 0

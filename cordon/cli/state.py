"""cordon state: prints a container's state as the OCI specification has it."""

from __future__ import annotations

from cordon.cli.flags import Command
from cordon.cli.runtime import open_container


def main(argv: list[str]) -> int:
    a = Command("state", "Prints the state of a container as JSON.", {}, ("ID",)).parse(argv)
    with open_container(a.words[0]) as d:
        state = d.read()
        plain = state.to_oci(state.status())
    import json

    print(json.dumps(plain, indent=2))
    return 0

"""cordon kill: sends a signal to a container's first process, or to all."""

from __future__ import annotations

from cordon.cli.flags import SWITCH, VALUE, Command, Flag
from cordon.cli.runtime import open_container

COMMAND = Command(
    "kill",
    "Sends a signal (a number, or a name with or without SIG; TERM by default) to a container's first process.",
    {
        "all": Flag(SWITCH, "", "to every process of the container", "a"),
        "signal": Flag(VALUE),
    },
    ("ID", "[SIGNAL]"),
)


def main(argv: list[str]) -> int:
    from cordon.oci import operations

    a = COMMAND.parse(argv)
    text = a.words[1] if len(a.words) > 1 else a.value("signal", "TERM")
    number = operations.signal_number(text)
    with open_container(a.words[0]) as d:
        operations.kill(d, d.read(), number, "all" in a.on)
    return 0

"""cordon events: a container's events and its usage, one JSON object a line."""

from __future__ import annotations

import json

from cordon.cli.flags import SWITCH, VALUE, Command, Flag, Usage
from cordon.cli.runtime import open_container
from cordon.oci import operations
from cordon.oci.errors import NotRunning

COMMAND = Command(
    "events",
    "Prints a container's usage every few seconds, and out-of-memory events, as JSON.",
    {
        "stats": Flag(SWITCH, "", "the usage, once"),
        "interval": Flag(VALUE, "TIME", "time between two reports, such as 500ms, 5s (default) or 1m"),
    },
    ("ID",),
)
UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


def seconds(text: str) -> float:
    number = text.rstrip("msh")
    try:
        value = float(number) * UNITS[text[len(number) :] or "s"]
    except (KeyError, ValueError):
        value = 0.0
    if not 0 < value < 1e9:
        raise Usage(f"--interval {text!r}: not a time such as 500ms, 5s or 1m")
    return value


def main(argv: list[str]) -> int:
    """Until the container ends, unless --stats."""
    a = COMMAND.parse(argv)
    interval = seconds(a.value("interval", "5s"))
    from cordon.oci import usage

    with open_container(a.words[0]) as d:
        state = d.read()
        operations.need_live(state)
        if "stats" in a.on:
            print(json.dumps({"type": "stats", "id": state.id, "data": usage.stats(d, state)}), flush=True)
            return 0
        try:
            for kind, data in usage.follow(d, state, interval):
                print(json.dumps({"type": kind, "id": state.id, "data": data}), flush=True)
        except NotRunning:
            pass
    return 0

"""cordon update: changes a container's limits."""

from __future__ import annotations

import sys
from typing import Any

from cordon.cli.flags import VALUE, Command, Flag
from cordon.cli.runtime import open_container

#: Flag -> place in the OCI resources.
PLACES = {
    "memory": ("memory", "limit"),
    "memory-reservation": ("memory", "reservation"),
    "memory-swap": ("memory", "swap"),
    "cpu-shares": ("cpu", "shares"),
    "cpu-share": ("cpu", "shares"),
    "cpu-quota": ("cpu", "quota"),
    "cpu-period": ("cpu", "period"),
    "cpuset-cpus": ("cpu", "cpus"),
    "cpuset-mems": ("cpu", "mems"),
    "pids-limit": ("pids", "limit"),
    "blkio-weight": ("blockIO", "weight"),
}
TEXT = ("cpuset-cpus", "cpuset-mems")
COMMAND = Command(
    "update",
    "Changes limits of a container: from a JSON document (OCI's linux.resources), or by flags.",
    {
        "resources": Flag(VALUE, "FILE", "the document; - is standard input", "r"),
        **{name: Flag(VALUE, "N", f"{group} {key}") for name, (group, key) in PLACES.items()},
    },
    ("ID",),
)


def main(argv: list[str]) -> int:
    a = COMMAND.parse(argv)
    from cordon.oci import lifecycle, operations, reader
    from cordon.oci.resources import Resources

    name = a.value("resources")
    document: Any = {}
    if name == "-":
        name = "standard input"
        document = reader.parse(sys.stdin.buffer.read(reader.MAX_DOCUMENT + 1), name)
    elif name:
        document = reader.load(name)
    r = reader.Reader(document, "", name or "update")
    for flag, (group, key) in PLACES.items():
        if flag in a.values:
            value: Any = a.value(flag) if flag in TEXT else a.number(flag, 0)
            document[group] = {**(document.get(group) or {}), key: value}
    resources = Resources(r)
    with open_container(a.words[0]) as d:
        d.lock()
        state = d.read()
        lifecycle.after(state.id, state.status(), lifecycle.UPDATE)
        operations.update(d, state, resources)
    return 0

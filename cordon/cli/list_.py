"""cordon list: the containers below the root directory."""

from __future__ import annotations

from cordon.cli.flags import SWITCH, VALUE, Command, Flag, Usage
from cordon.cli.runtime import root_path

# `typing` itself would be a tenth of a management command's time
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

COMMAND = Command(
    "list",
    "Lists the containers.",
    {
        "format": Flag(VALUE, "FORMAT", "table (default) or json", "f"),
        "quiet": Flag(SWITCH, "", "ids alone", "q"),
    },
)
COLUMNS = ("id", "pid", "status", "bundle", "created", "owner")


def main(argv: list[str]) -> int:
    a = COMMAND.parse(argv)
    form = a.value("format", "table")
    if form not in ("table", "json"):
        raise Usage(f"--format {form!r}: neither table nor json")
    found = containers()
    if "quiet" in a.on:
        for c in found:
            print(c["id"])
    elif form == "json":
        import json

        print(json.dumps(found))
    else:
        rows = [[name.upper() for name in COLUMNS], *([str(c[name]) for name in COLUMNS] for c in found)]
        widths = [max(len(row[i]) for row in rows) for i in range(len(COLUMNS))]
        for row in rows:
            print("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip())
    return 0


def containers() -> list[dict[str, Any]]:
    """The state of each. One whose state can't be read is listed as stopped: `delete --force` removes it."""
    from cordon.oci.errors import NoContainer, RuntimeFailure
    from cordon.oci.ids import Root
    from cordon.oci.state import State, StateDir

    root = Root(root_path())
    found = []
    for cid in root.ids():
        try:
            with StateDir.open(root, cid, False) as d:
                state = d.read()
        except NoContainer:
            continue
        except RuntimeFailure:
            state = State(cid, "")
        found.append(state.to_oci(state.status()))
    return found

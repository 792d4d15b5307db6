"""cordon ps: the processes of a container."""

from __future__ import annotations

from cordon.cli.flags import VALUE, Command, Flag, Usage
from cordon.cli.runtime import open_container

COMMAND = Command(
    "ps",
    "Lists the processes of a container: as the guest sees them, or with --format json the numbers of their host processes.",
    {"format": Flag(VALUE, "FORMAT", "table (default) or json", "f")},
    ("ID", "[PS-OPTION]..."),
)


def main(argv: list[str]) -> int:
    a = COMMAND.parse(argv)
    form = a.value("format", "table")
    if form not in ("table", "json"):
        raise Usage(f"--format {form!r}: neither table nor json")
    from cordon.oci import operations
    from cordon.oci.cgroups import Groups

    with open_container(a.words[0]) as d:
        state = d.read()
        if form == "json":
            import json

            operations.need_live(state)
            print(json.dumps(sorted({state.pid, *Groups(state.cgroups).pids()})))
            return 0
        found = operations.call(d, state, "ps", {})["processes"]
    print("    PID    PPID     UID S COMMAND")
    for p in found:
        words = p.get("args") or [p.get("command", "")]
        text = " ".join(str(w) for w in words).encode("unicode_escape").decode()
        print(f"{p['pid']:7d} {p['ppid']:7d} {p['uid']:7d} {p['state']} {text}")
    return 0

"""The command line: one module a verb, imported only when it is asked for."""

from __future__ import annotations

import importlib
import sys

VERBS = {
    "do": "run one command in a sandbox",
    "doctor": "tell which platforms work here, and why others do not",
    "bench": "measure system calls natively and in a sandbox",
}
USAGE = "usage: cordon [--version] [--help] VERB ...\n\n" + "".join(f"  {v:8}{s}\n" for v, s in VERBS.items())


def run_verb(argv: list[str]) -> int:
    """Runs `cordon ARGV...`; its exit status."""
    verb = argv[0] if argv else ""
    if verb in ("-h", "--help", "help"):
        print(USAGE + "\n`cordon VERB --help` says more.")
        return 0
    if verb == "--version":
        from cordon import __version__

        print(f"cordon {__version__}")
        return 0
    if verb not in VERBS:
        what = f"there is no verb {verb!r}" if verb else "no verb given"
        print(f"cordon: {what}; there are {', '.join(VERBS)}", file=sys.stderr)
        return 2
    from cordon.errors import CordonError

    try:
        return int(importlib.import_module(f"cordon.cli.{verb}").main(argv[1:]))
    except CordonError as e:
        print(f"cordon: {e}", file=sys.stderr)
        return e.status

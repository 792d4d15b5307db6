"""The command line: one module a verb, imported only when it is asked for."""

from __future__ import annotations

import importlib
import sys

from cordon.errors import CordonError

VERBS = {
    "do": "run one command in a sandbox",
    "doctor": "tell which platforms work here, and why others do not",
    "bench": "measure system calls natively and in a sandbox",
}
#: What container engines call (docs/containers.md).
RUNTIME_VERBS = {
    "create": "make a container from a bundle, ready to start",
    "start": "start the user's program of a created container",
    "run": "create and start a container, wait for its end and delete it",
    "exec": "run a further process in a container",
    "kill": "send a signal to a container",
    "delete": "delete a stopped container",
    "state": "print the state of a container",
    "list": "list the containers",
    "ps": "list the processes of a container",
    "pause": "suspend all processes of a container",
    "resume": "resume a paused container",
    "update": "change a container's limits",
    "events": "print a container's events or its usage",
    "wait": "wait for the end of a container",
    "spec": "write a config.json to begin with",
    "features": "print what this runtime supports",
}
GLOBALS = """\
  --root DIR             where the state of containers is kept (/run/cordon, or $XDG_RUNTIME_DIR/cordon)
  --log FILE             append errors to this file
  --log-format FORMAT    text (default) or json
  --debug                log more
  --platform P           auto (default), ptrace, systrap or kvm
  --cgroup-manager M     cgroupfs (default) or disabled
  --debug-log FILE       messages for developers
  --strace               with --debug-log: every system call of the guest
  --watchdog SECONDS     report a task that is stuck in the kernel for so long (180; 0: don't); --watchdog-ends: end the sandbox then
"""


def usage() -> str:
    both = {**VERBS, **RUNTIME_VERBS}
    text = "usage: cordon [--version] [--help] [flag ...] VERB ...\n\n"
    text += "".join(f"  {v:10}{s}\n" for v, s in both.items())
    return f"{text}\nflags of the container verbs, before them:\n\n{GLOBALS}\n`cordon VERB --help` says more."


def version() -> str:
    """Three lines as engines read them from every runtime."""
    from cordon import __version__
    from cordon.oci import OCI_VERSION

    return f"cordon version {__version__}\ncommit: {__version__}\nspec: {OCI_VERSION}"


def run_verb(argv: list[str]) -> int:
    """Runs `cordon ARGV...`; its exit status."""
    verb = argv[0] if argv else ""
    if verb in ("-h", "--help", "help"):
        print(usage())
        return 0
    try:
        if verb in VERBS:
            return int(importlib.import_module(f"cordon.cli.{verb}").main(argv[1:]))
        return runtime_verb(argv)
    except CordonError as e:
        print(f"cordon: {e}", file=sys.stderr)
        return e.status


def runtime_verb(argv: list[str]) -> int:
    """A verb of the OCI runtime with the flags before it. Its errors also go to the log that the engine reads."""
    from cordon.cli import runtime

    verb, rest = runtime.take_globals(argv)
    if verb == "version":
        print(version())
        return 0
    if verb not in RUNTIME_VERBS:
        what = f"there is no verb {verb!r}" if verb else "no verb given"
        print(f"cordon: {what}; there are {', '.join([*VERBS, *RUNTIME_VERBS])}", file=sys.stderr)
        return 2
    name = "list_" if verb == "list" else verb
    try:
        return int(importlib.import_module(f"cordon.cli.{name}").main(rest))
    except CordonError as e:
        runtime.settings.log.write("error", str(e))
        raise

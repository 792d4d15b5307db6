"""Entry point of the command line: `cordon` and `python -m cordon`."""

from __future__ import annotations

import errno
import gc
import os
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
BOOT = f"import sys; sys.path.insert(0, {ROOT!r}); from cordon.__main__ import main; sys.exit(main())"


def working_directory() -> str:
    """"" when it was removed or may not be read."""
    try:
        return os.getcwd()
    except OSError:
        return ""


def isolate() -> None:
    """Makes sure that nothing in the caller's folder or PYTHONPATH is imported: starts again with -I if it could be."""
    if sys.flags.isolated:
        return
    here = sys.path[0] if sys.path else ""
    if here in ("", working_directory()) or "PYTHONPATH" in os.environ or "PYTHONHOME" in os.environ:
        os.execv(sys.executable, [sys.executable, "-I", "-c", BOOT, *sys.argv[1:]])
    del sys.path[0]  # the folder of the `cordon` script


def unheard(e: OSError) -> None:
    """Ends the process when it is our standard output that failed: as SIGPIPE ends others, or with a sentence."""
    if e.filename is None and e.errno == errno.EPIPE:
        os._exit(128 + 13)
    if e.filename is None and e.errno == errno.ENOSPC:
        print("cordon: standard output: no space left on device", file=sys.stderr, flush=True)
        os._exit(1)


def main() -> int:
    """Runs the command line in sys.argv and ends the process with its exit status."""
    isolate()
    gc.disable()  # short-lived, but for the processes that it starts, which turn it on again
    from cordon.cli import run_verb
    from cordon.stdio import fill

    fill()
    try:
        try:
            status = run_verb(sys.argv[1:])
        except SystemExit as e:  # argparse's, after help or an error of usage
            status = e.code if isinstance(e.code, int) else 0
        sys.stdout.flush()
    except OSError as e:
        unheard(e)
        raise
    sys.stderr.flush()
    os._exit(status & 0xFF)  # taking the interpreter apart takes longer than many a command


if __name__ == "__main__":
    sys.exit(main())

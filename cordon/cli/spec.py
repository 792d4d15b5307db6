"""cordon spec: writes a config.json to begin with."""

from __future__ import annotations

import json
import os

from cordon.cli.flags import SWITCH, VALUE, Command, Flag
from cordon.oci.errors import RuntimeFailure, why

COMMAND = Command(
    "spec",
    "Writes config.json for a container that runs `sh` in the directory rootfs.",
    {
        "bundle": Flag(VALUE, "DIR", "where; default: the working directory", "b"),
        "rootless": Flag(SWITCH, "", "accepted: the same file serves an ordinary user"),
    },
)


def main(argv: list[str]) -> int:
    a = COMMAND.parse(argv)
    from cordon.oci.default import document

    path = os.path.join(a.value("bundle", "."), "config.json")
    try:
        with open(path, "x") as f:
            f.write(json.dumps(document(), indent=4) + "\n")
    except FileExistsError:
        raise RuntimeFailure(f"{path}: exists already") from None
    except OSError as e:
        raise RuntimeFailure(f"{path}: {why(e)}") from None
    return 0

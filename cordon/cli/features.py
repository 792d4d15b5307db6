"""cordon features: what this runtime supports, as the OCI specification describes it."""

from __future__ import annotations

from cordon.cli.flags import Command


def main(argv: list[str]) -> int:
    Command("features", "Prints what this runtime supports as JSON.", {}).parse(argv)
    import json

    from cordon.oci.features import features

    print(json.dumps(features(), indent=2))
    return 0

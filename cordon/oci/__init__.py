"""The OCI runtime: containers that engines create, start, look at and delete (docs/containers.md)."""

from __future__ import annotations

#: The version of the specification that this runtime implements, and the oldest that it takes.
OCI_VERSION = "1.2.0"
OCI_OLDEST = "1.0.0"

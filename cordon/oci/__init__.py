"""The OCI runtime: containers that engines create, start, look at and delete (docs/containers.md)."""

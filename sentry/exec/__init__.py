"""ELF and #! loading."""

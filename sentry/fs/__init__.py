"""The file systems."""

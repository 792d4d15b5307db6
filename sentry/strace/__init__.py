"""Printing of syscalls."""

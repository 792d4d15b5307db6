"""Syscall handlers, one module a family, and the table that names them."""

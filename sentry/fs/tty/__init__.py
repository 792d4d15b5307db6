"""Terminals: line discipline, pseudo terminals, devpts, the caller's own terminal."""

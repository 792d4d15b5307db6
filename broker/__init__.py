"""The process that makes host sockets for one sandbox (docs/network.md)."""

"""The one source of randomness of a sandbox: the host's, or a seeded stream for runs that can be repeated."""

from __future__ import annotations

import os


class Randomness:
    """seed -1: the host's randomness; else a deterministic stream (SHA-256 in counter mode)."""

    def __init__(self, seed: int) -> None:
        self.seed: int = seed
        self.counter: int = 0
        self.key: bytes = b"" if seed < 0 else str(seed).encode()
        if seed >= 0:  # it brings OpenSSL along, 5 ms, and can't be imported once there are no files
            import hashlib  # noqa: F401

    def get(self, n: int) -> bytes:
        """n random bytes."""
        if self.seed < 0:
            return os.urandom(n)
        import hashlib

        out = bytearray()
        while len(out) < n:
            out += hashlib.sha256(self.key + self.counter.to_bytes(16, "little")).digest()
            self.counter += 1
        return bytes(out[:n])

    def below(self, limit: int) -> int:
        """An integer in 0..limit-1 (limit below 2**56; the bias is below 2**-8 of one value in the worst case)."""
        return int.from_bytes(self.get(8), "little") % limit

"""Cordon runs untrusted Linux programs under an application kernel of its own.

    import cordon

    result = cordon.run(["./thing", "--flag"], timeout=10, memory=256 << 20, capture_output=True)
    print(result.verdict, result.returncode, result.stdout)

The names below are the public interface; importing this package imports none of the kernel.
"""

from __future__ import annotations

# `typing` itself would be a tenth of a management command's time
TYPE_CHECKING = False
if TYPE_CHECKING:
    from cordon.api import CordonError, Mount, Result, SandboxFailed, run

__version__ = "0.1.0"
__all__ = ["CordonError", "Mount", "Result", "SandboxFailed", "__version__", "run"]


def __getattr__(name: str) -> object:
    if name in __all__:
        from cordon import api

        return getattr(api, name)
    raise AttributeError(f"module 'cordon' has no attribute {name!r}")

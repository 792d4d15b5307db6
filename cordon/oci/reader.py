"""Takes typed values out of a JSON document from somebody else; each error names the path of the fault."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from cordon.oci.errors import RuntimeFailure, why

T = TypeVar("T")

#: Larger documents are refused, in bytes. Real ones have some ten thousand.
MAX_DOCUMENT = 16 << 20
INT64 = 1 << 63


class BadDocument(RuntimeFailure):
    """A document is not what the OCI specification says."""


def load(path: str) -> Any:
    """The JSON value in a file. BadDocument names the file and what is wrong with it."""
    try:
        with open(path, "rb") as f:
            data = f.read(MAX_DOCUMENT + 1)
    except OSError as e:
        raise BadDocument(f"{path}: {why(e)}") from None
    return parse(data, path)


def parse(data: bytes, name: str) -> Any:
    """The JSON value in bytes that came from `name`."""
    import json

    if len(data) > MAX_DOCUMENT:
        raise BadDocument(f"{name}: larger than {MAX_DOCUMENT >> 20} MiB")
    try:
        return json.loads(data.decode("utf-8"), parse_constant=no_constant)
    except RecursionError:
        raise BadDocument(f"{name}: nested too deeply") from None
    except UnicodeDecodeError as e:
        raise BadDocument(f"{name}: not UTF-8 at byte {e.start}") from None
    except ValueError as e:
        raise BadDocument(f"{name}: not JSON: {e}") from None


def no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not a JSON number")


class Reader:
    """One JSON object. A missing key and null give the default, as Go's decoder does for engines."""

    def __init__(self, value: Any, where: str, name: str) -> None:
        self.where = where
        self.name = name
        if not isinstance(value, dict):
            raise BadDocument(f"{name}: {where or 'the document'} is not an object")
        self.value: dict[str, Any] = value

    def path(self, key: str) -> str:
        return f"{self.where}.{key}" if self.where else key

    def bad(self, key: str, wrong: str) -> BadDocument:
        """The error that says what is wrong with a key's value."""
        return BadDocument(f"{self.name}: {self.path(key)} {wrong}")

    def has(self, key: str) -> bool:
        return self.value.get(key) is not None

    def text(self, key: str, default: str = "") -> str:
        v = self.value.get(key)
        return default if v is None else self.checked_text(v, key)

    def checked_text(self, v: Any, key: str) -> str:
        if not isinstance(v, str):
            raise self.bad(key, "is not a string")
        if "\0" in v:
            raise self.bad(key, "holds a NUL character")
        try:
            v.encode("utf-8")
        except UnicodeEncodeError:
            raise self.bad(key, "holds half a surrogate pair") from None
        return v

    def need_text(self, key: str) -> str:
        """A string that must be there and not be empty."""
        v = self.text(key)
        if not v:
            raise self.bad(key, "is missing" if not self.has(key) else "is empty")
        return v

    def absolute(self, key: str) -> str:
        v = self.need_text(key)
        if not v.startswith("/"):
            raise self.bad(key, f"is not an absolute path: {v!r}")
        return v

    def number(self, key: str, default: int, least: int = -INT64, most: int = INT64 * 2 - 1) -> int:
        v = self.value.get(key)
        if v is None:
            return default
        return self.checked_number(v, key, least, most)

    def checked_number(self, v: Any, key: str, least: int, most: int) -> int:
        if isinstance(v, float) and v.is_integer() and abs(v) < 1 << 53:
            v = int(v)
        if not isinstance(v, int) or isinstance(v, bool):
            raise self.bad(key, "is not an integer")
        if not least <= v <= most:
            raise self.bad(key, f"is not between {least} and {most}: {v}")
        return v

    def need_number(self, key: str, least: int, most: int) -> int:
        if not self.has(key):
            raise self.bad(key, "is missing")
        return self.number(key, 0, least, most)

    def flag(self, key: str, default: bool = False) -> bool:
        v = self.value.get(key)
        if v is None:
            return default
        if not isinstance(v, bool):
            raise self.bad(key, "is not true or false")
        return v

    def items(self, key: str) -> list[Any]:
        v = self.value.get(key)
        if v is None:
            return []
        if not isinstance(v, list):
            raise self.bad(key, "is not a list")
        return v

    def texts(self, key: str) -> list[str]:
        return [self.checked_text(v, f"{key}[{i}]") for i, v in enumerate(self.items(key))]

    def numbers(self, key: str, least: int, most: int) -> list[int]:
        return [self.checked_number(v, f"{key}[{i}]", least, most) for i, v in enumerate(self.items(key))]

    def text_map(self, key: str) -> dict[str, str]:
        """An object whose values are strings."""
        if not self.has(key):
            return {}
        inner = self.inner(key)
        return {inner.checked_text(k, repr(k)): inner.text(k) for k in inner.value}

    def inner(self, key: str) -> Reader:
        """The object below a key; an empty one when it is missing."""
        v = self.value.get(key)
        return Reader({} if v is None else v, self.path(key), self.name)

    def each(self, key: str, make: Callable[[Reader], T]) -> list[T]:
        """A list of objects, each made by `make`."""
        return [make(Reader(v, f"{self.path(key)}[{i}]", self.name)) for i, v in enumerate(self.items(key))]

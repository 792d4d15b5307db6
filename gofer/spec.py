"""What a gofer serves: the JSON document on an inherited descriptor from the front, read into typed classes.

    exports   [export]   one file tree each, on a socket of its own
    uid_map, gid_map  [[inside, outside, count]]   ids as the guest knows them and as they are on the host: the gofer serves from a user
                         namespace with these maps (its starter is root then); none: ids are the host's
    uid, gid  int        how the caller's own files look when the gofer needs a user namespace (caller not root);
                         -1: as the caller's own ids
    log       int        descriptor for messages, -1: stderr
    ready     int        descriptor on which the gofer writes one line when it serves ("ok") or could not start
                         ("error: sentence"), -1: none

An export is {"source": str, "fd": int, "readonly": bool, "cwd": str}:

    source    an absolute host path (directory or file), or "view:default" for the default view of `cordon do`, or "view:host" for
              the whole host tree without its /proc, /sys and /dev
    fd        its 9P socket (one end of a stream socketpair; the sentry's MountSpec.fd is the other)
    readonly  every change is refused, by the gofer and by the host kernel (its mount is read-only)
    cwd       for view:default: the directory to show at its own place besides the system's; "" for none

Unknown keys are refused. Which descriptors the sentry mounts where is the sentry spec's affair (MountSpec.dst).
"""

from __future__ import annotations

import json
from typing import Any, Final

VIEW_DEFAULT: Final = b"view:default"
VIEW_HOST: Final = b"view:host"


class GoferError(Exception):
    """The gofer cannot start or go on; the text is the one sentence that the caller sees."""


class Export:
    def __init__(self, source: bytes, fd: int, readonly: bool, cwd: bytes) -> None:
        self.source: bytes = source
        self.fd: int = fd
        self.readonly: bool = readonly
        self.cwd: bytes = cwd


class GoferSpec:
    def __init__(self) -> None:
        self.exports: list[Export] = []
        self.uid: int = -1
        self.gid: int = -1
        self.uid_map: list[tuple[int, int, int]] = []
        self.gid_map: list[tuple[int, int, int]] = []
        self.log: int = -1
        self.ready: int = -1


def to_json(spec: GoferSpec) -> bytes:
    """The document that `parse` reads."""
    exports = [
        {"source": text(e.source), "fd": e.fd, "readonly": e.readonly, "cwd": text(e.cwd)}
        for e in spec.exports
    ]
    document = {"exports": exports, "uid": spec.uid, "gid": spec.gid, "log": spec.log, "ready": spec.ready}
    document.update({"uid_map": spec.uid_map, "gid_map": spec.gid_map})
    return json.dumps(document).encode()


def text(path: bytes) -> str:
    return path.decode("utf-8", "surrogateescape")


def take_path(value: dict[str, Any], key: str, default: str, where: str) -> bytes:
    v = value.pop(key, default)
    if not isinstance(v, str) or "\0" in v:
        raise GoferError(f"gofer spec: {where}.{key} is not a string without NUL")
    return v.encode("utf-8", "surrogateescape")


def take_int(value: dict[str, Any], key: str, default: int, where: str) -> int:
    v = value.pop(key, default)
    if not isinstance(v, int) or isinstance(v, bool) or not -1 <= v < 0xFFFFFFFF:
        raise GoferError(f"gofer spec: {where}.{key} is not a number from -1 to 4294967294")
    return v


def take_map(value: dict[str, Any], key: str) -> list[tuple[int, int, int]]:
    rows = value.pop(key, [])
    bad = GoferError(f"gofer spec: spec.{key} is not a list of [inside, outside, count]")
    if not isinstance(rows, list):
        raise bad
    found: list[tuple[int, int, int]] = []
    for row in rows:
        if not isinstance(row, list) or len(row) != 3 or not all(type(n) is int and 0 <= n < 1 << 32 for n in row):
            raise bad
        found.append((row[0], row[1], row[2]))
    return found


def take_export(value: Any, where: str) -> Export:
    if not isinstance(value, dict):
        raise GoferError(f"gofer spec: {where} is not an object")
    value = dict(value)
    source = take_path(value, "source", "", where)
    fd = take_int(value, "fd", -1, where)
    readonly = value.pop("readonly", True)
    cwd = take_path(value, "cwd", "", where)
    if not source.startswith(b"/") and source not in (VIEW_DEFAULT, VIEW_HOST):
        raise GoferError(f"gofer spec: {where}.source is neither an absolute path nor a view")
    if not isinstance(readonly, bool):
        raise GoferError(f"gofer spec: {where}.readonly is not true or false")
    if fd < 0:
        raise GoferError(f"gofer spec: {where}.fd is missing")
    if cwd and (not cwd.startswith(b"/") or source != VIEW_DEFAULT):
        raise GoferError(f"gofer spec: {where}.cwd is not absolute or not for a default view")
    if source == VIEW_DEFAULT and not readonly:
        raise GoferError(f"gofer spec: {where}: the default view can only be served read-only")
    if value:
        raise GoferError(f"gofer spec: {where} has unknown keys: {', '.join(sorted(value))}")
    return Export(source, fd, readonly, cwd)


def parse(document: bytes) -> GoferSpec:
    """The spec in a JSON document; GoferError with one sentence when it is not one."""
    try:
        value = json.loads(document)
    except ValueError as broken:
        raise GoferError(f"gofer spec: not JSON: {broken}") from None
    if not isinstance(value, dict):
        raise GoferError("gofer spec: not an object")
    value = dict(value)
    spec = GoferSpec()
    exports = value.pop("exports", None)
    if not isinstance(exports, list) or not exports:
        raise GoferError("gofer spec: exports is not a list with something in it")
    spec.exports = [take_export(e, f"exports[{i}]") for i, e in enumerate(exports)]
    spec.uid = take_int(value, "uid", -1, "spec")
    spec.gid = take_int(value, "gid", -1, "spec")
    spec.uid_map = take_map(value, "uid_map")
    spec.gid_map = take_map(value, "gid_map")
    spec.log = take_int(value, "log", -1, "spec")
    spec.ready = take_int(value, "ready", -1, "spec")
    if value:
        raise GoferError(f"gofer spec: unknown keys: {', '.join(sorted(value))}")
    return spec

"""Container ids and the directory that holds the containers' state directories."""

from __future__ import annotations

import os
import stat

from cordon.oci.errors import NoContainer, RuntimeFailure, why

LETTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_+.-")
#: NAME_MAX of Linux's file systems less what temporary names add.
LONGEST = 240


def check(cid: str) -> str:
    """The id, if it may be one: letters, digits and _+.- , a file name. RuntimeFailure otherwise."""
    if not cid:
        raise RuntimeFailure("container id: empty")
    if len(cid) > LONGEST:
        raise RuntimeFailure(f"container id of {len(cid)} characters: more than {LONGEST}")
    if not LETTERS.issuperset(cid) or cid in (".", ".."):
        raise RuntimeFailure(f"container id {cid!r}: may hold only letters, digits and the characters _+.-")
    return cid


def default_root() -> str:
    """/run/cordon for the host's root, else $XDG_RUNTIME_DIR/cordon (/tmp/cordon-UID when that is not set)."""
    uid = os.geteuid()
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    if uid == 0 and not (runtime and in_user_namespace()):
        return "/run/cordon"
    return os.path.join(runtime, "cordon") if runtime.startswith("/") else f"/tmp/cordon-{uid}"


def in_user_namespace() -> bool:
    """Is root here somebody else on the host?"""
    try:
        with open("/proc/self/uid_map", "rb") as f:
            return f.read().split() != [b"0", b"0", b"4294967295"]
    except OSError:
        return False


class Root:
    """The directory of all state directories, as an open descriptor: later steps can't be led elsewhere by a rename or link."""

    def __init__(self, path: str, make: bool = False) -> None:
        """`make`: creates it if need be. A root that is not there has no containers. RuntimeFailure when it can't be used."""
        self.path = os.path.abspath(path)
        #: -1: there is none.
        self.fd = -1
        try:
            if make:
                os.makedirs(self.path, 0o711, exist_ok=True)
            self.fd = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError:
            if make:
                raise RuntimeFailure(f"state directory {self.path}: cannot be made") from None
            return
        except FileExistsError:
            raise RuntimeFailure(f"state directory {self.path}: not a directory") from None
        except OSError as e:
            raise RuntimeFailure(f"state directory {self.path}: {why(e)}") from None
        st = os.fstat(self.fd)
        if st.st_uid != os.geteuid():
            raise RuntimeFailure(f"state directory {self.path}: belongs to user {st.st_uid}")
        if st.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise RuntimeFailure(f"state directory {self.path}: others may write to it")

    def ids(self) -> list[str]:
        """All containers, sorted."""
        if self.fd < 0:
            return []
        return sorted(
            name for name in os.listdir(self.fd) if not name.startswith(".") and LETTERS.issuperset(name)
        )

    def find(self, text: str, abbreviated: bool = True) -> str:
        """The id that `text` names: a whole id, or the beginning of just one. NoContainer, RuntimeFailure."""
        check(text)
        if self.fd < 0:
            raise NoContainer(text)
        try:
            os.stat(text, dir_fd=self.fd, follow_symlinks=False)
            return text
        except FileNotFoundError:
            pass
        except OSError as e:
            raise RuntimeFailure(f'container "{text}": {why(e)}') from None
        matches = [cid for cid in self.ids() if cid.startswith(text)] if abbreviated else []
        if len(matches) > 1:
            raise RuntimeFailure(
                f'container id "{text}": begins {len(matches)} ids: {", ".join(matches[:5])}'
            )
        if not matches:
            raise NoContainer(text)
        return matches[0]

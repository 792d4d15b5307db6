"""What of a host the default view shows, hides and makes up."""

from __future__ import annotations

import os
from typing import Final

SYSTEM: Final = (b"usr", b"bin", b"sbin", b"lib", b"lib32", b"lib64", b"libx32", b"etc", b"opt")
EMPTY: Final = (
    (b"dev", 0o755),
    (b"proc", 0o755),
    (b"sys", 0o755),
    (b"run", 0o755),
    (b"run/lock", 0o1777),
    (b"tmp", 0o1777),
    (b"home", 0o755),
    (b"root", 0o700),
    (b"mnt", 0o755),
    (b"media", 0o755),
    (b"srv", 0o755),
    (b"boot", 0o755),
    (b"var", 0o755),
    (b"var/tmp", 0o1777),
    (b"var/lib", 0o755),
    (b"var/cache", 0o755),
    (b"var/log", 0o755),
    (b"var/spool", 0o755),
    (b"var/mail", 0o755),
)
LINKS: Final = ((b"var/run", b"/run"), (b"var/lock", b"/run/lock"))

# Covered in the default view: nobody but root can read them anyway, so this guards against a gofer that was taken over.
SECRET_FILES: Final = (
    b"shadow",
    b"shadow-",
    b"gshadow",
    b"gshadow-",
    b"sudoers",
    b"krb5.keytab",
    b"ipsec.secrets",
    b"security/opasswd",
)
SECRET_DIRS: Final = (
    b"ssl/private",
    b"sudoers.d",
    b"wireguard",
    b"openvpn",
    b"letsencrypt",
    b"NetworkManager/system-connections",
    b"ppp",
    b"pki/tls/private",
    b"cryptsetup-keys.d",
    b"swanctl/private",
    b"docker",
    b"kubernetes",
    b"credstore",
    b"credstore.encrypted",
)

# Never shown because they are somebody's working directory; what lies below them may be (but for the kernel's own).
NOT_SHOWN: Final = frozenset(
    (
        b"/",
        b"/root",
        b"/home",
        b"/run",
        b"/boot",
        b"/var",
        b"/tmp",
        b"/var/tmp",
        b"/etc",
        b"/usr",
        b"/opt",
        b"/mnt",
        b"/media",
        b"/srv",
        b"/var/lib",
    )
)
KERNELS: Final = (b"/proc", b"/sys", b"/dev")


def shown_cwd(cwd: bytes) -> bool:
    """May a working directory be shown at its own place? Not the home directories and system directories themselves."""
    if cwd in NOT_SHOWN or os.path.dirname(cwd) == b"/home" or cwd == os.environb.get(b"HOME"):
        return False
    return not any(cwd == k or cwd.startswith(k + b"/") for k in KERNELS)

"""What `features` prints: the OCI features structure, with what is true of the sandbox."""

from __future__ import annotations

from typing import Any

from cordon import __version__
from cordon.oci import OCI_OLDEST, OCI_VERSION
from cordon.oci.config import HOOKS
from cordon.oci.linux import SECCOMP_ACTIONS, SECCOMP_FLAGS, SECCOMP_OPERATORS
from cordon.oci.mounts import FLAGS, IGNORED, PRIVATE
from cordon.oci.translate import OVERLAY


def features() -> dict[str, Any]:
    from sentry.spec import CAPABILITIES

    return {
        "ociVersionMin": OCI_OLDEST,
        "ociVersionMax": OCI_VERSION,
        "hooks": list(HOOKS),
        "mountOptions": sorted([*FLAGS, *IGNORED, *PRIVATE, "bind", "rbind", "tmpcopyup"]),
        "linux": {
            "namespaces": ["cgroup", "ipc", "mount", "network", "pid", "user", "uts"],
            "capabilities": list(CAPABILITIES),
            "cgroup": {"v1": True, "v2": True, "systemd": False, "systemdUser": False, "rdma": False},
            "seccomp": {
                "enabled": True,
                "actions": [a for a in SECCOMP_ACTIONS if a != "SCMP_ACT_NOTIFY"],
                "operators": list(SECCOMP_OPERATORS),
                "archs": ["SCMP_ARCH_X86_64"],
                "knownFlags": list(SECCOMP_FLAGS),
                "supportedFlags": list(SECCOMP_FLAGS),
            },
            "apparmor": {"enabled": False},
            "selinux": {"enabled": False},
            "intelRdt": {"enabled": False},
            "mountExtensions": {"idmap": {"enabled": False}},
        },
        "annotations": {"org.cordon.version": __version__},
        "potentiallyUnsafeConfigAnnotations": [OVERLAY],
    }

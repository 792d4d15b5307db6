"""How a program is started natively, in Cordon and in its peers."""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
SHOWN = ("usr", "bin", "sbin", "lib", "lib64", "lib32", "libx32", "etc")
#: Where the guest program and its data are in a peer's container.
WORK = "/bench"


class Launcher:
    """Natively: the command itself."""

    def __init__(self, name: str, prefix: Sequence[str] = ()) -> None:
        self.name = name
        self.prefix = list(prefix)

    def version(self) -> str:
        return ""

    def command(self, work: str, argv: Sequence[str]) -> list[str]:
        """The command line that runs argv. `{work}` in an argument is the directory of the guest program as the program sees it,
        `work` as the host does."""
        return [*self.prefix, *(a.replace("{work}", work) for a in argv)]

    def finish(self) -> None:
        """Removes what it made."""


class Tool(Launcher):
    """A program with a prefix of arguments."""

    def version(self) -> str:
        return version_line([self.prefix[0], "--version"])


class Cordon(Launcher):
    """This very cordon, on one platform."""

    def __init__(self, platform_name: str) -> None:
        super().__init__(
            f"cordon {platform_name}", [*cordon_command(), "do", "--platform", platform_name, "--"]
        )


class Bwrap(Tool):
    def command(self, work: str, argv: Sequence[str]) -> list[str]:
        binds = [w for d in SHOWN if os.path.exists(f"/{d}") for w in ("--ro-bind", f"/{d}", f"/{d}")]
        return [
            *self.prefix, *binds, "--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp", "--bind", work, WORK,
            "--unshare-all", "--die-with-parent", "--chdir", WORK, *(a.replace("{work}", WORK) for a in argv),
        ]  # fmt: skip


class Oci(Launcher):
    """An OCI runtime: a bundle whose root shows the host's system directories; the working directory is a tmpfs."""

    def __init__(self, name: str, runtime: str, flags: Sequence[str] = ()) -> None:
        super().__init__(name, [runtime, *flags])
        self.bundles: list[str] = []
        self.count = 0

    def version(self) -> str:
        return version_line([self.prefix[0], "--version"])

    def command(self, work: str, argv: Sequence[str]) -> list[str]:
        self.count += 1
        ident = f"cordon-bench-{os.getpid()}-{self.name.replace(' ', '-')}-{self.count}"
        bundle = f"{work}-bundles/{ident}"
        for directory in (*SHOWN, "proc", "dev", "tmp", "scratch", WORK[1:]):
            if directory not in SHOWN or os.path.exists(f"/{directory}"):
                os.makedirs(f"{bundle}/rootfs/{directory}")
        spec = config(work, [a.replace("{work}", WORK) for a in argv])
        Path(bundle, "config.json").write_text(json.dumps(spec), encoding="utf-8")
        self.bundles.append(bundle)
        return [*self.prefix, "--root", f"{work}-bundles/state", "run", "--bundle", bundle, ident]

    def finish(self) -> None:
        for bundle in self.bundles:
            shutil.rmtree(bundle, ignore_errors=True)
        self.bundles.clear()


def config(work: str, argv: Sequence[str]) -> dict[str, Any]:
    """An OCI config with what every runtime here takes."""
    binds = [(f"/{d}", f"/{d}", "ro") for d in SHOWN if os.path.exists(f"/{d}")] + [(work, WORK, "ro")]
    mounts: list[dict[str, Any]] = [
        {"destination": "/proc", "type": "proc", "source": "proc"},
        {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755"]},
        {"destination": "/tmp", "type": "tmpfs", "source": "tmpfs"},
        {"destination": "/scratch", "type": "tmpfs", "source": "tmpfs"},
    ]
    mounts += [
        {"destination": dst, "type": "bind", "source": src, "options": ["rbind", mode]} for src, dst, mode in binds
    ]
    everything = ["CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_KILL", "CAP_SETUID", "CAP_SETGID"]
    return {
        "ociVersion": "1.0.2",
        "root": {"path": "rootfs"},
        "hostname": "bench",
        "process": {
            "terminal": False,
            "user": {"uid": 0, "gid": 0},
            "args": list(argv),
            "env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/tmp", "LANG=C.UTF-8"],
            "cwd": "/scratch",
            "capabilities": dict.fromkeys(("bounding", "effective", "permitted"), everything),
        },
        "mounts": mounts,
        "linux": {
            "namespaces": [{"type": t} for t in ("pid", "ipc", "uts", "mount", "network")],
        },
    }


def cordon_command() -> list[str]:
    """How this very cordon is started."""
    override = os.environ.get("CORDON_COMMAND")
    if override:
        return [override]
    root = str(HERE.parent.parent)
    boot = f"import sys; sys.path.insert(0, {root!r}); from cordon.__main__ import main; sys.exit(main())"
    return [sys.executable, "-I", "-c", boot]


def version_line(command: Sequence[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    lines = (done.stdout or done.stderr).splitlines()
    return next((line.strip(" |_\\/") for line in lines if re.search(r"\d\.\d", line)), "")


def candidates() -> list[Launcher]:
    """The peers whose programs are installed; whether they work here is for the caller to see (`runner.works`)."""
    found: list[Launcher] = []

    def have(program: str) -> str:
        return shutil.which(program) or shutil.which(program, path="/usr/sbin:/sbin:/usr/local/sbin") or ""

    if runsc := have("runsc"):
        for p in ("systrap", "kvm", "ptrace"):
            found.append(Oci(f"runsc {p}", runsc, ["--network=none", "--ignore-cgroups", f"--platform={p}"]))
    for runtime in ("crun", "runc"):
        if path := have(runtime):
            flags = ["--cgroup-manager=disabled"] if runtime == "crun" else []
            found.append(Oci(runtime, path, flags))
    if path := have("bwrap"):
        found.append(Bwrap("bwrap", [path]))
    if path := have("proot"):
        found.append(Tool("proot", [path, "-r", "/"]))
    if path := have(f"qemu-{platform.machine()}"):
        found.append(Tool("qemu-user", [path]))
    return found

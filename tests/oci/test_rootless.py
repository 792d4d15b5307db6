"""podman of an ordinary user with subordinate ids, with cordon as its runtime.

The user exists in a private mount namespace only: its passwd and subuid files are mounted over the machine's, and a node of
/dev/net/tun that everybody may open."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sysconfig
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness import CORDON, ROOT, Done
from tests.oci.conftest import Podman, eventually, run
from tests.programs.terminal import Terminal

pytestmark = [
    pytest.mark.root,
    pytest.mark.slow,
    pytest.mark.needs("podman", "conmon", "newuidmap", "setpriv"),
]
UID, FIRST, COUNT = 4711, 300000, 65536
IMAGE = "busybox:test"
QUIET = ("--network", "none")
#: An installed cordon that the user may read, run by a Python that the user may run.
LAUNCHER = f"""\
#!/usr/bin/python3 -I
import sys
sys.path[:0] = [{sysconfig.get_path("purelib")!r}, {str(ROOT)!r}]
from cordon.__main__ import main
sys.exit(main())
"""
ENTER = """\
for name in passwd group subuid subgid; do mount --bind "$0/etc/$name" /etc/$name || exit 99; done
[ ! -e "$0/tun" ] || mount --bind "$0/tun" /dev/net/tun || exit 99
cd "$0/home" && exec setpriv --reuid=4711 --regid=4711 --clear-groups "$@"
"""


class Rootless(Podman):
    """podman as the user."""

    def __init__(self, where: Path, cordon: str) -> None:
        super().__init__(where)
        self.conf.write_text(self.conf.read_text().replace(CORDON, cordon))

    @property
    def environment(self) -> dict[str, str]:
        return {
            "CONTAINERS_CONF": str(self.conf), "HOME": f"{self.where}/home", "XDG_RUNTIME_DIR": f"{self.where}/xdg", "USER": "ordinary"
        }  # fmt: skip

    def argv(self, *args: str) -> list[str]:
        return ["unshare", "--mount", "sh", "-c", ENTER, str(self.where), *super().argv(*args)]

    def __call__(self, *args: str, timeout: float = 90, data: bytes = b"") -> Done:
        return run(self.argv(*args), timeout, data, **self.environment)


def machine_files(where: Path) -> None:
    """The machine's users and one more."""
    (where / "etc").mkdir()
    for name, line in (
        ("passwd", f"ordinary:x:{UID}:{UID}::{where}/home:/bin/sh\n"),
        ("group", f"ordinary:x:{UID}:\n"),
        ("subuid", f"ordinary:{FIRST}:{COUNT}\n"),
        ("subgid", f"ordinary:{FIRST}:{COUNT}\n"),
    ):
        (where / "etc" / name).write_text(Path("/etc", name).read_text() + line)


@pytest.fixture(scope="module")
def store(image: Path) -> Iterator[Rootless]:
    where = Path(tempfile.mkdtemp(prefix="cordon-user-", dir="/tmp"))
    machine_files(where)
    launcher = where / "cordon"
    launcher.write_text(LAUNCHER)
    launcher.chmod(0o755)
    shutil.copy(image, where / "busybox.tar")
    if os.path.exists("/dev/net/tun"):
        os.mknod(where / "tun", stat.S_IFCHR, os.stat("/dev/net/tun").st_rdev)
        (where / "tun").chmod(0o666)
    podman = Rootless(where, str(launcher))
    for path in (where, *(where / name for name in ("home", "xdg", "root", "run", "tmp"))):
        path.mkdir(exist_ok=True)
        os.chown(path, UID, UID)
    (where / "xdg").chmod(0o700)
    user = ["setpriv", f"--reuid={UID}", f"--regid={UID}", "--clear-groups", str(launcher), "--version"]
    if run(user).status:
        pytest.skip("an ordinary user cannot read this cordon")
    made = podman("import", str(where / "busybox.tar"), IMAGE)
    if made.status:
        pytest.skip(f"podman does not work for ordinary users here: {made.err[-300:]}")
    yield podman
    podman.clean()
    podman("system", "migrate")  # ends the process that holds the user's namespace
    subprocess.run(["rm", "-rf", str(where)], check=True)


@pytest.fixture
def podman(store: Rootless) -> Iterator[Rootless]:
    yield store
    store.clean()


@pytest.mark.parametrize(
    ("command", "status", "out"),
    [
        (["id", "-u"], 0, "0\n"),
        (["sh", "-c", "exit 7"], 7, ""),
        (["/not-executable"], 126, ""),
        (["no-such-program"], 127, ""),
        (["sh", "-c", "sleep 9 & kill -9 $!; wait $!"], 137, ""),
    ],
)
def test_run(podman: Rootless, command: list[str], status: int, out: str) -> None:
    d = podman("run", "--rm", *QUIET, IMAGE, *command)
    assert (d.status, d.out) == (status, out), d.err


def test_files_belong_to_subordinate_ids(podman: Rootless) -> None:
    volume = podman.where / "home" / "v"
    volume.mkdir()
    os.chown(volume, UID, UID)
    script = "touch /v/a /v/b && chown 5:6 /v/b && stat -c %u:%g /v/a /v/b"
    out = podman.ok("run", "--rm", *QUIET, "-v", f"{volume}:/v", IMAGE, "sh", "-c", script)
    assert out == "0:0\n5:6\n"
    a, b = (volume / "a").stat(), (volume / "b").stat()
    assert (a.st_uid, a.st_gid) == (UID, UID)
    assert (b.st_uid, b.st_gid) == (FIRST + 4, FIRST + 5)
    kept = podman.ok("run", "--rm", *QUIET, "--userns", "keep-id", "-v", f"{volume}:/v", IMAGE,
                     "sh", "-c", "id -u; touch /v/c; stat -c %u /v/c")  # fmt: skip
    assert kept == f"{UID}\n{UID}\n"
    assert (volume / "c").stat().st_uid == UID


def test_life(podman: Rootless) -> None:
    """Detached: logs, exec, cp, pause, a stop with a handler."""
    script = "trap 'echo got; exit 5' TERM; echo up; while :; do sleep 0.05; done"
    podman.ok("run", "-d", "--name", "l", *QUIET, IMAGE, "sh", "-c", script)
    eventually("it is up", lambda: podman.ok("logs", "l") == "up\n")
    d = podman(
        "exec", "-u", "1000", "-w", "/tmp", "-e", "A=b", "l", "sh", "-c", "id -u; pwd; echo $A; exit 3"
    )
    assert (d.status, d.out) == (3, "1000\n/tmp\nb\n")
    podman.ok("exec", "l", "sh", "-c", "echo inside > /root/f")
    assert "sleep" in podman.ok("top", "l", "-o", "pid,args")
    podman.ok("stop", "l")
    assert podman.ok("wait", "l") == "5\n"
    podman.ok("cp", "l:/root/f", f"{podman.where}/home/f")  # of a stopped one: see docs/containers.md
    assert (podman.where / "home" / "f").read_text() == "inside\n"
    assert podman.ok("logs", "l") == "up\ngot\n"


def test_terminal(podman: Rootless) -> None:
    argv = podman.argv("run", "--rm", "-it", *QUIET, IMAGE, "sh")
    with Terminal(argv, Path("/"), {**os.environ, **podman.environment}, 30, 100) as t:
        t.expect("# ", 60)
        t.type("stty size\n")
        t.expect("30 100")
        t.type("exit 4\n")
        assert t.wait() == 4


def test_stop_kills_in_the_end(podman: Rootless) -> None:
    podman.ok("run", "-d", "--name", "s", *QUIET, IMAGE, "sleep", "1000")
    podman.ok("stop", "-t", "1", "s")
    assert podman.ok("wait", "s") == "137\n"


def test_host_network(podman: Rootless) -> None:
    assert "lo:" in podman.ok("run", "--rm", "--network", "host", IMAGE, "ip", "-o", "link")


def test_slirp4netns(podman: Rootless) -> None:
    """The network that podman gives ordinary users."""
    if shutil.which("slirp4netns") is None or not (podman.where / "tun").exists():
        pytest.skip("slirp4netns or /dev/net/tun is not there")
    assert "10.0.2.100" in podman.ok("run", "--rm", "--network", "slirp4netns", IMAGE, "ip", "addr")

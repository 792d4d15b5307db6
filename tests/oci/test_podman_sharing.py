"""podman: what a container shares with others or with the host by request: init, networks, user namespaces, volumes."""

from __future__ import annotations

import hashlib
import json
import shutil
import urllib.request
from pathlib import Path

import pytest

from tests.oci.conftest import SCRATCH, Podman, eventually
from tests.oci.test_podman import IMAGE, QUIET, start

pytestmark = [pytest.mark.root]


@pytest.mark.skipif(shutil.which("catatonit") is None, reason="catatonit is not installed")
def test_init(podman: Podman) -> None:
    """--init: process 1 is catatonit, which passes signals on and reaps orphans."""
    script = "trap 'echo got; exit 5' TERM; (sleep 0.01 &); echo up; while :; do sleep 0.05; done"
    podman.ok("run", "-d", "--name", "i", *QUIET, "--init", IMAGE, "sh", "-c", script)
    eventually("it runs", lambda: podman.ok("logs", "i") == "up\n")
    ps = podman.ok("exec", "i", "ps", "-o", "pid,stat,comm")
    assert ps.splitlines()[1].split() == ["1", "S", "podman-init"]
    assert " Z" not in ps
    podman.ok("stop", "i")
    assert podman.ok("wait", "i") == "5\n"
    assert podman.ok("logs", "i") == "up\ngot\n"


@pytest.mark.skipif(shutil.which("slirp4netns") is None, reason="slirp4netns is not installed")
def test_network_of_another_container(podman: Podman) -> None:
    """--network container:NAME: both see one loopback."""
    podman.ok("run", "-d", "--name", "srv", "--network", "slirp4netns", IMAGE,
              "sh", "-c", "while :; do echo from srv | nc -l -p 4000; done")  # fmt: skip
    client = ("run", "--rm", "--network", "container:srv", IMAGE, "nc", "127.0.0.1", "4000")
    eventually("it answers", lambda: podman(*client).out == "from srv\n")


def test_loopback_of_another_container(podman: Podman) -> None:
    """--network none: others see the loopback where it is the namespace's, by annotation."""
    server = "while :; do echo from srv | nc -l -p 4000; done"
    start(podman, "srv", "--annotation", "org.cordon.network=namespace", IMAGE, "sh", "-c", server)
    client = ("run", "--rm", "--network", "container:srv", IMAGE, "nc", "127.0.0.1", "4000")
    eventually("it answers", lambda: podman(*client).out == "from srv\n")


@pytest.mark.skipif(shutil.which("slirp4netns") is None, reason="slirp4netns is not installed")
def test_slirp4netns(podman: Podman) -> None:
    """A published port through slirp4netns, and its addresses inside."""
    podman.ok(
        "run", "-d", "--name", "s", "--network", "slirp4netns", "-p", "127.0.0.1:4811:80", IMAGE,
        "sh", "-c", "mkdir /w; echo hello > /w/index.html; exec httpd -f -p 80 -h /w",
    )  # fmt: skip
    assert "10.0.2.100" in podman.ok("exec", "s", "ip", "addr")

    def answers() -> bool:
        try:
            with urllib.request.urlopen("http://127.0.0.1:4811/", timeout=5) as r:
                return bool(r.read() == b"hello\n")
        except OSError:
            return False

    eventually("the port answers", answers)


def test_user_namespace(podman: Podman) -> None:
    """--uidmap: root inside is another user outside, and its files belong to that user."""
    d = podman(
        "run", "--name", "u", *QUIET, "--uidmap", "0:70000:1000", "--gidmap", "0:70000:1000", IMAGE,
        "sh", "-c", "cat /proc/self/uid_map; id -u; touch /made; stat -c %u /made",
    )  # fmt: skip
    assert d.status == 0, d.err
    assert d.out.split() == ["0", "70000", "1000", "0", "0"]
    mount = podman.ok("mount", "u").strip()
    assert (Path(mount) / "made").stat().st_uid == 70000
    podman.ok("umount", "u")


def test_out_of_memory_is_reported(podman: Podman) -> None:
    """conmon notices; with cgroup v1 it puts its file `oom` where podman does not look, whatever the runtime is."""
    notice = Path(SCRATCH.name) / "oom"
    notice.unlink(missing_ok=True)
    podman.ok("run", "-d", "--name", "m", *QUIET, "--memory", "40m", IMAGE, "dd", "if=/dev/zero", "of=/dev/null",
              "bs=100M", "count=1")  # fmt: skip
    assert podman.ok("wait", "m") == "137\n"
    [state] = json.loads(podman.ok("inspect", "m"))
    assert state["State"]["OOMKilled"] or notice.exists()


def test_named_volume_and_volumes_from(podman: Podman) -> None:
    podman.ok("volume", "create", "vol")
    try:
        podman.ok("run", "--name", "a", *QUIET, "-v", "vol:/data", IMAGE, "sh", "-c", "echo kept > /data/f")
        assert podman.ok("run", "--rm", *QUIET, "--volumes-from", "a", IMAGE, "cat", "/data/f") == "kept\n"
    finally:
        podman.clean()
        podman.ok("volume", "rm", "-f", "vol")


def test_big_stdin(podman: Podman) -> None:
    """run -i and exec -i carry megabytes both ways."""
    data = b"0123456789abcde\n" * 300_000
    assert podman.ok("run", "--rm", "-i", *QUIET, IMAGE, "md5sum", data=data).split()[0] == md5(data)
    start(podman, "x", IMAGE, "sleep", "100")
    assert podman.ok("exec", "-i", "x", "md5sum", data=data).split()[0] == md5(data)


def md5(data: bytes) -> str:
    return hashlib.md5(data).hexdigest()


def test_devices_shm_and_ulimits(podman: Podman) -> None:
    out = podman.ok(
        "run", "--rm", *QUIET, "--device", "/dev/null:/dev/mynull", "--shm-size", "8m", "--ulimit", "nofile=100:200",
        "--tz", "UTC", "--hostname", "h", "--add-host", "db:10.1.2.3", IMAGE,
        "sh", "-c", "echo x > /dev/mynull && df -k /dev/shm | awk 'NR == 2 {print $2}'; ulimit -n; hostname;"
        "awk '/db/ {print $1}' /etc/hosts",
    )  # fmt: skip
    assert out.split() == ["8192", "100", "h", "10.1.2.3"]

"""Networks that podman makes: bridge with published ports, host; servers inside, clients outside."""

from __future__ import annotations

import socket
import urllib.request
from pathlib import Path

import pytest

from tests.oci.conftest import Podman, eventually, run

pytestmark = [pytest.mark.needs("podman", "conmon"), pytest.mark.root, pytest.mark.slow]
NGINX = """\
daemon off; worker_processes 1; user root; pid /tmp/nginx.pid; error_log /dev/stderr;
events {}
http {
  access_log off; client_body_temp_path /tmp/b; proxy_temp_path /tmp/p; fastcgi_temp_path /tmp/f; uwsgi_temp_path /tmp/u;
  scgi_temp_path /tmp/s; server { listen 80; location / { root /srv; } }
}
"""


@pytest.fixture
def servers(tmp_path: Path) -> Path:
    """A root that shows the host's /usr when it is mounted there."""
    for name in ("usr", "etc", "tmp", "var/log", "var/lib", "proc", "sys", "dev", "run", "root", "srv"):
        (tmp_path / "root" / name).mkdir(parents=True)
    root = tmp_path / "root"
    root.chmod(0o755)
    for name in ("bin", "lib", "lib64", "sbin"):
        (root / name).symlink_to(f"usr/{name}")
    (root / "tmp").chmod(0o1777)
    (root / "etc" / "passwd").write_text("root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:n:/:/bin/sh\n")
    (root / "etc" / "group").write_text("root:x:0:\nnogroup:x:65534:\n")
    (root / "srv" / "nginx.conf").write_text(NGINX)
    (root / "srv" / "index.html").write_text("served by nginx\n")
    return root


@pytest.fixture
def bridge(podman: Podman) -> Podman:
    """podman, if it can make bridge networks here (a control container tells)."""
    if podman("run", "--rm", "busybox:test", "true").status:
        pytest.skip("podman can't make bridge networks here")
    return podman


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port: int = s.getsockname()[1]
        return port


def fetch(port: int) -> str:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5) as r:
            return str(r.read().decode())
    except OSError:
        return ""


@pytest.mark.needs("nginx")
def test_nginx_on_a_bridge(bridge: Podman, servers: Path) -> None:
    port = free_port()
    bridge.ok(
        "run",
        "-d",
        "-p",
        f"{port}:80",
        "-v",
        "/usr:/usr:ro",
        "--rootfs",
        str(servers),
        "nginx",
        "-c",
        "/srv/nginx.conf",
    )
    eventually("nginx serves", lambda: fetch(port) == "served by nginx\n", 30)


@pytest.mark.needs("redis-server", "redis-cli")
def test_redis_on_a_bridge(bridge: Podman, servers: Path) -> None:
    port = free_port()
    command = ("redis-server", "--protected-mode", "no", "--save", "")
    bridge.ok("run", "-d", "-p", f"{port}:6379", "-v", "/usr:/usr:ro", "--rootfs", str(servers), *command)
    client = ("redis-cli", "-p", str(port))
    eventually("redis answers", lambda: run([*client, "ping"]).out == "PONG\n", 30)
    assert run([*client, "set", "a", "5"]).out == "OK\n"
    assert run([*client, "incr", "a"]).out == "6\n"


def test_addresses_are_the_engine_s(bridge: Podman) -> None:
    out = bridge.ok("run", "--rm", "busybox:test", "sh", "-c", "ip addr show eth0; ip route")
    assert "inet 10." in out
    assert "default via" in out


def test_host_network(podman: Podman) -> None:
    """A client inside reaches a server of the host, and the other way round."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        s.listen()
        port = s.getsockname()[1]
        podman.ok(
            "run",
            "-d",
            "--network",
            "host",
            "busybox:test",
            "sh",
            "-c",
            f"echo from inside | nc 127.0.0.1 {port}",
        )
        s.settimeout(30)
        connection, _ = s.accept()
        with connection:
            assert connection.recv(100) == b"from inside\n"
    port = free_port()
    podman.ok("run", "-d", "--network", "host", "busybox:test", "sh", "-c", f"echo served | nc -l -p {port}")

    def ask() -> bool:
        try:
            with socket.create_connection(("127.0.0.1", port), 5) as c:
                return c.recv(100) == b"served\n"
        except OSError:
            return False

    eventually("the host reaches it", ask, 30)


def test_none_has_only_lo(podman: Podman) -> None:
    out = podman.ok("run", "--rm", "--network", "none", "busybox:test", "ip", "-o", "link")
    assert len(out.splitlines()) == 1
    assert "lo:" in out

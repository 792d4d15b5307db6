"""Networks of docker: a bridge with published ports, the host's; servers inside, clients outside. And its --init."""

from __future__ import annotations

import socket
import tarfile
from pathlib import Path

import pytest

from tests.oci.conftest import eventually, run
from tests.oci.test_engines import Docker, containerd, docker, docker_daemon
from tests.oci.test_networks import fetch, free_port, servers

__all__ = ["containerd", "docker", "docker_daemon", "servers"]  # fixtures
pytestmark = [pytest.mark.needs("dockerd", "docker", "ip"), pytest.mark.root, pytest.mark.slow]


@pytest.fixture
def image_of_servers(docker: Docker, servers: Path, tmp_path: Path) -> str:
    """An image that shows the host's /usr when it is mounted there."""
    archive = tmp_path / "servers.tar"
    with tarfile.open(archive, "w") as tar:
        tar.add(servers, ".")
    docker.ok("import", "-", "servers:test", data=archive.read_bytes())
    return "servers:test"


def serve(docker: Docker, image: str, *args: str) -> None:
    at = args.index("--")
    docker.ok("run", "-d", "--runtime", "cordon", "-v", "/usr:/usr:ro", *args[:at], image, *args[at + 1 :])


@pytest.mark.needs("nginx", "docker-proxy")
def test_nginx_on_docker_s_bridge(docker: Docker, image_of_servers: str) -> None:
    port = free_port()
    serve(docker, image_of_servers, "-p", f"{port}:80", "--", "nginx", "-c", "/srv/nginx.conf")
    eventually("nginx serves", lambda: fetch(port) == "served by nginx\n", 30)


@pytest.mark.needs("redis-server", "redis-cli", "docker-proxy")
def test_redis_on_docker_s_bridge(docker: Docker, image_of_servers: str) -> None:
    port = free_port()
    serve(docker, image_of_servers, "-p", f"{port}:6379", "--", "redis-server", "--protected-mode", "no", "--save", "")
    client = ("redis-cli", "-p", str(port))
    eventually("redis answers", lambda: run([*client, "ping"]).out == "PONG\n", 30)
    assert run([*client, "set", "a", "5"]).out == "OK\n"
    assert run([*client, "incr", "a"]).out == "6\n"


def test_addresses_are_docker_s(docker: Docker) -> None:
    out = docker.ok("run", "--rm", "--runtime", "cordon", "busybox:test", "sh", "-c", "ip addr show eth0; ip route")
    assert "inet 10.231.7." in out
    assert "default via 10.231.7.1 dev eth0" in out


def test_the_host_s_network(docker: Docker) -> None:
    """A server of the host's, reached by the loopback address from inside."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        docker.ok(
            "run", "-d", "--name", "client", "--runtime", "cordon", "--network", "host", "busybox:test",
            "sh", "-c", f"echo hello | nc 127.0.0.1 {port}",
        )  # fmt: skip
        server.settimeout(30)
        with server.accept()[0] as line:
            line.settimeout(10)
            assert line.recv(100) == b"hello\n"


@pytest.mark.needs("docker-init")
def test_init(docker: Docker) -> None:
    d = docker.run("--rm", "--init", "busybox:test", "sh", "-c", "tr '\\0' ' ' < /proc/1/cmdline; exit 9")
    assert d.status == 9
    assert d.out.startswith("/sbin/docker-init -- sh -c")

"""Pods as a kubelet drives them: containerd's CRI plugin over gRPC, with cordon as the runtime."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness import CORDON
from tests.oci.conftest import eventually, run
from tests.oci.test_engines import daemon, stop

pytest.importorskip("grpc")
from tests.oci import cri

pytestmark = [pytest.mark.root, pytest.mark.slow, pytest.mark.needs("containerd", "ctr")]
PLUGINS = Path("/usr/lib/cni")
RUNNING, EXITED = 1, 2
POD, NODE = 0, 2


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory, image: Path) -> Iterator[cri.Cri]:
    """A containerd with the CRI plugin, the images pause and busybox, and a bridge for pods."""
    where = Path("/tmp") / f"cordon-cri-{os.getpid()}"  # socket addresses are short
    (where / "cni").mkdir(parents=True)
    (where / "cni" / "10-pods.conflist").write_text(
        '{"cniVersion": "0.4.0", "name": "pods", "plugins": [{"type": "bridge", "bridge": "cordoncri0", "ipMasq": false,'
        '"isGateway": true, "ipam": {"type": "host-local", "ranges": [[{"subnet": "10.97.0.0/24"}]],'
        f'"dataDir": "{where}/ipam"}}}}]}}'
    )
    (where / "config.toml").write_text(
        f"""\
version = 2
root = "{where}/root"
state = "{where}/state"
[grpc]
  address = "{where}/c.sock"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "localhost/pause:test"
  restrict_oom_score_adj = true
  disable_apparmor = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{PLUGINS}"
    conf_dir = "{where}/cni"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "native"
    default_runtime_name = "cordon"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.cordon]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.cordon.options]
        BinaryName = "{CORDON}"
"""
    )
    p = daemon(["containerd", "-c", str(where / "config.toml")], where / "c.sock", where / "log")
    layer = image.read_bytes()
    for name, entrypoint in (("pause", ["sleep", "100000"]), ("busybox", [])):
        archive = where / f"{name}.tar"
        cri.image_archive(archive, f"localhost/{name}:test", layer, entrypoint)
        argv = [
            "ctr",
            "-a",
            where / "c.sock",
            "-n",
            "k8s.io",
            "images",
            "import",
            "--snapshotter",
            "native",
            archive,
        ]
        d = run(argv)
        assert d.status == 0, d.err
    yield cri.Cri(where / "c.sock")
    stop(p)
    run(["ip", "link", "delete", "cordoncri0"])
    shutil.rmtree(where, ignore_errors=True)


def pod(service: cri.Cri, name: str, logs: Path, network: int) -> Iterator[tuple[str, cri.Message]]:
    config = cri.pod_config(name, logs, network)
    ident = service.run_pod(config)
    yield ident, config
    service.remove_pod(ident)
    assert not [p for p in Path("/proc").glob("[0-9]*/cmdline") if ident.encode() in content(p)]


def content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


@pytest.fixture
def host_pod(service: cri.Cri, tmp_path: Path) -> Iterator[tuple[str, cri.Message]]:
    """A pod in the host's network."""
    yield from pod(service, "h", tmp_path, NODE)


@pytest.fixture
def bridge_pod(service: cri.Cri, tmp_path: Path) -> Iterator[tuple[str, cri.Message]]:
    """A pod with a network of its own that a CNI plugin makes."""
    if not (PLUGINS / "bridge").exists():
        pytest.skip("containernetworking-plugins is not installed")
    yield from pod(service, "b", tmp_path, POD)


def test_life_of_a_container(service: cri.Cri, host_pod: tuple[str, cri.Message], tmp_path: Path) -> None:
    """Create, start, exec, logs, a status of its own, update, stop with a handler, remove."""
    ident, config = host_pod
    (tmp_path / "v").mkdir()
    script = "echo up > /v/f; echo up; trap 'echo got; exit 5' TERM; while :; do sleep 0.05; done"
    mounts = {"/v": tmp_path / "v"}
    options = {"network": NODE, "mounts": mounts, "memory": 64 << 20}
    c = service.create(ident, cri.container_config("a", ["sh", "-c", script], **options), config)
    assert service.status(c)[0] == 0
    service.start(c)
    eventually("it is up", lambda: (tmp_path / "v" / "f").exists())
    assert service.status(c)[0] == RUNNING
    assert service.exec(c, "sh", "-c", "echo out; echo err >&2; exit 3") == (3, "out\n", "err\n")
    assert service.exec(c, "hostname")[1] == "h\n"
    service.call("UpdateContainerResources", {1: c, 2: {4: 48 << 20}})
    assert service.call("ContainerStats", {1: c})[1]
    service.stop(c, 10)
    assert service.status(c)[:2] == (EXITED, 5)
    lines = [line.split(" ", 3)[3] for line in (tmp_path / "a.log").read_text().splitlines()]
    assert lines == ["up", "got"]
    service.remove(c)


def test_exit_statuses(service: cri.Cri, host_pod: tuple[str, cri.Message]) -> None:
    ident, config = host_pod
    for name, command, status in (("s7", "exit 7", 7), ("s137", "sleep 9 & kill -9 $!; wait $!", 137)):
        c = service.create(ident, cri.container_config(name, ["sh", "-c", command], network=NODE), config)
        service.start(c)
        eventually("it ended", lambda c=c: service.status(c)[0] == EXITED)
        assert service.status(c)[1] == status
    c = service.create(ident, cri.container_config("none", ["no-such"], network=NODE), config)
    with pytest.raises(Exception, match="no such file or directory"):
        service.start(c)
    assert service.status(c)[:2] == (EXITED, 128)
    c = service.create(ident, cri.container_config("kill", ["sleep", "1000"], network=NODE), config)
    service.start(c)
    service.stop(c, 1)
    assert service.status(c)[:2] == (EXITED, 137)


def test_out_of_memory(service: cri.Cri, host_pod: tuple[str, cri.Message]) -> None:
    """The reason that `kubectl describe` shows. Limits of containers within a sandbox are looked at some times a second."""
    ident, config = host_pod
    options = {"network": NODE, "memory": 40 << 20}
    c = service.create(ident, cri.container_config("oom", ["tail", "/dev/zero"], **options), config)
    service.start(c)
    eventually("it ended", lambda: service.status(c)[0] == EXITED)
    assert service.status(c) == (EXITED, 137, "OOMKilled")


def test_containers_of_a_pod_share_its_network(
    service: cri.Cri, bridge_pod: tuple[str, cri.Message], tmp_path: Path
) -> None:
    """Two containers talk over localhost; the host reaches the pod by its address; the pod's name is theirs."""
    ident, config = bridge_pod
    serve = "while :; do echo from server | nc -l -p 4000; done"
    server = service.create(ident, cri.container_config("server", ["sh", "-c", serve]), config)
    service.start(server)
    client = service.create(ident, cri.container_config("client", ["sleep", "1000"]), config)
    service.start(client)
    ask = ("nc", "127.0.0.1", "4000")
    eventually("it answers inside", lambda: service.exec(client, *ask)[1] == "from server\n")
    network = cri.decode(service.pod_status(ident)[5][0])
    address = cri.text(network[1])
    assert address.startswith("10.97.0.")
    eventually("it answers outside", lambda: run(["nc", "-N", address, "4000"]).out == "from server\n")
    assert service.exec(client, "hostname")[1] == "b\n"
    assert f"inet {address}" in service.exec(client, "ip", "addr")[1]
    service.call("StopPodSandbox", {1: ident})
    assert service.status(server)[0] == service.status(client)[0] == EXITED

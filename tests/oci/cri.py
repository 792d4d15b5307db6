"""A small client of the Kubernetes container runtime interface (CRI, runtime.v1), and images for it.

Messages are dicts from field numbers to values, as in k8s.io/cri-api's api.proto; the protocol buffers encoding needs no more:
ints and bools are varints, str and bytes have a length, dicts are messages, lists are repeated fields."""

from __future__ import annotations

import io
import json
import tarfile
from hashlib import sha256
from pathlib import Path
from typing import Any

import grpc

Message = dict[int, Any]


def varint(n: int) -> bytes:
    out = bytearray()
    n &= (1 << 64) - 1
    while n > 0x7F:
        out.append(n & 0x7F | 0x80)
        n >>= 7
    out.append(n)
    return bytes(out)


def encode(message: Message) -> bytes:
    out = b""
    for number, value in message.items():
        for one in value if isinstance(value, list) else [value]:
            if isinstance(one, int):
                out += varint(number << 3) + varint(one)
                continue
            data = encode(one) if isinstance(one, dict) else one.encode() if isinstance(one, str) else one
            out += varint(number << 3 | 2) + varint(len(data)) + data
    return out


def decode(data: bytes) -> dict[int, list[Any]]:
    """All values of each field, as ints and bytes."""
    fields: dict[int, list[Any]] = {}
    at = 0

    def number() -> int:
        nonlocal at
        n = shift = 0
        while True:
            byte = data[at]
            at += 1
            n |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return n

    while at < len(data):
        key = number()
        value: Any
        if key & 7 == 0:
            value = number()
        else:
            size = {1: 8, 5: 4}.get(key & 7) or number()
            value, at = data[at : at + size], at + size
        fields.setdefault(key >> 3, []).append(value)
    return fields


class Cri:
    """Calls of runtime.v1.RuntimeService."""

    def __init__(self, socket: Path) -> None:
        self.channel = grpc.insecure_channel(f"unix://{socket}", [("grpc.default_authority", "localhost")])

    def call(self, name: str, request: Message) -> dict[int, list[Any]]:
        method = self.channel.unary_unary(
            f"/runtime.v1.RuntimeService/{name}", request_serializer=encode, response_deserializer=decode
        )
        answer: dict[int, list[Any]] = method(request, timeout=60, wait_for_ready=True)
        return answer

    def run_pod(self, config: Message) -> str:
        return text(self.call("RunPodSandbox", {1: config, 2: "cordon"})[1])

    def pod_status(self, pod: str) -> dict[int, list[Any]]:
        return decode(self.call("PodSandboxStatus", {1: pod})[1][0])

    def create(self, pod: str, config: Message, pod_config: Message) -> str:
        return text(self.call("CreateContainer", {1: pod, 2: config, 3: pod_config})[1])

    def start(self, container: str) -> None:
        self.call("StartContainer", {1: container})

    def status(self, container: str) -> tuple[int, int, str]:
        """State (1 running, 2 exited), exit status, reason."""
        s = decode(self.call("ContainerStatus", {1: container})[1][0])
        return s.get(3, [0])[0], s.get(7, [0])[0], text(s.get(10, [b""]))

    def exec(self, container: str, *command: str) -> tuple[int, str, str]:
        answer = self.call("ExecSync", {1: container, 2: list(command), 3: 30})
        return answer.get(3, [0])[0], text(answer.get(1, [b""])), text(answer.get(2, [b""]))

    def stop(self, container: str, seconds: int) -> None:
        self.call("StopContainer", {1: container, 2: seconds})

    def remove(self, container: str) -> None:
        self.call("RemoveContainer", {1: container})

    def remove_pod(self, pod: str) -> None:
        self.call("StopPodSandbox", {1: pod})
        self.call("RemovePodSandbox", {1: pod})


def text(values: list[bytes]) -> str:
    return values[0].decode()


def pod_config(name: str, logs: Path, network: int) -> Message:
    """PodSandboxConfig; network: 0 of its own, 2 the host's."""
    security = {1: {1: network, 2: 1}}
    return {1: {1: name, 2: name, 3: "default"}, 2: name, 3: str(logs), 8: {1: "/cordon-cri", 2: security}}


def container_config(name: str, command: list[str], **more: Any) -> Message:
    """ContainerConfig of the image busybox; its log is NAME.log below the pod's."""
    resources = {4: more["memory"]} if "memory" in more else {}
    mounts = [{1: inside, 2: str(outside)} for inside, outside in more.get("mounts", {}).items()]
    config: Message = {
        1: {1: name},
        2: {1: "localhost/busybox:test"},
        3: command,
        7: mounts,
        11: f"{name}.log",
    }
    security = {3: {1: more.get("network", 0), 2: 1}}  # a PID namespace of its own
    return {**config, 15: {1: resources, 2: security}}


def image_archive(path: Path, name: str, layer: bytes, entrypoint: list[str]) -> None:
    """An image of one layer as `docker save` writes it, for `ctr images import`."""
    config = {
        "architecture": "amd64",
        "os": "linux",
        "config": {"Entrypoint": entrypoint, "Env": ["PATH=/bin"]},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{sha256(layer).hexdigest()}"]},
    }
    manifest = [{"Config": "config.json", "RepoTags": [name], "Layers": ["layer.tar"]}]
    with tarfile.open(path, "w") as tar:
        for member, data in (
            ("config.json", json.dumps(config).encode()),
            ("layer.tar", layer),
            ("manifest.json", json.dumps(manifest).encode()),
        ):
            info = tarfile.TarInfo(member)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))

"""The OCI runtime specification's assertions, point by point.

Each is named as the program of opencontainers/runtime-tools' `validation/` that asks the same, so that docs/containers.md can say
which of those 58 points hold. INSIDE are those that a program in the container sees; the functions after it are of the life cycle.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cordon.oci import default
from tests.harness import CORDON
from tests.oci.conftest import Runtime, eventually

pytestmark = [pytest.mark.needs("busybox"), pytest.mark.root]
CGROUPS = Path("/sys/fs/cgroup")
MAPPING = [{"containerID": 0, "hostID": 70000, "size": 2000}]
TMPFS = {"destination": "/tmp", "type": "tmpfs", "source": "tmpfs"}

#: name -> (what is changed in config.json, by path; a script; what it prints)
INSIDE: dict[str, tuple[dict[str, Any], str, str]] = {
    "default": ({}, "echo fine", "fine\n"),
    "hostname": ({"hostname": "hostname-specific"}, "hostname", "hostname-specific\n"),
    "process": ({"process.cwd": "/tmp", "process.env": ["A=b", "PATH=/bin"]}, "pwd; echo $A", "/tmp\nb\n"),
    "process_user": (
        {"process.user": {"uid": 10, "gid": 11, "additionalGids": [5, 7], "umask": 0o27}},
        "id -u; id -g; grep ^Groups /proc/self/status; umask",
        "10\n11\nGroups:\t5 7 \n0027\n",
    ),
    "process_capabilities": (
        {"process.capabilities": {key: ["CAP_CHOWN", "CAP_KILL"] for key in ("bounding", "permitted", "effective")}},
        "grep -E '^Cap(Inh|Prm|Eff|Bnd)' /proc/self/status",
        "".join(f"Cap{name}:\t{value:016x}\n" for name, value in (("Inh", 0), ("Prm", 33), ("Eff", 33), ("Bnd", 33))),
    ),
    "process_oom_score_adj": ({"process.oomScoreAdj": 500}, "cat /proc/self/oom_score_adj", "500\n"),
    "process_rlimits": (
        {"process.rlimits": [{"type": "RLIMIT_NOFILE", "soft": 100, "hard": 200}, {"type": "RLIMIT_CORE", "soft": 0, "hard": 0}]},
        "ulimit -Sn; ulimit -Hn; ulimit -Hc",
        "100\n200\n0\n",
    ),
    "root_readonly_true": ({}, "touch /f 2>&1 || echo refused", "touch: /f: Read-only file system\nrefused\n"),
    "linux_masked_paths": (
        {"linux.maskedPaths": ["/etc/passwd", "/usr", "/not-there"]},
        "cat /etc/passwd; ls -A /usr; ls /usr/bin 2>/dev/null || echo masked",
        "masked\n",
    ),
    "linux_readonly_paths": (
        {"mounts+": TMPFS, "linux.readonlyPaths": ["/tmp", "/not-there"]},
        "touch /tmp/f 2>&1 || true",
        "touch: /tmp/f: Read-only file system\n",
    ),
    "linux_devices": (
        {
            "linux.devices": [
                {"path": "/dev/one", "type": "c", "major": 10, "minor": 66, "fileMode": 0o432, "uid": 3, "gid": 4},
                {"path": "/dev/two", "type": "b", "major": 7, "minor": 5, "fileMode": 0o600},
                {"path": "/dev/three", "type": "p", "fileMode": 0o640},
            ]
        },
        "stat -c '%F %t:%T %a %u %g' /dev/one /dev/two; stat -c '%F %a' /dev/three; stat -c %t:%T /dev/null /dev/urandom",
        "character special file a:42 432 3 4\nblock special file 7:5 600 0 0\nfifo 640\n1:3\n1:9\n",
    ),
    "linux_uid_mappings": (
        {"linux.namespaces+": {"type": "user"}, "linux.uidMappings": MAPPING, "linux.gidMappings": MAPPING},
        "cat /proc/self/uid_map | tr -s ' '; id -u",
        " 0 70000 2000\n0\n",
    ),
    "linux_gid_mappings": (
        {"linux.namespaces+": {"type": "user"}, "linux.uidMappings": MAPPING, "linux.gidMappings": MAPPING},
        "cat /proc/self/gid_map | tr -s ' '; id -g",
        " 0 70000 2000\n0\n",
    ),
    "linux_seccomp": (
        {
            "mounts+": TMPFS,
            "linux.seccomp": {
                "defaultAction": "SCMP_ACT_ALLOW",
                "architectures": ["SCMP_ARCH_X86_64"],
                "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 28}],
            },
        },
        "mkdir /tmp/d 2>&1; grep ^Seccomp: /proc/self/status",
        "mkdir: can't create directory '/tmp/d': No space left on device\nSeccomp:\t2\n",
    ),
    "linux_sysctl": ({"linux.sysctl": {"kernel.msgmax": "4711"}}, "cat /proc/sys/kernel/msgmax", "4711\n"),
    "linux_mount_label": ({"linux.mountLabel": "system_u:object_r:svirt_sandbox_file_t:s0"}, "echo fine", "fine\n"),
    "linux_process_apparmor_profile": ({"process.apparmorProfile": "unconfined"}, "echo fine", "fine\n"),
    "mounts": (
        {"mounts+": {**TMPFS, "options": ["nosuid", "noexec", "size=64k", "mode=0700"]}},
        "stat -c %a /tmp; df -k /tmp | awk 'NR == 2 {print $2}'; awk '$2 == \"/tmp\" {print $3, $4}' /proc/mounts | cut -d, -f1-3",
        "700\n64\ntmpfs rw,nosuid,noexec\n",
    ),
    "misc_props": ({"unknown": {"a": 1}, "annotations": {"org.example": "yes"}}, "echo fine", "fine\n"),
}  # fmt: skip


def changed(changes: dict[str, Any]) -> dict[str, Any]:
    """The default configuration with values in other places; `path+` appends."""
    document = default.document()
    document["process"]["terminal"] = False
    for path, value in changes.items():
        *way, last = path.split(".")
        at = document
        for name in way:
            at = at[name]
        if last.endswith("+"):
            at[last[:-1]].append(value)
        else:
            at[last] = value
    return document


def bundle(runtime: Runtime, cid: str, changes: dict[str, Any], *command: str) -> str:
    document = changed(changes)
    document["process"]["args"] = list(command) or ["true"]
    root = {"path": str(runtime.rootfs), "readonly": True}
    return runtime.bundle(cid, **{**document, "root": root})


def written(runtime: Runtime, name: str, document: dict[str, Any]) -> str:
    """A bundle with exactly that configuration."""
    where = runtime.where / name
    where.mkdir()
    (where / "config.json").write_text(json.dumps(document))
    return str(where)


@pytest.mark.parametrize("point", INSIDE)
def test_inside(runtime: Runtime, point: str) -> None:
    changes, script, expected = INSIDE[point]
    d = runtime("run", "-b", bundle(runtime, "i", changes, "sh", "-c", script), "i")
    assert (d.status, d.out, d.err) == (0, expected, "")


REFUSED = {
    "process_capabilities_fail": ({"process.capabilities": {"bounding": ["CAP_TEST"]}}, "CAP_TEST"),
    "process_rlimits_fail": ({"process.rlimits": [{"type": "RLIMIT_TEST", "soft": 1, "hard": 1}]}, "RLIMIT_TEST"),
    "linux_ns_path_type": ({"linux.namespaces+": {"type": "user", "path": "/proc/self/ns/net"}}, "/proc/self/ns/net"),
    "linux_sysctl": ({"linux.sysctl": {"net.ipv4.ip_forward": "1"}}, "ip_forward"),
    "linux_rootfs_propagation": ({"linux.rootfsPropagation": "shared"}, "shared"),
    "start": ({"process": None}, "process"),
}  # fmt: skip


@pytest.mark.parametrize("point", REFUSED)
def test_refused(runtime: Runtime, point: str) -> None:
    """`create` says what it can't do, and nothing is made."""
    changes, named = REFUSED[point]
    document = {**changed(changes), "root": {"path": str(runtime.rootfs)}}
    d = runtime(
        "create", "-b", written(runtime, "r", {k: v for k, v in document.items() if v is not None}), "r"
    )
    assert d.status == 1
    assert named in d.err
    assert d.err.count("\n") == 1
    assert runtime("state", "r").status == 1


def silent(runtime: Runtime, *args: str) -> None:
    """A `create` whose container has no streams of ours."""
    null = subprocess.DEVNULL
    argv = [CORDON, "--root", str(runtime.root), *args]
    subprocess.run(argv, stdin=null, stdout=null, stderr=null, check=True, timeout=60)


def create(runtime: Runtime) -> None:
    """An id is needed, a bundle with a configuration, and an id that is free."""
    b = runtime.bundle("c", "sleep", "100")
    assert runtime("create", "-b", b).status != 0
    assert runtime("create", "-b", str(runtime.where), "c").status == 1
    runtime.create("c", "sleep", "100")
    assert "exists" in runtime("create", "-b", b, "c").err
    assert runtime.status("c") == "created"


def state(runtime: Runtime) -> None:
    """ociVersion, id, status, pid, bundle and annotations; an error for a container that isn't."""
    assert runtime("state", "s").status == 1
    assert runtime("state").status != 0
    pid = runtime.create("s", "sleep", "100", annotations={"a.b": "c"})
    seen = runtime.state("s")
    assert seen["ociVersion"].startswith("1.")
    assert (seen["id"], seen["status"], seen["pid"]) == ("s", "created", pid)
    assert (seen["bundle"], seen["annotations"]) == (str(runtime.where / "s"), {"a.b": "c"})


def start(runtime: Runtime) -> None:
    """Of a created container only; its program isn't run before."""
    assert runtime("start", "s").status == 1
    mounts = [*default.document()["mounts"], bind(runtime)]
    runtime.create("s", "touch", "/tmp/ran", mounts=mounts)
    time.sleep(0.3)
    assert not (runtime.where / "shared" / "ran").exists()
    runtime.ok("start", "s")
    runtime("wait", "s")
    assert (runtime.where / "shared" / "ran").exists()
    assert runtime("start", "s").status == 1


def bind(runtime: Runtime) -> dict[str, Any]:
    """A mount of the test's directory `shared` at /tmp."""
    source = runtime.where / "shared"
    source.mkdir(exist_ok=True)
    return {"destination": "/tmp", "type": "bind", "source": str(source), "options": ["rbind", "rw"]}


def config_updates_without_affect(runtime: Runtime) -> None:
    """What changes in config.json after `create` has no effect."""
    mounts = [*default.document()["mounts"], bind(runtime)]
    runtime.create("u", "touch", "/tmp/first", mounts=mounts)
    runtime.bundle("u", "touch", "/tmp/second", mounts=mounts)
    runtime.ok("start", "u")
    runtime("wait", "u")
    assert os.listdir(runtime.where / "shared") == ["first"]


def kill(runtime: Runtime) -> None:
    """Of a created or running container; an error for others."""
    assert runtime("kill", "k", "KILL").status == 1
    runtime.create("k", "sleep", "100")
    runtime.ok("kill", "k", "KILL")
    assert runtime("wait", "k").status == 137
    assert runtime("kill", "k", "KILL").status == 1


def kill_no_effect(runtime: Runtime) -> None:
    """A refused `kill` leaves the container as it is."""
    runtime.create("k", "true")
    runtime.ok("start", "k")
    runtime("wait", "k")
    before = runtime.state("k")
    assert runtime("kill", "k", "TERM").status == 1
    assert runtime.state("k") == before


def killsig(runtime: Runtime) -> None:
    """Signals by name and number reach the program."""
    script = 'for s in TERM USR1 HUP; do trap "echo $s >> /tmp/got" $s; done; : > /tmp/ready; while :; do sleep 0.02; done'
    mounts = [*default.document()["mounts"], bind(runtime)]
    got = runtime.where / "shared" / "got"
    runtime.create("k", "sh", "-c", script, mounts=mounts)
    runtime.ok("start", "k")
    eventually("it is ready", lambda: (runtime.where / "shared" / "ready").exists())
    for given, name in (("TERM", "TERM"), ("SIGUSR1", "USR1"), ("1", "HUP")):
        runtime.ok("kill", "k", given)
        eventually(
            f"it got {name}", lambda name=name: got.exists() and got.read_text().split()[-1:] == [name]
        )
    assert runtime("kill", "k", "NOSUCH").status != 0


def delete(runtime: Runtime) -> None:
    """Of a stopped container; an error for one that runs or isn't. Its id is free then."""
    assert runtime("delete", "d").status == 1
    for _ in range(2):
        runtime.create("d", "sleep", "100")
        runtime.ok("start", "d")
        assert runtime("delete", "d").status == 1
        assert runtime.status("d") == "running"
        runtime.ok("kill", "d", "KILL")
        runtime("wait", "d")
        runtime.ok("delete", "d")
        assert runtime("state", "d").status == 1


def pidfile(runtime: Runtime) -> None:
    """--pid-file has the PID that `state` tells."""
    b = runtime.bundle("p", "sleep", "100")
    silent(runtime, "create", "-b", b, "--pid-file", str(runtime.where / "pid"), "p")
    assert int((runtime.where / "pid").read_text()) == runtime.state("p")["pid"]


def linux_ns_itype(runtime: Runtime) -> None:
    """A kind of namespace that isn't listed is the runtime's own."""
    document = changed({"linux.namespaces": [{"type": "pid"}, {"type": "mount"}]})
    del document["hostname"]
    document["process"]["args"] = ["sleep", "100"]
    document["root"]["path"] = str(runtime.rootfs)
    silent(runtime, "create", "-b", written(runtime, "n", document), "n")
    pid = runtime.state("n")["pid"]
    for kind in ("net", "ipc", "uts", "user"):
        assert os.readlink(f"/proc/{pid}/ns/{kind}") == os.readlink(f"/proc/self/ns/{kind}")


def linux_ns_nopath(runtime: Runtime) -> None:
    """Listed ones are new. (The guest's pid and cgroup namespaces are the sentry's.)"""
    pid = runtime.create("n", "sleep", "100")
    for kind in ("net", "ipc", "uts", "mnt"):
        assert os.readlink(f"/proc/{pid}/ns/{kind}") != os.readlink(f"/proc/self/ns/{kind}")


def linux_ns_path(runtime: Runtime) -> None:
    """Those with a path are joined."""
    first = runtime.create("a", "sleep", "100")
    linux = default.document()["linux"]
    kinds = {"network": "net", "ipc": "ipc", "uts": "uts"}
    linux["namespaces"] = [{"type": "pid"}, {"type": "mount"}] + [
        {"type": kind, "path": f"/proc/{first}/ns/{name}"} for kind, name in kinds.items()
    ]
    document = default.document()
    pid = runtime.create("b", "sleep", "100", linux=linux, hostname=document["hostname"])
    for name in kinds.values():
        assert os.readlink(f"/proc/{pid}/ns/{name}") == os.readlink(f"/proc/{first}/ns/{name}")


def hook(runtime: Runtime, moment: str, status: int = 0) -> dict[str, Any]:
    """Writes its name and the status that the state on its standard input has."""
    script = (
        "s=$(/bin/busybox cat | /bin/busybox tr -d ' \\n\\t' | /bin/busybox sed 's/.*\"status\":\"\\([a-z]*\\).*/\\1/');"
        f"echo {moment} $s >> {runtime.where}/log; exit {status}"
    )
    return {"path": "/bin/busybox", "args": ["sh", "-c", script]}


def log(runtime: Runtime) -> list[str]:
    path = runtime.where / "log"
    return path.read_text().splitlines() if path.exists() else []


def hooks(runtime: Runtime) -> None:
    """All moments of a life, each hook in its order."""
    moments = ("prestart", "createRuntime", "createContainer", "poststart", "poststop")
    runtime.create("h", "true", hooks={m: [hook(runtime, m), hook(runtime, m)] for m in moments})
    runtime.ok("start", "h")
    runtime("wait", "h")
    runtime.ok("delete", "h")
    assert [line.split()[0] for line in log(runtime)] == [m for m in moments for _ in range(2)]


def hooks_stdin(runtime: Runtime) -> None:
    """The state on standard input has the status of the moment."""
    runtime.create(
        "h", "sleep", "100", hooks={m: [hook(runtime, m)] for m in ("prestart", "poststart", "poststop")}
    )
    runtime.ok("start", "h")
    runtime.ok("delete", "--force", "h")
    assert log(runtime)[1:] == ["poststart running", "poststop stopped"]


def prestart(runtime: Runtime) -> None:
    """Before the program runs."""
    runtime.create("h", "true", hooks={"prestart": [hook(runtime, "prestart")]})
    assert log(runtime) == ["prestart created"]


def prestart_fail(runtime: Runtime) -> None:
    """An error; the container is gone, and the poststop hooks have run."""
    changes = {"prestart": [hook(runtime, "prestart", 1)], "poststop": [hook(runtime, "poststop")]}
    assert runtime("create", "-b", runtime.bundle("h", hooks=changes), "h").status == 1
    assert runtime("state", "h").status == 1


def poststart(runtime: Runtime) -> None:
    """After the program was started, before `start` ends."""
    runtime.create("h", "sleep", "100", hooks={"poststart": [hook(runtime, "poststart")]})
    assert log(runtime) == []
    runtime.ok("start", "h")
    assert log(runtime) == ["poststart running"]


def poststart_fail(runtime: Runtime) -> None:
    """Its failure is told; the life goes on, later hooks run."""
    changes = {"poststart": [hook(runtime, "one", 1), hook(runtime, "two")]}
    runtime.create("h", "sleep", "100", hooks=changes)
    runtime("start", "h")
    assert runtime.status("h") == "running"


def poststop(runtime: Runtime) -> None:
    """After `delete`."""
    runtime.create("h", "true", hooks={"poststop": [hook(runtime, "poststop")]})
    runtime.ok("start", "h")
    runtime("wait", "h")
    assert log(runtime) == []
    runtime.ok("delete", "h")
    assert log(runtime) == ["poststop stopped"]


def poststop_fail(runtime: Runtime) -> None:
    """Its failure is told only: the container is gone, later hooks run."""
    runtime.create("h", "true", hooks={"poststop": [hook(runtime, "one", 1), hook(runtime, "two")]})
    runtime.ok("delete", "--force", "h")
    assert [line.split()[0] for line in log(runtime)] == ["one", "two"]
    assert runtime("state", "h").status == 1


def group(controller: str, path: str) -> Path:
    if not (CGROUPS / controller).is_dir():
        pytest.skip(f"no cgroup v1 controller {controller}")
    return CGROUPS / controller / path


def limited(runtime: Runtime, path: str, resources: dict[str, Any]) -> None:
    linux = {**default.document()["linux"], "cgroupsPath": path, "resources": resources}
    runtime.create("g", "sleep", "100", linux=linux)


def linux_cgroups_cpus(runtime: Runtime, path: str = "/cordon-spec-cpus") -> None:
    """Shares, quota, period."""
    limited(runtime, path, {"cpu": {"shares": 1024, "quota": 100000, "period": 50000}})
    g = group("cpu", path.lstrip("/"))
    seen = [int((g / name).read_text()) for name in ("cpu.shares", "cpu.cfs_quota_us", "cpu.cfs_period_us")]
    assert seen == [1024, 100000, 50000]


def linux_cgroups_relative_cpus(runtime: Runtime) -> None:
    linux_cgroups_cpus(runtime, "cordon-spec-relative-cpus")


def linux_cgroups_devices(runtime: Runtime, path: str = "/cordon-spec-devices") -> None:
    rules = [{"allow": False}, {"allow": True, "type": "c", "major": 10, "minor": 229, "access": "rwm"}]
    limited(runtime, path, {"devices": rules})
    assert "c 10:229 rwm" in (group("devices", path.lstrip("/")) / "devices.list").read_text().splitlines()


def linux_cgroups_relative_devices(runtime: Runtime) -> None:
    linux_cgroups_devices(runtime, "cordon-spec-relative-devices")


def linux_cgroups_memory(runtime: Runtime) -> None:
    """The guest's limit, and what the sandbox itself needs above it."""
    limited(runtime, "/cordon-spec-memory", {"memory": {"limit": 50 << 20}})
    assert (
        int((group("memory", "cordon-spec-memory") / "memory.limit_in_bytes").read_text()) == (50 + 192) << 20
    )


def linux_cgroups_pids(runtime: Runtime) -> None:
    limited(runtime, "/cordon-spec-pids", {"pids": {"limit": 100}})
    assert int((group("pids", "cordon-spec-pids") / "pids.max").read_text()) == 2 * 100 + 64


def delete_resources(runtime: Runtime) -> None:
    """What `create` made is removed."""
    limited(runtime, "/cordon-spec-gone", {"pids": {"limit": 100}})
    g = group("pids", "cordon-spec-gone")
    assert g.is_dir()
    runtime.ok("delete", "--force", "g")
    assert not g.exists()


def delete_only_create_resources(runtime: Runtime) -> None:
    """What was there before stays."""
    g = group("pids", "cordon-spec-kept")
    g.mkdir(parents=True)
    try:
        limited(runtime, "/cordon-spec-kept", {"pids": {"limit": 100}})
        runtime.ok("delete", "--force", "g")
        assert g.is_dir()
    finally:
        g.rmdir()


LIFE: list[Callable[[Runtime], None]] = [
    create, state, start, config_updates_without_affect, kill, kill_no_effect, killsig, delete, pidfile,
    linux_ns_itype, linux_ns_nopath, linux_ns_path, hooks, hooks_stdin, prestart, prestart_fail, poststart, poststart_fail,
    poststop, poststop_fail, linux_cgroups_cpus, linux_cgroups_relative_cpus, linux_cgroups_devices,
    linux_cgroups_relative_devices, linux_cgroups_memory, linux_cgroups_pids, delete_resources, delete_only_create_resources,
]  # fmt: skip


@pytest.mark.parametrize("point", LIFE, ids=lambda f: f.__name__)
def test_life(runtime: Runtime, point: Callable[[Runtime], None]) -> None:
    point(runtime)


def test_enough_points() -> None:
    """Of the 58, crun passes 36."""
    assert len({*INSIDE, *REFUSED, *(f.__name__ for f in LIFE)}) >= 36

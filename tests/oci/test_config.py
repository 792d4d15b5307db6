"""config.json from a stranger: each fault is one sentence with its JSON path, nothing else happens."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cordon.oci import config, default, ids, lifecycle, reader
from cordon.oci.cgroups import Groups, Hierarchy, files
from cordon.oci.errors import NotRunning, RuntimeFailure
from cordon.oci.operations import signal_number
from cordon.oci.resources import Resources


def failure(what: Callable[[], object]) -> RuntimeFailure | None:
    """The failure of a call, if it fails."""
    try:
        what()
    except RuntimeFailure as e:
        return e
    return None


def changed(path: str, value: Any) -> dict[str, Any]:
    """The default document with one place set."""
    document: dict[str, Any] = json.loads(json.dumps(default.document()))
    at: Any = document
    *parts, last = [int(p) if p.isdigit() else p for p in path.split("/")]
    for part in parts:
        if isinstance(at, dict) and part not in at:
            at[part] = {}
        at = at[part]
    if isinstance(at, list) and last == len(at):
        at.append(value)
    else:
        at[last] = value
    return document


@pytest.mark.parametrize(
    ("path", "value", "text"),
    [
        ("ociVersion", None, "ociVersion is missing"),
        ("ociVersion", "", "ociVersion is empty"),
        ("ociVersion", "2.0.0", "ociVersion is 2.0.0"),
        ("ociVersion", "one", "ociVersion is not a version"),
        ("ociVersion", 1, "ociVersion is not a string"),
        ("root", None, "root is missing"),
        ("root/path", "", "root.path is empty"),
        ("root/readonly", "yes", "root.readonly is not true or false"),
        ("process", [], "process is not an object"),
        ("process/args", [], "process.args has no command"),
        ("process/args", None, "process.args is missing"),
        ("process/args", "sh", "process.args is not a list"),
        ("process/args", [""], "process.args[0] is empty"),
        ("process/args", ["a", 1], "process.args[1] is not a string"),
        ("process/args", ["a\0b"], "process.args[0] holds a NUL character"),
        ("process/args", ["\ud800"], "process.args[0] holds half a surrogate pair"),
        ("process/env", [None], "process.env[0] is not a string"),
        ("process/cwd", "tmp", "process.cwd is not an absolute path"),
        ("process/user/uid", -1, "process.user.uid is not between 0 and"),
        ("process/user/uid", 1.5, "process.user.uid is not an integer"),
        ("process/user/uid", True, "process.user.uid is not an integer"),
        ("process/user/uid", 1 << 32, "process.user.uid is not between"),
        ("process/user/additionalGids", [0, "x"], "process.user.additionalGids[1] is not an integer"),
        (
            "process/capabilities/bounding",
            ["KILL"],
            "process.capabilities.bounding[0] is not a capability: 'KILL'",
        ),
        ("process/rlimits/0/type", "RLIMIT_NO", "process.rlimits[0].type is not an rlimit"),
        ("process/rlimits/0/soft", 2000, "process.rlimits[0].soft is above the hard limit"),
        (
            "process/rlimits/1",
            {"type": "RLIMIT_NOFILE", "soft": 1, "hard": 1},
            "process.rlimits[1].type is given twice",
        ),
        ("process/rlimits/0", 7, "process.rlimits[0] is not an object"),
        ("process/oomScoreAdj", 1001, "process.oomScoreAdj is not between"),
        ("process/consoleSize", {"height": 1 << 16}, "process.consoleSize.height is not between"),
        ("hostname", "h" * 65, "hostname is longer than 64 bytes"),
        ("mounts/0/destination", "", "mounts[0].destination is empty"),
        ("mounts/0/destination", "/a/../../b", "mounts[0].destination leaves the root"),
        ("mounts/0/type", "ext4", "mounts[0].type is a file system that the sandbox does not have: 'ext4'"),
        ("mounts/0/options", ["rshared"], "mounts[0].options[0] cannot be honoured"),
        ("mounts/0/options", ["idmap"], "mounts[0].options[0] cannot be honoured"),
        ("mounts/6", {"destination": "/x", "type": "bind"}, "mounts[6].source is missing"),
        ("mounts/6", "x", "mounts[6] is not an object"),
        ("hooks/poststop", [{"path": "x"}], "hooks.poststop[0].path is not an absolute path"),
        ("hooks/prestart", [{"path": "/x", "timeout": 0}], "hooks.prestart[0].timeout is not above zero"),
        ("annotations", {"a": 1}, "annotations.a is not a string"),
        ("linux/namespaces/0/type", "net", "linux.namespaces[0].type is not a namespace"),
        ("linux/namespaces/6", {"type": "pid"}, "linux.namespaces[6].type is given twice"),
        ("linux/namespaces/0/path", "x", "linux.namespaces[0].path is not an absolute path"),
        (
            "linux/uidMappings",
            [{"containerID": 0, "hostID": 0, "size": 1}],
            "linux.uidMappings needs a user namespace",
        ),
        ("linux/devices", [{"path": "/dev/x", "type": "q"}], "linux.devices[0].type is not c, b, u or p"),
        ("linux/maskedPaths", ["x"], "linux.maskedPaths[0] is not an absolute path"),
        ("linux/sysctl", {"kernel.msgmax": 1}, "linux.sysctl.kernel.msgmax is not a string"),
        ("linux/seccomp", {"defaultAction": "ALLOW"}, "linux.seccomp.defaultAction is not a seccomp action"),
        (
            "linux/seccomp",
            {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": [], "action": "SCMP_ACT_ERRNO"}]},
            "linux.seccomp.syscalls[0].names is empty",
        ),
        (
            "linux/seccomp",
            {"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "/x"},
            "listenerPath cannot be honoured",
        ),
        ("linux/cgroupsPath", "/a/../../b", "linux.cgroupsPath leaves the cgroup file system"),
        ("linux/rootfsPropagation", "shared", "linux.rootfsPropagation cannot be honoured"),
        ("linux/resources", {"memory": {"limit": "1g"}}, "linux.resources.memory.limit is not an integer"),
        ("linux/resources", {"cpu": {"cpus": "0-"}}, "linux.resources.cpu.cpus is not a list of numbers"),
        (
            "linux/resources",
            {"unified": {"../x": "1"}},
            "linux.resources.unified has a key that is not a cgroup file",
        ),
    ],
    ids=lambda v: v if isinstance(v, str) and "/" in v else "",
)
def test_fault(path: str, value: Any, text: str) -> None:
    with pytest.raises(RuntimeFailure) as e:
        config.Config(changed(path, value), "config.json")
    assert text in str(e.value)
    assert str(e.value).startswith("config.json: ")
    assert "\n" not in str(e.value)


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b"[]", "the document is not an object"),
        (b"null", "the document is not an object"),
        (b'{"ociVersion": NaN}', "not JSON"),
        (b"\xff\xfe", "not UTF-8 at byte 0"),
        (b"[" * 200000, "nested too deeply"),
        (b"{" + b'"a":' * 3, "not JSON"),
        (b"1" * 10000, "not JSON"),
    ],
)
def test_not_a_document(data: bytes, text: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes(data)
    with pytest.raises(reader.BadDocument) as e:
        config.load(str(tmp_path))
    assert text in str(e.value)


def test_every_truncation(tmp_path: Path) -> None:
    """A document that ends early is never taken for a whole one."""
    whole = json.dumps(default.document()).encode()
    for n in range(0, len(whole), 37):
        with pytest.raises(RuntimeFailure):
            config.Config(reader.parse(whole[:n], "config.json"), "config.json")
    assert config.Config(reader.parse(whole, "config.json"), "config.json").process is not None


@pytest.mark.parametrize(
    "value", [None, [], {}, "", "x", -1, 0, 1 << 70, 1.5, True, [None], [[]], {"": None}]
)
def test_any_value_at_any_place(value: Any) -> None:
    """Nothing but RuntimeFailure, whatever stands at whichever place."""

    def places(at: Any, path: tuple[Any, ...]) -> list[tuple[Any, ...]]:
        keys = at.keys() if isinstance(at, dict) else range(len(at)) if isinstance(at, list) else ()
        return [path, *(p for k in keys for p in places(at[k], (*path, k)))]

    whole = default.document()
    for place in places(whole, ())[1:]:
        document = json.loads(json.dumps(whole))
        at = document
        for key in place[:-1]:
            at = at[key]
        at[place[-1]] = value
        fault = failure(lambda document=document: config.Config(document, "config.json"))
        assert fault is None or str(fault).startswith("config.json: ")


def test_what_engines_write_is_taken() -> None:
    """Null lists, unlimited rlimits as Go writes them, odd spellings of bind mounts, unknown keys."""
    document = default.document()
    document["process"]["rlimits"] = [{"type": "RLIMIT_CORE", "soft": (1 << 64) - 1, "hard": (1 << 64) - 1}]
    document["process"]["env"] = None
    document["mounts"].append(
        {"destination": "etc/hosts", "type": "none", "source": "/etc/hosts", "options": ["rbind", "rprivate"]}
    )
    document["somethingNew"] = {"a": 1}
    document["hooks"] = None
    c = config.Config(document, "config.json")
    assert c.process is not None
    assert c.process.rlimits == {"CORE": ((1 << 64) - 1, (1 << 64) - 1)}
    assert (c.mounts[-1].kind, c.mounts[-1].destination, c.mounts[-1].recursive) == (
        "bind",
        "/etc/hosts",
        True,
    )


@pytest.mark.parametrize(
    "cid", ["", ".", "..", "a/b", "../x", "a b", "a\nb", "\x1b[31m", "ä", "x" * 241, "a\0"]
)
def test_bad_ids(cid: str) -> None:
    with pytest.raises(RuntimeFailure) as e:
        ids.check(cid)
    assert "\n" not in str(e.value)
    assert "\x1b" not in str(e.value)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("9", 9),
        ("KILL", 9),
        ("SIGTERM", 15),
        ("sigusr1", 10),
        ("SIGRTMIN+1", 35),
        ("RTMAX-0", 64),
        ("64", 64),
    ],
)
def test_signals(text: str, number: int) -> None:
    assert signal_number(text) == number


@pytest.mark.parametrize(
    "text", ["", "0", "65", "-9", "SIGNOPE", "KILL9", "SIG", "RTMIN+99", "_DFL", "SIG_DFL"]
)
def test_no_signals(text: str) -> None:
    with pytest.raises(RuntimeFailure, match="there is no such signal"):
        signal_number(text)


def test_life_cycle() -> None:
    """Every pair of status and event either leads on or is refused in one sentence; only what engines match says "not running"."""
    assert lifecycle.after("x", "created", lifecycle.START) == "running"
    assert lifecycle.after("x", "paused", lifecycle.RESUME) == "running"
    for status in lifecycle.STATUSES:
        for event in ("ready", "start", "pause", "resume", "end", "delete", "exec", "kill", "update"):
            fault = failure(lambda status=status, event=event: lifecycle.after("x", status, event))
            assert fault is None or status in str(fault)
            if isinstance(fault, NotRunning):
                assert status == "stopped"
                assert "container not running" in str(fault)


def test_limits_become_cgroup_files() -> None:
    r = Resources(
        reader.Reader(
            {"memory": {"limit": 1 << 20}, "cpu": {"quota": 5000, "shares": 2}, "pids": {"limit": 0}}, "", "x"
        )
    )
    v1 = files(r, {"memory": "/none", "cpu": "/none", "pids": "/none"})
    assert ("cpu", "cpu.cfs_quota_us", "5000") in v1
    assert ("pids", "pids.max", "max") in v1
    v2 = {name: text for controller, name, text in files(r, {"": "/none"}) if controller == ""}
    assert v2["cpu.max"] == "5000 100000"
    assert v2["cpu.weight"] == "1"
    assert int(v2["memory.max"]) > 1 << 20


def test_cgroup_version_2(tmp_path: Path) -> None:
    """On a directory tree that stands for the hierarchy (test machines have version 1): controllers handed down, limits, figures."""
    top = tmp_path / "cgroup"
    top.mkdir()
    for at in (top, top / "cordon"):
        at.mkdir(exist_ok=True)
        (at / "cgroup.controllers").write_text("cpu memory pids")
        (at / "cgroup.subtree_control").write_text("")
    hierarchy = Hierarchy(str(top), "/", frozenset())
    assert Groups.plan([hierarchy], "/cordon/a") == {f"{top}/cordon/a": True}
    groups = Groups.make([hierarchy], "/cordon/a", True)
    group = top / "cordon" / "a"
    assert groups.made == {str(group): True}
    for at in (top, top / "cordon"):  # the last one written: a real file takes one at a time as well
        assert (at / "cgroup.subtree_control").read_text().startswith("+pids")
    names = ("memory.max", "memory.swap.max", "pids.max", "cpu.max", "cpu.weight", "cgroup.procs")
    for name in names:
        (group / name).write_text("")
    document = {
        "memory": {"limit": 1 << 20, "swap": 3 << 20},
        "pids": {"limit": 10},
        "cpu": {"quota": 5000, "shares": 1024},
    }
    groups.limit(Resources(reader.Reader(document, "", "x")))
    groups.join(4711)
    assert [(group / name).read_text() for name in names] == [
        str((1 << 20) + (192 << 20)), str(2 << 20), "84", "5000 100000", "39", "4711"
    ]  # fmt: skip
    (group / "memory.current").write_text("4096\n")
    (group / "cpu.stat").write_text("usage_usec 7\nuser_usec 5\n")
    (group / "pids.current").write_text("3\n")
    stats = groups.stats()
    assert (stats["memory"], stats["cpu_ns"], stats["pids"], stats["pids_limit"]) == (4096, 7000, 3, 84)
    for path in group.iterdir():  # the real file system has none to remove
        path.unlink()
    groups.remove()
    assert not group.exists()

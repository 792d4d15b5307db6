"""Wires a sandbox: memory file, platform, kernel, mounts, stdio; seals; starts the first process."""

from __future__ import annotations

import os
import threading
from typing import Any, Final

from native._core import lib
from sentry import seal
from sentry.control.channel import Channel
from sentry.errors import SandboxError
from sentry.kernel import signals
from sentry.kernel.kernel import Kernel
from sentry.mm import memfile
from sentry.spec import Spec

MEMORY_MOUNT: Final = b"/tmp"  # in the sentry's own mount namespace, only until the root is emptied


def memory_file(limit: int) -> int:
    """The sandbox's memory file. With a limit it lies on a tmpfs of that size, so that the host kernel enforces it."""
    if limit == 0:
        return os.memfd_create("cordon-memory", os.MFD_CLOEXEC)
    pages = max(1, limit >> 12)
    rc = lib.cn_mount(b"cordon", MEMORY_MOUNT, b"tmpfs", 0, b"size=%dk,mode=700" % (pages * 4))
    if rc < 0:
        raise SandboxError(f"cannot limit guest memory: tmpfs for the memory file: {os.strerror(-rc)}")
    try:
        return os.open(MEMORY_MOUNT, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
    finally:
        lib.cn_umount(MEMORY_MOUNT)


class Sandbox:
    """A built sandbox, ready to run once."""

    def __init__(self, spec: Spec, channel: Channel) -> None:
        self.spec: Spec = spec
        self.channel: Channel = channel
        self.kernel: Kernel = Kernel(seed=spec.seed, memory=spec.memory)

    def start(self) -> None:
        """Mounts the trees, opens stdio and loads the program. SandboxError when the command cannot be executed."""
        from sentry import process, tree
        from sentry.net import start as network

        spec = self.spec
        network.start(self.kernel, spec.network, spec.broker)
        container = self.kernel.new_container(spec.container.ident, None, None, None)
        container.uts.hostname = spec.container.hostname
        container.pids_limit = spec.container.pids
        container.root = tree.build(container, spec.container)
        if spec.strace:
            from sentry.strace import tracer

            tracer.start(spec.log if spec.log >= 0 else 2)
        t = process.build(container, spec.container.process, True)
        t.tg.fostered = True
        seal.seal(spec.platform)
        container.start()

    def obey(self, message: dict[str, Any]) -> None:
        """A request of the front. Runs in the control thread."""
        lib.cn_klock()
        try:
            if message.get("kill"):
                self.kernel.kill_all()
            elif isinstance(message.get("signal"), int):
                init = self.kernel.init
                if init is not None and not init.dead:
                    info = signals.SigInfo(message["signal"])
                    pg = init.pgrp.session.foreground()
                    if pg is not None:
                        signals.send_to_pgrp(pg, info)
                    else:
                        signals.send_to_group(init, info)
        finally:
            lib.cn_kunlock()

    def run(self) -> int:
        """Runs the first process to its end and reports it; its wait status."""
        lib.cn_klock()
        try:
            self.start()
        finally:
            lib.cn_kunlock()
        control = threading.Thread(target=self.channel.serve, args=(self.obey,), daemon=True)
        control.start()
        status = self.kernel.run_until_exit()
        self.report(status)
        return status

    def report(self, status: int) -> None:
        """Tells the front how the first process ended and what the sandbox used."""
        message: dict[str, Any] = {}
        if os.WIFSIGNALED(status):
            message["killed"] = os.WTERMSIG(status)
            message["core"] = os.WCOREDUMP(status)
        else:
            message["exit"] = os.WEXITSTATUS(status)
        message["exceeded"] = sorted(self.kernel.first.exceeded if self.kernel.first is not None else [])
        message["usage"] = self.kernel.usage()
        self.channel.send(message)


def build(spec: Spec, channel: Channel) -> Sandbox:
    """Isolates the process and builds the sandbox. Returns in the process that is to run it."""
    seal.isolate()
    fd = memory_file(spec.memory)
    rc = memfile.start(fd, spec.memory)
    if rc < 0:
        raise SandboxError(f"cannot map the memory file: {os.strerror(-rc)}")
    rc = lib.cn_platform_start(spec.platform.encode(), fd)
    if rc < 0:
        raise SandboxError(f"platform {spec.platform}: cannot start: {os.strerror(-rc)}")
    return Sandbox(spec, channel)

"""Many requests at a time: nothing gets lost, mixed up or left behind."""

from __future__ import annotations

import os
import threading
from pathlib import Path

from tests.control.harness import Sandbox, process
from tests.control.test_garbage import sentry_pid


def test_many_processes_from_many_connections(tmp_path: Path) -> None:
    failures: list[str] = []

    def work(s: Sandbox, worker: int) -> None:
        for i in range(8):
            how, text = s.run(["sh", "-c", f"echo {worker}.{i}; exit {i}"])
            if (how.get("exit"), text) != (i, f"{worker}.{i}\n"):
                failures.append(f"{worker}.{i}: {how} {text!r}")

    with Sandbox(tmp_path, ["sleep", "1000"]) as s:
        s.run(["true"])
        fds = f"/proc/{sentry_pid(s)}/fd"
        before = len(os.listdir(fds))
        threads = [threading.Thread(target=work, args=(s, n)) for n in range(6)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        assert failures == []
        assert len(os.listdir(fds)) <= before + 4
        with s.connect() as c:
            assert len(c.ps("c")) == 1
            assert c.stats("c")["pids"]["current"] == 1


def test_connections_cut_at_any_moment(tmp_path: Path) -> None:
    with Sandbox(tmp_path, ["sleep", "1000"]) as s:
        null = os.open("/dev/null", os.O_RDWR)
        for i in range(30):
            c = s.connect()
            ident = c.request(
                "exec", {"container": "c", "process": process(["sleep", "1000"]), "tie": True}, [null] * 3
            )
            if i % 3:
                c.request_wait("c")
            if i % 2:
                c.answer(ident)
            c.close()
        os.close(null)
        with s.connect() as c:
            for _ in range(100):
                if len(c.ps("c")) == 1:
                    break
                s.run(["true"])
            assert [p["pid"] for p in c.ps("c")] == [1]

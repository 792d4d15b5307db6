"""The machine: what it is, and whether it is quiet."""

from __future__ import annotations

import os
import platform
import time
from typing import Any

#: Share of the cores that others may use on a quiet machine, steal counted.
QUIET = 0.05


def description() -> dict[str, Any]:
    """What a reader of figures must know."""
    model = "unknown"
    with open("/proc/cpuinfo", encoding="utf-8") as f:
        for line in f:
            if line.startswith("model name"):
                model = line.partition(":")[2].strip()
                break
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "cpu": model,
        "cores": len(os.sched_getaffinity(0)),
        "memory": memory,
        "kernel": platform.release(),
        "system": system_name(),
        "kvm": os.path.exists("/dev/kvm"),
        "when": time.strftime("%Y-%m-%d %H:%M:%S %Z"),
        "load": round(os.getloadavg()[0], 2),
    }


def system_name() -> str:
    try:
        return platform.freedesktop_os_release().get("PRETTY_NAME", "Linux")
    except OSError:
        return "Linux"


def times() -> tuple[float, float]:
    """Jiffies in which the cores worked or were stolen, and all jiffies."""
    with open("/proc/stat", encoding="ascii") as f:
        user, nice, system, idle, iowait, irq, softirq, steal = (float(w) for w in f.readline().split()[1:9])
    busy = user + nice + system + irq + softirq + steal
    return busy, busy + idle + iowait


def busy_share(seconds: float) -> float:
    """Share of all cores' time that was used over the next `seconds`, in which the caller only waits."""
    b0, t0 = times()
    time.sleep(seconds)
    b1, t1 = times()
    return (b1 - b0) / (t1 - t0) if t1 > t0 else 0.0


def wait_for_quiet(limit: float) -> float:
    """Waits until the machine is quiet, at most `limit` seconds. The last busy share seen."""
    end = time.monotonic() + limit
    while True:
        share = busy_share(0.3)
        if share <= QUIET or time.monotonic() >= end:
            return share

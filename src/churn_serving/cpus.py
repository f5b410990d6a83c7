"""How many CPUs this process may use: of the machine, of its affinity, of its cgroups' quotas."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["available_cpus"]

_MEMBERSHIP: Final = Path("/proc/self/cgroup")
_ROOT: Final = Path("/sys/fs/cgroup")


def available_cpus() -> int:
    """Return the CPUs this process may use, at least 1.

    A quota holds for everything below it, so the smallest on the way up to the root counts. Half a
    CPU is rounded up.
    """
    try:
        cpus = len(os.sched_getaffinity(0))
    except AttributeError:  # not on this system
        cpus = os.cpu_count() or 1
    return max(1, min([cpus, *(math.ceil(quota) for quota in _quotas())]))


def _quotas() -> Iterator[float]:
    """Return the CPUs that each quota on the way up allows, as far as they can be read."""
    try:
        memberships = _MEMBERSHIP.read_text(encoding="utf-8").splitlines()
    except OSError:  # not Linux
        return
    for line in memberships:
        _, controllers, path = line.split(":", 2)
        files: tuple[str, ...]
        if not controllers:  # version 2
            mount, files = _ROOT, ("cpu.max",)
        elif "cpu" in controllers.split(","):
            mount, files = _ROOT / controllers, ("cpu.cfs_quota_us", "cpu.cfs_period_us")
        else:
            continue
        folder = mount / path.lstrip("/")
        # In a container the path is often the host's: what is mounted is the container's own root.
        for level in (folder, *folder.parents):
            if not level.is_relative_to(mount):
                break
            yield from _quota(level, files)


def _quota(folder: Path, files: tuple[str, ...]) -> Iterator[float]:
    try:
        words = [word for file in files for word in (folder / file).read_text("utf-8").split()]
        quota, period = (float(word) for word in words)  # "max" is no number, and no quota
        if quota > 0 and period > 0:
            yield quota / period
    except (OSError, ValueError):
        return

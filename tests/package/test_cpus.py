from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from churn_serving import cpus
from churn_serving.cpus import available_cpus

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A machine with 64 CPUs whose cgroups are in a folder."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)))
    monkeypatch.setattr(cpus, "_ROOT", tmp_path)
    monkeypatch.setattr(cpus, "_MEMBERSHIP", tmp_path / "membership")
    return tmp_path


def _put(machine: Path, membership: str, **files: str) -> None:
    (machine / "membership").write_text(f"{membership}\n")
    for name, text in files.items():
        path = machine / name.replace("__", "/").replace("_max", ".max").replace("cfs", ".cfs")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def test_without_a_quota_all_of_them_may_be_used() -> None:
    assert available_cpus() == 64


def test_the_affinity_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3, 5})
    assert available_cpus() == 2


@pytest.mark.parametrize(
    ("own", "above", "expected"),
    [
        ("max 100000", "max 100000", 64),
        ("200000 100000", "max 100000", 2),
        ("max 100000", "300000 100000", 3),
        ("400000 100000", "150000 100000", 2),
        ("20000 100000", "max 100000", 1),
        ("9900000 100000", "max 100000", 64),
        ("", "200000 100000", 2),
        ("nonsense", "", 64),
        ("0 0", "-1 100000", 64),
    ],
)
def test_the_smallest_quota_on_the_way_up_counts(
    machine: Path, own: str, above: str, expected: int
) -> None:
    _put(machine, "0::/system/churn.service", system__cpu_max=above)
    (machine / "system" / "churn.service").mkdir()
    (machine / "system" / "churn.service" / "cpu.max").write_text(own)
    assert available_cpus() == expected


def test_a_container_that_sees_the_path_of_its_host_uses_its_own_root(machine: Path) -> None:
    _put(machine, "0::/kubepods/pod4711/container", cpu_max="250000 100000")
    assert available_cpus() == 3


@pytest.mark.parametrize(("own", "above", "expected"), [("-1", "200000", 2), ("50000", "-1", 1)])
def test_version_1_counts_likewise(machine: Path, own: str, above: str, expected: int) -> None:
    (machine / "membership").write_text("4:memory:/a/b\n3:cpu,cpuacct:/a/b\n0::/\n")
    for folder, quota in (("a/b", own), ("a", above), (".", "-1")):
        place = machine / "cpu,cpuacct" / folder
        place.mkdir(parents=True, exist_ok=True)
        (place / "cpu.cfs_quota_us").write_text(f"{quota}\n")
        (place / "cpu.cfs_period_us").write_text("100000\n")
    assert available_cpus() == expected

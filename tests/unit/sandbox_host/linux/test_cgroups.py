"""Limits are written where each version of cgroups keeps them.

The v2 files are plain ones here, since a kernel gives its controllers to one version only.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from sandbox_host.linux.cgroups.types import CgroupsUnavailable, GroupLimits
from sandbox_host.linux.cgroups.v2 import V2Tree

LIMITS = GroupLimits(memory_bytes=64 << 20, processes=9, cpus=0.5)


@pytest.fixture
def parent(tmp_path: Path) -> Path:
    (tmp_path / "cgroup.controllers").write_text("cpuset cpu io memory pids")
    (tmp_path / "cgroup.subtree_control").write_text("")
    return tmp_path


def test_v2_hands_its_controllers_down_and_sets_the_limits(parent: Path) -> None:
    tree = V2Tree(parent, "qlp-sandbox-1-2-3-0")
    tree.create("box", LIMITS)
    box = parent / "qlp-sandbox-1-2-3-0" / "box"
    assert (parent / "cgroup.subtree_control").read_text() == "+cpu +memory +pids"
    assert (box / "memory.max").read_text() == str(64 << 20)
    assert (box / "pids.max").read_text() == "9"


def test_v2_counters_are_read_in_their_units(parent: Path) -> None:
    group = V2Tree(parent, "tag").create("box", None)
    box = parent / "tag" / "box"
    (box / "cpu.stat").write_text("usage_usec 5000\nuser_usec 3000\nsystem_usec 2000\n")
    (box / "memory.events").write_text("low 0\noom 1\noom_kill 1\n")
    (box / "memory.peak").write_text("4096\n")
    (box / "pids.events").write_text("max 3\n")
    (box / "pids.peak").write_text("7\n")
    usage = group.usage()
    assert (usage.cpu_user_ms, usage.cpu_system_ms) == (3.0, 2.0)
    assert (usage.peak_memory_bytes, usage.oom_kills) == (4096, 1)
    assert (usage.process_refusals, usage.peak_processes) == (3, 7)


def test_v2_without_the_memory_controller_is_unavailable(parent: Path) -> None:
    (parent / "cgroup.controllers").write_text("hugetlb")
    with pytest.raises(CgroupsUnavailable, match="memory"):
        V2Tree(parent, "tag")

"""What a program is seen doing becomes suspicions, and ordinary programs none."""

from __future__ import annotations

from typing import Any

import pytest

from domain.contracts.job import Behaviour
from domain.runs.behaviour import Suspicion, suspicions


@pytest.mark.parametrize(
    "behaviour",
    [
        {},
        {"executed": ("python3",)},
        {"executed": ("sh", "ls", "sort", "wc"), "network_attempts": 0},
        {"refused_syscalls": {"clone3": 1, "socket": 2, "statx": 5}},
        {"limits_hit": ("wall_seconds", "memory_bytes", "output_bytes", "disk_bytes")},
    ],
)
def test_an_ordinary_program_is_not_suspicious(behaviour: dict[str, Any]) -> None:
    assert suspicions(Behaviour(**behaviour).model_dump()) == []


@pytest.mark.parametrize(
    ("behaviour", "expected"),
    [
        ({"refused_syscalls": {"ptrace": 3}}, Suspicion("refused_syscall", "ptrace", 3)),
        ({"refused_syscalls": {"bpf": 1}}, Suspicion("refused_syscall", "bpf", 1)),
        ({"network_attempts": 7}, Suspicion("network_attempt", "", 7)),
        ({"limits_hit": ("processes",)}, Suspicion("process_limit")),
        ({"executed": ("python3", "xmrig")}, Suspicion("suspicious_program", "xmrig")),
        ({"executed": ("python3", "sh", "bash")}, Suspicion("many_shells", "", 2)),
        (
            {"executed": tuple(f"tool{n}" for n in range(20))},
            Suspicion("many_programs", "", 20),
        ),
    ],
)
def test_each_rule_finds_its_case(behaviour: dict[str, Any], expected: Suspicion) -> None:
    assert suspicions(Behaviour(**behaviour).model_dump()) == [expected]


def test_only_known_names_of_programs_are_reported() -> None:
    found = suspicions({"executed": ["password=hunter2", "nc"], "refused_syscalls": {"x": 1}})
    assert found == [Suspicion("suspicious_program", "nc")]


def test_an_event_from_before_behaviour_was_recorded_is_not_suspicious() -> None:
    assert suspicions({}) == []
    assert suspicions({"network_attempts": None}) == []

"""The verdict follows the host's own records before the program's status."""

from __future__ import annotations

import pytest

from domain.contracts.job import Verdict
from sandbox_host.run.verdicts import Ending, Kill, judge


@pytest.mark.parametrize(
    ("ending", "verdict"),
    [
        (Ending(0), Verdict.SUCCEEDED),
        (Ending(1), Verdict.EXITED),
        (Ending(128), Verdict.EXITED),
        (Ending(137), Verdict.EXITED),
        (Ending(-9), Verdict.SIGNALLED),
        (Ending(255), Verdict.EXITED),
        (Ending(-9, oom=True), Verdict.OUT_OF_MEMORY),
        (Ending(1, oom=True), Verdict.OUT_OF_MEMORY),
        (Ending(0, oom=True), Verdict.SUCCEEDED),
        (Ending(0, kill=Kill.DEADLINE), Verdict.TIMED_OUT),
        (Ending(-9, kill=Kill.OUTPUT, oom=True), Verdict.OUTPUT_LIMIT),
        (Ending(-9, kill=Kill.MEMORY), Verdict.OUT_OF_MEMORY),
    ],
)
def test_each_ending_has_its_verdict(ending: Ending, verdict: Verdict) -> None:
    assert judge(ending) is verdict


def test_a_program_has_an_exit_code_or_a_signal() -> None:
    for code in range(256):
        assert (Ending(code).exit_code, Ending(code).signal) == (code, None)
    for number in range(1, 65):
        assert (Ending(-number).exit_code, Ending(-number).signal) == (None, number)

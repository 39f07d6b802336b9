"""A benchmark leaves out what this machine has no part for, in a line each, and succeeds."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.support import ROOT


@pytest.mark.parametrize(
    ("arguments", "rows"),
    [(("sandbox", "4", "docker", "llm"), 6), (("main_job", "--runtimes", "docker"), 1)],
)
def test_without_a_docker_engine_its_rows_are_skipped(
    arguments: tuple[str, ...], rows: int
) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.benchmarks.alone", *arguments],
        cwd=ROOT,
        env={**os.environ, "DOCKER_HOST": "unix:///nowhere.sock"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    skipped = [line for line in done.stdout.splitlines() if " skipped: " in line]
    assert len(skipped) == rows
    assert all("start a Docker engine" in line for line in skipped)

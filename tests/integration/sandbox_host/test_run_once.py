"""Jobs from standard input, where that cannot be read as it comes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from domain.contracts.job import SandboxResult
from tests.support import ROOT
from tests.support.sandbox.runtimes import sandbox_job


@pytest.mark.parametrize("kind", ["a file", "/dev/null"])
def test_what_is_no_pipe_is_refused_and_not_waited_for(kind: str, tmp_path: Path) -> None:
    jobs = Path(kind)
    if kind == "a file":
        jobs = tmp_path / "jobs.jsonl"
        jobs.write_text("{}\n")
    with jobs.open() as stdin:
        ended = subprocess.run(
            [sys.executable, "-m", "sandbox_host.run_once", "--runtime", "bubblewrap"],
            cwd=ROOT,
            stdin=stdin,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert ended.returncode == 2
    assert "standard input must be a pipe" in ended.stderr


@pytest.mark.parametrize("runtime", ["bubblewrap", "confined"])
def test_signals_that_a_host_was_started_to_ignore_end_its_programs(runtime: str) -> None:
    jobs = [sandbox_job(f"kill -{n} $$", language="shell") for n in ("HUP", "INT", "QUIT")]
    nohup = "trap '' HUP INT QUIT; exec \"$@\""
    command = [sys.executable, "-m", "sandbox_host.run_once", "--runtime", runtime]
    ended = subprocess.run(
        ["/bin/sh", "-c", nohup, "sh", *command],
        cwd=ROOT,
        input="".join(f"{job.model_dump_json()}\n" for job in jobs),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    if "is not ready" in ended.stderr:
        pytest.skip(ended.stderr)
    results = [SandboxResult.model_validate_json(line) for line in ended.stdout.splitlines()]
    assert [result.signal for result in results] == [1, 2, 3], ended.stderr

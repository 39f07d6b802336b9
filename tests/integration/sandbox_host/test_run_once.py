"""Jobs from standard input, where that cannot be read as it comes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.fixtures.sandbox import ROOT


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

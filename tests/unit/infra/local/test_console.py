"""What the local stack's command line answers without starting anything."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import ROOT


def local(*arguments: str, data: Path) -> tuple[int, str, str]:
    """The exit status, standard output and standard error."""
    ended = subprocess.run(
        [sys.executable, "-m", "infra.local", *arguments],
        cwd=ROOT,
        env={**os.environ, "QLP_DATA_DIR": str(data)},
        capture_output=True,
        text=True,
        check=False,
    )
    return ended.returncode, ended.stdout, ended.stderr


def test_a_wrong_option_is_told_in_a_line(tmp_path: Path) -> None:
    said = "python -m infra.local: No such option: --bogus; see --help\n"
    assert local("up", "--bogus", data=tmp_path) == (2, "", said)


@pytest.mark.parametrize("option", ["--dry-run", "--yes"])
def test_a_dry_run_refuses_what_the_real_run_refuses(tmp_path: Path, option: str) -> None:
    with (tmp_path / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        status, told, _ = local("reset", option, data=tmp_path)
    assert (status, told.count("\n")) == (1, 1)
    assert "is running already; stop it first" in told
    assert local("reset", "--dry-run", data=tmp_path)[0] == 0

"""Ctrl-C leaves no traceback, even where a command has only begun to import what it needs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import ROOT

#: Stands in for a library: what imports it is interrupted at that moment.
_INTERRUPTING = "import os, signal\nos.kill(os.getpid(), signal.SIGINT)\n"


@pytest.mark.parametrize(
    ("module", "library", "status"),
    [
        ("domain.operations", "typer", 130),
        ("infra.local", "typer", -signal.SIGINT),
        ("sandbox_host", "pydantic", -signal.SIGINT),
    ],
)
def test_an_interrupted_import_leaves_no_traceback(
    tmp_path: Path, module: str, library: str, status: int
) -> None:
    (tmp_path / f"{library}.py").write_text(_INTERRUPTING)
    ended = subprocess.run(
        [sys.executable, "-m", module],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        check=False,
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (status, b"", b"")

"""Ctrl-C leaves no traceback, even where a command has only begun to import what it needs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

#: Stands in for a library: what imports it is interrupted at that moment.
_INTERRUPTING = "import os, signal\nos.kill(os.getpid(), signal.SIGINT)\n"


@pytest.mark.parametrize(
    ("module", "library"), [("infra.local", "typer"), ("sandbox_host", "pydantic")]
)
def test_an_interrupted_import_leaves_no_traceback(
    tmp_path: Path, module: str, library: str
) -> None:
    (tmp_path / f"{library}.py").write_text(_INTERRUPTING)
    ended = subprocess.run(
        [sys.executable, "-m", module],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        check=False,
    )
    assert (ended.returncode, ended.stderr) == (-signal.SIGINT, b"")

"""An Azure command line of a test's own."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest


class AzureCli:
    """An ``az`` on the PATH that notes its calls, prints what it is told and may fail at one.

    Args:
        folder: that holds the script and its notes; first on the PATH.
    """

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._folder = folder
        for name in ("calls", "answer", "fails"):
            (folder / name).touch()
        script = folder / "az"
        script.write_text(
            f"#!/bin/sh\ncd '{folder}'\necho \"$*\" >> calls\n"
            'if [ "$(wc -l < calls)" = "$(cat fails)" ]; then\n'
            "  echo 'ERROR: the slot is busy' >&2\n  exit 1\nfi\ncat answer\n"
        )
        script.chmod(script.stat().st_mode | stat.S_IXUSR)
        monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")

    def answer(self, text: str) -> None:
        """Print ``text`` at every call from now on."""
        (self._folder / "answer").write_text(text)

    def fail_call(self, number: int) -> None:
        """Fail at the call of this number, counted from 1."""
        (self._folder / "fails").write_text(str(number))

    @property
    def calls(self) -> str:
        """A line for each call: its arguments."""
        return (self._folder / "calls").read_text()


@pytest.fixture
def azure_cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AzureCli:
    """One whose files lie in the test's own folder."""
    return AzureCli(tmp_path, monkeypatch)

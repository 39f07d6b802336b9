"""Files and folders get the modes that were asked for, whatever the umask is."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sandbox_host.linux.folders import make_file, make_folder


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077, 0o777], ids=oct)
def test_modes_are_set_and_not_inherited(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        make_folder(tmp_path / "folder", 0o711)
        make_file(tmp_path / "file", b"content", 0o644)
        make_file(tmp_path / "file", b"other", 0o640)
        make_folder(tmp_path / "folder", 0o755, exist_ok=True)
    finally:
        os.umask(before)
    assert (tmp_path / "folder").stat().st_mode & 0o7777 == 0o755
    assert (tmp_path / "file").stat().st_mode & 0o7777 == 0o640
    assert (tmp_path / "file").read_bytes() == b"other"
    with pytest.raises(FileExistsError):
        make_folder(tmp_path / "folder", 0o755)

"""A confined program's folder is measured and removed whatever was made of it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sandbox_host.runtimes import confined_folder
from sandbox_host.runtimes.confined_folder import ProgramFolder, remove_tree

LIMIT = 1 << 20


@pytest.fixture
def folder(tmp_path: Path) -> ProgramFolder:
    return ProgramFolder(tmp_path / "1", {"main.py": b"1", "a/b/c.txt": b"2"}, None)


def _deep(top: Path, depth: int) -> None:
    """Folders in one another, deeper than any path can name."""
    descriptor = os.open(top, os.O_DIRECTORY)
    for _ in range(depth):
        os.mkdir("d", dir_fd=descriptor)
        inner = os.open("d", os.O_DIRECTORY, dir_fd=descriptor)
        os.close(descriptor)
        descriptor = inner
    os.close(os.open("file", os.O_CREAT | os.O_WRONLY, dir_fd=descriptor))
    os.close(descriptor)


def test_files_are_laid_out_for_the_program_alone(folder: ProgramFolder) -> None:
    assert (folder.work / "a" / "b" / "c.txt").read_bytes() == b"2"
    assert folder.path.stat().st_mode & 0o777 == 0o700
    folder.remove()
    assert not folder.path.exists()


def test_bytes_of_all_files_count_and_links_are_not_followed(folder: ProgramFolder) -> None:
    (folder.out / "large").write_bytes(b"x" * 600_000)
    (folder.tmp / "link").symlink_to("/usr")
    used, full = folder.measure(LIMIT)
    assert 600_000 <= used < 700_000
    assert not full
    (folder.tmp / "more").write_bytes(b"x" * 500_000)
    assert folder.measure(LIMIT)[1]
    folder.remove()


def test_a_sparse_file_takes_what_it_holds(folder: ProgramFolder) -> None:
    with (folder.work / "sparse").open("wb") as file:
        file.truncate(1 << 40)
    assert folder.measure(LIMIT)[0] < 100_000
    folder.remove()


def test_too_many_names_are_too_much(
    folder: ProgramFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(confined_folder, "MAX_INODES", 50)
    assert not folder.measure(LIMIT)[1]
    for number in range(60):
        (folder.work / f"{number}").touch()
    assert folder.measure(LIMIT)[1]
    folder.remove()


def test_folders_too_deep_to_measure_are_too_much_and_still_removed(folder: ProgramFolder) -> None:
    _deep(folder.work, 3000)
    assert folder.measure(LIMIT)[1]
    folder.remove()
    assert not folder.path.exists()


def test_folders_without_permissions_are_removed(tmp_path: Path) -> None:
    inner = tmp_path / "top" / "a" / "b"
    inner.mkdir(parents=True)
    (inner / "f").touch()
    inner.chmod(0)
    inner.parent.chmod(0)
    remove_tree(tmp_path / "top")
    assert not (tmp_path / "top").exists()


def test_names_that_are_no_text_are_removed(tmp_path: Path) -> None:
    top = tmp_path / "top"
    top.mkdir()
    with open(os.fsencode(top) + b"/\xff\n", "wb"):
        pass
    (top / "link").symlink_to(tmp_path)
    remove_tree(top)
    assert not top.exists()
    assert tmp_path.exists()


def test_an_output_folder_that_was_replaced_gives_nothing(folder: ProgramFolder) -> None:
    folder.out.rmdir()
    folder.out.symlink_to("/etc")
    assert folder.collect(LIMIT).artifacts == ()
    folder.out.unlink()
    assert folder.collect(LIMIT).artifacts == ()
    folder.remove()

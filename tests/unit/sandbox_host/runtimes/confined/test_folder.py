"""A confined program's folder is measured and removed, whatever the program made of it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from sandbox_host.linux.processes import acting_as
from sandbox_host.runtimes.confined import folder as confined_folder
from sandbox_host.runtimes.confined import open_files as confined_open_files
from sandbox_host.runtimes.confined.folder import Measured, ProgramFolder, remove_tree

LIMIT = 1 << 20


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[ProgramFolder]:
    made = ProgramFolder(tmp_path / "1", {"main.py": b"1", "a/b/c.txt": b"2"}, None)
    yield made
    if made.path.exists():
        made.remove()


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


def test_files_are_created_for_the_program_alone(folder: ProgramFolder) -> None:
    assert (folder.work / "a" / "b" / "c.txt").read_bytes() == b"2"
    assert folder.path.stat().st_mode & 0o777 == 0o700
    folder.remove()
    assert not folder.path.exists()


def test_bytes_of_all_files_count_and_links_are_not_followed(folder: ProgramFolder) -> None:
    (folder.out / "large").write_bytes(b"x" * 600_000)
    (folder.tmp / "link").symlink_to("/usr")
    found = folder.measure(LIMIT)
    used, full = found.disk_bytes, found.full
    assert 600_000 <= used < 700_000
    assert not full
    (folder.tmp / "more").write_bytes(b"x" * 500_000)
    assert folder.measure(LIMIT).full


def test_a_sparse_file_takes_what_it_holds(folder: ProgramFolder) -> None:
    with (folder.work / "sparse").open("wb") as file:
        file.truncate(1 << 40)
    assert folder.measure(LIMIT).disk_bytes < 100_000


def test_a_file_that_cannot_grow_is_full_whatever_is_on_disk_yet(folder: ProgramFolder) -> None:
    with (folder.tmp / "t").open("wb") as file:
        file.truncate(LIMIT)
    found = folder.measure(LIMIT)
    assert found.full
    assert found.disk_bytes >= LIMIT


def test_an_output_folder_that_cannot_be_read_is_said_to_be(folder: ProgramFolder) -> None:
    folder.out.rmdir()
    folder.out.touch()
    (skipped,) = folder.collect(LIMIT).skipped
    assert (skipped.name, skipped.reason) == (
        ".",
        "the output folder cannot be read: Not a directory",
    )


def test_too_many_files_are_over_the_limit(
    folder: ProgramFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(confined_folder, "MAX_INODES", 50)
    assert not folder.measure(LIMIT).full
    for number in range(60):
        (folder.work / f"{number}").touch()
    assert folder.measure(LIMIT).full


def test_folders_too_deep_to_measure_are_over_the_limit_and_still_removed(
    folder: ProgramFolder,
) -> None:
    _deep(folder.work, 2200)
    assert folder.measure(LIMIT).full
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


def test_a_folder_that_somebody_else_removes_at_the_same_time_is_gone(tmp_path: Path) -> None:
    for number in range(20):
        top = tmp_path / str(number)
        for inner in range(40):
            (top / str(inner) / "tmp").mkdir(parents=True)
            (top / str(inner) / "f").touch()
        with ThreadPoolExecutor(3) as pool:
            list(pool.map(remove_tree, [top] * 3))
        assert not top.exists()


def test_a_measurement_for_which_nobody_waits_disturbs_no_other(tmp_path: Path) -> None:
    with ThreadPoolExecutor(2) as threads:
        for number in range(100):
            files = {f"{n}/file": b"x" * 5000 for n in range(8)}
            folder = ProgramFolder(tmp_path / str(number), files, None)
            alone = folder.measure(LIMIT)
            forgotten = [threads.submit(folder.measure, LIMIT) for _ in range(2)]
            assert [folder.measure(LIMIT) for _ in range(3)] == [alone] * 3
            folder.remove()
            assert not folder.path.exists()
            assert all(left.result() in (alone, Measured()) for left in forgotten)


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


def test_a_file_of_several_names_counts_once(folder: ProgramFolder) -> None:
    (folder.work / "one").write_bytes(b"x" * 200_000)
    before = folder.measure(LIMIT).disk_bytes
    for number in range(5):
        os.link(folder.work / "one", folder.out / f"{number}")
    assert folder.measure(LIMIT).disk_bytes == before


@pytest.mark.usefixtures("needs_root")
def test_a_folder_that_its_own_user_may_not_list_is_listed(open_path: Path) -> None:
    folder = ProgramFolder(open_path / "1", {}, None)
    for path in (folder.path, folder.work, folder.tmp, folder.out):
        os.chown(path, 65534, 65534)
    hidden = folder.work / "hidden"
    with acting_as(65534):
        hidden.mkdir(0o300)
        (hidden / "large").write_bytes(b"x" * 600_000)
        found = folder.measure(LIMIT)
    assert not found.full
    assert found.disk_bytes >= 600_000
    os.chown(hidden, 0, 0)
    hidden.chmod(0o300)
    with acting_as(65534):
        assert folder.measure(LIMIT).full  # it cannot be changed


class Program:
    """A process that does what it is told; this one's own files change beside the tests."""

    def __init__(self) -> None:
        interpreter = "import ctypes, mmap, os, sys\nfor line in sys.stdin: exec(line); print()"
        self._process = subprocess.Popen(
            [sys.executable, "-u", "-c", interpreter],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.found = [(self._process.pid, "")]

    def do(self, statement: str) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(statement, file=self._process.stdin, flush=True)
        assert self._process.stdout.readline() == "\n", statement

    def open_without_a_name(self, folder: ProgramFolder, size: int) -> None:
        path = str(folder.work / "gone")
        self.do(f"file = os.open({path!r}, os.O_RDWR | os.O_CREAT); os.unlink({path!r})")
        self.do(f"os.write(file, b'x' * {size})")

    def map_and_close(self) -> None:
        """`mmap.mmap` would keep the file open."""
        self.do("libc = ctypes.CDLL(None); libc.mmap.restype = ctypes.c_void_p")
        self.do("at = libc.mmap(None, 4096, mmap.PROT_READ, mmap.MAP_PRIVATE, file, 0)")
        self.do("os.close(file)")

    def end(self) -> None:
        self._process.communicate()


@pytest.fixture
def program() -> Iterator[Program]:
    started = Program()
    started.do("pass")
    yield started
    started.end()


def test_what_is_open_without_a_name_counts(folder: ProgramFolder, program: Program) -> None:
    before = folder.measure(LIMIT, program.found).disk_bytes
    program.open_without_a_name(folder, 300_000)
    assert folder.measure(LIMIT, program.found).disk_bytes - before >= 300_000
    program.do("again = os.dup(file)")
    assert folder.measure(LIMIT, program.found).disk_bytes - before < 600_000
    program.do("os.close(again)")
    assert folder.measure(300_000, program.found).full
    program.do("os.close(file)")
    assert folder.measure(LIMIT, program.found).disk_bytes == before


def test_what_is_only_mapped_counts_as_large_as_it_was_last_seen(
    folder: ProgramFolder, program: Program
) -> None:
    before = folder.measure(LIMIT, program.found).disk_bytes
    program.open_without_a_name(folder, 300_000)
    open_bytes = folder.measure(LIMIT, program.found).disk_bytes
    program.map_and_close()
    # What was written in between, to pages of memory for example, may have been to this file.
    mapped_bytes = folder.measure(LIMIT, program.found).disk_bytes
    assert open_bytes <= mapped_bytes < open_bytes + 300_000
    assert folder.measure(LIMIT, program.found).disk_bytes == mapped_bytes
    program.do("libc.munmap(ctypes.c_void_p(at), 4096)")
    assert folder.measure(LIMIT, program.found).disk_bytes == before


def test_what_was_never_seen_before_it_was_only_mapped_counts_as_what_was_written(
    folder: ProgramFolder, program: Program
) -> None:
    before = folder.measure(LIMIT, program.found).disk_bytes
    program.open_without_a_name(folder, 30_000_000)
    program.map_and_close()
    assert folder.measure(LIMIT, program.found).disk_bytes - before >= 30_000_000


@pytest.mark.parametrize(("depth", "full"), [(50, False), (1200, True)])
def test_a_deleted_folder_in_too_many_deleted_ones_is_over_the_limit(
    folder: ProgramFolder, program: Program, depth: int, full: bool
) -> None:
    before = folder.measure(LIMIT, program.found).disk_bytes
    program.do(f"os.chdir({str(folder.work)!r})")
    program.do(f"for _ in range({depth}): os.mkdir('d'); os.chdir('d')")
    program.do(f"for up in range({depth}): os.rmdir('../' * (up + 1) + 'd')")
    found = folder.measure(LIMIT, program.found)
    assert found.full == full
    assert found.disk_bytes > before or full


def test_more_open_files_than_are_looked_at_are_over_the_limit(
    folder: ProgramFolder, program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(confined_open_files, "_MAX_OPEN", 0)
    assert folder.measure(LIMIT, program.found).full

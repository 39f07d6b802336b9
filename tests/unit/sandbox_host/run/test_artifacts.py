"""What a program leaves in its output folder is collected without being trusted."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import os
import socket
import stat
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from domain.contracts.job import INLINE_ARTIFACT_BYTES, MAX_ARTIFACTS, SkippedArtifact
from sandbox_host.run import artifacts
from sandbox_host.run.artifacts import Collected, collect

MIB = 1024**2


def collected(folder: Path, max_bytes: int = 16 * MIB) -> Collected:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        return collect(descriptor, max_bytes)
    finally:
        os.close(descriptor)


def names(found: Collected) -> list[str]:
    return [artifact.name for artifact in found.artifacts]


def reasons(found: Collected) -> dict[str, str]:
    return {skipped.name: skipped.reason for skipped in found.skipped}


@pytest.fixture
def out(tmp_path: Path) -> Path:
    folder = tmp_path / "out"
    folder.mkdir()
    return folder


def test_an_empty_folder_has_nothing(out: Path) -> None:
    assert collected(out) == Collected()


def test_files_come_back_whole_and_in_order_of_their_names(out: Path) -> None:
    (out / "z").write_bytes(b"last")
    (out / "deep" / "er").mkdir(parents=True)
    (out / "deep" / "er" / "file with spaces é").write_bytes(bytes(range(256)))
    (out / "empty").touch()
    found = collected(out)
    assert names(found) == ["deep/er/file with spaces é", "empty", "z"]
    first = found.artifacts[0]
    assert base64.b64decode(first.content or "") == bytes(range(256))
    assert first.sha256 == hashlib.sha256(bytes(range(256))).hexdigest()
    assert (found.artifacts[1].size, found.artifacts[1].content) == (0, "")
    assert found.skipped == ()


def test_what_fits_the_message_travels_inside_and_the_rest_beside_it(out: Path) -> None:
    (out / "a").write_bytes(b"a" * (INLINE_ARTIFACT_BYTES - 10))
    (out / "b").write_bytes(b"b" * 11)
    (out / "c").write_bytes(b"c" * 10)
    found = collected(out)
    carried = [artifact.content is not None for artifact in found.artifacts]
    assert carried == [True, False, True]
    assert found.contents == {found.artifacts[1].sha256: b"b" * 11}


def test_the_limit_is_on_all_files_together_and_later_ones_may_still_fit(out: Path) -> None:
    for name, size in (("a", 600), ("b", 500), ("c", 400)):
        (out / name).write_bytes(b"x" * size)
    found = collected(out, 1000)
    assert names(found) == ["a", "c"]
    assert reasons(found) == {"b": "takes 500 bytes, 400 were left of the limit"}


def test_with_no_bytes_left_only_empty_files_fit(out: Path) -> None:
    (out / "empty").touch()
    (out / "full").write_bytes(b"x")
    found = collected(out, 0)
    assert names(found) == ["empty"]
    assert "0 were left" in reasons(found)["full"]


def test_a_sparse_file_counts_as_large_as_it_says(out: Path) -> None:
    with (out / "sparse").open("wb") as file:
        file.truncate(1 << 40)
    found = collected(out)
    assert reasons(found) == {"sparse": f"takes {1 << 40} bytes, {16 * MIB} were left of the limit"}


def test_links_do_not_lead_out_of_the_folder(out: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "key").write_text("hunter2")
    (out / "file").symlink_to(secret / "key")
    (out / "folder").symlink_to(secret)
    (out / "self").symlink_to(out)
    (out / "dangling").symlink_to("nowhere")
    found = collected(out)
    assert found.artifacts == ()
    assert set(reasons(found).values()) == {"is not a regular file"}


def test_hard_links_are_left_out_whatever_they_name(out: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("hunter2")
    os.link(tmp_path / "secret", out / "theirs")
    (out / "one").write_text("mine")
    os.link(out / "one", out / "two")
    found = collected(out)
    assert found.artifacts == ()
    assert set(reasons(found)) == {"one", "theirs", "two"}
    assert set(reasons(found).values()) == {"has more than one name (hard links)"}


def test_fifos_sockets_and_devices_are_left_out_without_waiting(out: Path) -> None:
    os.mkfifo(out / "fifo")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(out / "socket"))
    expected = {"fifo", "socket"}
    if os.geteuid() == 0:
        os.mknod(out / "null", 0o666 | stat.S_IFCHR, os.makedev(1, 3))
        os.mknod(out / "disk", 0o666 | stat.S_IFBLK, os.makedev(7, 0))
        expected |= {"null", "disk"}
    began = time.perf_counter()
    found = collected(out)
    assert time.perf_counter() - began < 10
    assert found.artifacts == ()
    assert reasons(found) == dict.fromkeys(expected, "is not a regular file")


def test_folders_in_folders_are_followed_to_a_depth(out: Path) -> None:
    deepest = out
    for _ in range(40):
        deepest = deepest / "d"
        deepest.mkdir()
        (deepest / "f").touch()
    found = collected(out)
    assert len(found.artifacts) == 15
    (reason,) = reasons(found).values()
    assert reason == "lies more than 16 folders deep"


def test_thousands_of_files_are_neither_read_nor_listed_in_full(out: Path) -> None:
    for number in range(5_000):
        (out / f"{number:05d}").touch()
    found = collected(out)
    assert len(found.artifacts) == MAX_ARTIFACTS
    assert len(found.skipped) == 16
    assert set(reasons(found).values()) == {
        "there are more than 4096 entries; the rest was not looked at",
        f"there are more than {MAX_ARTIFACTS} files",
    }
    assert found.more_skipped == 4096 - MAX_ARTIFACTS - 15


def test_a_bound_on_entries_is_said_where_it_was_met(
    out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(artifacts, "_MAX_ENTRIES", 20)
    for folder in ("a", "b"):
        (out / folder).mkdir()
        for number in range(15):
            (out / folder / f"{number}").mkdir()
    found = collected(out)
    assert found.artifacts == ()
    assert reasons(found)["b/"] == "there are more than 20 entries; the rest was not looked at"


@pytest.mark.parametrize(
    ("name", "shown", "reason"),
    [
        (b"new\nline", "new\\nline", "its name has control characters"),
        (b"bell\x07 and \x7f", "bell\\x07 and \\x7f", "its name has control characters"),
        (b"\x1b[2J", "\\x1b[2J", "its name has control characters"),
        (b"back\\slash", "back\\slash", "its name has a backslash"),
        (b"not utf-8 \xff", "not utf-8 \\xff", "its name is not valid UTF-8"),
        (b"\xed\xa0\x80", "\\xed\\xa0\\x80", "its name is not valid UTF-8"),
    ],
)
@pytest.mark.parametrize("folder", [b"", b"in/"])
def test_odd_names_are_left_out_and_reported(
    out: Path, folder: bytes, name: bytes, shown: str, reason: str
) -> None:
    (out / "in").mkdir()
    with open(os.fsencode(out) + b"/" + folder + name, "wb"):
        pass
    found = collected(out)
    assert found.artifacts == ()
    assert reasons(found) == {folder.decode() + shown: reason}
    SkippedArtifact.model_validate_json(found.skipped[0].model_dump_json())


@pytest.mark.parametrize(
    "name", [".hidden", "...", "..a", "CON", "a.", " ", "-rf", "ж" * 127, "e\u0301", "\u202e"]
)
def test_unusual_names_that_harm_nothing_are_collected(out: Path, name: str) -> None:
    (out / name).touch()
    assert (names(collected(out)), collected(out).skipped) == ([name], ())


def test_skipped_files_beyond_those_named_are_counted(out: Path) -> None:
    for number in range(MAX_ARTIFACTS + 40):
        (out / f"{number:03}").touch()
    found = collected(out)
    assert (len(found.skipped), found.more_skipped) == (16, 24)


def test_a_path_that_is_too_long_is_left_out(out: Path) -> None:
    folder = out / ("d" * 200)
    folder.mkdir()
    (folder / ("f" * 100)).touch()
    found = collected(out)
    assert found.artifacts == ()
    (skipped,) = found.skipped
    assert len(skipped.name) == 255
    assert skipped.name.endswith("f…")
    assert skipped.reason == "its path takes 301 characters, the limit is 255"


@contextlib.contextmanager
def as_an_ordinary_user() -> Iterator[None]:
    """What a host sees that is not root; as root, switched for this thread's file access."""
    if os.geteuid() != 0:
        yield
        return
    os.setegid(65534)
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)


def test_unreadable_files_are_reported(out: Path) -> None:
    (out / "open").write_text("x")
    (out / "hidden").write_text("x")
    (out / "hidden").chmod(0)
    (out / "unlisted").mkdir()
    (out / "unlisted" / "f").touch()
    (out / "unlisted").chmod(0o300)
    (out / "unsearchable").mkdir()
    (out / "unsearchable" / "f").touch()
    (out / "unsearchable").chmod(0o644)
    descriptor = os.open(out, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with as_an_ordinary_user():
            found = collect(descriptor, MIB)
    finally:
        os.close(descriptor)
        (out / "unlisted").chmod(0o700)
        (out / "unsearchable").chmod(0o700)
    assert names(found) == ["open"]
    assert reasons(found) == {
        "hidden": "Permission denied",
        "unlisted": "Permission denied",
        "unsearchable/f": "Permission denied",
    }


def test_a_folder_that_cannot_be_listed_does_not_end_the_collection(
    out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "b"):
        (out / name).mkdir()
        (out / name / "f").write_text(name)
    listed = artifacts._names

    def failing(folder: int, limit: int) -> Iterator[str]:
        if os.readlink(f"/proc/self/fd/{folder}").endswith("/a"):
            raise OSError(5, "Input/output error")
        return listed(folder, limit)

    monkeypatch.setattr(artifacts, "_names", failing)
    found = collected(out)
    assert names(found) == ["b/f"]
    assert reasons(found) == {"a": "Input/output error"}


def test_files_that_grow_shrink_and_vanish_meanwhile_do_no_harm(out: Path) -> None:
    """A host that collects too early still keeps its limits and returns what it read."""
    done = threading.Event()

    def churn() -> None:
        number = 0
        while not done.is_set():
            number += 1
            path = out / f"{number % 7}"
            with contextlib.suppress(OSError):
                match number % 4:
                    case 0:
                        path.write_bytes(b"x" * (number % 9000))
                    case 1:
                        path.unlink()
                    case 2:
                        path.symlink_to("/etc/passwd")
                    case _:
                        path.mkdir()
                        path.rmdir()

    churning = threading.Thread(target=churn)
    churning.start()
    try:
        deadline = time.monotonic() + 0.3
        while time.monotonic() < deadline:
            found = collected(out, 10_000)
            assert sum(artifact.size for artifact in found.artifacts) <= 10_000
            for artifact in found.artifacts:
                content = base64.b64decode(artifact.content or "")
                assert content == b"x" * artifact.size
    finally:
        done.set()
        churning.join()


def test_a_file_that_grows_while_it_is_read_is_left_out(
    out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (out / "growing").write_bytes(b"x" * 10)
    fstat = os.fstat

    def before_it_grows(descriptor: int) -> os.stat_result:
        found = fstat(descriptor)
        (out / "growing").write_bytes(b"x" * 5000)
        return found

    monkeypatch.setattr(os, "fstat", before_it_grows)
    found = collected(out, 100)
    assert found.artifacts == ()
    assert reasons(found) == {"growing": "changed while it was read"}


def test_equal_files_share_one_content(out: Path) -> None:
    for name in ("one", "two"):
        (out / name).write_bytes(b"x" * MIB)
    found = collected(out)
    assert names(found) == ["one", "two"]
    assert len(found.contents) == 1


def test_descriptors_are_all_closed(out: Path) -> None:
    (out / "a" / "b").mkdir(parents=True)
    (out / "a" / "b" / "f").write_text("x")
    os.mkfifo(out / "a" / "fifo")
    before = os.listdir("/proc/self/fd")
    collected(out)
    assert os.listdir("/proc/self/fd") == before

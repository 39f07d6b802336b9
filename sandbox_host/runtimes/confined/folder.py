"""The folder of one confined program: makes it, measures it, collects artifacts, removes it.

It is separated only by modes and Landlock, and the program controls its content. So every entry is
opened relative to its folder's descriptor, and links are not followed.
"""

from __future__ import annotations

import contextlib
import os
import stat
import tempfile
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from sandbox_host.linux.folders import OPEN_FOLDER, make_file, make_folder
from sandbox_host.linux.mountinfo import read_mounts
from sandbox_host.linux.processes import host_tag, is_alive
from sandbox_host.run.artifacts import Collected, collect, skipped_artifact
from sandbox_host.run.job import MAX_INODES
from sandbox_host.runtimes.base import files_refused
from sandbox_host.runtimes.confined.open_files import LARGE_FOLDER, File, OpenFiles

_PREFIX = "qlp-confined-"

#: Nesting at which a folder counts as full; measuring takes an open descriptor per level.
_MAX_DEPTH = 64

#: The unit of ``st_blocks``, bytes; stat(2).
_SECTOR = 512

#: Kernel memory behind one inode in shared memory and its name, bytes.
_INODE_BYTES = 1024

#: Where POSIX semaphores and shared memory are.
SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - only looked through


def make_base() -> Path:
    """Make a folder for this host's programs; other users can enter it but not list it."""
    base = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{host_tag()}-"))
    base.chmod(0o711)
    return base


def reap_bases() -> int:
    """Remove what dead hosts have left; the number of programs' folders."""
    removed = 0
    for base in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        tag = base.name.removeprefix(_PREFIX).rpartition("-")[0]
        with contextlib.suppress(FileNotFoundError):  # another host may remove it meanwhile
            if base.is_symlink() or base.stat().st_uid != os.geteuid() or is_alive(tag):
                continue
            for folder in base.iterdir():
                remove_tree(folder)
                removed += 1
            base.rmdir()
    return removed


@dataclass(frozen=True)
class Measured:
    """What a program's files take.

    Attributes:
        disk_bytes: on disk and in shared memory.
        memory_bytes: the part of these in memory (all, if the disk is a tmpfs), and kernel buffers.
        full: whether the limit on bytes or inodes is exceeded, or cannot be checked.
    """

    disk_bytes: int = 0
    memory_bytes: int = 0
    full: bool = False


class ProgramFolder:
    """One program's folder, with ``work``, ``tmp`` and ``out`` in it.

    Args:
        path: where to make it.
        files: written into ``work``.
        uid: the program's user; None for this host's own.

    Raises:
        InvalidJob: the kernel cannot accept the files' names.
        OSError: the folder cannot be made.
        RuntimeFailure: a file cannot be written.
    """

    def __init__(self, path: Path, files: dict[str, bytes], uid: int | None) -> None:
        self.path = path
        self._uid = uid
        self.work, self.tmp, self.out = (path / name for name in ("work", "tmp", "out"))
        make_folder(path, 0o700)
        try:
            for folder in (self.work, self.tmp, self.out):
                self._folder(folder)
            self._write(files)
            if uid is not None:
                os.chown(path, uid, uid)
            shared = None if uid is None else SHARED_MEMORY
            self._in_memory = _is_in_memory(path)
            self._open_files = OpenFiles(uid, path, shared)
            self._descriptor = os.open(path, OPEN_FOLDER)
            # One at a time: a measurement for which nobody waits any more may still be going on,
            # and it moves the descriptor's place.
            self._in_use = threading.Lock()
            self._removed = False
        except BaseException:
            remove_tree(path)
            raise

    def _write(self, files: dict[str, bytes]) -> None:
        try:
            for name, content in files.items():
                self._file(self.work / name, content)
        except OSError as error:
            raise files_refused(error) from error

    def _folder(self, path: Path) -> None:
        make_folder(path, 0o755)
        if self._uid is not None:
            os.chown(path, self._uid, self._uid)

    def _file(self, path: Path, content: bytes) -> None:
        for parent in reversed(path.relative_to(self.work).parents[:-1]):
            if not (self.work / parent).exists():
                self._folder(self.work / parent)
        make_file(path, content, 0o644)
        if self._uid is not None:
            os.chown(path, self._uid, self._uid)

    def measure(
        self,
        limit_bytes: int,
        found: Iterable[tuple[int, str]] = (),
        reaper: int | None = None,
    ) -> Measured:
        """What the program's files take now, including deleted files that it has open.

        Args:
            limit_bytes: for all files together, and for each one (RLIMIT_FSIZE).
            found: see `OpenFiles.look`.
            reaper: see `OpenFiles.look`.
        """
        with self._in_use:
            return Measured() if self._removed else self._measure(limit_bytes, found, reaper)

    def _measure(
        self, limit_bytes: int, found: Iterable[tuple[int, str]], reaper: int | None
    ) -> Measured:
        usage = self._open_files.look(found, reaper)
        meter = _Meter(limit_bytes, self._open_files.file)
        meter.walk(self._descriptor, 0)
        on_disk, entries_on_disk = meter.bytes, meter.inodes
        if self._uid is not None:
            with os.scandir(SHARED_MEMORY) as entries:
                for entry in entries:
                    meter.count_if_owned(entry, self._uid)
        shared = meter.bytes - on_disk + (meter.inodes - entries_on_disk) * _INODE_BYTES
        self._open_files.settle(usage, meter.sizes, meter.folders)
        disk_bytes = meter.bytes + usage.disk_bytes
        return Measured(
            disk_bytes=disk_bytes,
            memory_bytes=usage.memory_bytes + (disk_bytes if self._in_memory else shared),
            full=disk_bytes >= limit_bytes or meter.uncountable or usage.uncountable,
        )

    def collect(self, max_bytes: int) -> Collected:
        """The artifacts; call it when none of the program's processes runs any more."""
        with self._in_use:
            try:
                out = os.open("out", OPEN_FOLDER, dir_fd=self._descriptor)
            except OSError as error:
                why = f"the output folder cannot be read: {error.strerror}"
                return Collected(skipped=(skipped_artifact(".", why),))
            try:
                return collect(out, max_bytes)
            finally:
                os.close(out)

    def remove(self) -> None:
        """Delete the folder, and what the program has left in shared memory."""
        with self._in_use:
            os.close(self._descriptor)
            self._removed = True
        remove_tree(self.path)
        if self._uid is not None:
            for entry in SHARED_MEMORY.iterdir():
                with contextlib.suppress(FileNotFoundError):
                    if entry.lstat().st_uid == self._uid:
                        entry.unlink()


def _is_in_memory(path: Path) -> bool:
    """Whether ``path`` is on a tmpfs or ramfs."""
    number = path.stat().st_dev
    device = f"{os.major(number)}:{os.minor(number)}"
    kind = next((mount.kind for mount in read_mounts() if mount.device == device), "")
    return kind in ("tmpfs", "ramfs")


class _Meter:
    """Adds up files that have names.

    Args:
        file_limit: bytes at which a file cannot grow any more.
        identify: which file it is, whatever its name.

    Attributes:
        sizes: by file, the most that it can take.
        folders: the large ones among them.
        uncountable: there are too many, or this host cannot look at all of them.
    """

    def __init__(self, file_limit: int, identify: Callable[[os.stat_result], File]) -> None:
        self._file_limit = file_limit
        self._identify = identify
        self._hidden = False
        self.sizes: dict[File, int] = {}
        self.folders: dict[File, int] = {}
        self.inodes = 0
        self.bytes = 0

    @property
    def uncountable(self) -> bool:
        return self.inodes > MAX_INODES or self._hidden

    def walk(self, folder: int, depth: int) -> None:
        with os.scandir(folder) as entries:
            for entry in entries:
                if self.uncountable:
                    return
                try:
                    self._count(folder, entry, depth)
                except PermissionError:
                    self._hidden = True
                except OSError:  # it has gone
                    continue

    def _count(self, folder: int, entry: os.DirEntry[str], depth: int) -> None:
        found = entry.stat(follow_symlinks=False)
        self._add(found)
        if not stat.S_ISDIR(found.st_mode):
            return
        if depth == _MAX_DEPTH:
            self._hidden = True
            return
        inner = _open_inner(folder, entry.name)
        try:
            self.walk(inner, depth + 1)
        finally:
            os.close(inner)

    def count_if_owned(self, entry: os.DirEntry[str], uid: int) -> None:
        with contextlib.suppress(FileNotFoundError):
            found = entry.stat(follow_symlinks=False)
            if found.st_uid == uid:
                self._add(found)

    def _add(self, found: os.stat_result) -> None:
        """Count a file or folder; a file with several hard links once."""
        self.inodes += 1
        file = self._identify(found)
        if found.st_nlink > 1 and not stat.S_ISDIR(found.st_mode) and file in self.sizes:
            return
        taken = found.st_blocks * _SECTOR
        self.sizes[file] = max(taken, found.st_size)
        if stat.S_ISDIR(found.st_mode) and taken >= LARGE_FOLDER:
            self.folders[file] = taken
        if found.st_size == self._file_limit and stat.S_ISREG(found.st_mode):
            # It cannot grow any more; ext4 reports too few blocks while it writes them to disk.
            taken = max(taken, found.st_size)
        self.bytes += taken


def _open_inner(folder: int, name: str) -> int:
    """Open a folder in another; one that a program made so that its own user may not list it, too.

    Raises:
        PermissionError: this host's user may not either, nor change that.
    """
    try:
        return os.open(name, OPEN_FOLDER, dir_fd=folder)
    except PermissionError:
        inner = os.open(name, OPEN_FOLDER | os.O_PATH, dir_fd=folder)
    try:
        os.chmod(f"/proc/self/fd/{inner}", 0o700)
    finally:
        os.close(inner)
    return os.open(name, OPEN_FOLDER, dir_fd=folder)


def remove_tree(path: Path) -> None:
    """Delete a folder of any depth: each subfolder is first moved to the top.

    So neither the stack nor the number of open files grows with the depth. What somebody else
    deletes meanwhile is gone as well.
    """
    with contextlib.suppress(FileNotFoundError):
        top = os.open(path, OPEN_FOLDER)
        try:
            serial = 0
            while names := os.listdir(top):
                for name in names:
                    with contextlib.suppress(FileNotFoundError):
                        serial = _remove_entry(top, name, serial)
        finally:
            os.close(top)
        path.rmdir()


def _remove_entry(top: int, name: str, serial: int) -> int:
    if not _is_folder(top, name):
        os.unlink(name, dir_fd=top)
        return serial
    os.chmod(name, 0o700, dir_fd=top)  # so that this host may enter it if it is not root
    folder = os.open(name, OPEN_FOLDER, dir_fd=top)
    try:
        for inner in os.listdir(folder):
            if not _is_folder(folder, inner):
                os.unlink(inner, dir_fd=folder)
                continue
            os.chmod(inner, 0o700, dir_fd=folder)
            serial += 1
            os.rename(inner, f"{serial}-{os.urandom(8).hex()}", src_dir_fd=folder, dst_dir_fd=top)
    finally:
        os.close(folder)
    os.rmdir(name, dir_fd=top)
    return serial


def _is_folder(parent: int, name: str) -> bool:
    return stat.S_ISDIR(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode)

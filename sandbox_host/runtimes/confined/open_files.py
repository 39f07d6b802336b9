"""Finds what a confined program holds apart from named files: deleted open files, and buffers.

A deleted file exists for as long as a process has it open, maps or executes it. It is found through
``/proc``, as the program's own user, which needs no capability (ptrace(2),
``PTRACE_MODE_READ_FSCREDS``). What would hide a file from ``/proc``, such as passing it through a
socket, or a descriptor table or a working directory of one thread, is refused by the filter
(`seccomp.confined_filters`).
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from sandbox_host.linux.processes import acting_as, stat_fields
from sandbox_host.run.job import MAX_INODES

#: The unit of ``st_blocks``, bytes; stat(2).
_SECTOR = 512

_PAGE = os.sysconf("SC_PAGE_SIZE")

#: The most that one end of a socket pair (twice ``net.core.wmem_max``) and a pipe can buffer; and
#: how much all of them may before it counts, since ordinary programs keep theirs nearly empty.
_SOCKET_BYTES, _PIPE_BYTES = 416 * 1024, 64 * 1024
_FREE_BUFFER_BYTES = 16 * 1024**2

#: Maximum open files of all processes together. Each takes about 10 µs to look at, twice that on a
#: busy machine, and the program keeps writing meanwhile.
_MAX_OPEN = 4096

#: Maximum bytes of ``/proc/PID/maps`` per look; a large program with many processes has 8 MB.
_MAX_MAPS = 16 * 1024**2

#: A program with a process that its own user cannot read, in this many consecutive samples, counts
#: as over the limit, whichever process it was. One is unreadable while it executes another program,
#: or for good if it made itself so. (It also is while it ends and its memory is freed, a third of a
#: second per gigabyte; then it can do nothing more, and is ignored.)
_MAX_UNREADABLE = 5

#: How many processes are tried, one after the other, that may hold what one that has ended held;
#: and how many in one look.
_HEIRS, _ALL_HEIRS = 50, 200

#: How long one look waits for what may take long, seconds; and how often in a row it does so in
#: vain until a program counts as over the limit.
_PATIENCE_SECONDS, _MAX_WAITS = 0.5, 10

#: A deleted file keeps the folders that it was in, which nothing shows any more. Those of at least
#: this many bytes count while there are deleted files, at most so many for each. A deleted folder
#: in more deleted ones than that is over the limit.
LARGE_FOLDER = 64 * 1024
_MAX_FOLDERS = 64

_DELETED = b" (deleted)"

#: A file: whether it is in shared memory, and its inode number. (The device numbers that maps show
#: are not those of stat(2) on some file systems.)
File = tuple[bool, int]


@dataclass
class OpenFileUsage:
    """What one look at the open files has found.

    Attributes:
        held: bytes of each deleted file or folder.
        sizes: of all the program's own files that are open, the most that they can take.
        mapped: of files that are mapped and perhaps deleted: their size in the address space.
        written: bytes that may have been written to files so far, by system calls or through pages
            that are not mapped any more.
        entries: open files looked at.
        maps: bytes of maps looked at.
        heirs: processes tried in the place of others.
        missed: a process ended before it was seen, as did all that were tried in its place.
        unreadable: a process could not be looked at.
        uncountable: more files are open than are looked at, or processes stayed unreadable.
    """

    held: dict[File, int] = field(default_factory=dict)
    sizes: dict[File, int] = field(default_factory=dict)
    mapped: dict[File, int] = field(default_factory=dict)
    written: int = 0
    pipes: set[int] = field(default_factory=set)
    sockets: set[int] = field(default_factory=set)
    entries: int = 0
    maps: int = 0
    heirs: int = 0
    missed: bool = False
    unreadable: bool = False
    uncountable: bool = False

    @property
    def disk_bytes(self) -> int:
        """Bytes of files on disk and in shared memory."""
        return sum(self.held.values())

    @property
    def memory_bytes(self) -> int:
        """Bytes of files in shared memory, and of buffers beyond `_FREE_BUFFER_BYTES`."""
        buffers = len(self.pipes) * _PIPE_BYTES + len(self.sockets) * _SOCKET_BYTES
        files = sum(size for (in_memory, _), size in self.held.items() if in_memory)
        return files + max(0, buffers - _FREE_BUFFER_BYTES)


class OpenFiles:
    """Looks at one program's open files.

    Args:
        uid: the program's user; None for this host's own.
        folder: where it may make files.
        shared: where it may make files in shared memory; None if it may not.
    """

    def __init__(self, uid: int | None, folder: Path, shared: Path | None) -> None:
        self._uid = uid
        self._folder = os.fsencode(f"{folder}/")
        self._shared_device = shared.stat().st_dev if shared is not None else -1
        self._shared = os.fsencode(f"{shared}/") if shared is not None else None
        self._folder_is_shared = folder.stat().st_dev == self._shared_device
        self._sizes: dict[File, int] = {}
        self._only_mapped: dict[File, int] = {}
        self._folders: dict[File, int] = {}
        self._unreadable = 0
        self._written = 0
        # A thread of its own: what is read about a process that is in execve(2) may take as long as
        # that waits for a CPU, which a program can keep from it.
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="open-files")
        self._closer: Future[OpenFileUsage] | None = None
        self._waits = 0
        self._closer_last = OpenFileUsage()

    def look(self, found: Iterable[tuple[int, str]], reaper: int | None) -> OpenFileUsage:
        """What processes hold; call it in a worker thread, whose user it changes.

        What is only mapped does not count yet; see `settle`.

        Args:
            found: the program's processes, as `sandbox_host.linux.processes.below` gives them; each
                is looked at as soon as it is found.
            reaper: the process whose counters include ended ones; None after the program's end.
        """
        usage = OpenFileUsage()
        seen: list[tuple[str, str]] = []
        with acting_as(self._uid):
            for pid, parent in found:
                task = None
                try:
                    task = self._note_open(pid, usage)
                except PermissionError:
                    usage.unreadable = True
                    continue
                except OSError:
                    pass
                if task is None:  # it is gone, or is ending
                    self._note_heirs(parent, usage, self._note_open)
                seen.append((task or "", parent))
                if usage.entries > _MAX_OPEN:
                    usage.uncountable = True
                    break
        self._add_closer_look(seen, reaper, usage)
        self._unreadable = self._unreadable + 1 if usage.unreadable else 0
        if self._unreadable >= _MAX_UNREADABLE:
            usage.uncountable = True
        return usage

    def _note_heirs(
        self,
        parent: str,
        usage: OpenFileUsage,
        note: Callable[[int, OpenFileUsage], str | None],
    ) -> None:
        """Note what the newest child of a thread holds, whose newest child has just ended.

        A program can hand on its files from one process to the next, each of which lives for less
        time than it takes to look at it. Most looks come too late, but some do not.
        """
        thread, ending = parent, ""
        for _ in range(min(_HEIRS, _ALL_HEIRS - usage.heirs) if parent else 0):
            usage.heirs += 1
            try:
                *_, newest = Path(f"{thread}/children").read_text().split() or [""]
                if thread == parent and newest in ("", ending):
                    return
                if newest and note(int(newest), usage):
                    return
                # It is ending, and may take long to; but it may have children until it has ended.
                ending = newest or ending
                thread = f"/proc/{newest}/task/{newest}" if newest else parent
            except PermissionError:
                usage.unreadable = True
                return
            except OSError:  # it is gone, too
                thread = parent
        usage.missed = usage.missed or bool(parent)

    def _note_open(self, pid: int, usage: OpenFileUsage) -> str | None:
        """Note what has a descriptor; the process's folder in ``/proc``, if it has files."""
        process = _with_files(pid)
        if process is None:
            return None
        self._note(f"{process}/cwd", usage)  # its threads share it
        for name in os.listdir(f"{process}/fd"):
            usage.entries += 1
            self._note(f"{process}/fd/{name}", usage)
        return process

    def _add_closer_look(
        self, seen: Sequence[tuple[str, str]], reaper: int | None, usage: OpenFileUsage
    ) -> None:
        """Add what is only mapped or executed, and what was written, as it was last seen.

        A program in which that cannot be seen for long is over the limit.
        """
        if not seen:
            usage.written = self._written
            return
        if self._closer is None:
            self._closer = self._thread.submit(self._look_closer, seen, reaper)
        self._waits += 1
        with contextlib.suppress(TimeoutError):
            self._closer_last = self._closer.result(_PATIENCE_SECONDS)
            self._closer, self._waits = None, 0
        closer = self._closer_last
        usage.held |= closer.held
        usage.sizes |= closer.sizes
        usage.mapped, usage.written, usage.maps = closer.mapped, closer.written, closer.maps
        usage.missed = usage.missed or closer.missed
        usage.unreadable = usage.unreadable or closer.unreadable
        usage.uncountable |= closer.uncountable or self._waits >= _MAX_WAITS

    def _look_closer(self, seen: Sequence[tuple[str, str]], reaper: int | None) -> OpenFileUsage:
        usage = OpenFileUsage()
        if reaper is not None:
            with contextlib.suppress(OSError):  # it has ended
                usage.written += _written(f"/proc/{reaper}")
        with acting_as(self._uid):
            for task, parent in seen:
                try:
                    self._note_mapped(task, usage)
                except PermissionError:  # `look` has noted that
                    continue
                except OSError:  # it is gone
                    self._note_heirs(parent, usage, self._note_all)
                if usage.maps > _MAX_MAPS:
                    usage.uncountable = True
                    break
        return usage

    def _note_all(self, pid: int, usage: OpenFileUsage) -> str | None:
        task = self._note_open(pid, usage)
        if task is not None:
            self._note_mapped(task, usage)
        return task

    def _note_mapped(self, task: str, usage: OpenFileUsage) -> None:
        """Note what is mapped or executed.

        Raises:
            OSError: it is gone, perhaps before all was seen.
        """
        if not task:
            raise ProcessLookupError
        self._note_maps(f"{task}/maps", usage)
        self._note(f"{task}/exe", usage)
        usage.written += _written(task)
        if not _executes(task):
            raise ProcessLookupError

    def file(self, found: os.stat_result) -> File:
        """Which file it is."""
        return found.st_dev == self._shared_device, found.st_ino

    def _note(self, path: str, usage: OpenFileUsage) -> None:
        try:
            found = os.stat(path)
        except FileNotFoundError:  # closed meanwhile
            return
        if stat.S_ISFIFO(found.st_mode):
            usage.pipes.add(found.st_ino)
        elif stat.S_ISSOCK(found.st_mode):
            usage.sockets.add(found.st_ino)
        elif stat.S_ISREG(found.st_mode) or stat.S_ISDIR(found.st_mode):
            size = found.st_blocks * _SECTOR
            if found.st_uid == self._owner:
                usage.sizes[self.file(found)] = max(size, found.st_size)
            if found.st_nlink == 0:
                usage.held[self.file(found)] = size
                if stat.S_ISDIR(found.st_mode):
                    self._note_outer(path, usage)

    def _note_outer(self, path: str, usage: OpenFileUsage) -> None:
        """Note the deleted folders that a deleted one was in; they exist as long as it does."""
        with contextlib.suppress(FileNotFoundError):  # closed meanwhile
            for _ in range(_MAX_FOLDERS):
                path = f"{path}/.."
                found = os.stat(path)
                if found.st_nlink > 0 or self.file(found) in usage.held:
                    return
                usage.entries += 1
                usage.held[self.file(found)] = found.st_blocks * _SECTOR
            usage.uncountable = True

    @property
    def _owner(self) -> int:
        return os.geteuid() if self._uid is None else self._uid

    def _note_maps(self, path: str, usage: OpenFileUsage) -> None:
        with open(path, "rb", buffering=0) as file:
            while text := file.read(1 << 16):  # whole lines, as the kernel gives them
                usage.maps += len(text)
                if _DELETED in text:
                    for line in text.split(b"\n"):
                        if line.endswith(_DELETED):
                            self._note_mapping(line, usage)
                if usage.maps > _MAX_MAPS:
                    return

    def _note_mapping(self, line: bytes, usage: OpenFileUsage) -> None:
        """One line of proc_pid_maps(5)."""
        span, _, offset, _, inode, path = line.split(None, 5)
        in_memory = self._shared is not None and path.startswith(self._shared)
        if in_memory or path.startswith(self._folder):
            start, _, end = span.partition(b"-")
            extent = int(offset, 16) + int(end, 16) - int(start, 16)
            file = in_memory or self._folder_is_shared, int(inode)
            usage.mapped[file] = max(usage.mapped.get(file, 0), extent)

    def settle(
        self, usage: OpenFileUsage, named: dict[File, int], folders: dict[File, int]
    ) -> None:
        """Count files that are only mapped: not open, and without a name.

        Each counts with the largest size it was seen to have. Those that were made, or were closed,
        since the last look may have grown meanwhile; what was written since is divided among them.

        Args:
            usage: what `look` has found.
            named: the most that the program's files with names can take, found after that. (What is
                called deleted may have another name, or one that only looks so.)
            folders: bytes of the large folders among these.
        """
        for file in usage.held.keys() & named.keys():  # it was given a name meanwhile
            del usage.held[file]
        known = usage.sizes | named
        seen = known.keys() | usage.held.keys()
        mapped = (self._only_mapped if usage.missed else {}) | usage.mapped
        only_mapped = {file: size for file, size in mapped.items() if file not in seen}
        new = only_mapped.keys() - self._only_mapped.keys()
        share = max(0, usage.written - self._written) // max(1, len(new))
        for file, extent in only_mapped.items():
            before = self._only_mapped.get(file, self._sizes.get(file, 0))
            only_mapped[file] = max(before + (share if file in new else 0), extent)
        usage.held |= only_mapped
        self._add_folders(usage, named, folders)
        self._written, self._only_mapped = usage.written, only_mapped
        self._sizes = self._sizes | known if usage.missed else known
        if len(self._sizes) > 4 * MAX_INODES:
            self._sizes = known

    def _add_folders(
        self, usage: OpenFileUsage, named: dict[File, int], folders: dict[File, int]
    ) -> None:
        """Count large folders that were deleted, while deleted files may keep them."""
        self._folders |= folders
        deleted = [file for file in self._folders if file not in named and file not in usage.held]
        if not usage.held and not usage.missed:
            self._folders = folders
            return
        deleted.sort(key=self._folders.__getitem__, reverse=True)
        for file in deleted[: _MAX_FOLDERS * len(usage.held)]:
            usage.held[file] = self._folders[file]


def _with_files(pid: int) -> str | None:
    """A process's folder in ``/proc``; another thread's, if the first thread has ended.

    Raises:
        PermissionError: it is unreadable to this user.
        OSError: it is gone.
    """
    unreadable: PermissionError | None = None
    for task in _tasks(pid):
        try:
            if os.listdir(f"{task}/fd") or _executes(task):
                return task
        except PermissionError as error:
            unreadable = error
    if unreadable is not None and any(map(_lives, _tasks(pid))):
        raise unreadable
    return None


def _executes(task: str) -> bool:
    try:
        os.readlink(f"{task}/exe")
    except FileNotFoundError:  # it has ended
        return False
    return True


def _tasks(pid: int) -> Iterator[str]:
    yield f"/proc/{pid}"
    yield from (f"/proc/{pid}/task/{thread}" for thread in os.listdir(f"/proc/{pid}/task"))


def _written(process: str) -> int:
    """`OpenFileUsage.written` of a process and of the children it has waited for; proc(5).

    Raises:
        OSError: it is gone, or unreadable to this user.
    """
    by_calls = 0
    with contextlib.suppress(FileNotFoundError):  # a kernel without I/O accounting
        lines = Path(f"{process}/io").read_bytes().splitlines()
        by_calls = int(dict(line.split(b": ") for line in lines)[b"wchar"])
    fields = stat_fields(process)
    touched = int(fields[7]) + int(fields[8]) - int(fields[21])  # minflt, cminflt, rss
    return by_calls + touched * _PAGE


def _lives(task: str) -> bool:
    # Not by `stat`, which waits while it is in execve(2). What ends has no memory any more.
    with contextlib.suppress(OSError):
        text = Path(f"{task}/status").read_bytes()
        return b"\nVmSize:" in text and b"\nState:\tZ" not in text
    return False

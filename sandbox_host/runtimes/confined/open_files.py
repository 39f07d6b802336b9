"""Finds what a confined program holds apart from named files: deleted open files, and buffers.

A deleted file exists for as long as a process has it open, maps or executes it. It is found through
``/proc``, as the program's own user, which needs no capability (ptrace(2),
``PTRACE_MODE_READ_FSCREDS``). What would hide a file from ``/proc``, such as passing it through a
socket or a descriptor table of one thread, is refused by the filter (`seccomp.confined_filters`).
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterable, Iterator, Sequence
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

#: A process that its own user cannot read in this many consecutive samples counts as over the
#: limit. It is unreadable while it executes another program, or for good if it made itself so. (It
#: also is while it ends and its memory is freed, a third of a second per gigabyte; then it can do
#: nothing more, and is ignored.)
_MAX_UNREADABLE = 3

#: How many processes are tried, one after the other, that may hold what one that has ended held.
_HEIRS = 50

#: How long one look waits for what may take long, seconds; and how often in a row it does so in
#: vain until a program counts as over the limit.
_PATIENCE_SECONDS, _MAX_WAITS = 0.5, 10

_DELETED = b" (deleted)"


@dataclass
class OpenFileUsage:
    """What one look at the open files has found.

    Attributes:
        disk: bytes of each deleted file on disk, by device and inode number.
        memory: the same for deleted files in shared memory.
        mapped: by inode number of mapped deleted files: their size in the address space, and
            whether they are in shared memory.
        written: bytes that may have been written to files so far, by system calls or through pages
            that are not mapped any more.
        entries: open files looked at.
        maps: bytes of maps looked at.
        uncountable: more files are open than are looked at, or a process stayed unreadable.
    """

    disk: dict[tuple[int, int], int] = field(default_factory=dict)
    memory: dict[tuple[int, int], int] = field(default_factory=dict)
    mapped: dict[int, tuple[int, bool]] = field(default_factory=dict)
    written: int = 0
    pipes: set[int] = field(default_factory=set)
    sockets: set[int] = field(default_factory=set)
    entries: int = 0
    maps: int = 0
    uncountable: bool = False

    @property
    def disk_bytes(self) -> int:
        """Bytes of files on disk and in shared memory."""
        return sum(self.disk.values()) + sum(self.memory.values())

    @property
    def memory_bytes(self) -> int:
        """Bytes of files in shared memory, and of buffers beyond `_FREE_BUFFER_BYTES`."""
        buffers = len(self.pipes) * _PIPE_BYTES + len(self.sockets) * _SOCKET_BYTES
        return sum(self.memory.values()) + max(0, buffers - _FREE_BUFFER_BYTES)


class OpenFiles:
    """Looks at one program's open files.

    Args:
        uid: the program's user; None for this host's own.
        folder: where it may make files.
        shared: where it may make files in shared memory; None if it may not.
    """

    def __init__(self, uid: int | None, folder: Path, shared: Path | None) -> None:
        self._uid = uid
        self._places = [os.fsencode(f"{folder}/")]
        self._shared_device = shared.stat().st_dev if shared is not None else -1
        self._shared = os.fsencode(f"{shared}/") if shared is not None else None
        self._sizes: dict[int, int] = {}
        self._unreadable: dict[int, int] = {}
        self._written = 0
        # A thread of its own: what is read about a process that is in execve(2) may take as long as
        # that waits for a CPU, which a program can keep from it.
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="open-files")
        self._closer: Future[OpenFileUsage] | None = None
        self._waits = 0
        self._closer_last = OpenFileUsage()

    def look(self, found: Iterable[tuple[int, str]], reaper: int | None) -> OpenFileUsage:
        """What processes hold; call it in a worker thread, whose user it changes.

        Args:
            found: the program's processes, as `sandbox_host.linux.processes.below` gives them; each
                is looked at as soon as it is found.
            reaper: the process whose counters include ended ones; None after the program's end.
        """
        usage = OpenFileUsage()
        unreadable: dict[int, int] = {}
        tasks = []
        with acting_as(self._uid):
            for pid, parent in found:
                try:
                    if (task := self._note_open(pid, usage)) is not None:
                        tasks.append(task)
                except PermissionError:
                    unreadable[pid] = self._unreadable.get(pid, 0) + 1
                except OSError:  # it is gone
                    self._note_heirs(parent, usage)
                if usage.entries > _MAX_OPEN:
                    usage.uncountable = True
                    break
        self._unreadable = unreadable
        usage.uncountable = (
            usage.uncountable or max(unreadable.values(), default=0) >= _MAX_UNREADABLE
        )
        self._add_closer_look(tasks, reaper, usage)
        self._settle(usage)
        return usage

    def _note_heirs(self, parent: str, usage: OpenFileUsage) -> None:
        """Note what the newest child of a thread holds, whose newest child has just ended.

        A program can hand on its files from one process to the next, each of which lives for less
        time than it takes to look at it. Most looks come too late, but some do not.
        """
        for _ in range(_HEIRS if parent else 0):
            with contextlib.suppress(OSError):
                *_, newest = Path(f"{parent}/children").read_text().split() or [""]
                if not newest or self._note_open(int(newest), usage):
                    return

    def _note_open(self, pid: int, usage: OpenFileUsage) -> str | None:
        """Note what has a descriptor; the process's folder in ``/proc``, if it has files."""
        process = _with_files(pid)
        if process is None:
            return None
        for name in os.listdir(f"{process}/fd"):
            usage.entries += 1
            with contextlib.suppress(FileNotFoundError):  # closed meanwhile
                self._note(os.stat(f"{process}/fd/{name}"), usage)
        return process

    def _add_closer_look(
        self, tasks: Sequence[str], reaper: int | None, usage: OpenFileUsage
    ) -> None:
        """Add what is only mapped or executed, and what was written, as it was last seen.

        A program in which that cannot be seen for long is over the limit.
        """
        if not tasks:
            usage.written = self._written
            return
        if self._closer is None:
            self._closer = self._thread.submit(self._look_closer, tasks, reaper)
        self._waits += 1
        with contextlib.suppress(TimeoutError):
            self._closer_last = self._closer.result(_PATIENCE_SECONDS)
            self._closer, self._waits = None, 0
        closer = self._closer_last
        usage.disk |= closer.disk
        usage.memory |= closer.memory
        usage.mapped, usage.written, usage.maps = dict(closer.mapped), closer.written, closer.maps
        if closer.uncountable or self._waits >= _MAX_WAITS:
            usage.uncountable = True

    def _look_closer(self, tasks: Sequence[str], reaper: int | None) -> OpenFileUsage:
        usage = OpenFileUsage()
        if reaper is not None:
            with contextlib.suppress(OSError):  # it has ended
                usage.written += _written(f"/proc/{reaper}")
        with acting_as(self._uid):
            for task in tasks:
                with contextlib.suppress(OSError):  # it is gone
                    usage.written += _written(task)
                    with contextlib.suppress(FileNotFoundError):
                        self._note(os.stat(f"{task}/exe"), usage)
                    self._note_maps(f"{task}/maps", usage)
                if usage.maps > _MAX_MAPS:
                    usage.uncountable = True
                    break
        return usage

    def _note(self, found: os.stat_result, usage: OpenFileUsage) -> None:
        if stat.S_ISFIFO(found.st_mode):
            usage.pipes.add(found.st_ino)
        elif stat.S_ISSOCK(found.st_mode):
            usage.sockets.add(found.st_ino)
        elif stat.S_ISREG(found.st_mode) or stat.S_ISDIR(found.st_mode):
            size = found.st_blocks * _SECTOR
            if found.st_uid == self._owner:
                self._sizes[found.st_ino] = size
            if found.st_nlink == 0:
                in_memory = found.st_dev == self._shared_device
                kind = usage.memory if in_memory else usage.disk
                kind[found.st_dev, found.st_ino] = size

    @property
    def _owner(self) -> int:
        return os.geteuid() if self._uid is None else self._uid

    def _note_maps(self, path: str, usage: OpenFileUsage) -> None:
        with open(path, "rb", buffering=0) as file:
            while text := file.read(1 << 20):  # whole lines, as the kernel gives them
                usage.maps += len(text)
                if _DELETED in text:
                    for line in text.splitlines():
                        if line.endswith(_DELETED):
                            self._note_mapping(line, usage)
                if usage.maps > _MAX_MAPS:
                    return

    def _note_mapping(self, line: bytes, usage: OpenFileUsage) -> None:
        """One line of proc_pid_maps(5)."""
        span, _, offset, _, inode, path = line.split(None, 5)
        in_memory = self._shared is not None and path.startswith(self._shared)
        if in_memory or any(path.startswith(place) for place in self._places):
            start, _, end = span.partition(b"-")
            extent = int(offset, 16) + int(end, 16) - int(start, 16)
            known, _ = usage.mapped.get(int(inode), (0, False))
            usage.mapped[int(inode)] = max(known, extent), in_memory

    def _settle(self, usage: OpenFileUsage) -> None:
        """Count files that are mapped but not open, with the size they had when last seen open.

        A file that was never seen open was made since the last look; the bytes written since then
        are divided among such files.
        """
        open_ones = {inode for kind in (usage.disk, usage.memory) for _, inode in kind}
        unseen = usage.mapped.keys() - open_ones - self._sizes.keys()
        for inode in unseen:
            self._sizes[inode] = max(0, usage.written - self._written) // len(unseen)
        self._written = usage.written
        for inode, (extent, in_memory) in usage.mapped.items():
            if inode not in open_ones:
                kind = usage.memory if in_memory else usage.disk
                kind[-1, inode] = max(self._sizes[inode], extent)
        if len(self._sizes) > 4 * MAX_INODES:
            self._sizes = {
                inode: size for inode, size in self._sizes.items() if inode in usage.mapped
            }


def _with_files(pid: int) -> str | None:
    """A process's folder in ``/proc``; another thread's, if the first thread has ended.

    Raises:
        PermissionError: it is unreadable to this user.
    """
    unreadable: PermissionError | None = None
    for task in _tasks(pid):
        try:
            if os.listdir(f"{task}/fd") or _executes(task):
                return task
        except PermissionError as error:
            unreadable = error if _lives(task) else unreadable
    if unreadable is not None:
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

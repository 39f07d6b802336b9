"""The writable space of a bubblewrap box, kept open from outside, also after the box's end.

A descriptor keeps a tmpfs alive when the box's mounts have gone with its last process. So nothing
has to be unmounted, and nothing is left when this host dies.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import threading

from sandbox_host.linux.folders import OPEN_FOLDER
from sandbox_host.run.artifacts import Collected, collect
from sandbox_host.run.job import MAX_INODES
from sandbox_host.runtimes.base import BOX, WORKSPACE, RuntimeFailure

#: Kernel memory behind one tmpfs inode and its name, bytes.
_INODE_BYTES = 1024

# System calls with the same number on all architectures (asm-generic/unistd.h); linux/mount.h.
_FSCONFIG, _FSPICK = 431, 433
_FSPICK_CLOEXEC, _FSPICK_EMPTY_PATH = 0x1, 0x8
_FSCONFIG_SET_STRING, _FSCONFIG_CMD_RECONFIGURE = 1, 7


class BoxFiles:
    """The tmpfs mounts of the box whose PID 1 is ``init``; its root must be complete.

    They are opened through ``/proc/PID/root``. A root host may do that, and so may an ordinary one,
    because its user owns the box's user namespace.

    Attributes:
        workspace: descriptor of the program's working directory.
        adjustable: whether the mounts can be changed from here. If so, the kernel limits inodes,
            and the box can be resized; if not, somebody must watch the number of inodes.
    """

    def __init__(self, init: int) -> None:
        """Open the mounts.

        Raises:
            OSError: the box is gone.
        """
        root = os.open(f"/proc/{init}/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        self._opened: list[int] = [root]
        # A measurement for which nobody waits any more may still be going on.
        self._in_use = threading.Lock()
        try:
            self._box = self._open(BOX[1:], root)
            self._shm = self._open("dev/shm", root)
            self._out = self._open("out", self._box)
            self.workspace = self._open(WORKSPACE.removeprefix(f"{BOX}/"), self._box)
        except BaseException:
            self.close()
            raise
        self.adjustable = os.geteuid() == 0 and all(
            _adjust(mount, b"nr_inodes", MAX_INODES) for mount in (self._box, self._shm)
        )

    def _open(self, path: str, folder: int) -> int:
        descriptor = os.open(path, OPEN_FOLDER, dir_fd=folder)
        self._opened.append(descriptor)
        return descriptor

    def resize(self, size_bytes: int) -> None:
        """Change the size of the writable space.

        Raises:
            RuntimeFailure: it is not `adjustable`.
        """
        if not (self.adjustable and _adjust(self._box, b"size", size_bytes)):
            raise RuntimeFailure("the box cannot be resized")

    def used_bytes(self) -> int:
        """Bytes that the workspace, ``/tmp`` and the output folder hold together."""
        found = os.fstatvfs(self._box)
        return (found.f_blocks - found.f_bfree) * found.f_frsize

    def memory_bytes(self) -> int:
        """Memory behind the whole writable space, with ``/dev/shm`` and inodes.

        It is 0 once this is closed. Any thread may call it.
        """
        total = 0
        with self._in_use:
            for descriptor in (self._box, self._shm) if self._opened else ():
                found = os.fstatvfs(descriptor)
                total += (found.f_blocks - found.f_bfree) * found.f_frsize
                total += (found.f_files - found.f_ffree) * _INODE_BYTES
        return total

    def has_too_many_inodes(self) -> bool:
        """Whether the limit on inodes is exceeded; False if the kernel enforces it."""
        if self.adjustable:
            return False
        return any(
            found.f_files - found.f_ffree > MAX_INODES
            for found in (os.fstatvfs(self._box), os.fstatvfs(self._shm))
        )

    def is_full(self) -> bool:
        """Whether no block or no inode is free."""
        found = os.fstatvfs(self._box)
        return found.f_bfree == 0 or found.f_ffree == 0

    async def collect(self, max_bytes: int) -> Collected:
        """The artifacts; call it when nothing in the box runs any more."""
        with os.scandir(self._out) as entries:
            if next(entries, None) is None:
                return Collected()
        collecting = asyncio.ensure_future(asyncio.to_thread(collect, self._out, max_bytes))
        try:
            return await asyncio.shield(collecting)
        finally:
            await asyncio.wait({collecting})  # it uses descriptors that are closed afterwards

    def close(self) -> None:
        """Close the descriptors; the kernel then frees the memory."""
        with self._in_use:
            while self._opened:
                os.close(self._opened.pop())


def _adjust(mount: int, option: bytes, value: int) -> bool:
    """Change an option of a mounted tmpfs, which takes root; whether that succeeded."""
    libc = ctypes.CDLL(None, use_errno=True)
    context = libc.syscall(_FSPICK, mount, b"", _FSPICK_EMPTY_PATH | _FSPICK_CLOEXEC)
    if context < 0:
        return False
    try:
        set_string = (context, _FSCONFIG_SET_STRING, option, str(value).encode(), 0)
        reconfigure = (context, _FSCONFIG_CMD_RECONFIGURE, None, None, 0)
        return all(libc.syscall(_FSCONFIG, *call) == 0 for call in (set_string, reconfigure))
    finally:
        os.close(context)

"""Mounts and unmounts size-limited file systems; see mount(2), umount2(2) and tmpfs(5)."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

# linux/mount.h
_MS_NOSUID = 0x2
_MS_NODEV = 0x4
_MS_REMOUNT = 0x20
_MNT_DETACH = 0x2
_UMOUNT_NOFOLLOW = 0x8

_FLAGS = _MS_NOSUID | _MS_NODEV

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mount.argtypes = (
    *(ctypes.c_char_p, ctypes.c_char_p, ctypes.c_char_p),
    *(ctypes.c_ulong, ctypes.c_char_p),
)


def mount_tmpfs(folder: Path, size_bytes: int, inodes: int) -> None:
    """Mount an empty tmpfs, nosuid and nodev, owned by this process's user.

    Raises:
        OSError: the kernel refuses, for example without CAP_SYS_ADMIN.
    """
    _mount(folder, _FLAGS, f"size={size_bytes},nr_inodes={inodes},mode=0755")


def resize_tmpfs(folder: Path, size_bytes: int, inodes: int) -> None:
    """Change the limits of a mounted tmpfs, which also changes them at its bind mounts."""
    _mount(folder, _FLAGS | _MS_REMOUNT, f"size={size_bytes},nr_inodes={inodes}")


def unmount(folder: Path) -> None:
    """Unmount at once; files still open in it exist until they are closed.

    Raises:
        OSError: nothing is mounted there, or the kernel refuses.
    """
    if _libc.umount2(os.fsencode(folder), _MNT_DETACH | _UMOUNT_NOFOLLOW) != 0:
        raise _error(folder)


def _mount(folder: Path, flags: int, options: str) -> None:
    if _libc.mount(b"qlp-sandbox", os.fsencode(folder), b"tmpfs", flags, options.encode()) != 0:
        raise _error(folder)


def _error(folder: Path) -> OSError:
    number = ctypes.get_errno()
    return OSError(number, os.strerror(number), str(folder))

"""Tests whether this container is allowed to run an engine, and drops what the host never needs.

See capabilities(7).
"""

from __future__ import annotations

import ctypes
import os
import subprocess
from pathlib import Path

_CAP_SYS_ADMIN = 21
_PR_CAPBSET_DROP = 24
_PR_SET_NO_NEW_PRIVS = 38

#: The capabilities that the host uses as root, numbered as in linux/capability.h: 0 CHOWN,
#: 1 DAC_OVERRIDE, 3 FOWNER and 5 KILL for boxes' files and processes; 6 SETGID, 7 SETUID and
#: 8 SETPCAP to become a box's user; 19 SYS_PTRACE to name the programs in a box; 21 SYS_ADMIN for
#: mounts and cgroups; 24 SYS_RESOURCE for limits; 37 AUDIT_READ to count refused system calls.
KEPT = frozenset({0, 1, 3, 5, 6, 7, 8, 19, _CAP_SYS_ADMIN, 24, 37})

FIX = (
    "run the container privileged (docker run --privileged); where the platform does not allow"
    " that, use the sessions or the confined runtime"
)


def missing() -> str | None:
    """Why no engine can run here; None if one can."""
    if not _effective() >> _CAP_SYS_ADMIN & 1:
        return "the container has no CAP_SYS_ADMIN"
    probe = ["unshare", "--mount", "mount", "-t", "tmpfs", "probe", "/mnt"]
    done = subprocess.run(probe, capture_output=True, text=True, timeout=10, check=False)
    if done.returncode != 0:
        return f"the container may not mount: {done.stderr.strip() or done.returncode}"
    return None


def _effective() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("CapEff:"):
            return int(line.split()[1], 16)
    raise RuntimeError("/proc/self/status has no CapEff")


def drop() -> None:
    """Give up every capability but `KEPT`, for this process and all it starts.

    Raises:
        OSError: the kernel refuses.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    last = int(Path("/proc/sys/kernel/cap_last_cap").read_text())
    for capability in set(range(last + 1)) - KEPT:
        if libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0) != 0:
            number = ctypes.get_errno()
            raise OSError(number, f"drop capability {capability}: {os.strerror(number)}")
    if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "set no_new_privs")

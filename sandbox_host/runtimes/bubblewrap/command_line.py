"""The command line of ``bwrap``, which decides what a box looks like from inside."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from sandbox_host.linux.cgroups.types import Cgroup
from sandbox_host.runtimes.base import BOX, BOX_UID, OUTPUT, SHM_BYTES, TEMPORARY, WORKSPACE
from sandbox_host.runtimes.interpreters import Interpreter

_TOP_LEVEL = ("bin", "sbin", "lib", "lib64", "lib32", "libx32")
_ETC = ("ld.so.cache", "alternatives")

#: A box's processes that are not the program's: ``bwrap`` itself and the box's PID 1.
OWN_PROCESSES = 2

#: Where a program sees its job's files read-only.
_INPUT = "/in"

_ISOLATION = [
    *("--unshare-all", "--unshare-user", "--disable-userns"),
    *("--die-with-parent", "--new-session", "--cap-drop", "ALL", "--clearenv"),
    *("--uid", str(BOX_UID), "--gid", str(BOX_UID), "--hostname", "sandbox"),
]


@dataclass(frozen=True)
class Descriptors:
    """Descriptors that ``bwrap`` inherits.

    Attributes:
        identity: of `IDENTITY_FILES`, by path; each is read once.
        seccomp: of the filter, read once; None for no filter.
        status: of the pipe to which ``bwrap`` reports its progress.
    """

    identity: dict[str, int]
    seccomp: int | None
    status: int


def root_arguments(interpreters: Iterable[Interpreter]) -> list[str]:
    """A minimal read-only root: the system's programs and libraries, but none of its data."""
    arguments = ["--ro-bind", "/usr", "/usr"]
    for name in _TOP_LEVEL:
        path = Path("/") / name
        if path.is_symlink():
            arguments += ["--symlink", str(path.readlink()), str(path)]
        elif path.is_dir():
            arguments += ["--ro-bind", str(path), str(path)]
    for name in _ETC:
        arguments += ["--ro-bind-try", f"/etc/{name}", f"/etc/{name}"]
    for folder in sorted({found.bind for found in interpreters if found.bind is not None}):
        arguments += ["--ro-bind", folder, folder]
    return arguments


#: Files in ``/etc`` that make user names and host names resolve.
IDENTITY_FILES = {
    "/etc/passwd": f"sandbox:x:{BOX_UID}:{BOX_UID}:sandbox:{WORKSPACE}:/bin/sh\n".encode(),
    "/etc/group": f"sandbox:x:{BOX_UID}:\n".encode(),
    "/etc/hosts": b"127.0.0.1 localhost sandbox\n::1 localhost\n",
}


def box_arguments(
    root: Iterable[str], inherited: Descriptors, inputs: Path, disk_bytes: int
) -> list[str]:
    """The options of one box, from the namespaces to the working directory.

    Args:
        root: see `root_arguments`.
        inherited: the descriptors to use.
        inputs: the folder to show as ``/in``.
        disk_bytes: size of the writable space.
    """
    arguments = [*_ISOLATION]
    arguments += root
    arguments += ["--proc", "/proc", "--ro-bind", "/proc/sys", "/proc/sys", "--dev", "/dev"]
    arguments += ["--size", str(SHM_BYTES), "--perms", "1777", "--tmpfs", "/dev/shm"]  # noqa: S108
    arguments += ["--size", str(disk_bytes), "--perms", "0755", "--tmpfs", BOX]
    for folder in (WORKSPACE, TEMPORARY, BOX + OUTPUT):
        arguments += ["--dir", folder]
    arguments += ["--ro-bind", str(inputs), _INPUT]
    arguments += ["--symlink", TEMPORARY, "/tmp", "--symlink", BOX + OUTPUT, OUTPUT]  # noqa: S108
    for path, descriptor in inherited.identity.items():
        arguments += ["--perms", "0444", "--file", str(descriptor), path]
    arguments += ["--remount-ro", "/dev", "--remount-ro", "/", "--chdir", WORKSPACE]
    if inherited.seccomp is not None:
        arguments += ["--seccomp", str(inherited.seccomp)]
    return [*arguments, "--json-status-fd", str(inherited.status)]


#: Enters the cgroup whose files precede the dash, then executes what follows it. A process that
#: enters by itself does so almost for free; to move another one, the kernel waits for all CPUs.
_ENTER = 'while [ "$1" != - ]; do echo 0 > "$1" || exit 125; shift; done; shift; exec "$@"'


def entering(group: Cgroup | None, command: list[str]) -> list[str]:
    """The command of a shell that enters ``group`` and then executes ``command``."""
    if group is None:
        return command
    entrances = [str(entrance) for entrance in group.entrances()]
    return ["/bin/sh", "-c", _ENTER, "sh", *entrances, "-", *command]

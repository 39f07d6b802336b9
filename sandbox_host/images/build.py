"""Make the image of the docker runtime without a registry: ``python -m sandbox_host.images.build``.

``mmdebstrap`` lays out a Debian root with a shell and Python, the set-id bits are removed, and the
tar goes through ``docker import``. Takes about half a minute and 200 MB of disk.
"""

from __future__ import annotations

import argparse
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

#: The image that the docker runtime uses unless told otherwise; it holds Python and a shell.
DEFAULT_IMAGE = "qlp-sandbox:1"

#: python3, not python3-minimal: that one lacks json, ctypes and resource.
PACKAGES = ("python3", "dash", "coreutils", "grep", "sed", "findutils")

#: Run on the new root, ``$1``. ``/tmp`` leads into the one writable place, which is size-limited.
CUSTOMISE = (
    'find "$1" -xdev -perm /6000 -type f -exec chmod a-s {} +',
    'echo "sandbox:x:1000:1000:sandbox:/box/work:/bin/sh" >> "$1/etc/passwd"',
    'echo "sandbox:x:1000:" >> "$1/etc/group"',
    'mkdir -p "$1/box" && rm -rf "$1/tmp" && ln -s /box/tmp "$1/tmp"',
    'rm -rf "$1"/var/cache/* "$1"/var/lib/apt/lists/* "$1"/var/log/* "$1"/usr/share/doc/*'
    ' "$1"/usr/share/man/* "$1"/usr/share/locale/*',
)


class BuildError(Exception):
    """The image could not be made; the message says what to install or to start."""


def build(image: str = DEFAULT_IMAGE, suite: str | None = None, mirror: str | None = None) -> str:
    """Build ``image`` and return its id (``sha256:…``).

    Raises:
        BuildError: a tool is missing, or one of the steps failed.
    """
    for tool, package in (("mmdebstrap", "mmdebstrap"), ("docker", "docker.io or docker-cli")):
        if shutil.which(tool) is None:
            raise BuildError(f"{tool} is not installed (Debian package: {package})")
    with tempfile.TemporaryDirectory(prefix="qlp-image-") as folder:
        tar = Path(folder) / "root.tar"
        bootstrap = [
            "mmdebstrap",
            "--quiet",
            "--variant=essential",
            f"--include={','.join(PACKAGES)}",
            '--aptopt=Apt::Install-Recommends "false"',
            *(f"--customize-hook={step}" for step in CUSTOMISE),
            suite or _host_suite(),
            str(tar),
            *([mirror] if mirror else []),
        ]
        _run(bootstrap, "lay out the Debian root", seconds=900)
        imported = _run(
            [
                "docker",
                "import",
                "--change",
                "USER 1000:1000",
                "--change",
                "WORKDIR /box",
                str(tar),
                image,
            ],
            "import the root into the Docker engine",
            seconds=300,
        )
    return imported.strip()


def _host_suite() -> str:
    """The host's own Debian release, whose keys and mirrors it has; else the stable one."""
    try:
        release = platform.freedesktop_os_release()
    except OSError:
        release = {}
    return release.get("VERSION_CODENAME", "") if release.get("ID") == "debian" else "bookworm"


def _run(command: Sequence[str], purpose: str, seconds: float) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds, check=False)
    except subprocess.TimeoutExpired:
        raise BuildError(f"could not {purpose}: no end after {seconds:.0f} s") from None
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise BuildError(f"could not {purpose}: {last}")
    return done.stdout


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; prints the image's id."""
    parser = argparse.ArgumentParser(
        prog="python -m sandbox_host.images.build", description=__doc__
    )
    parser.add_argument("--image", default=DEFAULT_IMAGE, help="name and tag (%(default)s)")
    parser.add_argument("--suite", help="Debian release; default: the host's, else bookworm")
    parser.add_argument("--mirror", help="Debian mirror; default: the one apt on this host uses")
    options = parser.parse_args(arguments)
    try:
        sys.stdout.write(build(options.image, options.suite, options.mirror) + "\n")
    except BuildError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

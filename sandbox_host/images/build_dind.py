"""Build the sandbox host's image without a registry: ``python -m sandbox_host.images.build_dind``.

A Debian base with an engine, Python and the libraries is made like the languages' images, and the
last stage of ``sandbox_host/Dockerfile`` is built on it. The base is rebuilt only when its recipe
changes, so a change of the code costs seconds. Needs mmdebstrap, root and an engine.
"""

from __future__ import annotations

import argparse
import platform
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from sandbox_host.images import debian
from sandbox_host.images.debian import BuildError
from sandbox_host.images.engine import discard, identity_of, import_root, recipe, recipe_of

DEFAULT_IMAGE = "qlp-sandbox-host:debian"
_BASE = "qlp-sandbox-host-base:debian"

_ROOT = Path(__file__).resolve().parents[2]
_HOST = _ROOT / "sandbox_host"
_REQUIREMENTS = _HOST / "requirements.txt"
_FINISH = _HOST / "dind" / "finish-root"
_PACKAGES = ("docker.io", "tini", "python3", "bubblewrap", "mount", "ca-certificates", "tzdata")

#: Python's version in each Debian release; the libraries must fit it.
_PYTHON = {"bookworm": "3.11", "trixie": "3.13"}


def build(image: str = DEFAULT_IMAGE, suite: str | None = None, mirror: str | None = None) -> str:
    """Build the image; its ID.

    Raises:
        BuildError: a tool is missing, or one of the steps failed.
    """
    suite = suite or debian.host_suite()
    if suite not in _PYTHON:
        raise BuildError(f"Debian {suite} is not supported: use one of {', '.join(_PYTHON)}")
    made_by = recipe([suite, *_PACKAGES], [_REQUIREMENTS, _FINISH])
    if recipe_of(_BASE) != made_by:
        debian.check_tools()
        with tempfile.TemporaryDirectory(prefix="qlp-host-") as folder:
            _build_base(Path(folder), suite, mirror, made_by)
    stage = f"FROM {_BASE}\n" + (_HOST / "Dockerfile").read_text().rpartition("\nFROM base\n")[2]
    options = ["--quiet", "--network=none", f"--tag={image}", "--file=-"]
    before = identity_of(image)
    command = ["docker", "build", *options, str(_ROOT)]
    identity = debian.run(command, "add the host to its base", 300, given=stage).strip()
    if before != identity:
        discard(before)
    return identity


def _build_base(folder: Path, suite: str, mirror: str | None, made_by: str) -> None:
    tar, libraries = folder / "root.tar", folder / "opt/qlp/lib"
    wanted = ["--target", str(libraries), "--require-hashes", "--requirement", str(_REQUIREMENTS)]
    machine = platform.machine()
    wheels = ["--only-binary=:all:", f"--python-version={_PYTHON[suite]}"]
    wheels += [f"--platform=manylinux_2_{minor}_{machine}" for minor in (36, 34, 28, 17)]
    wheels.append(f"--platform=manylinux2014_{machine}")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-compile"]
    debian.run([*pip, *wheels, *wanted], "fetch the libraries", 300)
    debian.make_root(tar, _PACKAGES, suite, mirror, hook=_FINISH)
    append = ["tar", "--append", "--file", str(tar), "--owner=0", "--group=0", "-C", str(folder)]
    debian.run([*append, "opt/qlp"], "add the libraries", 60)
    import_root(tar, _BASE, made_by, ())


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; prints the image's ID."""
    parser = argparse.ArgumentParser(
        prog="python -m sandbox_host.images.build_dind", description=__doc__
    )
    parser.add_argument("--image", default=DEFAULT_IMAGE, help="name and tag (%(default)s)")
    parser.add_argument("--suite", help="Debian release; default: this machine's, or bookworm")
    parser.add_argument("--mirror", help="Debian mirror; default: the one apt uses here")
    chosen = parser.parse_args(arguments)
    try:
        sys.stdout.write(build(chosen.image, chosen.suite, chosen.mirror) + "\n")
    except BuildError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

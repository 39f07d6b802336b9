"""The package that the function app runs from: its code, and its dependencies.

Dependencies are put where the Python worker looks for them, so Azure resolves and builds nothing:
https://learn.microsoft.com/azure/azure-functions/functions-reference-python#custom-dependencies
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from infra.pipeline.client import PipelineError

ROOT = Path(__file__).resolve().parents[2]

_CODE = ("function_app.py", "host.json", "requirements.txt", "functions", "domain")
_DEPENDENCIES = ".python_packages/lib/site-packages"

#: The time of every entry, the earliest that zip can express: the same code gives the same package.
_TIME = (1980, 1, 1, 0, 0, 0)


def make_package(target: Path, python: str, platforms: tuple[str, ...]) -> int:
    """Write the package; returns the number of its files.

    Args:
        target: the zip file.
        python: the function app's Python version, for example ``3.11``.
        platforms: platform tags of wheels that fit, for example ``manylinux_2_28_x86_64``.

    Raises:
        PipelineError: pip could not get the wheels.
    """
    with tempfile.TemporaryDirectory(prefix="qlp-package-") as folder:
        site_packages = Path(folder) / _DEPENDENCIES
        _install(site_packages, python, platforms)
        entries = {path.relative_to(ROOT): path for path in _code()}
        entries |= {path.relative_to(folder): path for path in _files(site_packages)}
        with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as package:
            for name in sorted(entries):
                info = zipfile.ZipInfo(name.as_posix(), _TIME)
                info.external_attr = 0o644 << 16
                info.compress_type = zipfile.ZIP_DEFLATED
                package.writestr(info, entries[name].read_bytes())
    return len(entries)


def _install(target: Path, python: str, platforms: tuple[str, ...]) -> None:
    command = [
        *(sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"),
        *("--no-compile", "--no-deps", "--only-binary", ":all:", "--python-version", python),
        *(part for tag in platforms for part in ("--platform", tag)),
        *("--require-hashes", "--requirement", str(ROOT / "requirements.txt")),
        *("--target", str(target)),
    ]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    if found.returncode:
        last = (found.stderr.strip().splitlines() or ["no message"])[-1]
        raise PipelineError(f"pip could not get the dependencies: {last}")


def _code() -> list[Path]:
    found: list[Path] = []
    for name in _CODE:
        path = ROOT / name
        found += _files(path) if path.is_dir() else [path]
    return found


def _files(folder: Path) -> list[Path]:
    """Regular files below ``folder``, without Python's caches."""
    return [
        path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts
    ]

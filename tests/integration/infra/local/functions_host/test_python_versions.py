"""The app imports and indexes alike on every supported Python, with its azure-functions.

azure-functions is 1.x up to Python 3.12 and 2.x from 3.13.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from infra.local.stack.config import ROOT

INDEX = """
import importlib.metadata, json, function_app
functions = function_app.app.get_functions()
print(json.dumps({
    "azure-functions": importlib.metadata.version("azure-functions"),
    "functions": {
        f.get_function_name(): [json.loads(binding) for binding in f.get_raw_bindings()]
        for f in functions
    },
}))
"""


def index_with(python: str) -> Any:
    done = subprocess.run(
        [python, "-c", INDEX], cwd=ROOT, capture_output=True, text=True, check=False, timeout=200
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def declared() -> set[str]:
    """The functions' names as the blueprints' sources have them, by themselves or in a route."""
    sources = "".join(path.read_text() for path in (ROOT / "functions").glob("*.py"))
    return set(re.findall(r'(?:\bbp\.function_name\(|\bRoute\()\s*"(\w+)"', sources))


def find_python(version: str) -> str | None:
    candidates = sorted((Path.home() / ".pyenv/versions").glob(f"{version}.*/bin/python3"))
    for candidate in (shutil.which(f"python{version}"), *map(str, candidates)):
        if candidate is None:
            continue
        check = [candidate, "-c", "import sys, venv; print('%d.%d' % sys.version_info[:2])"]
        done = subprocess.run(check, capture_output=True, text=True, check=False)
        if done.stdout.strip() == version:  # a shim may exist without its interpreter
            return candidate
    return None


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("version", ["3.11", "3.12", "3.13"])
def test_the_app_indexes_alike_on(version: str, tmp_path: Path) -> None:
    here = index_with(sys.executable)
    if version == "{}.{}".format(*sys.version_info[:2]):
        there = here
    else:
        python = find_python(version)
        if python is None:
            pytest.skip(f"no Python {version} on this machine")
        # This Python's pip installs into it, and a lock is complete, so that it resolves nothing.
        environment = tmp_path / "venv"
        subprocess.run([python, "-m", "venv", "--without-pip", environment], check=True)
        subprocess.run(
            [
                *(sys.executable, "-m", "pip", "--python", environment / "bin/python", "install"),
                *("--quiet", "--disable-pip-version-check", "--no-compile", "--no-deps"),
                *("--require-hashes", "--requirement", ROOT / "requirements.txt"),
            ],
            check=True,
        )
        there = index_with(str(environment / "bin/python"))
    assert there["functions"] == here["functions"]
    assert set(there["functions"]) == declared()
    assert there["azure-functions"].startswith("2." if version == "3.13" else "1.")

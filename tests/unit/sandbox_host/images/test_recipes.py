"""What images are made from: a folder for every language, the host's imports, and their recipe."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from domain.contracts.languages import LANGUAGES
from sandbox_host.images.engine import recipe
from sandbox_host.linux.box_users import DOCKER_USERS
from sandbox_host.runtimes.base import BOX_UID
from tests.support import ROOT

IMAGES = ROOT / "sandbox_host/images"


def test_every_box_s_user_has_its_name_in_the_images() -> None:
    users = DOCKER_USERS
    named = f"for user in {BOX_UID} $(seq {users.first} {users.first + users.count - 1}); do"
    assert named in (IMAGES / "finish-root").read_text().splitlines()


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_language_has_a_recipe(language: str) -> None:
    assert (IMAGES / language / "packages").exists()
    dockerfile = (IMAGES / language / "Dockerfile").read_text()
    assert f"packages {language}/packages" in dockerfile
    assert "USER 1000:1000\n" in dockerfile


def test_the_hosts_image_holds_all_that_the_host_imports(tmp_path: Path) -> None:
    recipe = (ROOT / "sandbox_host/Dockerfile").read_text().replace("\\\n", " ")
    for line in re.findall(r"^COPY (domain.*|sandbox_host sandbox_host)$", recipe, re.MULTILINE):
        *sources, target = line.split()
        for source in sources:
            if (ROOT / source).is_dir():
                shutil.copytree(ROOT / source, tmp_path / target)
            else:
                (tmp_path / target).mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / source, tmp_path / target)
    sources = "\n".join(path.read_text() for path in (ROOT / "sandbox_host").rglob("*.py"))
    # Some are imported where they are used, after the command line was read.
    used = set(re.findall(r"^ *from (domain[\w.]*) import", sources, re.MULTILINE))
    # Of the packages, those that the application has and the host has not.
    absent = ("msgspec", "orjson", "psycopg", "openai", "numpy", "typer", "azure.functions")
    program = (
        f"import sys; sys.modules.update(dict.fromkeys({absent!r}));"
        # The finder of an editable installation has what the image lacks.
        "sys.meta_path[:] = [each for each in sys.meta_path if 'editable' not in each.__module__];"
        "import sandbox_host.dind, sandbox_host.host.serve, sandbox_host.run_once, domain;"
        f"import {', '.join(sorted(used))};"
        "print(domain.__file__)"
    )
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    loaded = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert loaded.returncode == 0, loaded.stderr
    assert loaded.stdout.startswith(str(tmp_path))


def test_a_recipe_changes_with_its_packages_and_its_files(tmp_path: Path) -> None:
    script = tmp_path / "finish-root"
    script.write_text("one")
    first = recipe(["bookworm", "python3"], [script])
    assert recipe(["bookworm", "python3"], [script]) == first
    assert recipe(["bookworm", "python3", "ruby"], [script]) != first
    script.write_text("two")
    assert recipe(["bookworm", "python3"], [script]) != first

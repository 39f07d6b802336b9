"""The languages' images, as the recipe makes them on this machine's engine."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from domain.contracts.languages import LANGUAGES
from sandbox_host.images.build import build
from sandbox_host.settings import DEFAULT_IMAGES
from tests.support import ROOT
from tests.support.sandbox.runtimes import ensure_image

pytestmark = [pytest.mark.docker, pytest.mark.timeout(600)]


def inside(language: str, *command: str) -> subprocess.CompletedProcess[str]:
    options = ["--rm", "--interactive", "--network=none", "--read-only", "--tmpfs=/box"]
    image = DEFAULT_IMAGES.format(language=language)
    return subprocess.run(
        ["docker", "run", *options, image, *command],
        input="",
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module", autouse=True)
async def _images() -> None:
    await ensure_image(tuple(LANGUAGES))


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_interpreter_and_the_agents_python_run_as_an_ordinary_user(language: str) -> None:
    ran = inside(language, LANGUAGES[language].interpreter)  # the empty program
    assert (ran.returncode, ran.stderr) == (0, "")
    modules = "import ctypes, json, os, select, signal; print(os.getuid(), os.getgid())"
    assert inside(language, "python3", "-I", "-S", "-c", modules).stdout == "1000 1000\n"


@pytest.mark.parametrize("language", LANGUAGES)
def test_nothing_in_it_gains_rights_or_installs_anything(language: str) -> None:
    set_id = inside(language, "find", "/", "-xdev", "-perm", "/6000")
    assert set_id.stdout == ""
    writable = inside(language, "find", "/usr", "/etc", "/bin/", "-xdev", "-writable")
    assert writable.stdout == ""
    managers = "for name in apt apt-get dpkg mmdebstrap pip; do command -v $name; done; true"
    assert inside(language, "sh", "-c", managers).stdout == ""


def test_what_is_there_by_the_same_recipe_is_not_built_again() -> None:
    build()
    assert build() == []


def test_one_name_for_many_images_is_refused() -> None:
    done = command_line(os.environ["PATH"], "--image", "one:1")
    assert done.returncode == 1
    assert done.stderr == "4 images cannot all be named one:1: add {language} to it\n"


def test_what_is_missing_on_this_machine_is_named(tmp_path: Path) -> None:
    done = command_line(str(tmp_path), "--force")
    assert done.returncode == 1
    assert "docker is not installed" in done.stderr or "mmdebstrap is not installed" in done.stderr


def command_line(path: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "sandbox_host.images.build", *arguments],
        cwd=ROOT,
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        check=False,
    )

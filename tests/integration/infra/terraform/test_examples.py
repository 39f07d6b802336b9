"""Every module has an example, and each example can be planned."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.support.terraform.plans import TERRAFORM, Workspace

#: What an example leaves to whoever tries it.
GIVEN = {
    "database": '  data_administrators = "00000000-0000-0000-0000-00000000000a"',
    "sandbox_scale_set": '  public_key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ5fQh5x6Qe1yTn8"',
}

pytestmark = pytest.mark.timeout(300)

MODULES = sorted(path.name for path in (TERRAFORM / "modules").iterdir())


def test_every_module_has_an_example() -> None:
    without = [m for m in MODULES if not list((TERRAFORM / "modules" / m).glob("examples/*/*.tf"))]
    assert without == []


def test_every_example_can_be_planned(provider_mirror: Path, tmp_path: Path) -> None:
    shutil.copytree(TERRAFORM / "modules", tmp_path / "modules")
    calls = [
        f'module "{m}" {{\n  source = "./modules/{m}/examples/basic"\n{GIVEN.get(m, "")}\n}}\n'
        for m in MODULES
    ]
    (tmp_path / "main.tf").write_text("\n".join(calls))
    workspace = Workspace(tmp_path, provider_mirror)
    workspace.run("init")
    workspace.run("plan", "-refresh=false", "-out=plan")

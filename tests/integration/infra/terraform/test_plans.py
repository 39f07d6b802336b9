"""The plans of production and development keep every rule, and mistakes break the rule for them."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.support.terraform import rules
from tests.support.terraform.mistakes import MISTAKES, Mistake, Plans
from tests.support.terraform.plans import TERRAFORM, TerraformFailed, Workspace
from tests.support.terraform.rules import Rule
from tests.support.terraform.rules.services import nothing_is_premium

# On a busy machine a plan takes its time.
pytestmark = pytest.mark.timeout(300)


@pytest.mark.parametrize("rule", rules.PRODUCTION, ids=lambda rule: rule.__name__)
def test_production_keeps(rule: Rule, plans: Plans) -> None:
    assert rule(plans.prod) == []


@pytest.mark.parametrize("rule", rules.DEVELOPMENT, ids=lambda rule: rule.__name__)
def test_development_keeps(rule: Rule, plans: Plans) -> None:
    assert rule(plans.dev) == []


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake.rule.__name__)
def test_a_mistake_breaks(mistake: Mistake, plans: Plans) -> None:
    found = mistake.rule(plans.mistaken)
    assert any(mistake.finding in problem for problem in found), found


def test_every_rule_of_production_has_a_mistake_that_breaks_it() -> None:
    assert {mistake.rule for mistake in MISTAKES} == set(rules.PRODUCTION)


def test_production_is_not_development(plans: Plans) -> None:
    assert nothing_is_premium(plans.prod)


def test_a_wrong_argument_is_refused(provider_mirror: Path, tmp_path: Path) -> None:
    folder = tmp_path / "registry"
    shutil.copytree(TERRAFORM / "modules" / "registry", folder)
    workspace = Workspace(folder, provider_mirror)
    workspace.run("init")
    workspace.run("validate")
    workspace.replace("main.tf", "admin_enabled ", "admin_enabld ")
    with pytest.raises(TerraformFailed, match="Unsupported argument"):
        workspace.run("validate")

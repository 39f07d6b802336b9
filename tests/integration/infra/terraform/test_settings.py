"""What Terraform sets is what the application and the sandbox host read, under the same names."""

from __future__ import annotations

import json

import pytest

from domain.settings import Settings
from sandbox_host.settings import Settings as SandboxSettings
from tests.support import ROOT
from tests.support.terraform.mistakes import Plans

pytestmark = pytest.mark.timeout(300)

#: Known only once the database is there, and to Key Vault.
_LATER = {
    "DATABASE_URL": "postgresql://app@server.postgres.database.azure.com/qlp",
    "QLP_RUN_TOKEN_KEY": "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=",
}


def _application(plans: Plans, kind: str = "azurerm_linux_function_app") -> dict[str, str]:
    settings: dict[str, str] = plans.prod.only(kind).values["app_settings"]
    return settings


def test_the_application_starts_with_its_settings(plans: Plans) -> None:
    settings = Settings.from_environment({**_application(plans), **_LATER})
    assert settings.service_bus_namespace
    assert settings.jobs_queue == "sandbox-jobs"


def test_every_setting_of_the_template_is_set(plans: Plans) -> None:
    template = json.loads((ROOT / "local.settings.template.json").read_text())["Values"]
    ours = {name for name in template if name.startswith("QLP_")}
    assert ours - _application(plans).keys() == set()


def test_nothing_is_set_that_nobody_reads(plans: Plans) -> None:
    template = json.loads((ROOT / "local.settings.template.json").read_text())["Values"]
    known = {field.alias for field in Settings.model_fields.values()} | template.keys()
    ours = {name for name in _application(plans) if name.startswith("QLP_")}
    assert ours - known == set()


def test_the_sandbox_host_starts_with_its_settings(plans: Plans) -> None:
    given = _application(plans, "azurerm_linux_web_app")
    settings = SandboxSettings.from_environment(given)
    assert settings.runtimes == ("docker", "bubblewrap")
    assert str(settings.health_port) == given["WEBSITES_PORT"]
    known = {field.alias for field in SandboxSettings.model_fields.values()}
    assert {name for name in given if name.startswith("QLP_")} - known == set()


def test_the_slot_has_the_same_settings(plans: Plans) -> None:
    plan = plans.prod
    for kind in ("azurerm_linux_function_app", "azurerm_linux_web_app"):
        slot = plan.only(f"{kind}_slot").values["app_settings"]
        assert slot == plan.only(kind).values["app_settings"]

"""Whoever kills a part that does not stop waits for longer than the part may take."""

from __future__ import annotations

import re

import pytest

from infra.local.functions_host.__main__ import DEFAULT_GRACE_SECONDS
from infra.local.functions_host.stopping import STOP_SECONDS as FUNCTIONS_STOP_SECONDS
from infra.local.postgres.process import STOP_SECONDS as POSTGRES_STOP_SECONDS
from sandbox_host.dind.engine import STOP_SECONDS as ENGINE_STOP_SECONDS
from sandbox_host.settings import STOP_SECONDS as SANDBOX_STOP_SECONDS
from sandbox_host.settings import Settings
from tests.support import ROOT

_AROUND_THE_DRAIN = SANDBOX_STOP_SECONDS + ENGINE_STOP_SECONDS


def number(file: str, pattern: str) -> float:
    """The only number that a file has in this place."""
    [found] = re.findall(pattern, (ROOT / file).read_text(), re.DOTALL | re.MULTILINE)
    return float(found)


def grace_in_compose(service: str) -> float:
    block = rf"^  {service}:\n(?:    [^\n]*\n)*?    stop_grace_period: ([0-9]+)s$"
    return number("compose.yaml", block)


def test_containers_of_compose_get_the_time_that_they_need() -> None:
    drain = Settings.model_fields["drain_seconds"].default
    assert grace_in_compose("sandbox") > drain + _AROUND_THE_DRAIN
    assert grace_in_compose("functions") > DEFAULT_GRACE_SECONDS + FUNCTIONS_STOP_SECONDS
    assert grace_in_compose("postgres") >= POSTGRES_STOP_SECONDS


@pytest.mark.parametrize(
    ("file", "pattern"),
    [
        ("app_service/locals.tf", r'WEBSITES_CONTAINER_STOP_TIME_LIMIT = "([0-9]+)"'),
        ("sandbox_scale_set/files/qlp-sandbox.service.tftpl", r"docker stop --time ([0-9]+)"),
    ],
)
def test_azure_waits_for_the_drain_that_terraform_sets(file: str, pattern: str) -> None:
    drain = number("infra/terraform/settings.tf", r'QLP_SANDBOX_DRAIN_SECONDS = "([0-9]+)"')
    assert number(f"infra/terraform/modules/{file}", pattern) > drain + _AROUND_THE_DRAIN

"""Settings: what the environment, local.settings.json and %NAME% come to."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from infra.local.functions_host import settings
from infra.local.functions_host.errors import HostStartupError
from infra.local.functions_host.service_bus.connection import resolve_connection


def write(path: Path, document: Any) -> Path:
    path.write_text(document if isinstance(document, str) else json.dumps(document))
    return path


def test_values_and_port_are_read_and_comments_are_allowed(tmp_path: Path) -> None:
    path = write(
        tmp_path / "local.settings.json",
        '{ // as Core Tools writes it\n "Values": {"A": "http://x//y", "B": ""}, /* z */'
        ' "Host": {"LocalHttpPort": 7072} }',
    )
    local = settings.read_local_settings(path)
    assert local.values == {"A": "http://x//y", "B": ""}
    assert local.http_port == 7072


@pytest.mark.parametrize(
    ("document", "named"),
    [
        ({"Values": {"Retries": 3}}, "Values.Retries"),
        ({"Values": ["A"]}, "Values must be an object"),
        ({"Values": {"A=B": "x"}}, "A=B"),
        ({"IsEncrypted": True}, "IsEncrypted"),
        ({"Host": {"LocalHttpPort": 70000}}, "LocalHttpPort"),
        ({"Host": {"LocalHttpPort": "7071"}}, "LocalHttpPort"),
        ("[]", "JSON object"),
        ("{", "not valid JSON"),
    ],
)
def test_a_wrong_settings_file_is_refused_by_name(
    tmp_path: Path, document: Any, named: str
) -> None:
    path = write(tmp_path / "local.settings.json", document)
    with pytest.raises(HostStartupError, match=r"local\.settings\.json") as refusal:
        settings.read_local_settings(path)
    assert named in str(refusal.value)


def test_a_connection_is_taken_as_the_app_takes_it() -> None:
    text = "Endpoint=sb://h/;SharedAccessKeyName=n;SharedAccessKey=k"
    assert resolve_connection("Bus", {"Bus": f' "{text}"'}, "f").connection_string == text
    named = {"Bus__fullyQualifiedNamespace": "https://n.servicebus.windows.net/"}
    assert resolve_connection("Bus", named, "f").namespace == "n.servicebus.windows.net"


def test_a_missing_file_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(HostStartupError, match=r"absent\.json"):
        settings.read_local_settings(tmp_path / "absent.json")


def test_the_environment_wins_over_the_file() -> None:
    environ = {"A": "environment"}
    settings.export({"A": "file", "B": "file"}, environ)
    assert environ == {"A": "environment", "B": "file"}


def test_settings_are_resolved_anywhere_in_a_binding() -> None:
    environ = {"Queue": "orders", "Stage__Name": "dev"}
    assert settings.resolve("%Queue%-%Stage:Name%", environ, "function f") == "orders-dev"
    assert settings.resolve("plain", environ, "function f") == "plain"


def test_a_missing_setting_names_function_binding_and_setting() -> None:
    with pytest.raises(HostStartupError, match=r"function f, binding 'm', queueName.*'Queue'"):
        settings.resolve("%Queue%", {}, "function f, binding 'm', queueName")


def test_an_unclosed_percent_sign_is_refused() -> None:
    with pytest.raises(HostStartupError, match="closing"):
        settings.resolve("50%", {}, "function f")


@pytest.mark.parametrize(
    ("environ", "disabled"),
    [
        ({"AzureWebJobs.f.Disabled": "true"}, True),
        ({"AzureWebJobs__f__Disabled": "1"}, True),
        ({"AzureWebJobs.f.Disabled": "False"}, False),
        ({"AzureWebJobs.g.Disabled": "true"}, False),
        ({}, False),
    ],
)
def test_a_function_is_disabled_by_its_setting(environ: dict[str, str], disabled: bool) -> None:
    assert settings.is_disabled("f", environ) is disabled

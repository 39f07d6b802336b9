"""The summary of a plan shows what would be deleted, and no values."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from infra.pipeline.__main__ import DESTRUCTIVE, WRONG_INPUT, main


def entry(address: str, *actions: str) -> dict[str, Any]:
    return {
        "address": address,
        "type": address.split(".")[-2],
        "change": {"actions": list(actions), "after": {"password": "hunter2"}},
    }


def write(path: Path, *changes: dict[str, Any], **more: Any) -> str:
    plan = {"format_version": "1.2", "resource_changes": list(changes), **more}
    path.write_text(json.dumps(plan))
    return str(path)


def test_changes_are_counted_and_listed_without_their_values(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = write(
        tmp_path / "plan.json",
        entry("module.app_service.azurerm_service_plan.main", "update"),
        entry("azurerm_subnet.a", "create"),
        entry("azurerm_subnet.b", "create"),
        entry("azurerm_subnet.c", "no-op"),
        entry("data.azurerm_client_config.me", "read"),
    )
    assert main(["plan-summary", plan]) == 0
    shown = capsys.readouterr().out
    assert "2 to create, 1 to update" in shown
    assert "| `module.app_service.azurerm_service_plan.main` | update |" in shown
    assert "azurerm_subnet.c" not in shown
    assert "hunter2" not in shown


def test_an_empty_plan_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan-summary", write(tmp_path / "plan.json")]) == 0
    assert "No changes." in capsys.readouterr().out


@pytest.mark.parametrize("actions", [("delete",), ("delete", "create"), ("create", "delete")])
def test_a_plan_that_deletes_data_is_stopped_until_allowed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], actions: tuple[str, ...]
) -> None:
    server = "module.database.azurerm_postgresql_flexible_server.main"
    plan = write(tmp_path / "plan.json", entry(server, *actions))
    assert main(["plan-summary", plan]) == DESTRUCTIVE
    shown = capsys.readouterr()
    assert f"- `{server}`" in shown.out
    assert "--allow-destroy" in shown.err
    assert main(["plan-summary", plan, "--allow-destroy"]) == 0


def test_what_changed_outside_is_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    drift = [entry("azurerm_key_vault.main", "update")]
    assert main(["plan-summary", write(tmp_path / "plan.json", resource_drift=drift)]) == 0
    shown = capsys.readouterr().out
    assert "Changed outside" in shown
    assert "| `azurerm_key_vault.main` | update |" in shown


@pytest.mark.parametrize("text", ["{}", "[", '{"format_version": "2.0"}'])
def test_a_file_that_is_not_a_plan_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str
) -> None:
    path = tmp_path / "plan.json"
    path.write_text(text)
    assert main(["plan-summary", str(path)]) == WRONG_INPUT
    assert "wrong input" in capsys.readouterr().err

"""Summarises a Terraform plan for the person who approves it.

Reads ``terraform show -json PLAN`` (format version 1,
https://developer.hashicorp.com/terraform/internals/json-format). Values are never shown, as they
may be sensitive.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

#: Types that hold data or an identity, which applying again does not bring back.
PROTECTED = (
    "azurerm_postgresql_flexible_server",
    "azurerm_servicebus_namespace",
    "azurerm_key_vault",
    "azurerm_key_vault_key",
    "azurerm_storage_account",
    "azurerm_log_analytics_workspace",
    "azurerm_resource_group",
)

_LISTED = 200


@dataclass(frozen=True, slots=True)
class Change:
    """A resource that changes: its address, its type, and what happens to it."""

    address: str
    type: str
    action: str

    @property
    def destroys_data(self) -> bool:
        """Whether it destroys something that cannot be made again."""
        return self.action in ("delete", "replace") and self.type in PROTECTED


@dataclass(frozen=True, slots=True)
class Summary:
    """All changes of a plan, and changes made outside of Terraform (drift)."""

    changes: tuple[Change, ...]
    drifted: tuple[Change, ...]

    @property
    def destructive(self) -> tuple[Change, ...]:
        """Changes that would destroy data."""
        return tuple(change for change in self.changes if change.destroys_data)

    def markdown(self) -> str:
        """The text for a job's summary page."""
        counts = Counter(change.action for change in self.changes)
        head = ", ".join(f"{count} to {action}" for action, count in sorted(counts.items()))
        lines = ["### Terraform plan", "", head or "No changes."]
        if self.destructive:
            lines += ["", "**Destroys data:**", ""]
            lines += [f"- `{change.address}` ({change.action})" for change in self.destructive]
        lines += _table("Changes", self.changes) + _table(
            "Changed outside of Terraform", self.drifted
        )
        return "\n".join(lines) + "\n"


def summarise(plan: dict[str, Any]) -> Summary:
    """The summary of a plan as JSON.

    Raises:
        ValueError: it is not a plan, or has an unknown format version.
    """
    version = str(plan.get("format_version", ""))
    if version.split(".")[0] != "1":
        raise ValueError(f"format_version {version!r}: give the output of terraform show -json")
    return Summary(
        _changes(plan.get("resource_changes", [])), _changes(plan.get("resource_drift", []))
    )


def _changes(entries: list[dict[str, Any]]) -> tuple[Change, ...]:
    found = (
        Change(entry["address"], entry["type"], _action(entry["change"]["actions"]))
        for entry in entries
    )
    return tuple(change for change in found if change.action not in ("no-op", "read"))


def _action(actions: list[str]) -> str:
    return "replace" if set(actions) == {"create", "delete"} else "+".join(actions)


def _table(title: str, changes: tuple[Change, ...]) -> list[str]:
    if not changes:
        return []
    rows = [f"| `{change.address}` | {change.action} |" for change in changes[:_LISTED]]
    if len(changes) > _LISTED:
        rows.append(f"| … {len(changes) - _LISTED} more | |")
    return ["", f"#### {title}", "", "| resource | action |", "|---|---|", *rows]

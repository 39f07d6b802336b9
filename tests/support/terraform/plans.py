"""Plans of ``infra/terraform`` made without a cloud, and what is asserted about them.

Providers are stand-ins that know the schema and nothing else, so what Azure would compute is
unknown in a plan and everything that we wrote is in it.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support import ROOT

TERRAFORM = ROOT / "infra" / "terraform"

#: Apps, and the slots that releases go to first.
SITES = ("azurerm_linux_function_app", "azurerm_linux_web_app")
SLOTS = ("azurerm_linux_function_app_slot", "azurerm_linux_web_app_slot")

_VARIABLES = {
    "TF_VAR_alert_emails": '["operations@example.com"]',
    "TF_VAR_database_administrator": (
        '{object_id="00000000-0000-0000-0000-00000000000a",principal_name="administrators"}'
    ),
}


class TerraformFailed(Exception):
    """Terraform refused; the message is what it said."""


@dataclass(frozen=True)
class Resource:
    """A resource as it is planned."""

    address: str
    type: str
    index: str
    values: dict[str, Any]

    def block(self, name: str) -> dict[str, Any]:
        """The values of a block that may be given once; empty if it is not given."""
        blocks = self.values.get(name) or [{}]
        return dict(blocks[0])


@dataclass(frozen=True)
class Plan:
    """A plan, as ``terraform show -json`` tells it."""

    document: dict[str, Any]

    def resources(self, *types: str) -> list[Resource]:
        """The resources of some types, or all."""
        return [
            Resource(
                change["address"],
                change["type"],
                str(change.get("index", "")),
                change["change"]["after"],
            )
            for change in self.document["resource_changes"]
            if not types or change["type"] in types
        ]

    def only(self, kind: str, address: str = "") -> Resource:
        """The one resource of a type, or of it at an address."""
        found = [each for each in self.resources(kind) if address in each.address]
        assert len(found) == 1, f"{kind}: one was expected, {len(found)} are planned"
        return found[0]

    def database_configuration(self) -> dict[str, str]:
        """PostgreSQL's parameters that are set, by name."""
        kind = "azurerm_postgresql_flexible_server_configuration"
        return {each.values["name"]: each.values["value"] for each in self.resources(kind)}

    def configured(self, kind: str) -> Iterator[tuple[str, dict[str, Any]]]:
        """Address and expressions of every resource block of a type, in all modules."""
        yield from _configured(self.document["configuration"]["root_module"], "", kind)

    def output_references(self) -> dict[str, set[str]]:
        """Per output of the root module what it names, through the outputs of modules."""
        root = self.document["configuration"]["root_module"]
        return {name: set(_named(output, root)) for name, output in root["outputs"].items()}


def _configured(
    module: dict[str, Any], prefix: str, kind: str
) -> Iterator[tuple[str, dict[str, Any]]]:
    for each in module.get("resources", []):
        if each["type"] == kind:
            yield f"{prefix}{each['address']}", each["expressions"]
    for name, call in module.get("module_calls", {}).items():
        yield from _configured(call["module"], f"{prefix}module.{name}.", kind)


def _named(output: dict[str, Any], module: dict[str, Any]) -> Iterator[str]:
    for reference in _references(output["expression"]):
        yield reference
        parts = re.match(r"module\.(\w+)(?:\[[^]]*\])?\.(\w+)", reference)
        if parts:
            child = module["module_calls"][parts[1]]["module"]
            yield from _named(child["outputs"][parts[2]], child)


def _references(expression: object) -> Iterator[str]:
    if isinstance(expression, dict):
        yield from expression.get("references", [])
        for value in expression.values():
            yield from _references(value)
    elif isinstance(expression, list):
        for value in expression:
            yield from _references(value)


class Workspace:
    """A copy of the configuration that can be planned, and changed before."""

    def __init__(self, folder: Path, cli_config: Path) -> None:
        self._folder = folder
        self._environment = {
            **os.environ,
            **_VARIABLES,
            "TF_CLI_CONFIG_FILE": str(cli_config),
            "TF_IN_AUTOMATION": "1",
            "TF_INPUT": "0",
            "CHECKPOINT_DISABLE": "1",
        }

    @classmethod
    def initialised(cls, folder: Path, cli_config: Path) -> Workspace:
        """A copy of the configuration with its providers, and a state of its own on disk."""
        shutil.copytree(TERRAFORM, folder, ignore=shutil.ignore_patterns(".terraform*", "*.tfplan"))
        (folder / "backend_override.tf").write_text('terraform {\n  backend "local" {}\n}\n')
        workspace = cls(folder, cli_config)
        workspace.run("init")
        return workspace

    def copy(self, folder: Path) -> Workspace:
        """A copy with its providers."""
        shutil.copytree(self._folder, folder, symlinks=True)
        copied = Workspace(folder, Path(self._environment["TF_CLI_CONFIG_FILE"]))
        return copied

    def replace(self, file: str, old: str, new: str) -> None:
        """Change a file; what is replaced must be there once or more."""
        path = self._folder / file
        text = path.read_text()
        assert old in text, f"{file} does not hold {old!r} any more: mend the test"
        path.write_text(text.replace(old, new))

    def plan(self, environment: str) -> Plan:
        """What would be made in an empty subscription."""
        name = f"{environment}.tfplan"
        self.run(
            "plan", "-refresh=false", f"-out={name}", f"-var-file=environments/{environment}.tfvars"
        )
        return Plan(json.loads(self.run("show", "-json", name)))

    def run(self, *arguments: str) -> str:
        """What Terraform prints.

        Raises:
            TerraformFailed: it exits with anything but 0.
        """
        command, *rest = arguments
        color = [] if "-json" in rest else ["-no-color"]
        done = subprocess.run(
            ["terraform", command, *color, *rest],
            cwd=self._folder,
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=250,
        )
        if done.returncode != 0:
            raise TerraformFailed(f"{done.stdout}\n{done.stderr}")
        return done.stdout

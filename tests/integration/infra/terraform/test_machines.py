"""What a machine of the scale set is told at its first start."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.support.terraform.plans import TERRAFORM, Workspace

pytestmark = pytest.mark.timeout(300)

_ROOT = """
module "machines" {
  source               = "./sandbox_scale_set"
  name                 = "test"
  location             = "westeurope"
  resource_group_name  = "rg-test"
  subnet_id            = "subnet"
  admin_ssh_public_key = "ssh-ed25519 AAAA"
  identity             = { id = "identity", client_id = "the-client" }
  registry_server      = "example.azurecr.io"
  image                = "qlp-sandbox-host:1"
  settings             = { QLP_SANDBOX_HEALTH_PORT = "8081", QLP_SANDBOX_CONCURRENCY = "2" }
  queue                = { namespace_id = "namespace", name = "sandbox-jobs" }
}

provider "azurerm" {
  features {}
}

output "files" {
  value = module.machines.files
}

output "cloud_init" {
  value = module.machines.cloud_init
}
"""

_SHOWN = """
output "files" {
  value = local.files
}

output "cloud_init" {
  value = yamldecode(local.cloud_init)
}
"""


@pytest.fixture(scope="module")
def told(provider_mirror: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Files and commands of a machine's cloud-init, as Terraform renders them."""
    folder = tmp_path_factory.mktemp("machines")
    module = folder / "sandbox_scale_set"
    shutil.copytree(TERRAFORM / "modules" / "sandbox_scale_set", module)
    (module / "shown.tf").write_text(_SHOWN)
    (folder / "main.tf").write_text(_ROOT)
    workspace = Workspace(folder, provider_mirror)
    workspace.run("init")
    workspace.run("plan", "-refresh=false", "-out=plan")
    outputs = json.loads(workspace.run("show", "-json", "plan"))["planned_values"]["outputs"]
    return {name: output["value"] for name, output in outputs.items()}


def test_the_container_is_started_with_its_settings(told: dict[str, Any]) -> None:
    files = told["files"]
    assert files["/etc/qlp/sandbox.env"]["content"].splitlines() == [
        "AZURE_CLIENT_ID=the-client",
        "QLP_SANDBOX_CONCURRENCY=2",
        "QLP_SANDBOX_HEALTH_PORT=8081",
    ]
    unit = files["/etc/systemd/system/qlp-sandbox.service"]["content"]
    assert "--privileged" in unit
    assert "--publish 127.0.0.1:8081:8081" in unit
    assert "example.azurecr.io/qlp-sandbox-host:1" in unit


def test_scripts_and_configuration_are_well_formed(
    told: dict[str, Any],
) -> None:
    files = told["files"]
    script = files["/usr/local/sbin/qlp-registry-login"]["content"]
    subprocess.run(["bash", "-n"], input=script, text=True, check=True)
    assert json.loads(files["/etc/docker/daemon.json"]["content"])["icc"] is False


def test_cloud_init_writes_every_file_and_starts_the_host(told: dict[str, Any]) -> None:
    cloud_init = told["cloud_init"]
    written = {each["path"]: each["content"] for each in cloud_init["write_files"]}
    assert written == {path: file["content"] for path, file in told["files"].items()}
    assert cloud_init["packages"] == ["curl", "docker.io", "jq"]
    assert ["systemctl", "enable", "--now", "qlp-sandbox.service"] in cloud_init["runcmd"]
    assert ["systemctl", "disable", "--now", "ssh.service", "ssh.socket"] in cloud_init["runcmd"]

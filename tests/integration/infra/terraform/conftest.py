"""Plans, made once for all tests of a run."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support import ROOT
from tests.support.terraform.mistakes import Plans

_EMPTY = """\
terraform {
  required_version = ">= 1.11"
  required_providers {
    azurerm = { source = "hashicorp/azurerm" }
  }
}
"""


@pytest.fixture(scope="session")
def provider_mirror(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Terraform's configuration file that leads to the providers' stand-ins."""
    if shutil.which("terraform") is None:
        pytest.skip("terraform is not installed")
    make = ["make", "--no-print-directory", "--silent", "terraform-offline"]
    validate = subprocess.run(make, cwd=ROOT, capture_output=True, text=True).stdout.strip()
    if not validate:
        pytest.skip("no stand-ins of Terraform's providers: set TERRAFORM_OFFLINE")
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    cache = Path(os.environ.get("TERRAFORM_OFFLINE_CACHE") or home / "terraform-offline")
    empty, own = tmp_path_factory.mktemp("empty"), tmp_path_factory.mktemp("mirror") / "mirror"
    (empty / "main.tf").write_text(_EMPTY)
    validating = [Path(validate).resolve(), empty]
    # Each run writes the stand-ins anew, and what is being written cannot be run by another.
    cache.parent.mkdir(parents=True, exist_ok=True)
    with cache.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        subprocess.run(validating, check=True, capture_output=True, timeout=250)
        shutil.copytree(cache / "mirror", own)
    settings = own / "terraformrc"
    settings.write_text(settings.read_text().replace(str(cache / "mirror"), str(own)))
    return settings


@pytest.fixture(scope="session")
def plans(provider_mirror: Path, tmp_path_factory: pytest.TempPathFactory) -> Plans:
    """The plans."""
    return Plans(tmp_path_factory.mktemp("terraform"), provider_mirror)

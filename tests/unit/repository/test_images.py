"""Images are pinned, and the checks on their recipes find seeded mistakes."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import ROOT

DOCKERFILES = sorted(
    path
    for folder in ("sandbox_host", "infra/local")
    for path in (ROOT / folder).rglob("Dockerfile")
)
_DIGEST = re.compile(r"@sha256:[0-9a-f]{64}$")


def tool(name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).with_name(name)), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def unpinned(dockerfile: str) -> list[str]:
    stages = {"scratch"}
    found = []
    for base, name in re.findall(r"^FROM (\S+)(?: AS (\S+))?$", dockerfile, re.MULTILINE):
        if base not in stages and not _DIGEST.search(base):
            found.append(base)
        stages.add(name)
    return found


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.parent.name)
def test_every_base_is_named_by_its_digest(path: Path) -> None:
    text = path.read_text()
    assert "\nFROM " in text
    assert unpinned(text) == []
    assert unpinned(re.sub(r"@sha256:\w+", "", text)), "a tag alone must be found"


def test_images_that_compose_does_not_build_are_named_by_their_digest() -> None:
    text = (ROOT / "compose.yaml").read_text()
    images = set(re.findall(r"^ +image: (\S+)$", text, re.MULTILINE))
    assert {image for image in images if not _DIGEST.search(image)} == {
        "qlp:local",
        "qlp-sandbox-host:local",
    }


def test_hadolint_finds_nothing_but_a_seeded_mistake(tmp_path: Path) -> None:
    assert tool("hadolint", *map(str, DOCKERFILES)).stdout == ""
    mistaken = tmp_path / "Dockerfile"
    mistaken.write_text(
        DOCKERFILES[0].read_text().replace("pip install --no-cache-dir", "pip install")
    )
    found = tool("hadolint", str(mistaken))
    assert found.returncode != 0
    assert "DL3042" in found.stdout


def test_compose_is_well_formed_and_a_seeded_mistake_is_found(tmp_path: Path) -> None:
    check = ("--builtin-schema", "vendor.compose-spec")
    assert tool("check-jsonschema", *check, str(ROOT / "compose.yaml")).returncode == 0
    mistaken = tmp_path / "compose.yaml"
    mistaken.write_text((ROOT / "compose.yaml").read_text().replace("privileged:", "priviledged:"))
    found = tool("check-jsonschema", *check, str(mistaken))
    assert found.returncode == 1
    assert "priviledged" in found.stdout


def test_a_secret_in_a_file_is_found(tmp_path: Path) -> None:
    key = (
        "AccountKey="
        + "b3VyIG93biBpbnZlbnRlZCBzdG9yYWdlIGtleSBvZiA2NCBieXRlcywgbm8gbW9yZSBub3IgbGVzcyEhISEhISE"
        + "="
    )
    leaked = tmp_path / "settings.json"
    leaked.write_text(json.dumps({"AzureWebJobsStorage": f"AccountName=x;{key}"}))
    assert tool("detect-secrets-hook", "--no-verify", str(leaked)).returncode == 1

"""What goes to the Azure command line, and what is made of its answers."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from infra.pipeline.__main__ import FAILED, WRONG_INPUT, main

SET_IMAGE = ["set-image", "--resource-group", "rg", "--site", "webapp:sandbox:next", "--image"]


@pytest.fixture
def az(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder on the PATH: ``az`` there notes its calls and says what ``answer`` holds."""
    script = tmp_path / "az"
    script.write_text(f"#!/bin/sh\necho \"$*\" >> '{tmp_path}/calls'\ncat '{tmp_path}/answer'\n")
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    (tmp_path / "answer").write_text("")
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("GITHUB_ENV", str(tmp_path / "environment"))
    return tmp_path


def test_an_image_is_set_by_its_digest(az: Path) -> None:
    assert main([*SET_IMAGE, "registry.example/host@sha256:abc"]) == 0
    call = (az / "calls").read_text()
    assert call.startswith("webapp config container set --resource-group rg --name sandbox")
    assert "--slot next" in call
    assert "--container-image-name registry.example/host@sha256:abc" in call


def test_a_tag_is_refused_since_it_may_come_to_mean_another_image(
    az: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*SET_IMAGE, "registry.example/host:latest"]) == WRONG_INPUT
    assert "name the image by its digest" in capsys.readouterr().err
    assert not (az / "calls").exists()


def test_a_key_is_masked_before_later_steps_have_it(
    az: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (az / "answer").write_text("qlp_key_of_the_test_tenant\n")
    assert main(["read-key", "--vault", "vault"]) == 0
    assert capsys.readouterr().out == "::add-mask::qlp_key_of_the_test_tenant\n"
    handed_on = (az / "environment").read_text()
    assert handed_on == "QLP_API_KEY=qlp_key_of_the_test_tenant\n"
    assert "qlp_key" not in (az / "calls").read_text()


@pytest.mark.parametrize("answer", ["", "two\nlines\n", "two words"])
def test_what_is_no_key_is_not_handed_on(
    az: Path, capsys: pytest.CaptureFixture[str], answer: str
) -> None:
    (az / "answer").write_text(answer)
    assert main(["read-key", "--vault", "vault"]) == FAILED
    assert capsys.readouterr().out == ""
    assert not (az / "environment").exists()


def test_a_key_that_is_repeated_is_not_in_the_log(
    az: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("QLP_API_KEY", "qlp_key_of_the_test_tenant")
    assert main([*SET_IMAGE, "qlp_key_of_the_test_tenant"]) == WRONG_INPUT
    assert "'[secret]': name the image by its digest" in capsys.readouterr().err

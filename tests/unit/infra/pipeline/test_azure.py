"""What goes to the Azure command line, and what is made of its answers."""

from __future__ import annotations

from pathlib import Path

import pytest

from infra.pipeline.__main__ import FAILED, WRONG_INPUT, main
from tests.support.azure_cli import AzureCli

SET_IMAGE = ["set-image", "--resource-group", "rg", "--site", "webapp:sandbox:next", "--image"]


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file that GitHub reads later steps' environment from."""
    monkeypatch.setenv("GITHUB_ENV", str(tmp_path / "environment"))
    return tmp_path / "environment"


def test_an_image_is_set_by_its_digest(azure_cli: AzureCli) -> None:
    assert main([*SET_IMAGE, "registry.example/host@sha256:abc"]) == 0
    call = azure_cli.calls
    assert call.startswith("webapp config container set --resource-group rg --name sandbox")
    assert "--slot next" in call
    assert "--container-image-name registry.example/host@sha256:abc" in call


def test_a_tag_is_refused_since_it_may_come_to_mean_another_image(
    azure_cli: AzureCli, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*SET_IMAGE, "registry.example/host:latest"]) == WRONG_INPUT
    assert "name the image by its digest" in capsys.readouterr().err
    assert azure_cli.calls == ""


def test_a_key_is_masked_before_later_steps_have_it(
    azure_cli: AzureCli, environment: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    azure_cli.answer("qlp_key_of_the_test_tenant\n")
    assert main(["read-key", "--vault", "vault"]) == 0
    assert capsys.readouterr().out == "::add-mask::qlp_key_of_the_test_tenant\n"
    assert environment.read_text() == "QLP_API_KEY=qlp_key_of_the_test_tenant\n"
    assert "qlp_key" not in azure_cli.calls


@pytest.mark.parametrize("answer", ["", "two\nlines\n", "two words"])
def test_an_answer_that_is_not_a_key_is_not_handed_on(
    azure_cli: AzureCli, environment: Path, capsys: pytest.CaptureFixture[str], answer: str
) -> None:
    azure_cli.answer(answer)
    assert main(["read-key", "--vault", "vault"]) == FAILED
    assert capsys.readouterr().out == ""
    assert not environment.exists()


def test_a_key_that_is_repeated_is_not_in_the_log(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("QLP_API_KEY", "qlp_key_of_the_test_tenant")
    assert main([*SET_IMAGE, "qlp_key_of_the_test_tenant"]) == WRONG_INPUT
    assert "'[secret]': name the image by its digest" in capsys.readouterr().err

"""The channel is told what failed, in text that cannot be mistaken for markup."""

from __future__ import annotations

import json

import pytest

from infra.pipeline.__main__ import WRONG_INPUT, main

ARGUMENTS = ["notice", "--title", "release 1a2b3c4", "--link", "https://example.org/run/1"]


def told(capsys: pytest.CaptureFixture[str]) -> tuple[str, str]:
    message = json.loads(capsys.readouterr().out)
    return message["text"], message["blocks"][0]["text"]["text"]


def test_a_failure_names_its_job(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    jobs = {"build": {"result": "success"}, "staging": {"result": "failure"}}
    monkeypatch.setenv("JOBS", json.dumps(jobs))
    assert main(ARGUMENTS) == 0
    headline, text = told(capsys)
    assert headline == "release 1a2b3c4: failed in staging"
    assert "<https://example.org/run/1|" in text
    assert "✅ build" in text
    assert "❌ staging" in text


@pytest.mark.parametrize(
    ("result", "word"), [("success", "done"), ("cancelled", "cancelled"), ("skipped", "done")]
)
def test_other_ends_are_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], result: str, word: str
) -> None:
    monkeypatch.setenv("JOBS", json.dumps({"build": {"result": result}}))
    assert main(ARGUMENTS) == 0
    assert told(capsys)[0] == f"release 1a2b3c4: {word}"


def test_markup_in_names_is_only_text(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("JOBS", json.dumps({"<!channel> & co": {"result": "success"}}))
    assert main(ARGUMENTS) == 0
    assert "&lt;!channel&gt; &amp; co" in told(capsys)[1]


def test_without_jobs_it_says_what_is_wrong(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("JOBS", raising=False)
    assert main(ARGUMENTS) == WRONG_INPUT
    assert "wrong input" in capsys.readouterr().err

"""Numbers and choices on ``qlp``'s command line, and output that cannot be written."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from domain.operations.cli import cli
from infra.local.stack.config import ROOT
from tests.support.qlp_commands import EVERY

#: Each option that takes a number, with its command.
NUMBERS = [
    (name, param.opts[0])
    for name, command in EVERY.items()
    for param in command.params
    if param.get_runtime_param().annotation in (int, float)
]


def test_the_options_are_found() -> None:
    assert {
        ("streams list", "--limit"),
        ("rejected purge", "--older-than"),
        ("replay", "--limit"),
        ("similarity check", "--sample"),
        ("projections rebuild", "--rate"),
    } <= set(NUMBERS)


@pytest.mark.parametrize("value", ["1_0", "+5", " 5", "１", "1e2", "nan", "inf", "9" * 30, "-1"])
def test_a_number_is_written_in_plain_digits_and_within_bounds(value: str) -> None:
    for name, option in NUMBERS:
        done = CliRunner().invoke(cli, [*name.split(), f"{option}={value}"])
        assert done.exit_code == 2, (name, option)
        assert f"Invalid value for '{option}': {value[:40]!r} is not a" in done.output


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("keys", "create", "--tenant", "b", "--role", "king"), "'--role': 'king' is not one of"),
        (("replay", "--to", "mars"), "'--to': 'mars' is not one of 'publish', 'sandbox'"),
    ],
)
def test_a_choice_that_there_is_not_is_told_in_words(arguments: tuple[str, ...], says: str) -> None:
    done = CliRunner().invoke(cli, arguments)
    assert (done.exit_code, f"Invalid value for {says}" in done.output) == (2, True), done.output


def test_output_that_cannot_be_written_is_told_in_a_line() -> None:
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [sys.executable, "-m", "domain.operations", "--help"],
            cwd=ROOT,
            env={k: v for k, v in os.environ.items() if k != "PYTHONUNBUFFERED"},
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
        )
    assert done.returncode == 1
    assert done.stderr == "qlp: the output cannot be written: No space left on device\n"

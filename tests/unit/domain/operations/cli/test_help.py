"""``qlp --help``: quick, whole, and true of every command."""

from __future__ import annotations

import subprocess
import sys
from itertools import pairwise

import pytest
from typer.core import TyperGroup
from typer.main import get_command
from typer.testing import CliRunner

from domain.operations.cli import COMMANDS, cli
from infra.local.stack.config import ROOT
from tests.support.qlp_commands import EVERY


def help_of(*arguments: str, width: int = 80) -> str:
    done = CliRunner().invoke(cli, [*arguments, "--help"], terminal_width=width)
    assert done.exit_code == 0, done.output
    return done.output


def test_all_commands_are_found() -> None:
    assert {"streams list", "tenants limits set", "migrate", "doctor"} <= EVERY.keys()
    assert len(EVERY) > 30


@pytest.mark.parametrize("name", EVERY)
def test_every_command_takes_json_as_the_help_says(name: str) -> None:
    options = {option for each in EVERY[name].params for option in each.opts}
    assert "--json" in options


def test_help_imports_nothing_that_only_commands_need() -> None:
    script = (
        "import sys; sys.argv = ['qlp', '--help']; from domain.operations.cli import main\n"
        "try: main()\nexcept SystemExit: print(*sys.modules, file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    loaded = {name.partition(".")[0] for name in done.stderr.split()}
    assert "streams" in done.stdout
    assert not loaded & {"psycopg", "pydantic", "msgspec", "azure", "aiohttp", "rich"}


@pytest.mark.parametrize("name", COMMANDS)
def test_a_commands_summary_is_in_the_help_and_is_its_own(name: str) -> None:
    summary = COMMANDS[name][2]
    assert f"{name:<14}{summary}\n" in help_of()
    command = get_command(cli).get_command(None, name)  # type: ignore[attr-defined]
    if isinstance(command, TyperGroup):
        assert (command.help or "").partition("\n\n")[0] == summary


def test_paragraphs_are_kept_and_wrapped_between_words() -> None:
    said = help_of("events", "import")
    first, second = (part.split() for part in said.split("\n\n")[1:3])
    assert first[:2] + first[-2:] == ["Append", "the", "and", "times."]
    assert second[:2] + second[-2:] == ["Several", "files", "that", "order."]
    assert max(map(len, said.splitlines())) <= 80
    # No line ends early: the next word would not have fitted.
    lines = said.split("\n\n")[2].splitlines()
    for line, after in pairwise(lines):
        assert len(line) + 1 + len(after.split()[0]) > 78


def test_summaries_are_not_cut_in_the_list() -> None:
    assert "..." not in help_of("dead-letters").partition("\n")[2]
    assert "with the same id, body and properties." in " ".join(help_of("dead-letters").split())

"""Examples of ``qlp`` in the documents are commands that exist, for the local stack's tenant."""

from __future__ import annotations

import re
import shlex
from itertools import takewhile

import pytest
from typer.core import TyperGroup
from typer.main import get_command

from domain.operations.cli import cli
from infra.local.stack.stack import TENANT
from tests.support.documents import PAGES, ids

EXAMPLES = [
    pytest.param(line.strip(), page.name, id=f"{ids(page)}: {line.strip()[:60]}")
    for page in PAGES
    for block in re.findall(r"```sh\n(.*?)```", page.read_text(), re.DOTALL)
    for line in block.replace("\\\n", " ").splitlines()
    if re.match(r"\s*(?:\.venv/bin/)?qlp ", line)
]


def words_of(line: str) -> list[str]:
    words = shlex.split(re.sub(r"\$\([^)]*\)", "x", line), comments=True)
    return [*takewhile(lambda word: word not in ("|", ">", "&&", ";"), words)][1:]


def test_there_are_examples() -> None:
    assert len(EXAMPLES) > 40


@pytest.mark.parametrize(("line", "page"), EXAMPLES)
def test_an_example_is_a_command(line: str, page: str) -> None:
    words = words_of(line)
    command = get_command(cli)
    while isinstance(command, TyperGroup) and not words[0].startswith("-"):
        found = command.get_command(command.context_class(command), words[0])
        assert found is not None, f"{words[0]} is no command"
        command, words = found, words[1:]
    if "--help" not in words and not isinstance(command, TyperGroup):
        context = command.make_context(line, [*words])
        tenant = context.params.get("tenant")
        if page != "deploy.md":  # where it is another's database
            assert tenant in (None, TENANT), "a tenant that the local stack does not have"

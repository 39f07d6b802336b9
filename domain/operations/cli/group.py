"""Groups of commands whose help says all of what each command is for."""

from __future__ import annotations

import os
import select
import sys
from typing import Any

import typer
from typer.core import TyperGroup


class CommandGroup(TyperGroup):
    """Shows the first paragraph of each command's help, where typer shows what fits a line."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:  # noqa: ANN401 as typer has it
        """Write the section of the commands."""
        found = [(name, self.get_command(ctx, name)) for name in self.list_commands(ctx)]
        rows = [
            (name, " ".join((command.help or "").partition("\n\n")[0].split()))
            for name, command in found
            if command is not None and not command.hidden
        ]
        with formatter.section("Commands"):
            formatter.write_dl(rows)


def nobody_reads() -> bool:
    """Whether standard output is a pipe or terminal whose reader went away, as ``| head`` does."""
    poll = select.poll()
    poll.register(sys.stdout.fileno(), 0)
    return bool(poll.poll(0))


def discard_output() -> None:
    """Let standard output lead nowhere; else Python tries to write what it still holds at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def command_group(text: str, cls: type[CommandGroup] = CommandGroup) -> typer.Typer:
    """A group of commands; ``text`` is its help."""
    return typer.Typer(
        cls=cls,
        help=text,
        no_args_is_help=True,
        add_completion=False,
        rich_markup_mode=None,  # which keeps paragraphs, and lines that can be copied
        pretty_exceptions_enable=False,
    )

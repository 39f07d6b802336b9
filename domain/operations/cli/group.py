"""Groups of commands whose help tells in full what each command does."""

from __future__ import annotations

import os
import select
import sys
from typing import Any

import typer
from typer.core import TyperGroup


class CommandGroup(TyperGroup):
    """Shows the whole first paragraph of each command's help; typer shows only what fits a line."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:  # noqa: ANN401 as typer has it
        """Write the help's section on the commands."""
        found = [(name, self.get_command(ctx, name)) for name in self.list_commands(ctx)]
        rows = [
            (name, " ".join((command.help or "").partition("\n\n")[0].split()))
            for name, command in found
            if command is not None and not command.hidden
        ]
        with formatter.section("Commands"):
            formatter.write_dl(rows)


def nobody_reads() -> bool:
    """Whether nobody reads standard output, a pipe or terminal, any more, as after ``| head``."""
    poll = select.poll()
    poll.register(sys.stdout.fileno(), 0)
    return bool(poll.poll(0))


def discard_output() -> None:
    """Discard standard output; otherwise Python tries at exit to write what is still buffered."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def command_group(text: str, cls: type[CommandGroup] = CommandGroup) -> typer.Typer:
    """A group of commands; ``text`` is its help."""
    return typer.Typer(
        cls=cls,
        help=text,
        no_args_is_help=True,
        add_completion=False,
        rich_markup_mode=None,  # so that paragraphs stay, and lines can be copied
        pretty_exceptions_enable=False,
    )

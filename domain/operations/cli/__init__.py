"""``qlp``: the operator's command line."""

from __future__ import annotations

import os
from importlib import import_module
from typing import Any

import typer
from typer.core import TyperGroup

from domain.eventlog.migrate import migrate
from domain.operations.cli.console import AsJson, database_url, guard, print_json

#: Where each command is: module and name in it. Imported when it is used, because some need what
#: takes most of a second to import; ``--help`` imports them all.
_COMMANDS = {
    "streams": ("streams", "streams"),
    "events": ("events", "events"),
    "log": ("log", "log"),
    "keys": ("keys", "keys"),
    "tenants": ("tenants", "tenants"),
    "runs": ("runs", "runs"),
    "rejected": ("rejected", "rejected"),
    "projections": ("projections", "projections"),
    "embeddings": ("embeddings", "embeddings"),
    "similarity": ("similarity", "similarity"),
    "dead-letters": ("dead_letters", "dead_letters"),
    "replay": ("replay", "replay_command"),
    "doctor": ("doctor", "doctor_command"),
    "reexecute": ("reexecute", "reexecute_command"),
}


class _LateGroup(TyperGroup):
    """A group that imports a command when it is asked for."""

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ANN401 as typer has it
        """The names of all commands, in the order of the help."""
        return [*_COMMANDS, *super().list_commands(ctx)]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:  # noqa: ANN401 as typer has it
        """The command of a name; None if there is none."""
        if cmd_name not in _COMMANDS:
            return super().get_command(ctx, cmd_name)
        module, attribute = _COMMANDS[cmd_name]
        return _command(cmd_name, getattr(import_module(f"{__name__}.{module}"), attribute))


def _command(name: str, found: Any) -> Any:  # noqa: ANN401 a Typer, or a function for one
    if isinstance(found, typer.Typer):
        group = typer.main.get_group(found)
        group.name = name
        return group
    alone = typer.Typer(add_completion=False, rich_markup_mode="rich")
    alone.command(name)(found)
    return typer.main.get_command(alone)


cli = typer.Typer(
    cls=_LateGroup,
    help=(
        "Operate QLP: look at event streams, replay them, manage API keys, migrate the schema. "
        "Connects to DATABASE_URL; every command takes --json for scripts."
    ),
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
)


@cli.callback()
def _root() -> None:
    """Keep the one command that is registered here a subcommand."""


@cli.command("migrate")
def migrate_command(json: AsJson = False) -> None:
    """Apply pending schema migrations, as the owner of the tables (DATABASE_ADMIN_URL).

    Forward only, each in a transaction; safe to run from several places at once.
    """
    url = os.environ.get("DATABASE_ADMIN_URL") or database_url()
    applied = guard(migrate(url))
    if json:
        print_json({"applied": applied})
    else:
        typer.echo("\n".join(f"applied {name}" for name in applied) or "nothing to apply")


def main() -> None:
    """Entry point of the ``qlp`` command."""
    cli()

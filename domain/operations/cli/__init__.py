"""``qlp``: the operator's command line."""

from __future__ import annotations

import os

import typer

from domain.eventlog.migrate import migrate
from domain.operations.cli.console import AsJson, database_url, guard, print_json
from domain.operations.cli.dead_letters import dead_letters
from domain.operations.cli.doctor import doctor_command
from domain.operations.cli.events import events
from domain.operations.cli.keys import keys
from domain.operations.cli.log import log
from domain.operations.cli.projections import projections
from domain.operations.cli.reexecute import reexecute_command
from domain.operations.cli.rejected import rejected
from domain.operations.cli.replay import replay_command
from domain.operations.cli.streams import streams

cli = typer.Typer(
    help=(
        "Operate QLP: look at event streams, replay them, manage API keys, migrate the schema. "
        "Connects to DATABASE_URL; every command takes --json for scripts."
    ),
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
)
cli.add_typer(streams, name="streams")
cli.add_typer(events, name="events")
cli.add_typer(log, name="log")
cli.add_typer(keys, name="keys")
cli.add_typer(rejected, name="rejected")
cli.add_typer(projections, name="projections")
cli.add_typer(dead_letters, name="dead-letters")
cli.command("replay")(replay_command)
cli.command("doctor")(doctor_command)
cli.command("reexecute")(reexecute_command)


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

"""``qlp``: the operator's command line."""

from __future__ import annotations

import errno
import os
import sys
import traceback
from importlib import import_module
from typing import Any

import typer
from typer.core import TyperCommand

from domain.contracts.redaction import guard as guard_secrets
from domain.contracts.redaction import redact
from domain.operations.cli.group import CommandGroup, command_group, discard_output

#: Each command's module, its name there, and its line of help. A module is imported when its
#: command is used, because what commands need takes up to a second to import.
COMMANDS = {
    "streams": ("streams", "streams", "Look at event streams and replay them."),
    "events": ("events", "events", "Watch, export and import events."),
    "log": ("log", "log", "Verify the event log, prove events, and see who follows it."),
    "keys": ("keys", "keys", "Create, list and revoke API keys."),
    "tenants": ("tenants", "tenants", "Limits and budgets of tenants."),
    "runs": ("runs", "runs", "List runs in the sandbox, and kill them."),
    "rejected": ("rejected", "rejected", "Show messages that could not be processed."),
    "projections": (
        "projections",
        "projections",
        "Show, rebuild, verify and resume read models.",
    ),
    "embeddings": (
        "embeddings",
        "embeddings",
        "List embedding models, and change to another.",
    ),
    "similarity": (
        "similarity",
        "similarity",
        "Check the search for similar intents, and change its index.",
    ),
    "dead-letters": (
        "dead_letters",
        "dead_letters",
        "List, resend and remove messages that Service Bus gave up.",
    ),
    "replay": ("replay", "replay_command", "Announce intents again, or send their jobs again."),
    "doctor": ("doctor", "doctor_command", "Examine everything that the application depends on."),
    "reexecute": ("reexecute", "reexecute_command", "Run recorded programs again, and compare."),
    "migrate": ("schema", "migrate_command", "Apply pending schema migrations."),
}


#: Errors of writing standard output, other than that nobody reads it any more.
_UNWRITABLE = frozenset((errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO))


class _LateGroup(CommandGroup):
    """A group that imports a command when it is used, and none for its own help."""

    _helping = False

    def main(self, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 as typer has it
        """Run the command; if its output cannot be written, say so in one line."""
        try:
            return super().main(*args, **kwargs)
        except OSError as error:
            if error.errno not in _UNWRITABLE:
                raise
            discard_output()
            typer.echo(f"qlp: the output cannot be written: {error.strerror}", err=True)
            sys.exit(1)

    def invoke(self, ctx: Any) -> Any:  # noqa: ANN401 as typer has it
        """Run the command that was named; what is wrong with an option is said in our words."""
        try:
            return super().invoke(ctx)
        except typer.BadParameter as error:
            error.message = error.message.removeprefix("Value error, ")
            raise

    def format_help(self, ctx: Any, formatter: Any) -> None:  # noqa: ANN401 as typer has it
        """Write the help."""
        self._helping = True
        super().format_help(ctx, formatter)
        self._helping = False

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ANN401 as typer has it
        """The names of all commands, in the order of the help."""
        return [*COMMANDS]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:  # noqa: ANN401 as typer has it
        """The command with this name; None if there is none."""
        if cmd_name not in COMMANDS:
            return None
        module, attribute, summary = COMMANDS[cmd_name]
        if self._helping:
            return TyperCommand(cmd_name, help=summary)
        return _command(cmd_name, getattr(import_module(f"{__name__}.{module}"), attribute))


def _command(name: str, found: Any) -> Any:  # noqa: ANN401 a Typer, or a function for one
    if isinstance(found, typer.Typer):
        group = typer.main.get_group(found)
        group.name = name
        return group
    alone = typer.Typer(add_completion=False, rich_markup_mode=None)
    alone.command(name)(found)
    return typer.main.get_command(alone)


cli = command_group(
    "Operate QLP: look at event streams, replay them, manage API keys, migrate the schema.\n\n"
    "Connects to DATABASE_URL; every command takes --json, for scripts.",
    _LateGroup,
)


@cli.callback()
def _root() -> None:
    """Make typer build a group although no command is registered here."""


def main() -> None:
    """Entry point of the ``qlp`` command."""
    guard_secrets(os.environ)
    try:
        cli()
    except Exception:  # noqa: BLE001 unexpected: the whole traceback, without secrets
        sys.stderr.write(redact(traceback.format_exc()))
        sys.exit(1)

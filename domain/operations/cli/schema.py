"""``qlp migrate``: bring the database to the schema of this release."""

from __future__ import annotations

from typing import Annotated

import typer

from domain.database.migrate import migrate
from domain.operations.cli.console import AsJson, guard, owner_url, report

Confirm = Annotated[
    bool, typer.Option("--confirm", help="Also apply what ends the way back to earlier releases.")
]


def migrate_command(confirm: Confirm = False, json: AsJson = False) -> None:
    """Apply pending schema migrations, as the owner of the tables (DATABASE_ADMIN_URL).

    The application can run meanwhile. If it breaks off, run it again: it goes on where it was. It
    is safe to run this in several places at once.

    A migration after which no earlier release runs with the database waits until you say --confirm,
    unless the database is new. Until then you can go back: see docs/deploy.md.
    """
    applied = guard(migrate(owner_url(), confirm=confirm, progress=_say))
    text = "\n".join(f"applied {name}" for name in applied) or "nothing to apply"
    report(json, {"applied": applied}, text)


def _say(line: str) -> None:
    typer.echo(line, err=True)

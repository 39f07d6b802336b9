"""``qlp migrate``: brings the database to the schema of this code."""

from __future__ import annotations

import typer

from domain.database.migrate import migrate
from domain.operations.cli.console import AsJson, guard, owner_url, print_json


def migrate_command(json: AsJson = False) -> None:
    """Apply pending schema migrations, as the owner of the tables (DATABASE_ADMIN_URL).

    Forward only, each in a transaction; safe to run from several places at once.
    """
    applied = guard(migrate(owner_url()))
    if json:
        print_json({"applied": applied})
    else:
        typer.echo("\n".join(f"applied {name}" for name in applied) or "nothing to apply")

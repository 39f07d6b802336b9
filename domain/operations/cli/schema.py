"""``qlp migrate``: bring the database to the schema of this release."""

from __future__ import annotations

from domain.database.migrate import migrate
from domain.operations.cli.console import AsJson, guard, owner_url, report


def migrate_command(json: AsJson = False) -> None:
    """Apply pending schema migrations, as the owner of the tables (DATABASE_ADMIN_URL).

    Each is applied in a transaction of its own, and cannot be undone. It is safe to run this in
    several places at once.
    """
    applied = guard(migrate(owner_url()))
    text = "\n".join(f"applied {name}" for name in applied) or "nothing to apply"
    report(json, {"applied": applied}, text)

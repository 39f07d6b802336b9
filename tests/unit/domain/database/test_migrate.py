from __future__ import annotations

from domain.database.migrate import load_migrations


def test_migrations_are_numbered_in_a_row() -> None:
    assert load_migrations()

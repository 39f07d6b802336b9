"""A PostgreSQL of a benchmark's own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from infra.local.postgres.server import EmbeddedPostgres
from tests.support.stack import open_folder


@contextmanager
def own_server() -> Iterator[EmbeddedPostgres]:
    """A running server with the empty database ``bench``; nothing of it is left afterwards."""
    with open_folder() as folder:
        server = EmbeddedPostgres(folder / "data")
        try:
            server.start()
            server.create_database("bench")
            yield server
        finally:
            server.destroy()

"""A PostgreSQL of a benchmark's own."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from infra.local.postgres.server import EmbeddedPostgres


@contextmanager
def own_server() -> Iterator[EmbeddedPostgres]:
    """A running server with the empty database ``bench``; nothing of it is left afterwards."""
    with tempfile.TemporaryDirectory(prefix="qlp-bench-") as folder:
        Path(folder).chmod(0o711)  # as root, the server runs as somebody else
        server = EmbeddedPostgres(Path(folder) / "data")
        try:
            server.start()
            server.create_database("bench")
            yield server
        finally:
            server.destroy()

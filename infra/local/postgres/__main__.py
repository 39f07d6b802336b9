"""``python -m infra.local.postgres --data-dir D --port N``: PostgreSQL in the foreground."""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import sys
from pathlib import Path

from infra.local.postgres.files import EmbeddedPostgresError
from infra.local.postgres.server import EmbeddedPostgres


async def serve(server: EmbeddedPostgres, database: str) -> int:
    """Run ``server`` until SIGTERM or SIGINT; prints a line of JSON when it is ready.

    Returns:
        The exit code: 0 after a signal, 1 if the server ended by itself.
    """
    asked = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, asked.set)
    await asyncio.to_thread(server.start)
    ended = asyncio.create_task(asyncio.to_thread(server.wait))
    stop = asyncio.create_task(asked.wait())
    try:
        await asyncio.to_thread(server.create_database, database)
        ready = {
            "ready": True,
            "admin_url": server.admin_url_for(database),
            "app_url": server.app_url(database),
            "port": server.port,
        }
        print(json.dumps(ready), flush=True)
        await asyncio.wait({ended, stop}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        stop.cancel()
        await asyncio.to_thread(server.stop)
        await ended
    if asked.is_set():
        return 0
    print(f"PostgreSQL ended by itself, exit code {ended.result()}", file=sys.stderr)
    return 1


def main() -> int:
    """The entry point of ``python -m infra.local.postgres``."""
    parser = argparse.ArgumentParser(prog="infra.local.postgres", description=__doc__)
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--port", type=int, help="default: a free one")
    parser.add_argument("--database", default="qlp", help="created if missing (default: qlp)")
    options = parser.parse_args()
    try:
        return asyncio.run(
            serve(EmbeddedPostgres(options.data_dir, options.port), options.database)
        )
    except EmbeddedPostgresError as error:
        print(error, file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())

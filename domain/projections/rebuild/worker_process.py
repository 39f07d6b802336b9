"""A process that folds lanes for a rebuild; it only reads the database.

Standard input: a line with the database's URL and the role, then for each fold a line with the
first lane and the end, as JSON. Standard output: for each fold a line of JSON, followed by as many
bytes as it says: of streams that cannot be folded, as JSON, and of rows. The process ends when its
input does, so it does not outlive its parent.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import sys

import orjson

from domain.contracts.redaction import guard
from domain.database.outages import outage_of
from domain.database.pool import open_pool
from domain.memory import tune_gc
from domain.projections.stream_folds import fold_lanes


async def _serve() -> None:
    url, role = orjson.loads(await _line())
    pool = await open_pool(url, min_size=1, max_size=1, role=role, application_name="qlp-fold")
    try:
        while line := await _line():
            first, end = orjson.loads(line)
            async with pool.connection() as connection:
                folded = await fold_lanes(connection, first, end)
            unfoldable = orjson.dumps([list(each) for each in folded.unfoldable])
            sizes = {"unfoldable": len(unfoldable), "rows": len(folded.rows)}
            _say({"events": folded.events, **sizes}, unfoldable + folded.rows)
    finally:
        await pool.close()


async def _line() -> bytes:
    return await asyncio.to_thread(sys.stdin.buffer.readline)


def _say(header: dict[str, object], content: bytes = b"") -> None:
    sys.stdout.buffer.write(orjson.dumps(header) + b"\n")
    sys.stdout.buffer.write(content)
    sys.stdout.buffer.flush()


def main() -> int:
    """Serve until the input ends; 1 if the output is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent
    logging.getLogger("psycopg.pool").setLevel(logging.ERROR)  # failures are reported below
    guard(os.environ)
    tune_gc()
    try:
        asyncio.run(_serve())
    except BrokenPipeError:
        return 1
    except Exception as error:
        if outage_of(error) is None:
            raise
        with contextlib.suppress(BrokenPipeError):
            _say({"unavailable": str(error)})
    return 0


if __name__ == "__main__":
    sys.exit(main())

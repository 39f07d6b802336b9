"""A process that loads one file of an import into the table beside the log.

Standard input: a line of JSON with the database's URL, the file's name and number, and the streams
to leave out. Standard output: lines of JSON, how much is read and at the end what was left out, or
what is wrong. The process ends when its input does, so it does not outlive its parent.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import threading
from collections.abc import Collection
from typing import BinaryIO

import orjson

from domain.contracts.redaction import guard
from domain.database.outages import outage_of
from domain.database.pool import Connection
from domain.eventlog.staging import begin_session, copy_events
from domain.eventlog.transfer import InvalidExport, read_export

#: Bytes between two lines about how much is read.
_STEP = 2**20


async def _load(url: str, file: BinaryIO, number: int, without: Collection[str]) -> None:
    said = 0

    def progress(done: int) -> None:
        nonlocal said
        if done - said >= _STEP:
            said = done
            _say(read=done)

    async with await Connection.connect(url, autocommit=True) as connection:
        await begin_session(connection)
        left_out = await copy_events(connection, read_export(file), without, progress, number)
    _say(left_out=left_out)


def _say(**answer: object) -> None:
    os.write(sys.stdout.fileno(), orjson.dumps(answer) + b"\n")


def _end_with_the_input() -> None:
    while os.read(sys.stdin.fileno(), 1):
        pass
    os._exit(1)


def main() -> int:
    """Load; 1 if the output is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent
    guard(os.environ)
    url, path, number, without = json.loads(sys.stdin.buffer.readline())
    threading.Thread(target=_end_with_the_input, daemon=True).start()
    try:
        _answer(url, path, number, without)
    except BrokenPipeError:
        return 1
    return 0


def _answer(url: str, path: str, number: int, without: Collection[str]) -> None:
    try:
        with open(path, "rb") as file:
            asyncio.run(_load(url, file, number, without))
    except BrokenPipeError:
        raise
    except InvalidExport as error:
        _say(kind="invalid", message=str(error))
    except OSError as error:
        _say(kind="unreadable", message=error.strerror or str(error))
    except Exception as error:
        if outage_of(error) is None:
            raise
        _say(kind="unavailable", message=str(error))


if __name__ == "__main__":
    sys.exit(main())

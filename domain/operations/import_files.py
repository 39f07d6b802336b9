"""Loads the files of an import at once, each in a process of its own."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections import Counter
from collections.abc import Callable, Collection, Sequence

import orjson
import psycopg

from domain.eventlog.staging import ImportRefused
from domain.eventlog.transfer import InvalidExport

#: A line names at most the streams that are left out, which were options of one command.
_MAX_LINE = 2**24


async def load_files(
    admin_url: str, files: Sequence[str], without: Collection[str], progress: Callable[[int], None]
) -> Counter[str]:
    """Load files, as many at once as there are cores; see `domain.eventlog.staging.copy_events`.

    Args:
        admin_url: signs in as the tables' owner.
        files: their names.
        without: streams that are left out.
        progress: called with the number of bytes read of all files so far.

    Raises:
        domain.eventlog.transfer.InvalidExport: a file is no complete export; names it.
        domain.eventlog.staging.ImportRefused: a process ended.
        OSError: a file cannot be read.
        psycopg.OperationalError: a process cannot reach the database.
    """
    cores = asyncio.Semaphore(len(os.sched_getaffinity(0)))
    read = [0] * len(files)
    left_out = Counter[str]()

    async def load(number: int) -> None:
        async with cores:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "domain.operations.import_process"),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                limit=_MAX_LINE,
            )
            try:
                await answers(process, number)
            finally:
                if process.returncode is None:
                    process.kill()
                await process.wait()

    async def answers(process: asyncio.subprocess.Process, number: int) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        # Not as arguments, which other users could see. Its input stays open: it ends with it.
        # Not by orjson: a file's name may be any bytes.
        order = json.dumps([admin_url, files[number], number, [*without]])
        process.stdin.write(order.encode() + b"\n")
        async for line in process.stdout:
            answer = orjson.loads(line)
            if "read" in answer:
                read[number] = answer["read"]
                progress(sum(read))
            elif "left_out" in answer:
                left_out.update(answer["left_out"])
                return
            else:
                _fail(files[number], **answer)
        raise ImportRefused(f"{files[number]}: the process that read it ended: import again")

    try:
        async with asyncio.TaskGroup() as group:
            for number in range(len(files)):
                group.create_task(load(number))
    except ExceptionGroup as failed:
        raise failed.exceptions[0] from None
    return left_out


def _fail(file: str, kind: str, message: str) -> None:
    match kind:
        case "invalid":
            raise InvalidExport(f"{file}: {message}")
        case "unreadable":
            raise OSError(0, message, file)
        case _:
            raise psycopg.OperationalError(message)

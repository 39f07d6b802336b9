"""Compares the read model of intents with a fresh fold of their streams, row by row."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any
from uuid import UUID

from psycopg import AsyncConnection
from psycopg_pool import AsyncConnectionPool

from domain.database.pool import fetch
from domain.database.statements import load_statements
from domain.eventlog.intent_streams import intent_of, stream_of
from domain.projections.intents import INTENT_STATES, IntentRow
from domain.projections.stream_folds import folded_streams
from domain.projections.verify.contract import MAX_SHOWN, Difference, Verified, difference

_SQL = load_statements(Path(__file__).with_name("verify.sql"))

#: Streams that are compared in one snapshot.
PAGE = 200

#: A sample of n streams is drawn from table pages with so many times n events: a stream has a few
#: events, of which only the first counts.
_SPREAD = 50


class _Findings:
    def __init__(self) -> None:
        self.compared = 0
        self.differing = 0
        self.unfoldable = 0
        self.shown: list[Difference] = []

    def compare(self, intent_id: UUID, folded: IntentRow | None, live: IntentRow | None) -> None:
        self.compared += 1
        if folded is not None and live is not None and live.details is None:
            folded = replace(folded, details=None)  # a row of a release without details
        found = difference(
            INTENT_STATES,
            {"id": intent_id},
            asdict(folded) if folded else None,
            asdict(live) if live else None,
        )
        if found is not None:
            self.differing += 1
            if len(self.shown) < MAX_SHOWN:
                self.shown.append(found)


async def verify_intents(pool: AsyncConnectionPool, sample: int | None = None) -> Verified:
    """Compare every row, or about ``sample`` random ones, with its stream.

    Each page of streams and rows is read in one snapshot, in which both must agree, because they
    are written in one transaction. Writers are not held up.
    """
    findings = _Findings()
    if sample is None:
        after: UUID | None = None
        async for stream_ids in _pages(pool):
            to = _last_intent(stream_ids)
            if to is not None:
                await _compare_range(pool, findings, stream_ids, after, to)
                after = to
        await _compare_range(pool, findings, [], after, None)
    else:
        spread = {"sample": sample, "spread": _SPREAD}
        [[percent]] = await fetch(pool, _SQL["share_of_pages"], spread)
        of_pages = {"sample": sample, "percent": percent}
        rows = await fetch(pool, _SQL["sampled_streams"], of_pages)
        sampled = sorted(stream_id for (stream_id,) in rows)
        for start in range(0, len(sampled), PAGE):
            await _compare_streams(pool, findings, sampled[start : start + PAGE])
    return Verified(
        INTENT_STATES, findings.compared, findings.differing, findings.shown, findings.unfoldable
    )


async def _pages(pool: AsyncConnectionPool) -> AsyncIterator[list[str]]:
    after = ""
    while rows := await fetch(pool, _SQL["streams"], {"after": after, "limit": PAGE}):
        stream_ids = [stream_id for (stream_id,) in rows]
        yield stream_ids
        after = stream_ids[-1]


async def _compare_range(
    pool: AsyncConnectionPool,
    findings: _Findings,
    stream_ids: list[str],
    after: UUID | None,
    to: UUID | None,
) -> None:
    """Compare the streams with all rows after one id and up to another, so that extra rows show."""
    async with pool.connection() as connection, connection.transaction():
        await connection.execute(_SQL["one_snapshot"])
        live = await _rows(connection, "rows_between", {"after": after, "to": to})
        if to is None:
            # Streams that were created since the last page was read.
            stream_ids = [stream_of(intent_id) for intent_id in live]
        await _compare(connection, findings, stream_ids, live)


async def _compare_streams(
    pool: AsyncConnectionPool, findings: _Findings, stream_ids: list[str]
) -> None:
    async with pool.connection() as connection, connection.transaction():
        await connection.execute(_SQL["one_snapshot"])
        ids = [intent_id for stream_id in stream_ids if (intent_id := _intent_of(stream_id))]
        live = await _rows(connection, "rows", {"ids": ids})
        await _compare(connection, findings, stream_ids, live)


async def _compare(
    connection: AsyncConnection[Any],
    findings: _Findings,
    stream_ids: list[str],
    live: dict[UUID, IntentRow],
) -> None:
    await _compare_folded(connection, findings, stream_ids, live)
    missed = [stream_of(intent_id) for intent_id in live]  # created after the page was read
    await _compare_folded(connection, findings, missed, live)
    for intent_id, row in live.items():
        findings.compare(intent_id, None, row)


async def _compare_folded(
    connection: AsyncConnection[Any],
    findings: _Findings,
    stream_ids: list[str],
    live: dict[UUID, IntentRow],
) -> None:
    """Compare streams with their rows, which are removed from ``live``."""
    async for fold in folded_streams(connection, stream_ids):
        intent_id = _intent_of(fold.stream_id)
        if intent_id is None:
            continue
        row = live.pop(intent_id, None)
        if fold.failed_at is not None:
            findings.unfoldable += 1
        else:
            findings.compare(intent_id, fold.row(), row)


async def _rows(
    connection: AsyncConnection[Any], statement: str, params: dict[str, Any]
) -> dict[UUID, IntentRow]:
    cursor = await connection.execute(_SQL[statement], params, binary=True)
    return {row[0]: IntentRow(*row) for row in await cursor.fetchall()}


def _intent_of(stream_id: str) -> UUID | None:
    try:
        return intent_of(stream_id)
    except ValueError:
        return None


def _last_intent(stream_ids: list[str]) -> UUID | None:
    return next((found for s in reversed(stream_ids) if (found := _intent_of(s))), None)

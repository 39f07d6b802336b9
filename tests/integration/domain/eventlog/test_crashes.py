"""The server process of an append dies at any statement: nothing is lost, and nothing comes twice.

Each statement of the functions in the database is preceded, one after the other, by the end of the
process that runs it. What the client sends is ended in the same way, between any two statements.
"""

from __future__ import annotations

import asyncio
import itertools
import re
import time
from collections.abc import Awaitable, Callable
from uuid import UUID, uuid4, uuid5

import psycopg
import pytest
from psycopg_pool import AsyncConnectionPool

from domain.database.outages import outage_of
from domain.eventlog.appending import Command, Undone, append_alone, append_together
from domain.eventlog.codec import encode
from domain.eventlog.lanes import lane_of
from domain.eventlog.log import EventLog
from domain.eventlog.models import AppendResult, InlineWrite, NewEvent
from domain.operations.log_integrity import LogVerifier
from tests.support.postgres import Database

CRASH = "perform pg_terminate_backend(pg_backend_pid());"

#: What a statement of a function's body follows.
_BEFORE = re.compile(r"(?:;|\bthen|^begin)(?: --.*)?\n *", re.M)

WRITE = b"insert into seal_anchors (anchor, seq) values (%(name)s, 1)"
CRASHING = InlineWrite(b"select crash()", {})
MAY_CRASH = b"""create function crash() returns boolean language sql security definer
    return pg_terminate_backend(pg_backend_pid())"""

Append = Callable[[AsyncConnectionPool, UUID, list[InlineWrite]], Awaitable[object]]


def command(command_id: UUID, number: int, count: int, inline: list[InlineWrite]) -> Command:
    events = [NewEvent(uuid5(command_id, str(n)), "Happened", 1, {}) for n in range(count)]
    stream = f"s-{command_id}-{number}"
    return Command(stream, "acme", 0, command_id, "{}", encode(events), inline)


async def one_event(pool: AsyncConnectionPool, id_: UUID, inline: list[InlineWrite]) -> object:
    return await append_alone(pool, command(id_, 0, 1, inline))


async def many_events(pool: AsyncConnectionPool, id_: UUID, inline: list[InlineWrite]) -> object:
    return await append_alone(pool, command(id_, 0, 3, inline))


def in_different_lanes(id_: UUID, counts: list[int], inline: list[InlineWrite]) -> list[Command]:
    found: dict[int, Command] = {}
    for number in itertools.count():
        at = len(found)
        if at == len(counts):
            return list(found.values())
        each = command(uuid5(id_, str(number)), number, counts[at], inline if at == 1 else [])
        found.setdefault(lane_of(each.stream_id), each)
    raise AssertionError


async def a_group(pool: AsyncConnectionPool, id_: UUID, inline: list[InlineWrite]) -> object:
    return await together(pool, in_different_lanes(id_, [1, 2, 3], inline))


async def one_event_each(pool: AsyncConnectionPool, id_: UUID, inline: list[InlineWrite]) -> object:
    return await together(pool, in_different_lanes(id_, [1, 1, 1], inline))


async def together(pool: AsyncConnectionPool, commands: list[Command]) -> object:
    try:
        results = await append_together(pool, commands)
    except Undone:
        results = [None] * len(commands)
    return [  # as `domain.eventlog.group_commit` does: one by one
        result or await append_alone(pool, each)
        for result, each in zip(results, commands, strict=True)
    ]


WAYS: dict[str, tuple[Append, tuple[str, ...], int]] = {
    "one event": (one_event, ("append_one",), 1),
    "several events": (many_events, ("append_many",), 3),
    "a group": (a_group, ("append_commands", "take_lanes_of"), 6),
    "a group of one event each": (one_event_each, ("append_one_each", "take_lanes_of"), 3),
}


def defined(owner: psycopg.Connection, function: str) -> str:
    [(definition,)] = owner.execute(
        "select pg_get_functiondef(oid) from pg_proc where proname = %s", [function]
    ).fetchall()
    return str(definition)


def statements(definition: str) -> list[str]:
    """The function, once for each of its statements, with a crash before it."""
    body = definition.index("\nbegin\n")
    places = [found.end() for found in _BEFORE.finditer(definition, body + 1)]
    return [f"{definition[:place]}{CRASH} {definition[place:]}" for place in places]


async def in_the_log(pool: AsyncConnectionPool) -> tuple[int, int]:
    """How many events there are, and how many inline writes."""
    async with pool.connection() as connection:
        rows = await connection.execute(
            "select (select count(*) from events), (select count(*) from seal_anchors)"
        )
        [(events, writes)] = await rows.fetchall()
    return events, writes


@pytest.mark.parametrize("way", WAYS)
async def test_an_append_that_crashes_at_any_statement_leaves_all_or_nothing(
    database: Database, pool: AsyncConnectionPool, way: str
) -> None:
    append, functions, count = WAYS[way]
    written, crashes = 0, 0
    with psycopg.connect(database.admin_url, autocommit=True) as owner:
        definitions = [defined(owner, function) for function in functions]
        for intact, crashing in [(each, to) for each in definitions for to in statements(each)]:
            command_id = uuid4()
            inline = [InlineWrite(WRITE, {"name": str(command_id)})]
            owner.execute(crashing.encode())
            [ended] = await asyncio.gather(append(pool, command_id, inline), return_exceptions=True)
            if isinstance(ended, BaseException):
                assert outage_of(ended) is not None, crashing
                crashes += 1
                assert await in_the_log(pool) == (written * count, written), crashing
            owner.execute(intact.encode())
            await append(pool, command_id, inline)  # as whoever redelivers it
            written += 1
            assert await in_the_log(pool) == (written * count, written), crashing
    assert crashes >= 5, "hardly any statement was reached"
    found = await LogVerifier(pool).verify()
    assert (found.unsealed, found.findings) == (written * count, [])


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("place", [0, 1, 2])
async def test_an_append_whose_connection_ends_between_statements_leaves_all_or_nothing(
    database: Database, pool: AsyncConnectionPool, way: str, place: int
) -> None:
    with psycopg.connect(database.admin_url) as owner:
        owner.execute(MAY_CRASH)
    append, _, count = WAYS[way]
    command_id = uuid4()
    writes = [InlineWrite(WRITE, {"name": f"{command_id}-{number}"}) for number in range(2)]
    with pytest.raises(psycopg.OperationalError):
        await append(pool, command_id, [*writes[:place], CRASHING, *writes[place:]])
    left = await in_the_log(pool)
    # If the crash shows before the commit is sent, the group's commands are done one by one, and
    # the one in front of it is recorded.
    assert left == (0, 0) or (left == (1, 0) and "group" in way)
    await append(pool, command_id, writes)
    assert await in_the_log(pool) == (count, 2)
    assert (await LogVerifier(pool).verify()).findings == []


async def test_a_client_that_is_gone_at_any_moment_leaves_all_or_nothing(
    pool: AsyncConnectionPool, event_log: EventLog
) -> None:
    """Its socket is closed while the server works; what it had sent may be done, or not."""
    for number in range(60):
        id_ = uuid4()
        write = InlineWrite(WRITE, {"name": str(id_)})
        appending = asyncio.create_task(many_events(pool, id_, [write]))
        await asyncio.sleep(number / 20_000)
        appending.cancel()
        await asyncio.wait({appending})
        result = await append_alone(pool, command(id_, 0, 3, [write]))
        assert isinstance(result, AppendResult)
        assert [event.version for event in result.events] == [1, 2, 3]
    assert await in_the_log(pool) == (180, 60)
    assert (await LogVerifier(pool).verify()).findings == []
    assert sum((await event_log.heads()).positions) == 180


class Slow(dict[str, object]):
    """Parameters that take so long to write that the server answers what was sent before."""

    def __getitem__(self, name: str) -> object:
        time.sleep(0.05)
        return super().__getitem__(name)


@pytest.mark.parametrize("way", WAYS)
async def test_an_answer_that_comes_before_all_is_sent_is_nobody_elses(
    pool: AsyncConnectionPool, way: str
) -> None:
    append, _, count = WAYS[way]
    command_id = uuid4()
    writes = [InlineWrite(WRITE, Slow(name=f"{command_id}-{number}")) for number in range(3)]
    await append(pool, command_id, writes)
    for _ in range(20):  # a repeated command is answered by an error, before the writes are sent
        results = await append(pool, command_id, writes)
        for result in results if isinstance(results, list) else [results]:
            assert isinstance(result, AppendResult)
            assert result.duplicate
            assert [event.version for event in result.events] == [*range(1, len(result.events) + 1)]
            assert result.events
        assert await in_the_log(pool) == (count, 3)

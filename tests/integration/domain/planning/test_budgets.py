"""Budgets of tokens: never more at once than there is, and one worker at a call."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest
from psycopg_pool import AsyncConnectionPool

from domain.access.store import ApiKeys, UnknownTenant
from domain.eventlog.log import EventLog
from domain.eventlog.models import InlineWrite, NewEvent
from domain.planning.budgets import Budget, Exhausted, HeldElsewhere, Reservation, TokenBudgets
from tests.support.postgres import Database

LEASE = timedelta(minutes=1)
LAPSED = timedelta(seconds=-1)


@pytest.fixture
async def budgets(pool: AsyncConnectionPool) -> TokenBudgets:
    await ApiKeys(pool).ensure_tenant("acme")
    await ApiKeys(pool).ensure_tenant("other")
    return TokenBudgets(pool, 1_000)


def reservation(key: UUID | None = None, tenant: str = "acme") -> Reservation:
    return Reservation(key or uuid4(), tenant)


async def write(pool: AsyncConnectionPool, writes: Sequence[InlineWrite]) -> None:
    """In the transaction of an event, as it is done for real."""
    event = NewEvent(uuid4(), "Called", 1, {"at": datetime.now(UTC).isoformat()})
    stream = f"intent-{uuid4()}"
    await EventLog(pool).append(stream, "acme", 0, uuid4(), [event], {}, writes)


async def test_what_was_set_aside_becomes_what_it_cost(
    budgets: TokenBudgets, pool: AsyncConnectionPool
) -> None:
    held = reservation()
    assert await budgets.reserve(held, 700, LEASE) is None
    assert await budgets.show("acme") == Budget(None, 0, 700)
    await write(pool, held.settle(300))
    assert await budgets.show("acme") == Budget(None, 300, 0)
    await write(pool, held.settle(300))  # the same events again
    assert await budgets.show("acme") == Budget(None, 300, 0)


async def test_a_worker_that_looked_before_the_outcome_was_recorded_asks_no_model_again(
    budgets: TokenBudgets, pool: AsyncConnectionPool
) -> None:
    key, stream = uuid4(), f"intent-{uuid4()}"
    first, late = (Reservation(key, "acme", stream, version=1) for _ in range(2))
    event = NewEvent(uuid4(), "Called", 1, {"at": datetime.now(UTC).isoformat()})
    log = EventLog(pool)
    await log.append(stream, "acme", 0, uuid4(), [event], {})
    assert await budgets.reserve(first, 100, LEASE) is None
    assert await budgets.reserve(late, 100, LEASE) == HeldElsewhere()
    called = replace(event, event_id=uuid4())
    await log.append(stream, "acme", 1, uuid4(), [called], {}, first.settle(50))
    assert await budgets.reserve(late, 100, LEASE) == HeldElsewhere()
    assert await budgets.show("acme") == Budget(None, 50, 0)
    fresh = Reservation(key, "acme", stream, version=2)
    assert await budgets.reserve(fresh, 100, LEASE) is None


async def test_what_does_not_suffice_is_refused_with_the_figures(
    budgets: TokenBudgets, pool: AsyncConnectionPool
) -> None:
    first = reservation()
    await budgets.reserve(first, 700, LEASE)
    refused = await budgets.reserve(reservation(), 301, LEASE)
    assert isinstance(refused, Exhausted)
    assert (refused.budget, refused.used, refused.reserved, refused.wanted) == (1000, 0, 700, 301)
    assert refused.for_now  # the call in progress may cost less
    midnight = refused.resets_at
    assert (midnight.hour, midnight.minute, midnight.tzinfo) == (0, 0, UTC)
    assert timedelta(0) < midnight - datetime.now(UTC) <= timedelta(days=1)
    await write(pool, first.settle(700))
    refused = await budgets.reserve(reservation(), 301, LEASE)
    assert isinstance(refused, Exhausted)
    assert not refused.for_now
    assert await budgets.reserve(reservation(), 300, LEASE) is None
    assert await budgets.reserve(reservation(tenant="other"), 1_000, LEASE) is None


async def test_a_reservation_grows_in_place(budgets: TokenBudgets) -> None:
    held = reservation()
    assert await budgets.reserve(held, 400, LEASE) is None
    assert await budgets.reserve(held, 900, LEASE) is None
    assert await budgets.show("acme") == Budget(None, 0, 900)
    assert isinstance(await budgets.reserve(held, 1_001, LEASE), Exhausted)
    assert await budgets.show("acme") == Budget(None, 0, 900)


async def test_fifty_calls_at_once_do_not_overshoot(budgets: TokenBudgets) -> None:
    results = await asyncio.gather(*(budgets.reserve(reservation(), 90, LEASE) for _ in range(50)))
    assert results.count(None) == 11  # of 1,000
    assert (await budgets.show("acme")).reserved == 990


async def test_one_of_many_workers_makes_a_call(budgets: TokenBudgets) -> None:
    key = uuid4()
    results = await asyncio.gather(
        *(budgets.reserve(reservation(key), 10, LEASE) for _ in range(20))
    )
    assert results.count(None) == 1
    assert results.count(HeldElsewhere()) == 19
    assert (await budgets.show("acme")).reserved == 10


async def test_settling_and_beginning_at_once_never_lock_each_other_out(
    budgets: TokenBudgets, pool: AsyncConnectionPool
) -> None:
    for _ in range(10):
        key = uuid4()
        held = [reservation(key) for _ in range(8)]
        await budgets.reserve(held[0], 1, LEASE)
        await asyncio.gather(
            write(pool, held[0].settle(1)),
            *(budgets.reserve(each, 1, LEASE) for each in held[1:]),
        )
    shown = await budgets.show("acme")
    assert shown.used == 10


async def test_a_lapsed_reservation_is_charged_and_its_call_free_again(
    budgets: TokenBudgets, pool: AsyncConnectionPool
) -> None:
    dead, next_one = reservation(), reservation()
    await budgets.reserve(dead, 400, LAPSED)
    successor = reservation(dead.key)
    assert await budgets.reserve(successor, 500, LEASE) is None
    assert await budgets.show("acme") == Budget(None, 400, 500)
    await write(pool, dead.settle(300))  # it was only slow: its call is charged already
    assert await budgets.show("acme") == Budget(None, 400, 500)
    await write(pool, successor.settle(100))
    assert await budgets.show("acme") == Budget(None, 500, 0)
    assert await budgets.reserve(next_one, 500, LEASE) is None


async def test_what_a_killed_worker_held_lapses(
    budgets: TokenBudgets, database: Database, pool: AsyncConnectionPool
) -> None:
    key = uuid4()
    program = (
        "import asyncio\n"
        "from datetime import timedelta\n"
        "from uuid import UUID\n"
        "from domain.database.pool import open_pool\n"
        "from domain.planning.budgets import Reservation, TokenBudgets\n"
        "async def main():\n"
        f"    pool = await open_pool({database.url!r}, min_size=1, max_size=1,"
        " application_name='dies')\n"
        f"    held = Reservation(UUID({str(key)!r}), 'acme')\n"
        "    print(await TokenBudgets(pool, 1000).reserve(held, 600, timedelta(seconds=10)),"
        " flush=True)\n"
        "    await asyncio.sleep(600)\n"
        "asyncio.run(main())\n"
    )
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, stdout=asyncio.subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        assert await process.stdout.readline() == b"None\n"
    finally:
        process.send_signal(signal.SIGKILL)
        await process.wait()
    mine = reservation(key)
    assert await budgets.reserve(mine, 300, LEASE) == HeldElsewhere()
    async with asyncio.timeout(60):
        while await budgets.reserve(mine, 300, LEASE) is not None:
            await asyncio.sleep(0.1)
    assert await budgets.show("acme") == Budget(None, 600, 300)


async def test_a_new_day_begins_with_nothing_used(
    budgets: TokenBudgets, pool: AsyncConnectionPool
) -> None:
    over_midnight, held = reservation(), reservation()
    await budgets.reserve(over_midnight, 900, LEASE)
    await budgets.reserve(held, 100, LEASE)
    await write(pool, held.settle(100))
    async with pool.connection() as connection:
        await connection.execute("update model_budgets set day = day - 1")
        await connection.execute("update model_reservations set day = day - 1")
    assert await budgets.show("acme") == Budget(None, 0, 0)
    assert await budgets.reserve(reservation(), 1_000, LEASE) is None
    await write(pool, over_midnight.settle(900))  # of yesterday
    assert await budgets.show("acme") == Budget(None, 0, 1_000)


async def test_a_tenants_own_budget_holds_at_once(budgets: TokenBudgets) -> None:
    await budgets.set("acme", 50)
    assert await budgets.show("acme") == Budget(50, 0, 0)
    refused = await budgets.reserve(reservation(), 51, LEASE)
    assert isinstance(refused, Exhausted)
    assert refused.budget == 50
    await budgets.set("acme", 5_000)
    assert await budgets.reserve(reservation(), 4_000, LEASE) is None
    await budgets.set("acme", None)
    assert await budgets.show("acme") == Budget(None, 0, 4_000)
    await budgets.set("acme", 0)
    assert isinstance(await budgets.reserve(reservation(), 1, LEASE), Exhausted)


async def test_only_tenants_have_budgets(budgets: TokenBudgets) -> None:
    assert await budgets.show("nobody") == Budget(None, 0, 0)
    with pytest.raises(UnknownTenant, match="nobody"):
        await budgets.set("nobody", 1)
    with pytest.raises(UnknownTenant, match="nobody"):
        await budgets.reserve(reservation(tenant="nobody"), 1, LEASE)

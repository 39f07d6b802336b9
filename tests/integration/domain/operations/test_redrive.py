"""Side effects are repeated on purpose, under their first ids, for exactly what was previewed."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from azure.servicebus.aio import ServiceBusClient
from psycopg_pool import AsyncConnectionPool

from domain.errors import OperationError
from domain.eventlog.log import EventLog
from domain.intents.run_decisions import run_id_of
from domain.messaging.publisher import OutgoingMessage, PublishFailed, ServiceBusPublisher
from domain.messaging.routing import Destinations
from domain.operations.redrive import Redrive, Redriven, SelectionChanged, Target, parse_rate
from domain.operations.selection import Selection, parse_where, preview, selection_of
from domain.runs.tokens import RunTokens
from tests.support.intents.recorder import Recorder
from tests.support.postgres import Database
from tests.support.qlp import qlp
from tests.support.servicebus.broker import BrokerFactory

TO = Destinations("intent-events", "sandbox-jobs")
ALL = Selection()


@pytest.fixture
def recorder(pool: AsyncConnectionPool) -> Recorder:
    return Recorder(pool)


class Collecting:
    """A publisher that keeps what it gets and fails after ``fail_after`` messages."""

    def __init__(self, fail_after: int = 1_000) -> None:
        self.sent: list[OutgoingMessage] = []
        self._fail_after = fail_after

    async def open(self) -> None:
        return

    async def send(self, messages: Sequence[OutgoingMessage]) -> None:
        if len(self.sent) >= self._fail_after:
            raise PublishFailed("intent-events: away")
        self.sent += messages


async def redrive(
    pool: AsyncConnectionPool, target: Target, selection: Selection = ALL
) -> tuple[Redriven, list[OutgoingMessage]]:
    publisher = Collecting()
    operation = Redrive(pool, TO, publisher, RunTokens([]))
    expected = await operation.preview(selection, 100)
    done = await operation.execute(selection, 100, target, expected, per_second=1_000)
    return done, publisher.sent


async def test_publish_announces_the_last_event_again_under_its_id(
    recorder: Recorder, pool: AsyncConnectionPool
) -> None:
    ended, waiting = await recorder.finished(), await recorder.running()
    done, sent = await redrive(pool, "publish")
    last = [(await recorder.repository.history(each))[-1] for each in (ended, waiting)]
    assert [message.message_id for message in sent] == [str(record.event_id) for record in last]
    assert {message.entity for message in sent} == {"intent-events"}, "no program is run again"
    assert (done.done, done.skipped) == (2, {})


async def test_sandbox_sends_the_job_of_unfinished_intents_only(
    recorder: Recorder, pool: AsyncConnectionPool
) -> None:
    waiting = await recorder.running("print('again')")
    others = [await recorder.finished(), await recorder.cancelled(), await recorder.submitted()]
    done, sent = await redrive(pool, "sandbox")
    [job] = sent
    assert (job.entity, job.message_id) == ("sandbox-jobs", str(run_id_of(waiting, 1)))
    assert json.loads(job.body)["data"]["files"][0]["content"] == "print('again')"
    assert (done.done, set(done.skipped)) == (1, set(others))


async def test_nowhere_sends_nothing_and_finds_what_differs(
    recorder: Recorder, pool: AsyncConnectionPool
) -> None:
    right, wrong = await recorder.finished(), await recorder.finished()
    async with pool.connection() as connection:
        await connection.execute(
            "update intent_states set status = 'failed' where id = %s", [wrong]
        )
    done, sent = await redrive(pool, "nowhere")
    assert done.differences == {wrong: {"status": ("succeeded", "failed")}}
    assert (done.done, sent) == (2, [])
    assert right not in done.differences


async def test_nothing_is_written_to_the_log(recorder: Recorder, pool: AsyncConnectionPool) -> None:
    for _ in range(3):
        await recorder.running()
    head = await EventLog(pool).heads()
    targets: tuple[Target, ...] = ("publish", "sandbox", "nowhere")
    for target in targets:
        await redrive(pool, target)
    assert await EventLog(pool).heads() == head


async def test_a_selection_that_changed_since_its_preview_is_refused(
    recorder: Recorder, pool: AsyncConnectionPool
) -> None:
    await recorder.running()
    publisher = Collecting()
    operation = Redrive(pool, TO, publisher, RunTokens([]))
    selection = parse_where("status=running")
    expected = await operation.preview(selection, 100)
    await recorder.running()
    with pytest.raises(SelectionChanged, match="showed 1 intents, now 2 match"):
        await operation.execute(selection, 100, "sandbox", expected, per_second=100)
    beyond = await operation.preview(selection, 1)
    await recorder.running()
    with pytest.raises(SelectionChanged):
        await operation.execute(selection, 1, "sandbox", beyond, per_second=100)
    assert publisher.sent == []


async def test_a_bus_that_goes_away_stops_it_and_it_says_how_far_it_came(
    recorder: Recorder, pool: AsyncConnectionPool
) -> None:
    for _ in range(3):
        await recorder.running()
    broken = Redrive(pool, TO, Collecting(fail_after=2), RunTokens([]))
    expected = await broken.preview(ALL, 100)
    with pytest.raises(OperationError, match=r"stopped after 2 of 3 intents.*repeat this once"):
        await broken.execute(ALL, 100, "publish", expected, per_second=1_000)
    again, sent = await redrive(pool, "publish")
    assert (again.done, len({message.message_id for message in sent})) == (3, 3)


async def test_the_rate_is_kept(recorder: Recorder, pool: AsyncConnectionPool) -> None:
    for _ in range(4):
        await recorder.running()
    operation = Redrive(pool, TO, Collecting(), RunTokens([]))
    expected = await operation.preview(ALL, 100)
    ticks: list[float] = []
    started = datetime.now(UTC)
    await operation.execute(
        *(ALL, 100, "publish", expected),
        per_second=10,
        progress=lambda done, _: ticks.append((datetime.now(UTC) - started).total_seconds()),
    )
    assert ticks[-1] >= 0.3


async def test_conditions_pick_what_they_name(
    recorder: Recorder, pool: AsyncConnectionPool
) -> None:
    failed = await recorder.finished(verdict="exited", stdout="nul \x00")
    timed_out = await recorder.finished(verdict="timed_out")
    succeeded = await recorder.finished(stdout='"error":{"code":"program_exited"')
    other = await Recorder(pool, "other").finished()
    moment = datetime.now(UTC).isoformat()
    late = await recorder.running()

    async def picked(where: str) -> set[UUID]:
        return {item.intent_id for item in (await preview(pool, parse_where(where), 99)).selected}

    assert await picked("code=program_exited") == {failed}
    assert await picked("status=failed") == {failed, timed_out}
    assert await picked(" status = failed , code = timed_out ") == {timed_out}
    assert await picked("tenant=other") == {other}
    assert await picked(f"since={moment}") == {late}
    assert await picked(f"until={moment},tenant=acme") == {failed, timed_out, succeeded}
    assert await picked("language=shell") == set()
    assert await picked("tenant=x' or '1'='1") == set()


async def test_a_preview_counts_all_and_takes_the_oldest(
    recorder: Recorder, pool: AsyncConnectionPool
) -> None:
    ids = [await recorder.running() for _ in range(7)] + [await recorder.finished()]
    found = await preview(pool, ALL, 6)
    assert (found.matching, found.by_status) == (8, {"running": 7, "succeeded": 1})
    assert [item.intent_id for item in found.selected] == ids[:6]
    assert [item.intent_id for item in found.first] == ids[:5]
    unknown = uuid4()
    named = await preview(pool, Selection(ids=(ids[0], unknown)), 10)
    assert (named.matching, named.unknown) == (1, [unknown])


@pytest.mark.parametrize(
    ("where", "says"),
    [
        ("", "no field '', only status, tenant, code, language, since, until"),
        ("colour=red", "no field 'colour', only status"),
        ("status", "status needs a value"),
        ("status=", "status needs a value"),
        (f"tenant={'x' * 201}", "tenant needs a value of 1 to 200"),
        ("tenant=a\x00b", "tenant needs a value"),
        ("status=broken", "no status 'broken', only submitted, planned, running"),
        ("status=failed,status=running", "status is given twice"),
        ("since=yesterday", "since: 'yesterday' is not a time such as"),
        ("until=2026-03-01", "until: '2026-03-01' has no offset"),
        ("status=failed;drop table events", "no status"),
    ],
)
def test_a_wrong_condition_is_named_with_what_there_is(where: str, says: str) -> None:
    with pytest.raises(OperationError) as refused:
        parse_where(where)
    assert says in str(refused.value)


def test_ids_or_conditions_but_not_both_and_not_neither() -> None:
    for ids, where in (([], None), ([uuid4()], "status=failed")):
        with pytest.raises(OperationError, match="and not both"):
            selection_of(ids, where)


def test_rates_have_bounds() -> None:
    assert (parse_rate("50/s"), parse_rate("0.5")) == (50, 0.5)
    for text in ("", "fast", "0", "-1", "nan", "inf", "10/m", "1e9"):
        with pytest.raises(OperationError, match="rate"):
            parse_rate(text)


async def received(connection: str, count: int) -> list[Any]:
    async with (
        ServiceBusClient.from_connection_string(connection) as client,
        client.get_subscription_receiver("intent-events", "process-manager") as receiver,
    ):
        messages: list[Any] = []
        while len(messages) < count:
            batch = await receiver.receive_messages(max_message_count=count, max_wait_time=30)
            assert batch, f"only {len(messages)} of {count} came"
            messages += batch
        return messages


async def test_qlp_replays_to_the_bus_after_a_confirmation(
    recorder: Recorder, database: Database, broker_process: BrokerFactory
) -> None:
    broker = broker_process()
    bus = {"ServiceBusConnection": broker.connection_string}
    failed = [await recorder.finished(verdict="exited") for _ in range(2)]
    await recorder.finished()
    where = ("replay", "--where", "status=failed,code=program_exited", "--to", "publish")

    dry, unasked = await asyncio.gather(
        qlp(*where, "--dry-run", url=database.url), qlp(*where, url=database.url, **bus)
    )
    assert (dry.code, "matching intents: 2 (2 failed)" in dry.out) == (0, True)
    assert (unasked.code, "--yes" in unasked.err) == (1, True)
    assert broker.depth("intent-events/Subscriptions/process-manager")["active"] == 0

    done = await qlp(*where, "--yes", "--json", url=database.url, **bus)
    assert (done.code, done.json["result"]["done"]) == (0, 2)
    messages = await received(broker.connection_string, 2)
    ids = {str((await recorder.repository.history(each))[-1].event_id) for each in failed}
    assert {message.message_id for message in messages} == ids

    broker.kill()
    away = await qlp(*where, "--yes", url=database.url, **bus)
    assert (away.code, "stopped after 0 of 2" in away.err) == (1, True)


async def test_qlp_exits_with_1_where_the_read_model_differs(
    recorder: Recorder, database: Database, pool: AsyncConnectionPool
) -> None:
    intent = str(await recorder.finished())
    agreed, wrong = await asyncio.gather(
        qlp("replay", intent, url=database.url),
        qlp("replay", "--where", "colour=red", url=database.url),
    )
    assert (agreed.code, "agrees with the events" in agreed.out) == (0, True)
    assert (wrong.code, "only status, tenant" in wrong.err) == (1, True)
    async with pool.connection() as connection:
        await connection.execute("update intent_states set version = 9 where id = %s", [intent])
    said = await qlp("replay", intent, "--json", url=database.url)
    assert (said.code, said.json["result"]["differences"]) == (1, {intent: {"version": [5, 9]}})


async def test_the_publisher_of_the_application_serves(
    recorder: Recorder, pool: AsyncConnectionPool, broker_process: BrokerFactory
) -> None:
    broker = broker_process()
    await recorder.running()
    publisher = ServiceBusPublisher(
        ["intent-events", "sandbox-jobs"], connection_string=broker.connection_string
    )
    operation = Redrive(pool, TO, publisher, RunTokens([]))
    expected = await operation.preview(ALL, 10)
    await operation.execute(ALL, 10, "sandbox", expected, per_second=100)
    await publisher.close()
    assert broker.depth("sandbox-jobs")["active"] == 1
    assert expected.first[0].created_at < datetime.now(UTC) + timedelta(seconds=1)

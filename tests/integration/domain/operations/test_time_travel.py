"""A stream is shown as it was at any version and at any moment."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta, timezone
from uuid import uuid4

import pytest
from psycopg_pool import AsyncConnectionPool

from domain.errors import OperationError
from domain.operations.replay import NoSuchStream
from domain.operations.time_travel import parse_as_of, travel
from domain.projections.intent_row import row_of
from tests.support.intents.recorder import Recorder
from tests.support.postgres import Database
from tests.support.qlp import qlp


@pytest.fixture
def recorder(pool: AsyncConnectionPool) -> Recorder:
    return Recorder(pool)


async def test_each_version_shows_the_state_it_had(recorder: Recorder) -> None:
    intent = await recorder.finished()
    seen = [await travel(recorder.repository, intent, version) for version in range(1, 6)]
    assert [then.state["status"] for then in seen] == [
        *("submitted", "planned", "running", "running", "succeeded")
    ]
    assert [then.version for then in seen] == [1, 2, 3, 4, 5]
    assert [len(then.events) for then in seen] == [1, 2, 3, 4, 5]
    assert {then.latest_version for then in seen} == {5}
    assert seen[2].state["outcome"] is None
    assert seen[4].state["outcome"]["stdout"] == "1\n"
    assert [step.status for step in seen[1].history] == ["submitted", "planned"]


async def test_a_moment_takes_in_the_events_recorded_by_then(recorder: Recorder) -> None:
    intent = await recorder.finished()
    records = await recorder.repository.history(intent)
    exactly = await travel(recorder.repository, intent, records[1].recorded_at)
    assert exactly.version == 2
    moment = records[1].recorded_at - timedelta(microseconds=1)
    assert (await travel(recorder.repository, intent, moment)).version == 1


async def test_the_future_and_no_moment_are_the_present(recorder: Recorder) -> None:
    intent = await recorder.finished()
    state = await recorder.repository.load(intent)
    assert state is not None
    for as_of in (None, datetime.now(UTC) + timedelta(days=1)):
        now = await travel(recorder.repository, intent, as_of)
        assert (now.version, now.state["outcome"]) == (5, row_of(state).outcome)


async def test_before_its_beginning_there_was_no_intent(recorder: Recorder) -> None:
    intent = await recorder.submitted()
    with pytest.raises(NoSuchStream, match=r"did not exist .* its first event was recorded"):
        await travel(recorder.repository, intent, datetime(2020, 1, 1, tzinfo=UTC))
    with pytest.raises(OperationError, match="as-of: the stream's latest version is 1, not 2"):
        await travel(recorder.repository, intent, 2)
    with pytest.raises(NoSuchStream):
        await travel(recorder.repository, uuid4(), 1)


def test_times_of_every_offset_and_versions_are_understood() -> None:
    noon = datetime(2026, 3, 1, 12, tzinfo=UTC)
    for text in ("2026-03-01T12:00:00Z", "2026-03-01 13:00:00.000+01:00"):
        assert parse_as_of(text) == noon
    moment = parse_as_of("2026-03-01T13:00:00+01:00")
    assert isinstance(moment, datetime)
    assert moment.tzinfo in (UTC, timezone.utc)  # noqa: UP017 either name of it
    assert parse_as_of("17") == 17


@pytest.mark.parametrize(
    "text", ["", "0", "-1", "noon", "2026-03-01T12:00:00", "2026-03-01", "9" * 30, "٣", "\x00"]
)
def test_what_is_neither_is_refused_by_name(text: str) -> None:
    with pytest.raises(OperationError, match=r"^as-of: .*2026-03-01T12:00:00Z or a version"):
        parse_as_of(text)


def test_the_ends_of_time_are_out_of_range() -> None:
    with pytest.raises(OperationError, match="out of range"):
        parse_as_of("0001-01-01T00:00:00+10:00")


async def test_qlp_shows_the_past(recorder: Recorder, database: Database) -> None:
    intent = str(await recorder.finished("print('\x1b[31m')"))
    show = ("streams", "show", intent, "--as-of")
    said, shown, later, wrong = await asyncio.gather(
        qlp(*show, "3", "--json", url=database.url),
        qlp(*show, "3", url=database.url),
        qlp(*show, "2100-01-01T00:00:00Z", url=database.url),
        qlp(*show, "noon", url=database.url),
    )
    assert (said.code, said.json["state"]["status"], said.json["version"]) == (0, "running", 3)
    assert [event["version"] for event in said.json["events"]] == [1, 2, 3]
    assert shown.out.startswith("version 3 of 5\n")
    assert later.out.startswith("at 2100-01-01 00:00:00+00:00: version 5 of 5\n")
    statuses, _, rest = shown.out.partition("\nthe intent then:\n")
    state, _, events = rest.partition("\nits events:\n")
    assert ("status after it" in statuses, '"status": "running"' in state) == (True, True)
    assert '"content": {' in events, "the data of the first event"
    assert "IntentSucceeded" not in shown.out
    assert "\x1b" not in shown.out, "people's words must not steer the terminal"
    assert (wrong.code, wrong.out) == (1, "")
    assert wrong.err.startswith("qlp: as-of: 'noon' is not a time")

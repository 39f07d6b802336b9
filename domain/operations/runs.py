"""Lists and kills runs, for operators."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

from psycopg_pool import AsyncConnectionPool

from domain.application.handler import CommandHandler, Handled
from domain.application.repository import IntentRepository
from domain.contracts.envelope import child_of
from domain.database.pool import fetch
from domain.database.statements import load_statements
from domain.errors import OperationError
from domain.eventlog.log import EventLog
from domain.intents.commands import KillRun
from domain.runs.status import RunStatuses

_SQL = load_statements(Path(__file__).with_name("runs.sql"))

#: Most runs in progress that are searched for an id.
_MOST_RUNNING = 10_000


@dataclass(frozen=True, slots=True)
class RunInfo:
    """A run of an intent.

    Attributes:
        state: ``running``, ``to be killed``, or how it ended.
        since: when the intent last changed.
        runtime: what ran it, once it has ended.
    """

    run_id: UUID
    intent_id: UUID
    tenant_id: str
    state: str
    since: datetime
    runtime: str | None


async def list_runs(
    pool: AsyncConnectionPool, *, running: bool, tenant_id: str | None, limit: int
) -> list[RunInfo]:
    """Runs of the most recently changed intents; with ``running``, only those in progress.

    Of an intent that has ended, the run with its outcome; of others, all open runs.
    """
    params = {"tenant_id": tenant_id, "limit": limit}
    rows = await fetch(pool, _SQL["running" if running else "recent"], params)
    open_ = await RunStatuses(pool).of(row[0] for row in rows if row[2] == "running")
    found = []
    for intent_id, tenant, _, since, run_id, verdict, runtime in rows:
        if intent_id in open_:
            for status in open_[intent_id].open:
                state = "to be killed" if status.unwanted else "running"
                found.append(RunInfo(status.run_id, intent_id, tenant, state, since, None))
        elif run_id is not None:
            state = verdict or "unknown"
            found.append(RunInfo(UUID(run_id), intent_id, tenant, state, since, runtime))
    return found


async def find_running(pool: AsyncConnectionPool, some_id: UUID) -> RunInfo:
    """The run in progress with this id, or of the intent with this id.

    Raises:
        OperationError: there is none.
    """
    for run in await list_runs(pool, running=True, tenant_id=None, limit=_MOST_RUNNING):
        if some_id in (run.run_id, run.intent_id):
            return run
    raise OperationError(f"no run in progress has the id {some_id}; see `qlp runs list --running`")


async def kill(pool: AsyncConnectionPool, run: RunInfo, operator: str, reason: str) -> Handled:
    """Record that ``run`` is to be killed; its host is told with its next heartbeat.

    Raises:
        NothingRuns: it has ended meanwhile.
    """
    handler = CommandHandler(IntentRepository(EventLog(pool)), lambda _state: None)
    command = KillRun(run.run_id, operator, reason, datetime.now(UTC))
    return await handler.handle(run.intent_id, command, traceparent=child_of(None))

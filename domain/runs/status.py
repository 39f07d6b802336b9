"""The status of runs, from the log: awaited, to be killed, or ended.

It is read from the events themselves, which are always current, few per stream and found by an
index, so it needs no read model.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from uuid import UUID

from psycopg_pool import AsyncConnectionPool

from domain.application.handler import finished_id
from domain.contracts.job import JobLimits
from domain.database.pool import fetch
from domain.database.statements import load_statements
from domain.eventlog.intent_streams import intent_of, stream_of
from domain.intents.events import (
    IntentCancelled,
    IntentFailed,
    SandboxRunFinished,
    SandboxRunKillRequested,
    SandboxRunRequested,
)

_SQL = load_statements(Path(__file__).with_name("status.sql"))


@dataclass(frozen=True, slots=True)
class RunStatus:
    """A run of an intent.

    Attributes:
        artifact_bytes: most bytes of all its artifacts together.
        open: its result has not come yet.
        unwanted: it was cancelled, an operator asked to kill it, or another step has failed.
    """

    tenant_id: str
    run_id: UUID
    artifact_bytes: int
    open: bool = True
    unwanted: bool = False


@dataclass(frozen=True, slots=True)
class IntentRuns:
    """The runs of an intent, in the order in which they were requested; at least one."""

    runs: tuple[RunStatus, ...]

    @property
    def latest(self) -> RunStatus:
        """The run that was requested last."""
        return self.runs[-1]

    @property
    def open(self) -> tuple[RunStatus, ...]:
        """The runs whose results have not come yet."""
        return tuple(run for run in self.runs if run.open)

    def get(self, run_id: UUID) -> RunStatus | None:
        """The run of that id; None if there is none."""
        return next((run for run in self.runs if run.run_id == run_id), None)

    def awaited(self, run_id: UUID, tenant_id: str) -> RunStatus | None:
        """The tenant's run of that id, if its result has not come yet; else None."""
        run = self.get(run_id)
        return run if run is not None and run.open and run.tenant_id == tenant_id else None


class RunStatuses:
    """Reads the runs of many intents at once."""

    def __init__(self, pool: AsyncConnectionPool) -> None:
        self._pool = pool

    async def of(self, intent_ids: Iterable[UUID]) -> dict[UUID, IntentRuns]:
        """The runs of each intent; intents without runs are left out."""
        streams = [stream_of(intent_id) for intent_id in set(intent_ids)]
        found: dict[str, dict[UUID, RunStatus]] = {}
        for stream, *event in await fetch(self._pool, _SQL["of"], {"streams": streams}):
            _evolve(found.setdefault(stream, {}), *event)
        return {
            intent_of(stream): IntentRuns(tuple(runs.values()))
            for stream, runs in found.items()
            if runs
        }


def _evolve(
    runs: dict[UUID, RunStatus],
    tenant_id: str,
    type_: str,
    command_id: UUID,
    run_id: UUID | None,
    artifact_bytes: int | None,
) -> None:
    if type_ == SandboxRunRequested.type and run_id is not None:
        unset = JobLimits().artifact_bytes
        limit = unset if artifact_bytes is None else artifact_bytes
        runs[run_id] = RunStatus(tenant_id, run_id, limit)
        return
    for run in runs.values():
        if type_ == SandboxRunFinished.type and command_id == finished_id(run.run_id):
            runs[run.run_id] = replace(run, open=False)
        elif type_ in _ENDS or (type_ == SandboxRunKillRequested.type and run.run_id == run_id):
            runs[run.run_id] = replace(run, unwanted=True)


_ENDS = (IntentCancelled.type, IntentFailed.type)

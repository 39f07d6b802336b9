"""Answers heartbeats of sandbox hosts: stores live output and returns which runs to kill."""

from __future__ import annotations

from uuid import UUID

from domain.contracts.heartbeat import Heartbeat, Order, Orders, RunBeat
from domain.runs.output import RunOutput, Watched
from domain.runs.status import IntentRuns, RunStatuses
from domain.runs.tokens import RunTokens
from domain.telemetry import security_event


class Heartbeats:
    """Takes one query for the status of all runs of a heartbeat, and one to store their output."""

    def __init__(self, tokens: RunTokens, statuses: RunStatuses, output: RunOutput) -> None:
        self._tokens = tokens
        self._statuses = statuses
        self._output = output

    async def take(self, heartbeat: Heartbeat) -> Orders:
        """The orders for the runs of a heartbeat; it is safe to repeat."""
        runs = [(beat, self._authenticate(beat)) for beat in heartbeat.runs]
        statuses = await self._statuses.of(
            beat.intent_id for beat, tenant_id in runs if tenant_id is not None
        )
        orders: dict[UUID, Order] = {}
        chunks = []
        for beat, tenant_id in runs:
            runs_of_intent = statuses.get(beat.intent_id)
            orders[beat.run_id] = _order(beat, tenant_id, runs_of_intent)
            if tenant_id and runs_of_intent and runs_of_intent.awaited(beat.run_id, tenant_id):
                run = Watched(beat.run_id, beat.intent_id)
                chunks += [(run, chunk) for chunk in beat.output]
        await self._output.add(chunks)
        return Orders(orders=orders)

    def _authenticate(self, beat: RunBeat) -> str | None:
        owner = self._tokens.owner_of(beat.token, beat.run_id)
        if owner is None or owner.intent_id != beat.intent_id:
            security_event("failed_authentication", door="heartbeat", run=str(beat.run_id))
            return None
        return owner.tenant_id


def _order(beat: RunBeat, tenant_id: str | None, runs: IntentRuns | None) -> Order:
    if tenant_id is None:
        return Order.REFUSED
    awaited = runs.awaited(beat.run_id, tenant_id) if runs is not None else None
    return Order.KILL if awaited is None or awaited.unwanted else Order.CONTINUE

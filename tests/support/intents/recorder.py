"""Intents in the log, as the application records them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

from psycopg_pool import AsyncConnectionPool

from domain.access.limits import TenantLimits
from domain.application.handler import CommandHandler
from domain.application.repository import IntentRepository
from domain.eventlog.log import EventLog
from domain.intents.commands import (
    CancelIntent,
    Command,
    RecordPlan,
    RecordRun,
    RequestRun,
    SubmitIntent,
)
from domain.intents.content import IntentContent, Limits
from domain.intents.event_parts import RunOutcome
from domain.intents.run_decisions import run_id_of
from domain.intents.struct import checked

TRACEPARENT = f"00-{'a' * 32}-{'b' * 16}-01"


class Recorder:
    """Records what happens to intents of one tenant."""

    def __init__(self, pool: AsyncConnectionPool, tenant: str = "acme") -> None:
        self.repository = IntentRepository(EventLog(pool))
        self.tenant = tenant
        self._handler = CommandHandler(self.repository, lambda _state: None)

    async def submitted(self, program: str = "print(1)", **more: Any) -> UUID:
        intent_id = uuid4()
        files = {"language": "python", "files": {"main.py": program}, **more}
        content = {"text": "print 1", "program": files}
        await self._do(
            intent_id,
            SubmitIntent(
                intent_id,
                self.tenant,
                checked(IntentContent, content),
                "http",
                datetime.now(UTC),
            ),
        )
        return intent_id

    async def running(self, program: str = "print(1)", **more: Any) -> UUID:
        intent_id = await self.submitted(program, **more)
        now = datetime.now(UTC)
        limits = TenantLimits().resolve(checked(Limits, more.get("limits", {})))
        plan = RecordPlan("submitted", None, None, None, now)
        await self._do(intent_id, plan, RequestRun(limits, now))
        return intent_id

    async def finished(
        self, program: str = "print(1)", *, verdict: str = "succeeded", **outcome: Any
    ) -> UUID:
        intent_id = await self.running(program)
        values = {"exit_code": 0 if verdict == "succeeded" else 3, "stdout": "1\n", **outcome}
        await self._do(
            intent_id,
            RecordRun(
                run_id_of(intent_id, 1), RunOutcome(verdict=verdict, **values), datetime.now(UTC)
            ),
        )
        return intent_id

    async def cancelled(self) -> UUID:
        intent_id = await self.running()
        await self._do(intent_id, CancelIntent(None, datetime.now(UTC)))
        return intent_id

    async def _do(self, intent_id: UUID, *commands: Command) -> None:
        for command in commands:
            await self._handler.handle(intent_id, command, traceparent=TRACEPARENT)

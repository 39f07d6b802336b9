"""Real histories of intents for tests of projections, made by the domain itself."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from psycopg_pool import AsyncConnectionPool

from domain.application.handler import CommandHandler
from domain.application.repository import IntentRepository
from domain.eventlog.log import EventLog
from domain.intents.commands import (
    CancelIntent,
    RecordPlan,
    RecordRun,
    RejectPlan,
    RequestRun,
    SubmitIntent,
)
from domain.intents.content import IntentContent, Limits, Program, ProgramFile
from domain.intents.event_parts import FailureCause, RunOutcome
from domain.intents.ids import new_id
from domain.intents.run_decisions import run_id_of
from domain.projections.following.contract import Projection
from domain.projections.following.runner import Runner

AT = datetime(2026, 3, 1, 12, tzinfo=UTC)
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
PROGRAM = Program(
    language="python",
    files=(ProgramFile(path="main.py", content="print(1)"),),
    entrypoint="main.py",
)


@dataclass(frozen=True, slots=True)
class Histories:
    """Makes intents of all kinds; each method returns the id of a new one."""

    handler: CommandHandler

    @classmethod
    def over(cls, pool: AsyncConnectionPool) -> Histories:
        return cls(CommandHandler(IntentRepository(EventLog(pool)), lambda _state: None))

    async def submitted(self, tenant: str = "acme") -> UUID:
        intent_id = new_id()  # as the service does
        content = IntentContent(text="print one", program=PROGRAM)
        command = SubmitIntent(intent_id, tenant, content, "http", AT)
        await self.handler.handle(intent_id, command, traceparent=TRACE)
        return intent_id

    async def running(self, tenant: str = "acme") -> UUID:
        intent_id = await self.submitted(tenant)
        plan = RecordPlan("submitted", None, None, None, AT)
        await self.handler.handle(intent_id, plan, traceparent=TRACE)
        await self.handler.handle(intent_id, RequestRun(Limits(), AT), traceparent=TRACE)
        return intent_id

    async def run_ends(self, intent_id: UUID, outcome: RunOutcome) -> None:
        command = RecordRun(run_id_of(intent_id, 1), outcome, AT)
        await self.handler.handle(intent_id, command, traceparent=TRACE)

    async def succeeded(self, tenant: str = "acme", stdout: str = "1\n") -> UUID:
        intent_id = await self.running(tenant)
        usage = {"wall_ms": 40.4, "cpu_user_ms": 20.0, "cpu_system_ms": 5.0}
        outcome = RunOutcome(verdict="succeeded", exit_code=0, stdout=stdout, usage=usage)
        await self.run_ends(intent_id, outcome)
        return intent_id

    async def exited(self, tenant: str = "acme", code: int = 1) -> UUID:
        intent_id = await self.running(tenant)
        usage = {"wall_ms": 10.0, "cpu_user_ms": 5.0}
        outcome = RunOutcome(verdict="exited", exit_code=code, stderr="no", usage=usage)
        await self.run_ends(intent_id, outcome)
        return intent_id

    async def unplannable(self, message: str, tenant: str = "acme", code: str = "no_plan") -> UUID:
        intent_id = await self.submitted(tenant)
        command = RejectPlan(FailureCause(code=code, message=message), AT)
        await self.handler.handle(intent_id, command, traceparent=TRACE)
        return intent_id

    async def cancelled(self, tenant: str = "acme") -> UUID:
        intent_id = await self.running(tenant)
        await self.cancel(intent_id)
        return intent_id

    async def cancel(self, intent_id: UUID) -> None:
        await self.handler.handle(intent_id, CancelIntent(None, AT), traceparent=TRACE)

    async def mixture(self, each: int = 5) -> list[UUID]:
        made = []
        for number in range(each):
            tenant = f"tenant-{number % 3}"
            made += [
                await self.submitted(tenant),
                await self.succeeded(tenant),
                await self.exited(tenant, number),
                await self.cancelled(tenant),
                await self.unplannable(f"no program for '{number}'", tenant),
            ]
        return made


async def table(pool: AsyncConnectionPool, statement: bytes) -> list[tuple[Any, ...]]:
    async with pool.connection() as connection:
        return await (await connection.execute(statement)).fetchall()


USAGE = b"""
    select tenant_id, submitted, succeeded, failed, cancelled, runs, sandbox_ms, cpu_ms,
        output_bytes, tokens, latency
    from usage_daily order by tenant_id, day
"""


async def run(pool: AsyncConnectionPool, projection: Projection[Any], page: int = 1000) -> int:
    return await Runner(pool, projection, page).run_until_caught_up()

"""What works, what does not, and how to fix it."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import aiohttp

from domain.contracts.redaction import redact
from domain.database.outages import describe_outage, outage_of
from domain.database.pool import Pool
from domain.eventlog.checkpoints import CheckpointStore
from domain.eventlog.log import EventLog
from domain.eventlog.models import Lag
from domain.messaging import relay
from domain.messaging.dead_letter_watch import MOST, DeadLetterWatch
from domain.messaging.publisher import Publisher, PublishFailed
from domain.planning.prompts import COMPARE, PLAN, REPAIR
from domain.projections.registry import Projections
from domain.retry import within
from domain.settings import Settings
from domain.similarity.status import EmbedderStatus

T = TypeVar("T")

#: If events wait for the relay for longer than this, nothing is being published; seconds.
RELAY_LAG_SECONDS = 60.0

_CHECK_SECONDS = 2.0

#: How long after an outage it is still reported, though the database answers again; seconds.
_TROUBLE_SECONDS = 10.0


class _NoAnswer(Exception):
    """The database cannot be asked; the message says why."""


@dataclass(frozen=True, slots=True)
class Check:
    """One part's health.

    Attributes:
        status: ``ok``; ``degraded``: requests are accepted but wait; ``failed``: they are not.
        detail: what was found, and the fix where something is wrong.
    """

    status: Literal["ok", "degraded", "failed"]
    detail: dict[str, Any]


class Health:
    """Checks every part that the application depends on, each within two seconds."""

    def __init__(
        self,
        settings: Settings,
        pool: Pool,
        log: EventLog,
        checkpoints: CheckpointStore,
        projections: Projections,
        publisher: Publisher,
        embedder: EmbedderStatus,
        dead_letters: DeadLetterWatch,
    ) -> None:
        self._settings = settings
        self._pool = pool
        self._log = log
        self._checkpoints = checkpoints
        self._projections = projections
        self._publisher = publisher
        self._embedder = embedder
        self._dead_letters = dead_letters

    async def report(self) -> dict[str, Check]:
        """All checks by name."""
        log, projections, bus, sandbox, embedder = await asyncio.gather(
            *(self._check_log(), self._check_projections(), self._check_bus()),
            *(self._check_sandbox(), self._check_embedder()),
        )
        return {
            "eventLog": log,
            "projections": projections,
            "serviceBus": bus,
            "deadLetters": self._check_dead_letters(),
            "sandbox": sandbox,
            "embedder": embedder,
            "planner": self._planner(),
        }

    def _planner(self) -> Check:
        settings = self._settings
        sources = ["submitted", "reused"]
        if settings.llm_model is None:
            note = "no language model is configured: a new sentence needs a program"
            return Check("ok", {"sources": sources, "note": note})
        return Check(
            "ok",
            {
                "sources": [*sources, "generated", "repaired"],
                "model": settings.llm_model,
                "prompts": [PLAN.label, REPAIR.label, COMPARE.label],
            },
        )

    async def _check_log(self) -> Check:
        try:
            writable, lag = await self._answer(self._look_at_log())
        except _NoAnswer as error:
            return Check("failed", {"problem": str(error)})
        detail: dict[str, Any] = {
            "relayLagEvents": lag.events,
            "relayLagSeconds": round(lag.seconds, 3),
            "horizonHeldSeconds": round(lag.horizon_held_seconds, 3),
        }
        if not writable:
            detail["problem"] = (
                "the database is read-only: its disk is full, or it is a standby; "
                "nothing is accepted until it takes writes again"
            )
            return Check("failed", detail)
        if trouble := self._pool.trouble(_TROUBLE_SECONDS):
            detail["problem"] = f"recently: {trouble}"
            return Check("degraded", detail)
        if lag.seconds > RELAY_LAG_SECONDS:
            detail["problem"] = "events wait to be published: is Service Bus reachable?"
            return Check("degraded", detail)
        return Check("ok", detail)

    async def _check_projections(self) -> Check:
        try:
            statuses = await self._answer(self._projections.status())
        except _NoAnswer as error:
            return Check("degraded", {"problem": str(error)})
        detail: dict[str, Any] = {}
        problems = []
        for status in statuses:
            detail[status.name] = {
                "lagEvents": status.lag_events,
                "lagSeconds": round(status.lag_seconds, 3),
                "parkedStreams": status.parked,
            }
            if status.problem:
                problems.append(f"{status.name}: {status.problem}")
        if problems:
            return Check("degraded", {"problem": "; ".join(problems), **detail})
        return Check("ok", detail)

    async def _answer(self, asked: Coroutine[Any, Any, T]) -> T:
        """The database's answer; raises `_NoAnswer` with the reason if there is none."""
        try:
            return await within(_CHECK_SECONDS, asked)
        except TimeoutError:
            trouble = self._pool.trouble(_TROUBLE_SECONDS)
            raise _NoAnswer(trouble or "the database does not answer") from None
        except Exception as error:
            if outage_of(error) is None:
                raise
            raise _NoAnswer(describe_outage(error)) from None

    async def _look_at_log(self) -> tuple[bool, Lag]:
        """Whether the database takes writes, and how far the relay is behind."""
        writable = await self._log.writable()
        return writable, await self._log.lag(await self._checkpoints.of(relay.NAME))

    async def _check_embedder(self) -> Check:
        try:
            report = await self._answer(self._embedder.report())
        except _NoAnswer as error:
            return Check("degraded", {"problem": str(error)})
        return Check("degraded" if report.problem else "ok", report.detail())

    async def _check_bus(self) -> Check:
        try:
            async with asyncio.timeout(_CHECK_SECONDS):
                await self._publisher.open()
        except (PublishFailed, TimeoutError) as error:
            problem = redact(f"Service Bus cannot be reached; events wait in the log: {error}")
            return Check("degraded", {"problem": problem})
        return Check("ok", {})

    def _check_dead_letters(self) -> Check:
        counts = self._dead_letters.counts()
        if counts is None:
            return Check("ok", {"note": "not counted yet"})
        if not counts:
            return Check("ok", {})
        shown = ", ".join(
            f"{count}{' or more' if count >= MOST else ''} of {name}"
            for name, count in counts.items()
        )
        problem = f"messages were given up: {shown}; see qlp dead-letters list"
        return Check("degraded", {"problem": problem, "entities": dict(counts)})

    async def _check_sandbox(self) -> Check:
        url = self._settings.sandbox_url
        if url is None:
            return Check("ok", {"note": "not observed: QLP_SANDBOX_URL is not set"})
        timeout = aiohttp.ClientTimeout(total=_CHECK_SECONDS)
        try:
            async with (
                aiohttp.ClientSession(timeout=timeout) as session,
                session.get(f"{url.rstrip('/')}/health") as response,
            ):
                detail = await response.json(content_type=None)
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            problem = f"the sandbox host does not answer ({type(error).__name__}); jobs wait"
            return Check("degraded", {"problem": problem})
        return Check("ok" if response.status == 200 else "degraded", detail)

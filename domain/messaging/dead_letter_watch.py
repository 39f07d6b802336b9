"""Watches the dead letters: counts them, and removes those that can never be processed.

A message whose body is an AMQP value or sequence fails in the functions host, before any function
sees it, and is dead-lettered. It is recorded with the reason, like every message that can never be
processed, and removed. All other dead letters failed unexpectedly, and wait for an operator.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping
from contextlib import aclosing
from dataclasses import replace

import psycopg
from azure.servicebus.aio import ServiceBusClient

from domain.database.outages import outage_of
from domain.errors import OperationError
from domain.messaging.bus import Entity, bus_client, entities_of
from domain.messaging.dead_letters import DeadLetter, open_dead_letters
from domain.messaging.rejected import RejectedMessages
from domain.settings import Settings

logger = logging.getLogger(__name__)

REASON = "UnsupportedBody"

#: Counts that are older than this are renewed, seconds.
STALE_SECONDS = 60.0

#: The most dead letters of one entity that are looked at; this count means "or more".
MOST = 1000

_LOOK_SECONDS = 60.0


class DeadLetterWatch:
    """The dead letters of every entity that the application receives from."""

    def __init__(self, settings: Settings, rejected: RejectedMessages) -> None:
        self._settings = settings
        self._rejected = rejected
        self._counts: Mapping[str, int] | None = None
        self._looked_at = -STALE_SECONDS
        self._looking: asyncio.Task[None] | None = None

    def counts(self) -> Mapping[str, int] | None:
        """How many each entity has, by the last look; None before the first.

        Does not wait: if the counts are old, another look begins in the background.
        """
        if time.monotonic() - self._looked_at >= STALE_SECONDS and self._looking is None:
            self._looking = asyncio.create_task(self.refresh(), name="dead-letters")
        return self._counts

    async def refresh(self) -> None:
        """Look; while the bus or the database cannot be reached, the last counts stay."""
        try:
            await self.look()
        except (OperationError, TimeoutError, psycopg.Error) as error:
            if isinstance(error, psycopg.Error) and outage_of(error) is None:
                raise
            logger.warning("dead letters cannot be looked at: %s", error)
        finally:
            self._looked_at = time.monotonic()
            self._looking = None

    async def look(self) -> Mapping[str, int]:
        """Record and remove what can never be processed; how many are left, by entity.

        Raises:
            OperationError, TimeoutError: the bus cannot be reached, or refuses.
            psycopg.Error: the messages cannot be recorded.
        """
        entities = entities_of(self._settings)
        async with asyncio.timeout(_LOOK_SECONDS), bus_client(self._settings) as client:
            counts = await asyncio.gather(*(self._look_at(client, each) for each in entities))
        self._looked_at = time.monotonic()
        self._counts = {
            each.name: count for each, count in zip(entities, counts, strict=True) if count
        }
        return self._counts

    async def _look_at(self, client: ServiceBusClient, entity: Entity) -> int:
        async with open_dead_letters(client, entity) as letters:
            count, unreadable = 0, list[DeadLetter]()
            async with aclosing(letters.pages(MOST)) as pages:
                async for page in pages:
                    count += len(page)
                    for letter in page:
                        if letter.unreadable:
                            await self._record(letter)
                            unreadable.append(replace(letter, body=b""))  # not kept in memory
            if unreadable:
                await letters.purge(unreadable)
        return count - len(unreadable)

    async def _record(self, letter: DeadLetter) -> None:
        """Recorded before it is removed: a crash in between only counts it twice."""
        await self._rejected.record(
            source=letter.entity,
            tenant_id=None,
            reason=REASON,
            description=str(letter.unreadable),
            body=letter.body,
            message_id=letter.message_id,
            traceparent=None,
        )

"""What operators can do over HTTP: with their tenant's intents, and what concerns all tenants."""

from __future__ import annotations

import asyncio
from uuid import UUID

from psycopg_pool import AsyncConnectionPool

from domain.application.repository import IntentRepository
from domain.database.paging import Page
from domain.eventlog.intent_streams import stream_of
from domain.eventlog.log import EventLog
from domain.eventlog.models import StreamInfo
from domain.messaging.bus import bus_client, entities_of
from domain.messaging.dead_letters import count_dead_letters
from domain.messaging.publisher import Publisher
from domain.messaging.rejected import RejectedMessage, RejectedMessages
from domain.messaging.routing import Destinations
from domain.operations.doctor.examine import examine
from domain.operations.doctor.findings import Finding
from domain.operations.redrive import Redrive
from domain.operations.replay import NoSuchStream
from domain.operations.time_travel import StreamThen, parse_as_of, travel
from domain.settings import Settings
from domain.similarity.recall import check_active


class Operations:
    """The operators' use cases.

    Attributes:
        redrive: repeats messages of selected intents.
    """

    def __init__(
        self,
        settings: Settings,
        pool: AsyncConnectionPool,
        log: EventLog,
        repository: IntentRepository,
        publisher: Publisher,
    ) -> None:
        self._settings = settings
        self._pool = pool
        self._log = log
        self._repository = repository
        destinations = Destinations(settings.events_topic, settings.jobs_queue)
        self.redrive = Redrive(pool, destinations, publisher, settings.run_tokens)

    async def streams(self, tenant_id: str, limit: int, after: str | None) -> list[StreamInfo]:
        """A tenant's streams in the order of their ids, after the id ``after``."""
        return await self._log.streams(tenant_id, limit, after)

    async def stream(self, tenant_id: str, intent_id: UUID, as_of: str | None) -> StreamThen:
        """A stream of the tenant as it was at ``as_of``, or is now.

        Raises:
            NoSuchStream: the tenant has no such stream, or had none then.
            OperationError: ``as_of`` is neither a time nor a version that the stream has reached.
        """
        first = await self._log.read_stream(stream_of(intent_id), limit=1)
        if not first or first[0].tenant_id != tenant_id:
            raise NoSuchStream(f"There is no stream of an intent {intent_id}.")
        return await travel(
            self._repository, intent_id, None if as_of is None else parse_as_of(as_of)
        )

    async def rejected(
        self, tenant_id: str, limit: int, cursor: str | None
    ) -> Page[RejectedMessage]:
        """A page of messages for the tenant that could not be processed.

        Raises:
            InvalidCursor: the cursor is not one of ours.
        """
        return await RejectedMessages(self._pool).list(limit, cursor, tenant_id)

    async def dead_letters(self) -> dict[str, int]:
        """The number of dead letters of all tenants, by queue or subscription.

        Raises:
            OperationError: the bus refuses, or does not answer.
        """
        entities = entities_of(self._settings)
        async with bus_client(self._settings) as client:
            counts = await asyncio.gather(*(count_dead_letters(client, each) for each in entities))
        return {entity.name: count for entity, count in zip(entities, counts, strict=True)}

    async def check_similarity(self) -> None:
        """Compare index and exact search on a few stored vectors; problems are logged."""
        await check_active(self._pool)

    async def examine(self) -> list[Finding]:
        """Run every check of the system."""
        return await examine(self._pool, self._settings)

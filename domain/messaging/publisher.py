"""Sends messages to Service Bus: one client per process, one sender per entity."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from azure.core.credentials_async import AsyncTokenCredential
from azure.servicebus import ServiceBusMessage
from azure.servicebus.aio import ServiceBusClient, ServiceBusSender
from azure.servicebus.exceptions import MessageSizeExceededError, ServiceBusError

from domain.contracts.amqp_decoding import complete_decoder
from domain.messaging.amqp_values import AmqpValue

#: How long one send may take, reconnecting included, seconds; then the caller decides.
SEND_SECONDS = 20.0


@dataclass(frozen=True, slots=True)
class OutgoingMessage:
    """One message and where it goes.

    Attributes:
        entity: queue or topic.
        message_id: derived from its cause, so that a repeat is recognised as one.
        subject: the envelope's type.
        correlation_id: the intent's id.
        body: an encoded `Envelope`.
        not_before: delivered no earlier than this; None: at once.
        properties: application properties, for operators to see; consumers do not rely on them.
    """

    entity: str
    message_id: str
    subject: str
    correlation_id: str
    body: bytes
    not_before: datetime | None = None
    properties: Mapping[str, AmqpValue] = field(default_factory=dict)


class PublishFailed(Exception):
    """The bus did not confirm the messages; it may or may not have them."""


class Publisher(Protocol):
    """Sends messages."""

    async def open(self) -> None:
        """Connect ahead of the first message; costs nothing once connected.

        Raises:
            PublishFailed: the bus cannot be reached.
        """

    async def send(self, messages: Sequence[OutgoingMessage]) -> None:
        """Send all of them; returns when the bus has confirmed every one.

        Raises:
            PublishFailed: not all are confirmed; sending them again is safe.
        """


class ServiceBusPublisher:
    """Publishes over one lazily opened AMQP connection, reopened after a failure."""

    def __init__(
        self,
        entities: Sequence[str],
        *,
        connection_string: str | None = None,
        namespace: str | None = None,
        credential: AsyncTokenCredential | None = None,
    ) -> None:
        self._connection_string = connection_string
        self._namespace = namespace
        self._credential = credential
        self._entities = entities
        self._opened = False
        self._client: ServiceBusClient | None = None
        self._senders: dict[str, ServiceBusSender] = {}
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def send(self, messages: Sequence[OutgoingMessage]) -> None:
        """See `Publisher.send`; messages of one entity keep their order."""
        by_entity: defaultdict[str, list[OutgoingMessage]] = defaultdict(list)
        for message in messages:
            by_entity[message.entity].append(message)
        for entity, group in by_entity.items():
            async with self._locks[entity]:  # a sender is not safe for concurrent use
                await self._send_to(entity, group)

    async def _send_to(self, entity: str, messages: list[OutgoingMessage]) -> None:
        try:
            async with asyncio.timeout(SEND_SECONDS):
                sender = await self._sender(entity)
                now = [_to_sdk(message) for message in messages if message.not_before is None]
                await _send_in_batches(sender, now)
                for message in messages:
                    if message.not_before is not None:
                        await sender.schedule_messages(_to_sdk(message), message.not_before)
        except (ServiceBusError, OSError, TimeoutError) as error:
            await self._discard(entity)
            raise PublishFailed(f"{entity}: {type(error).__name__}: {error}") from error

    async def open(self) -> None:
        """See `Publisher.open`; opening the link to an entity takes half a second."""
        if self._opened:
            return
        await asyncio.gather(*(self._open(entity) for entity in self._entities))
        self._opened = True

    async def _open(self, entity: str) -> None:
        async with self._locks[entity]:
            await self._send_to(entity, [])

    async def _sender(self, entity: str) -> ServiceBusSender:
        if self._client is None:
            self._client = self.connect()
        if entity not in self._senders:
            # A topic sender and a queue sender differ in nothing but the argument's name.
            sender = self._client.get_queue_sender(entity)
            self._senders[entity] = sender
            await sender.__aenter__()  # opens the link
        return self._senders[entity]

    def connect(self) -> ServiceBusClient:
        """Another client of the same bus; the caller closes it.

        Raises:
            PublishFailed: none is configured.
        """
        return connect(self._connection_string, self._namespace, self._credential, retries=2)

    async def _discard(self, entity: str) -> None:
        """Forget a broken sender, and the connection with it once no sender is left."""
        self._opened = False
        sender = self._senders.pop(entity, None)
        if sender is not None:
            await _close_quietly(sender)
        if not self._senders and self._client is not None:
            client, self._client = self._client, None
            await _close_quietly(client)

    async def close(self) -> None:
        """Close the connection; the publisher may be used again afterwards."""
        for entity in list(self._senders):
            await self._discard(entity)
        if self._credential is not None:
            await self._credential.close()


def connect(
    connection_string: str | None,
    namespace: str | None,
    credential: AsyncTokenCredential | None,
    *,
    retries: int,
) -> ServiceBusClient:
    """A client of the bus: by connection string, else by namespace and credential.

    Raises:
        PublishFailed: neither is configured.
    """
    complete_decoder()
    if connection_string:
        return ServiceBusClient.from_connection_string(
            connection_string, retry_total=retries, retry_backoff_factor=0.2
        )
    if namespace is None or credential is None:
        raise PublishFailed("no Service Bus connection is configured")
    return ServiceBusClient(namespace, credential, retry_total=retries, retry_backoff_factor=0.2)


async def _send_in_batches(sender: ServiceBusSender, messages: list[ServiceBusMessage]) -> None:
    if not messages:
        return
    if len(messages) == 1:
        await sender.send_messages(messages[0])
        return
    pending = iter(messages)
    message = next(pending, None)
    while message is not None:
        batch = await sender.create_message_batch()
        while message is not None:
            try:
                batch.add_message(message)
            except MessageSizeExceededError:
                if len(batch) == 0:
                    raise
                break
            message = next(pending, None)
        await sender.send_messages(batch)


def _to_sdk(message: OutgoingMessage) -> ServiceBusMessage:
    return ServiceBusMessage(
        message.body,
        message_id=message.message_id,
        subject=message.subject or None,
        correlation_id=message.correlation_id or None,
        content_type="application/cloudevents+json",
        application_properties=dict(message.properties) or None,  # type: ignore[arg-type]
    )


async def _close_quietly(closable: ServiceBusSender | ServiceBusClient) -> None:
    """Close something that may be broken already; a failure to close is ignored."""
    try:
        async with asyncio.timeout(2):
            await closable.close()
    except (ServiceBusError, OSError, TimeoutError):
        return

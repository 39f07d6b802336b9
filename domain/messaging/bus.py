"""Service Bus by the settings: its entities, clients and publishers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

from azure.core.credentials_async import AsyncTokenCredential
from azure.identity.aio import DefaultAzureCredential
from azure.servicebus import ServiceBusSubQueue
from azure.servicebus.aio import ServiceBusClient, ServiceBusReceiver
from azure.servicebus.exceptions import (
    ServiceBusAuthenticationError,
    ServiceBusAuthorizationError,
    ServiceBusError,
)

from domain.contracts.redaction import redact
from domain.errors import OperationError
from domain.messaging.publisher import ServiceBusPublisher, connect
from domain.settings import Settings

#: Errors of a bus that refuses the key or the identity, and what helps.
FORBIDDEN = (ServiceBusAuthenticationError, ServiceBusAuthorizationError)
FORBIDDEN_FIX = "give the identity the role Azure Service Bus Data Owner, or correct the key"


@dataclass(frozen=True, slots=True)
class Entity:
    """A queue, or a subscription of a topic, as ``queue`` or ``topic/subscription``."""

    name: str

    @property
    def target(self) -> str:
        """The queue or topic that messages are sent to."""
        return self.name.partition("/")[0]

    def receiver(self, client: ServiceBusClient, *, dead_letters: bool) -> ServiceBusReceiver:
        """A receiver of its messages, or of its dead letters; entering it opens it."""
        options: dict[str, Any] = {"sub_queue": ServiceBusSubQueue.DEAD_LETTER}
        options = options if dead_letters else {}
        topic, _, subscription = self.name.partition("/")
        if subscription:
            return client.get_subscription_receiver(topic, subscription, **options)
        return client.get_queue_receiver(topic, **options)


def entities_of(settings: Settings) -> list[Entity]:
    """Every entity that the application receives from."""
    return [
        Entity(settings.intents_queue),
        Entity(settings.jobs_queue),
        Entity(settings.results_queue),
        Entity(f"{settings.events_topic}/{settings.events_subscription}"),
    ]


def entity_named(settings: Settings, name: str) -> Entity:
    """One of `entities_of`.

    Raises:
        OperationError: there is no such entity; the message names those there are.
    """
    known = entities_of(settings)
    for entity in known:
        if entity.name == name:
            return entity
    names = ", ".join(entity.name for entity in known)
    raise OperationError(f"entity: there is no {name[:80]!r}, only {names}")


@asynccontextmanager
async def bus_client(settings: Settings) -> AsyncIterator[ServiceBusClient]:
    """A client of the configured namespace, by connection string or identity.

    Raises:
        OperationError: the bus refuses or cannot be reached, here or in the block.
    """
    async with AsyncExitStack() as stack:
        credential = None
        if settings.bus_by_identity:
            credential = await stack.enter_async_context(DefaultAzureCredential())
        client = connect(
            settings.service_bus_connection, settings.service_bus_namespace, credential, retries=1
        )
        try:
            yield await stack.enter_async_context(client)
        except (ServiceBusError, OSError) as error:
            raise OperationError(f"Service Bus: {what_failed(error)}") from error


def make_publisher(
    settings: Settings, entities: Sequence[str], identity: AsyncTokenCredential | None
) -> ServiceBusPublisher:
    """A publisher that opens its links to ``entities`` ahead of the first message.

    Args:
        settings: name the bus.
        entities: queues and topics.
        identity: of the application; needed where `Settings.bus_by_identity`.
    """
    return ServiceBusPublisher(
        entities,
        connection_string=settings.service_bus_connection,
        namespace=settings.service_bus_namespace,
        credential=identity if settings.bus_by_identity else None,
    )


@asynccontextmanager
async def bus_publisher(settings: Settings) -> AsyncIterator[ServiceBusPublisher]:
    """A publisher to the application's own entities."""
    identity = DefaultAzureCredential() if settings.bus_by_identity else None
    publisher = make_publisher(settings, [settings.events_topic, settings.jobs_queue], identity)
    try:
        yield publisher
    finally:
        await publisher.close()


def what_failed(error: BaseException) -> str:
    """The kind and first line of an error of the SDK, whose text may fill a page."""
    text = redact(str(error).strip())
    return f"{type(error).__name__}: {text.splitlines()[0][:300]}" if text else type(error).__name__

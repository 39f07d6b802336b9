"""Connections to Service Bus for operators' tools: opened, used, closed."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from azure.identity.aio import DefaultAzureCredential
from azure.servicebus.aio import ServiceBusClient
from azure.servicebus.exceptions import ServiceBusError

from domain.messaging.publisher import ServiceBusPublisher
from domain.operations.errors import OperationError
from domain.settings import Settings


@asynccontextmanager
async def bus_client(settings: Settings) -> AsyncIterator[ServiceBusClient]:
    """A client of the configured namespace, by connection string or identity.

    Raises:
        OperationError: the bus refuses or cannot be reached, whatever was tried within.
    """
    async with AsyncExitStack() as stack:
        if settings.service_bus_connection:
            client = ServiceBusClient.from_connection_string(
                settings.service_bus_connection, retry_total=1, retry_backoff_factor=0.2
            )
        else:
            credential = await stack.enter_async_context(DefaultAzureCredential())
            namespace = settings.service_bus_namespace or ""
            client = ServiceBusClient(
                namespace, credential, retry_total=1, retry_backoff_factor=0.2
            )
        try:
            yield await stack.enter_async_context(client)
        except (ServiceBusError, OSError) as error:
            raise OperationError(f"Service Bus: {what_failed(error)}") from error


@asynccontextmanager
async def bus_publisher(settings: Settings) -> AsyncIterator[ServiceBusPublisher]:
    """A publisher to the application's own entities."""
    publisher = ServiceBusPublisher(
        [settings.events_topic, settings.jobs_queue],
        connection_string=settings.service_bus_connection,
        namespace=settings.service_bus_namespace,
        credential=None if settings.service_bus_connection else DefaultAzureCredential(),
    )
    try:
        yield publisher
    finally:
        await publisher.close()


def what_failed(error: BaseException) -> str:
    """The kind and first line of an error of the SDK, which may fill a page."""
    text = str(error).strip()
    return f"{type(error).__name__}: {text.splitlines()[0][:300]}" if text else type(error).__name__

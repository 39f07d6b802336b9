"""Service Bus functions: intents of producers, announcements of the log, results of the sandbox.

Returning completes a message, raising abandons it. Each function takes one message at a time: the
host fails a whole batch, before it gets here, if a single body in it is not AMQP data. Bodies are
read as bytes: as strings, a body that is not UTF-8 would fail in the host too.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import azure.functions as func

from domain.app import App, get_app, redelivery
from domain.messaging.redelivery import Delivery, delay_abandon
from domain.retry import retry_while_unavailable
from domain.settings import InvalidSettings, Settings

bp = func.Blueprint()

_CONNECTION = "ServiceBusConnection"


@bp.function_name("receive_intents")
@bp.service_bus_queue_trigger(
    arg_name="message",
    queue_name="%QLP_INTENTS_QUEUE%",
    connection=_CONNECTION,
    data_type=func.DataType.BINARY,
)
async def receive_intents(message: func.ServiceBusMessage) -> None:
    """Accept an intent from a producer."""
    await _process(
        message,
        lambda settings: settings.intents_queue,
        lambda app, source, body: app.inbox.intent(source, body),
    )


@bp.function_name("advance_intent")
@bp.service_bus_topic_trigger(
    arg_name="message",
    topic_name="%QLP_EVENTS_TOPIC%",
    subscription_name="%QLP_EVENTS_SUBSCRIPTION%",
    connection=_CONNECTION,
    data_type=func.DataType.BINARY,
)
async def advance_intent(message: func.ServiceBusMessage) -> None:
    """Take the next step of an intent that something has happened to."""
    await _process(
        message,
        lambda settings: settings.events_topic,
        lambda app, source, body: app.inbox.announcement(source, body),
    )


@bp.function_name("record_sandbox_result")
@bp.service_bus_queue_trigger(
    arg_name="message",
    queue_name="%QLP_SANDBOX_RESULTS_QUEUE%",
    connection=_CONNECTION,
    data_type=func.DataType.BINARY,
)
async def record_sandbox_result(message: func.ServiceBusMessage) -> None:
    """Record the result of a sandbox run."""
    await _process(
        message,
        lambda settings: settings.results_queue,
        lambda app, source, body: app.inbox.result(source, body),
    )


async def _process(
    message: func.ServiceBusMessage,
    entity_of: Callable[[Settings], str],
    take: Callable[[App, str, bytes], Awaitable[None]],
) -> None:
    """Have the application process the message; on failure, it is retried later."""
    count = message.delivery_count or 1
    try:
        settings, later = redelivery()
    except InvalidSettings:
        await delay_abandon(count)
        raise
    entity, body = entity_of(settings), message.get_body()
    delivery = Delivery(
        entity=entity,
        body=body,
        message_id=message.message_id or "",
        subject=message.subject or "",
        correlation_id=message.correlation_id or "",
        properties=message.application_properties or {},
        sequence_number=message.sequence_number or 0,
        delivery_count=count,
    )

    async def work() -> None:
        await take(await retry_while_unavailable(get_app), entity, body)

    await later.process(delivery, work)

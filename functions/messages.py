"""Service Bus functions: producers' intents, the log's announcements, the sandbox's results.

Returning completes a message, raising abandons it. Only bodies are read: in batches the host
shifts per-message metadata (Azure/Azure-Functions#2084). And bodies are asked for as bytes: as
strings, a body that is empty or no UTF-8 would fail its whole batch before it gets here.
"""

from __future__ import annotations

from typing import List  # noqa: UP035 see below

import azure.functions as func

from functions.triggers import patient_app

bp = func.Blueprint()

_CONNECTION = "ServiceBusConnection"


@bp.function_name("receive_intents")
@bp.service_bus_queue_trigger(
    arg_name="messages",
    queue_name="%QLP_INTENTS_QUEUE%",
    connection=_CONNECTION,
    data_type=func.DataType.BINARY,
    cardinality=func.Cardinality.MANY,
)
async def receive_intents(
    messages: List[func.ServiceBusMessage],  # noqa: UP006 the worker refuses list[…]
) -> None:
    """A batch of intents from producers."""
    async with patient_app() as app:
        await app.inbox.intents(
            app.settings.intents_queue, [message.get_body() for message in messages]
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
    """Something happened to an intent: take its next step."""
    async with patient_app() as app:
        await app.inbox.announcement(app.settings.events_topic, message.get_body())


@bp.function_name("record_sandbox_result")
@bp.service_bus_queue_trigger(
    arg_name="message",
    queue_name="%QLP_SANDBOX_RESULTS_QUEUE%",
    connection=_CONNECTION,
    data_type=func.DataType.BINARY,
)
async def record_sandbox_result(message: func.ServiceBusMessage) -> None:
    """A sandbox run has ended: record it."""
    async with patient_app() as app:
        await app.inbox.result(app.settings.results_queue, message.get_body())

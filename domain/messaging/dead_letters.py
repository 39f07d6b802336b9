"""Dead letters, which Service Bus gave up delivering: looks at, sends again and removes them.

A message is named by its id. A command first peeks, which changes nothing, and then touches only
what it has seen; dead letters that come in later are left alone.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Collection, Mapping
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from azure.servicebus import ServiceBusReceivedMessage
from azure.servicebus.aio import ServiceBusClient, ServiceBusReceiver, ServiceBusSender
from azure.servicebus.amqp import AmqpMessageBodyType
from azure.servicebus.exceptions import MessageSizeExceededError, ServiceBusError

from domain.errors import OperationError
from domain.messaging.amqp_copy import copy_of, decoded
from domain.messaging.bus import Entity, what_failed
from domain.messaging.redelivery import FAILURE

#: The most dead letters of one entity that one command looks at.
MAX_SCANNED = 5_000

#: Counts how often an operator has sent the message again.
RESUBMITTED = "qlp-resubmitted"

_PEEK = 100
_RECEIVE = 20
_RECEIVE_SECONDS = 10.0

Action = Literal["resubmit", "purge"]
Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A dead letter as peeking shows it.

    Attributes:
        sequence_number: its number in the dead-letter queue.
        reason, description: why the bus or a receiver gave it up; the description begins with what
            is known of its body and its last try.
        enqueued_at: when it was first sent.
        resubmitted: how often an operator has sent it again.
        body: the bytes of AMQP data; the text of any other body.
        unreadable: why no function can read its body; None if one can.
        properties: application properties, without those about its dead-lettering.
    """

    entity: str
    sequence_number: int
    message_id: str | None
    subject: str | None
    correlation_id: str | None
    content_type: str | None
    reason: str | None
    description: str | None
    delivery_count: int
    enqueued_at: datetime | None
    resubmitted: int
    body: bytes
    unreadable: str | None
    properties: dict[str, Any]


@dataclass(slots=True)
class Settled:
    """What was done with dead letters.

    Attributes:
        done: message ids that were resubmitted or removed.
        duplicated: sent again, but the dead letter could not be removed and is still there.
        refused: not sent again and left where they are, with the reason.
        missing: seen before, but gone now, or held by another receiver.
    """

    action: Action
    done: list[str] = field(default_factory=list)
    duplicated: dict[str, str] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)


@asynccontextmanager
async def open_dead_letters(client: ServiceBusClient, entity: Entity) -> AsyncIterator[DeadLetters]:
    """The dead letters of ``entity``; opening and closing takes half a second each.

    Raises:
        OperationError: the entity does not exist, or the bus refuses or does not answer, here or in
            the block. What was sent before stays sent.
    """
    try:
        async with AsyncExitStack() as opened:
            receiver = await opened.enter_async_context(entity.receiver(client, dead_letters=True))
            yield DeadLetters(client, entity, receiver, opened)
    except ServiceBusError as error:
        raise OperationError(f"{entity.name}: {what_failed(error)}") from error


async def count_dead_letters(client: ServiceBusClient, entity: Entity) -> int:
    """How many ``entity`` has, counted up to `MAX_SCANNED`; raises as `open_dead_letters`."""
    async with open_dead_letters(client, entity) as letters:
        return sum([len(page) async for page in letters.pages()])


class DeadLetters:
    """The dead letters of one entity, made by `open_dead_letters`."""

    def __init__(
        self,
        client: ServiceBusClient,
        entity: Entity,
        receiver: ServiceBusReceiver,
        opened: AsyncExitStack,
    ) -> None:
        self._client = client
        self._entity = entity
        self._receiver = receiver
        self._opened = opened
        self._sender: ServiceBusSender | None = None

    async def peek(
        self, message_ids: Collection[str] = (), limit: int = MAX_SCANNED
    ) -> list[DeadLetter]:
        """At most ``limit`` of them in order, or those of ``message_ids``; changes nothing."""
        found: list[DeadLetter] = []
        async with aclosing(self.pages(MAX_SCANNED if message_ids else limit)) as pages:
            async for page in pages:
                found += [each for each in page if _wanted(each, message_ids)]
                if len(found) >= limit:
                    break
        return found[:limit]

    async def pages(self, limit: int = MAX_SCANNED) -> AsyncGenerator[list[DeadLetter]]:
        """At most ``limit`` of them in order, as many at a time as the bus shows; changes nothing.

        For callers that do not keep all of them: a body takes up to 256 KiB, on premium 100 MiB.
        """
        scanned, after = 0, 0
        while scanned < limit:
            page = await self._receiver.peek_messages(
                max_message_count=min(_PEEK, limit - scanned), sequence_number=after + 1
            )
            if not page:
                return
            scanned += len(page)
            after = max(_number(message) for message in page)
            yield [_letter(self._entity.name, message) for message in page]

    async def resubmit(
        self, letters: Collection[DeadLetter], progress: Progress = lambda _done, _total: None
    ) -> Settled:
        """Send a copy of each to where it was first sent, then remove the dead letter.

        In this order, a crash in between leaves both, and consumers recognise the second by its id.
        A dead letter of a subscription is sent to the topic, so that all its subscriptions get it.
        One that cannot be read, or that the bus refuses, stays and is named in the result; the
        others go on.
        """
        if self._sender is None:  # also for a topic: the sender is the same
            sender = self._client.get_queue_sender(self._entity.target)
            self._sender = await self._opened.enter_async_context(sender)
        return await self._settle("resubmit", letters, self._sender, progress)

    async def purge(
        self, letters: Collection[DeadLetter], progress: Progress = lambda _done, _total: None
    ) -> Settled:
        """Remove each for good."""
        return await self._settle("purge", letters, None, progress)

    async def _settle(
        self,
        action: Action,
        letters: Collection[DeadLetter],
        sender: ServiceBusSender | None,
        progress: Progress,
    ) -> Settled:
        wanted = {letter.sequence_number: letter for letter in letters}
        result = Settled(action)
        others: dict[int, ServiceBusReceivedMessage] = {}
        try:
            while wanted and (page := await self._next_page(others)):
                for message in page:
                    chosen = wanted.pop(_number(message), None) is not None
                    if not chosen or not await self._finish(sender, message, result):
                        others[_number(message)] = message
                    if chosen:
                        progress(len(letters) - len(wanted), len(letters))
        finally:
            await self._give_back(others)
        result.missing = [_name(letter.message_id, number) for number, letter in wanted.items()]
        return result

    async def _next_page(
        self, seen: dict[int, ServiceBusReceivedMessage]
    ) -> list[ServiceBusReceivedMessage]:
        """The next messages; none once one comes again because its lock has run out."""
        page = await self._receiver.receive_messages(
            max_message_count=_RECEIVE, max_wait_time=_RECEIVE_SECONDS
        )
        if any(_number(message) in seen for message in page):
            seen |= {_number(message): message for message in page}
            return []
        return page

    async def _finish(
        self, sender: ServiceBusSender | None, message: ServiceBusReceivedMessage, result: Settled
    ) -> bool:
        """Send it again if there is a sender, then remove it; False if it was refused."""
        name = _name(message.message_id, _number(message))
        if sender is not None and (why := await _send_again(sender, message)):
            result.refused[name] = why
            return False
        try:
            await self._receiver.complete_message(message)
        except ServiceBusError as error:
            if sender is None:
                raise
            result.duplicated[name] = what_failed(error)
        else:
            result.done.append(name)
        return True

    async def _give_back(self, messages: Mapping[int, ServiceBusReceivedMessage]) -> None:
        """Unlock messages that were not chosen; if that fails, locks run out within a minute."""
        for message in messages.values():
            try:
                await self._receiver.abandon_message(message)
            except (ServiceBusError, ValueError):
                return


async def _send_again(sender: ServiceBusSender, message: ServiceBusReceivedMessage) -> str | None:
    """Send a copy; returns why not, if the message is the reason.

    Raises:
        ServiceBusError: the bus cannot be reached, or takes no messages.
    """
    if why := _unreadable(message):
        return why
    count = _resubmitted(decoded(message.application_properties or {}))
    try:
        await sender.send_messages(copy_of(message, {RESUBMITTED: count + 1}))
    except (MessageSizeExceededError, ValueError, TypeError) as error:
        return what_failed(error)
    except ServiceBusError as error:
        if type(error) is not ServiceBusError:
            raise
        return what_failed(error)  # a refusal of this message has no type of its own
    return None


def _unreadable(message: ServiceBusReceivedMessage) -> str | None:
    """Why the functions host fails on the body before a function sees it; None if it does not."""
    kind = message.body_type
    if kind is AmqpMessageBodyType.DATA or (
        kind is AmqpMessageBodyType.VALUE and message.body is None
    ):
        return None
    return f"its body is an AMQP {kind.value}; it must be sent as AMQP data, that is, as bytes"


def _description(message: ServiceBusReceivedMessage, properties: Mapping[str, Any]) -> str | None:
    failure = properties.get(FAILURE)
    known = (_unreadable(message), None if failure is None else str(failure))
    given = message.dead_letter_error_description
    return "; ".join(text for text in (*known, given) if text) or None


def _letter(entity: str, message: ServiceBusReceivedMessage) -> DeadLetter:
    properties = decoded(message.application_properties or {})
    return DeadLetter(
        entity=entity,
        sequence_number=_number(message),
        message_id=message.message_id,
        subject=message.subject,
        correlation_id=message.correlation_id,
        content_type=message.content_type,
        reason=message.dead_letter_reason,
        description=_description(message, properties),
        delivery_count=message.delivery_count or 0,
        enqueued_at=message.enqueued_time_utc,
        resubmitted=_resubmitted(properties),
        body=_body(message),
        unreadable=_unreadable(message),
        properties={
            name: _shown(value)
            for name, value in properties.items()
            if not name.startswith("DeadLetter")
        },
    )


def _body(message: ServiceBusReceivedMessage) -> bytes:
    body = message.body
    if isinstance(body, bytes):
        return body
    try:
        return b"".join(body)
    except TypeError:  # an AMQP value or sequence
        return str(message).encode()


def _shown(value: Any) -> Any:  # noqa: ANN401 any AMQP value
    """A property as a value that JSON can show."""
    return value if value is None or isinstance(value, str | int | float | bytes) else str(value)


def _resubmitted(properties: Mapping[str, Any]) -> int:
    count = properties.get(RESUBMITTED)
    return count if isinstance(count, int) and 0 <= count < 2**31 - 1 else 0


def _wanted(letter: DeadLetter, message_ids: Collection[str]) -> bool:
    return not message_ids or letter.message_id in message_ids


def _number(message: ServiceBusReceivedMessage) -> int:
    return message.sequence_number or 0


def _name(message_id: str | None, sequence_number: int) -> str:
    return message_id or f"#{sequence_number}"

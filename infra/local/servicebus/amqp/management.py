"""The operations of an entity's ``$management`` node.

Source: "AMQP 1.0 in Azure Service Bus: request-response-based operations".
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

from infra.local.servicebus.amqp.requests import Reply, Request
from infra.local.servicebus.broker.entity import Entity
from infra.local.servicebus.broker.messages import (
    NO_ENTRIES,
    Content,
    Entries,
    changes_in,
    map_entries,
    map_inside,
    parse_message,
)
from infra.local.servicebus.broker.stored import StoredMessage
from infra.local.servicebus.broker.topic import Topic
from infra.local.servicebus.codec.types import Array, Int, Long, Symbol, Timestamp
from infra.local.servicebus.errors import (
    BusError,
    InvalidRequest,
    MessageTooLarge,
    NotAllowed,
    Unsupported,
)

#: Limit on the messages, sequence numbers or lock tokens in one request.
_MAX_ITEMS = 4096
_VENDOR = "com.microsoft:"
_EMPTY_STATUS = 204


class Management:
    """Answers management requests for one entity or topic.

    Args:
        node: the entity or topic.
        max_message_bytes: limit on a scheduled message, and on the messages in a reply.
    """

    def __init__(self, node: Entity | Topic, max_message_bytes: int) -> None:
        self._node = node
        self._max_message_bytes = max_message_bytes

    def answer(self, request: Request) -> Reply:
        """Carry out a request; an error becomes a reply, too."""
        operation = _OPERATIONS.get(request.operation.removeprefix(_VENDOR))
        try:
            if operation is None or not request.operation.startswith(_VENDOR):
                raise Unsupported(f"{request.operation[:80]!r} is not supported")
            value = operation(self, request)
        except BusError as error:
            return refusal(error)
        return _reply(200 if value is not None else _EMPTY_STATUS, "OK", None, value)

    def _entity(self) -> Entity:
        if isinstance(self._node, Topic):
            raise NotAllowed(f"{self._node.path} is a topic; receive from one of its subscriptions")
        return self._node

    def _renew_lock(self, request: Request) -> dict[str, Any]:
        tokens = _items(request, "lock-tokens", uuid.UUID)
        return {"expirations": Array([Timestamp(u) for u in self._entity().renew(tokens)])}

    def _peek(self, request: Request) -> dict[str, Any] | None:
        first = request.argument("from-sequence-number", int)
        most = min(request.argument("message-count", int), _MAX_ITEMS)
        found: list[dict[str, Any]] = []
        bytes_left = self._max_message_bytes
        for message in self._entity().browse(first):
            rendered = message.render()
            bytes_left -= len(rendered)
            if len(found) >= most or (found and bytes_left < 0):
                break
            found.append({"message": rendered})
        return {"messages": found} if found else None

    def _schedule(self, request: Request) -> dict[str, Any]:
        contents = [self._scheduled(item) for item in _items(request, "messages", dict)]
        if isinstance(self._node, Entity) and self._node.dead_letters is None:
            raise NotAllowed(f"{self._node.path} does not accept messages from senders")
        numbers = self._node.enqueue(contents)
        return {"sequence-numbers": Array([Long(number) for number in numbers])}

    def _scheduled(self, item: dict[Any, Any]) -> Content:
        payload = item.get("message")
        if not isinstance(payload, bytes):
            raise InvalidRequest("messages: an item contains no message")
        if len(payload) > self._max_message_bytes:
            raise MessageTooLarge(f"a message takes more than {self._max_message_bytes} bytes")
        content = parse_message(payload)
        if content.scheduled_for is None:
            raise InvalidRequest("messages: an item has no x-opt-scheduled-enqueue-time")
        return content

    def _cancel_scheduled(self, request: Request) -> dict[str, Any]:
        self._node.cancel_scheduled(_items(request, "sequence-numbers", int))
        return {}

    def _receive_deferred(self, request: Request) -> dict[str, Any]:
        numbers = _items(request, "sequence-numbers", int)
        delete = request.argument("receiver-settle-mode", int) == 0
        messages = self._entity().receive_deferred(numbers, delete)
        return {"messages": [_received(message) for message in messages]}

    def _update_disposition(self, request: Request) -> dict[str, Any]:
        entity = self._entity()
        status = request.argument("disposition-status", str)
        settle = _DISPOSITIONS.get(status)
        if settle is None:
            raise InvalidRequest(f"disposition-status {status[:80]!r} is unknown")
        changes = _properties_to_modify(request)
        for token in _items(request, "lock-tokens", uuid.UUID):
            settle(entity, token, request.value, changes)
        return {}


def refusal(error: BusError) -> Reply:
    """The reply that reports an error."""
    return _reply(error.status, str(error)[:1024], error.condition)


def _received(message: StoredMessage) -> dict[str, Any]:
    received: dict[str, Any] = {"message": message.render()}
    if message.lock is not None:
        received["lock-token"] = message.lock.token
    return received


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def _properties_to_modify(request: Request) -> Entries:
    for key, _, encoded in map_entries(map_inside(request.encoded_value).raw):
        if key == b"properties-to-modify":
            return changes_in(encoded, _DEAD_LETTER_NAMES)
    return NO_ENTRIES


#: Names that the JavaScript SDK also sends among the properties to modify.
_DEAD_LETTER_NAMES = frozenset(
    (
        *(b"DeadLetterReason", b"DeadLetterErrorDescription"),
        *(b"deadLetterReason", b"deadLetterErrorDescription"),
    )
)

_DISPOSITIONS: dict[str, Callable[[Entity, uuid.UUID, dict[str, Any], Entries], None]] = {
    "completed": lambda entity, token, _value, _changes: entity.complete(token),
    "abandoned": lambda entity, token, _value, changes: entity.release(
        token, delivery_failed=True, changes=changes
    ),
    "defered": lambda entity, token, _value, changes: entity.defer(token, changes),
    "suspended": lambda entity, token, value, changes: entity.dead_letter(
        token,
        _text(value.get("deadletter-reason")),
        _text(value.get("deadletter-description")),
        changes,
    ),
}

_OPERATIONS: dict[str, Callable[[Management, Request], dict[str, Any] | None]] = {
    "renew-lock": Management._renew_lock,
    "peek-message": Management._peek,
    "schedule-message": Management._schedule,
    "cancel-scheduled-message": Management._cancel_scheduled,
    "receive-by-sequence-number": Management._receive_deferred,
    "update-disposition": Management._update_disposition,
}


def _items(request: Request, name: str, kind: type) -> list[Any]:
    items = request.argument(name, list)
    if not 0 < len(items) <= _MAX_ITEMS or not all(isinstance(item, kind) for item in items):
        raise InvalidRequest(f"{name} must have 1 to {_MAX_ITEMS} items of type {kind.__name__}")
    return list(items)


def _reply(
    status: int, description: str, condition: str | None = None, value: object = None
) -> Reply:
    properties: dict[str, Any] = {"statusCode": Int(status), "statusDescription": description}
    if condition is not None:
        properties["errorCondition"] = Symbol(condition)
    return Reply(properties, {} if value is None else value)

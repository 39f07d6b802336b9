"""The broker's errors, with the error conditions of AMQP and Service Bus.

Sources: AMQP 1.0 part 2.8.15 to 2.8.18 for ``amqp:…`` conditions; Service Bus' AMQP protocol guide
for ``com.microsoft:…`` conditions and management status codes.
"""

from __future__ import annotations


class BusError(Exception):
    """An error that is reported to the peer; the connection stays open.

    Attributes:
        condition: AMQP symbol in dispositions, detaches and ``errorCondition``.
        status: HTTP-like status code in replies of ``$cbs`` and ``$management``.
    """

    condition = "amqp:internal-error"
    status = 500


class InvalidRequest(BusError):
    """A request or a message is malformed."""

    condition = "com.microsoft:argument-error"
    status = 400


class MalformedMessage(BusError):
    """A message is not a valid AMQP message."""

    condition = "amqp:decode-error"
    status = 400


class MessageTooLarge(BusError):
    """A message exceeds ``max-message-size``."""

    condition = "amqp:link:message-size-exceeded"
    status = 413


class QuotaExceeded(BusError):
    """An entity has reached its maximum size."""

    condition = "amqp:resource-limit-exceeded"
    status = 403


class LockLost(BusError):
    """The lock has expired, or the message is settled already."""

    condition = "com.microsoft:message-lock-lost"
    status = 410


class MessageNotFound(BusError):
    """There is no message with this sequence number in the required state."""

    condition = "com.microsoft:message-not-found"
    status = 404


class EntityNotFound(BusError):
    """There is no entity with this address."""

    condition = "amqp:not-found"
    status = 404


class NotAllowed(BusError):
    """The entity does not allow this operation."""

    condition = "amqp:not-allowed"
    status = 400


class Unsupported(BusError):
    """Service Bus has the operation, but this broker does not."""

    condition = "amqp:not-implemented"
    status = 501


class Unauthorized(BusError):
    """No valid token covers the address."""

    condition = "amqp:unauthorized-access"
    status = 401


class ProtocolError(Exception):
    """The peer violated AMQP; the connection is closed with ``condition``."""

    def __init__(self, condition: str, description: str) -> None:
        super().__init__(description)
        self.condition = condition
        self.description = description

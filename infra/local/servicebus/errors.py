"""What the broker refuses, with the names that AMQP and Service Bus give to the refusal.

Sources: AMQP 1.0 part 2.8.15 to 2.8.18 for ``amqp:…`` conditions; Service Bus' AMQP protocol guide
for ``com.microsoft:…`` conditions and management status codes.
"""

from __future__ import annotations


class BusError(Exception):
    """A refusal that is answered to the peer; the connection goes on.

    Attributes:
        condition: AMQP symbol for dispositions, detaches and ``errorCondition``.
        status: HTTP-like code for ``$cbs`` and ``$management`` replies.
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
    """An entity holds as many bytes as it may."""

    condition = "amqp:resource-limit-exceeded"
    status = 403


class LockLost(BusError):
    """The lock has expired, or the message was settled already."""

    condition = "com.microsoft:message-lock-lost"
    status = 410


class MessageNotFound(BusError):
    """No message with that sequence number is in the required state."""

    condition = "com.microsoft:message-not-found"
    status = 404


class EntityNotFound(BusError):
    """No entity has that address."""

    condition = "amqp:not-found"
    status = 404


class NotAllowed(BusError):
    """The entity does not take part in this operation."""

    condition = "amqp:not-allowed"
    status = 400


class Unsupported(BusError):
    """The operation exists in Service Bus and not here."""

    condition = "amqp:not-implemented"
    status = 501


class Unauthorized(BusError):
    """No valid token covers the address."""

    condition = "amqp:unauthorized-access"
    status = 401


class ProtocolError(Exception):
    """The peer broke AMQP; the connection is closed with ``condition``."""

    def __init__(self, condition: str, description: str) -> None:
        super().__init__(description)
        self.condition = condition
        self.description = description

"""Links, on which peers send to the broker or receive from it."""

from __future__ import annotations

import uuid
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from infra.local.servicebus.amqp.answers import ACCEPTED_STATE, rejected_state
from infra.local.servicebus.amqp.performatives import Flow, Transfer
from infra.local.servicebus.amqp.settlement import settle
from infra.local.servicebus.codec.types import Described
from infra.local.servicebus.errors import BusError, MessageTooLarge, ProtocolError
from infra.local.servicebus.limits import Limits

if TYPE_CHECKING:
    from infra.local.servicebus.broker.dispatcher import Dispatcher
    from infra.local.servicebus.broker.entity import Entity

_SERIAL_MASK = 2**32 - 1
_SETTLED_SENDER = 1


#: Called with each message and its format; raises BusError to reject it.
Sink = Callable[[bytes, int], None]


class LinkSession(Protocol):
    """The part of a session that links use.

    Attributes:
        limits: the broker's limits.
        unsettled: the link and lock token of each delivery that the peer has not settled.
    """

    limits: Limits
    unsettled: dict[int, tuple[ConsumerLink, uuid.UUID]]

    def account_incomplete(self, size: int) -> None:
        """Add to the size of incomplete deliveries; raises ProtocolError if it is too large."""

    def can_deliver(self) -> bool:
        """Whether another delivery may be sent now."""

    def send_delivery(self, handle: int, tag: bytes, payload: bytes, settled: bool) -> int:
        """Send a message; returns its delivery-id."""

    def settle_incoming(self, delivery_id: int, state: bytes) -> None:
        """Send the outcome of a message that the peer has sent."""

    def send_flow(
        self, handle: int | None, delivery_count: int, credit: int, drain: bool = False
    ) -> None:
        """Send the session's window and, with a handle, a link's credit."""

    def forget_deliveries(self, link: ConsumerLink) -> None:
        """Forget the unsettled deliveries of a detached link."""


class IncomingLink:
    """A link on which the peer sends.

    Args:
        path: the entity that the peer's token must cover; None for ``$cbs``.
    """

    def __init__(self, session: LinkSession, handle: int, path: str | None, sink: Sink) -> None:
        self.handle = handle
        self.path = path
        self._session = session
        self._sink = sink
        self._limits = session.limits
        self._delivery_count = 0
        self._credit = 0
        self._first: Transfer | None = None
        self._chunks: list[bytes] = []
        self._size = 0

    def grant_credit(self) -> None:
        """Renew the peer's credit when half of it is used."""
        if self._credit <= self._limits.link_credit // 2:
            self._credit = self._limits.link_credit
            self._session.send_flow(self.handle, self._delivery_count, self._credit)

    def on_flow(self, flow: Flow) -> None:
        """Send the link's state if the peer asks for it."""
        if flow.echo:
            self._session.send_flow(self.handle, self._delivery_count, self._credit)

    def on_transfer(self, transfer: Transfer, payload: bytes) -> None:
        """Collect the frames of a delivery; after the last, process the message and settle it."""
        first = self._first
        if first is None:
            first = self._begin(transfer)
        if transfer.aborted:
            self._drop_chunks()
            return
        self._size += len(payload)
        if self._size <= self._limits.max_message_bytes:
            self._session.account_incomplete(len(payload))
            self._chunks.append(payload)
        if transfer.more:
            return
        state = self._hand_over(first)
        settled = transfer.settled if transfer.settled is not None else first.settled
        if not settled and first.delivery_id is not None:
            self._session.settle_incoming(first.delivery_id, state)
        self.grant_credit()

    def _begin(self, transfer: Transfer) -> Transfer:
        if transfer.delivery_id is None:
            raise ProtocolError("amqp:invalid-field", "a delivery starts without delivery-id")
        if self._credit == 0:
            raise ProtocolError("amqp:link:transfer-limit-exceeded", "a delivery without credit")
        self._credit -= 1
        self._delivery_count = (self._delivery_count + 1) & _SERIAL_MASK
        self._first = transfer
        return transfer

    def _hand_over(self, first: Transfer) -> bytes:
        """Process the complete message; returns the encoded outcome."""
        payload = b"".join(self._chunks)
        size = self._size
        self._drop_chunks()
        try:
            if size > self._limits.max_message_bytes:
                raise MessageTooLarge(
                    f"the message takes {size} bytes, the limit is {self._limits.max_message_bytes}"
                )
            self._sink(payload, first.message_format or 0)
        except BusError as error:
            return rejected_state(error.condition, str(error))
        return ACCEPTED_STATE

    def _drop_chunks(self) -> None:
        self._session.account_incomplete(-sum(map(len, self._chunks)))
        self._chunks.clear()
        self._first = None
        self._size = 0

    def close(self) -> None:
        """Drop an incomplete delivery."""
        self._drop_chunks()


class _CreditedLink:
    """A link on which the peer receives, as far as it has given credit."""

    def __init__(self, session: LinkSession, handle: int, path: str | None) -> None:
        self.handle = handle
        self.path = path
        self._session = session
        self._delivery_count = 0
        self._credit = 0

    def on_flow(self, flow: Flow) -> None:
        """Apply the credit that the peer gives (AMQP 1.0 part 2.6.7)."""
        if flow.link_credit is not None:
            limit = (flow.delivery_count or 0) + flow.link_credit
            credit = (limit - self._delivery_count) & _SERIAL_MASK
            # Negative if the peer reduced its credit before it received the latest deliveries.
            self._credit = credit if credit <= _SERIAL_MASK // 2 else 0
        self.offer()
        if flow.drain:
            self._delivery_count = (self._delivery_count + self._credit) & _SERIAL_MASK
            self._credit = 0
        if flow.drain or flow.echo:
            drained = bool(flow.drain)
            self._session.send_flow(self.handle, self._delivery_count, self._credit, drained)

    def on_transfer(self, _transfer: Transfer, _payload: bytes) -> None:
        """Refuse a transfer, which only a sender may send."""
        raise ProtocolError("amqp:not-allowed", "a transfer on a link that receives")

    def offer(self) -> None:
        """Send what is available, as far as credit and window allow."""
        raise NotImplementedError

    def close(self) -> None:
        """Drop what has not been sent."""

    def _send(self, tag: bytes, payload: bytes, settled: bool) -> int:
        self._credit -= 1
        self._delivery_count = (self._delivery_count + 1) & _SERIAL_MASK
        return self._session.send_delivery(self.handle, tag, payload, settled)


class ReplyLink(_CreditedLink):
    """Sends the replies of a ``$cbs`` or ``$management`` node."""

    def __init__(
        self, session: LinkSession, handle: int, node: str, path: str | None, target: str | None
    ) -> None:
        super().__init__(session, handle, path)
        self.node = node
        self.target = target
        self._replies: deque[bytes] = deque()
        self._sent = 0

    def reply(self, payload: bytes) -> None:
        """Send a reply, now or as soon as there is credit."""
        if len(self._replies) >= self._session.limits.max_pending_replies:
            raise ProtocolError("amqp:resource-limit-exceeded", "replies are not being received")
        self._replies.append(payload)
        self.offer()

    def offer(self) -> None:
        """Send waiting replies, as far as there is credit."""
        while self._replies and self._credit > 0:
            self._sent += 1
            self._send(self._sent.to_bytes(8, "big"), self._replies.popleft(), settled=True)


class ConsumerLink(_CreditedLink):
    """Delivers an entity's messages: locked (peek-lock), or removed (receive-and-delete)."""

    def __init__(
        self,
        session: LinkSession,
        handle: int,
        path: str,
        entity: Entity,
        dispatcher: Dispatcher,
        settle_mode: int | None,
    ) -> None:
        super().__init__(session, handle, path)
        self._entity = entity
        self._dispatcher = dispatcher
        self._deletes = settle_mode == _SETTLED_SENDER

    def on_flow(self, flow: Flow) -> None:
        """Apply credit; before a drain is answered, available messages are delivered."""
        if flow.drain and flow.link_credit:
            super().on_flow(flow._replace(drain=False, echo=False))
            while self.ready() and self._entity.has_ready():
                self.deliver()
            flow = flow._replace(link_credit=None)
        super().on_flow(flow)

    def offer(self) -> None:
        """Queue for messages if it is ready."""
        if self.ready():
            self._dispatcher.request(self)

    def ready(self) -> bool:
        """Whether the peer has given credit and the session can deliver."""
        return self._credit > 0 and self._session.can_deliver()

    def deliver(self) -> None:
        """Send the entity's next message."""
        message = self._entity.take() if self._deletes else self._entity.acquire()
        if message is None:
            return
        if message.lock is None:
            self._send(uuid.uuid4().bytes_le, message.render(), settled=True)
            return
        token = message.lock.token
        delivery_id = self._send(token.bytes_le, message.render(), settled=False)
        self._session.unsettled[delivery_id] = (self, token)

    def settle(self, token: uuid.UUID, state: Described | None, frame: bytes) -> bytes:
        """Apply the peer's outcome; returns it, or ``rejected`` with the reason if that failed."""
        return settle(self._entity, token, state, frame)

    def is_locked(self, token: uuid.UUID) -> bool:
        """Whether a lock is still valid."""
        return self._entity.is_locked(token)

    def close(self) -> None:
        """Leave the queue; delivered messages stay locked until they are settled or expire."""
        self._dispatcher.forget(self)
        self._session.forget_deliveries(self)


Link = IncomingLink | ReplyLink | ConsumerLink

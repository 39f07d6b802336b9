"""An AMQP session: its window, its links, and its unsettled deliveries."""

from __future__ import annotations

import uuid
from collections import deque
from collections.abc import Callable
from typing import Protocol

from infra.local.servicebus.amqp.answers import (
    encode_begin,
    encode_disposition,
    encode_transfer,
    error,
    performative,
)
from infra.local.servicebus.amqp.cbs import Grant
from infra.local.servicebus.amqp.links import ConsumerLink, Link, ReplyLink
from infra.local.servicebus.amqp.performatives import (
    DETACH,
    FLOW,
    Attach,
    Begin,
    Detach,
    Disposition,
    Flow,
    Performative,
    Transfer,
)
from infra.local.servicebus.amqp.settlement import LOCK_LOST_STATE
from infra.local.servicebus.codec.types import UInt
from infra.local.servicebus.errors import ProtocolError
from infra.local.servicebus.limits import Limits

_SERIAL_MASK = 2**32 - 1
#: Bytes of a transfer frame without its payload, rounded up.
_TRANSFER_OVERHEAD = 96


class SessionConnection(Protocol):
    """The part of a connection that sessions, and the attaching of links, use.

    Attributes:
        limits: the broker's limits.
        peer_max_frame: the largest frame, in bytes, that the peer accepts.
    """

    limits: Limits
    peer_max_frame: int

    def writable(self) -> bool:
        """Whether the peer reads what is sent."""

    def send(self, channel: int, body: bytes, payload: bytes = b"") -> None:
        """Write a frame."""

    def account_incomplete(self, size: int) -> None:
        """Add to the size of incomplete deliveries; raises ProtocolError if it is too large."""

    def admit(self, grant: Grant) -> None:
        """Add a token's grant; raises ProtocolError if there are too many."""

    def authorise(self, path: str) -> None:
        """Check that a valid token covers ``path``; raises Unauthorized."""


class Session:
    """Answers the frames of one channel.

    Attributes:
        unsettled: the link and lock token of each delivery that the peer has not settled.
    """

    def __init__(
        self,
        connection: SessionConnection,
        channel: int,
        begin: Begin,
        attach: Callable[[Session, Attach], Link | None],
    ) -> None:
        self.connection = connection
        self.limits = connection.limits
        self.unsettled: dict[int, tuple[ConsumerLink, uuid.UUID]] = {}
        self._channel = channel
        self._attach = attach
        self._links: dict[int, Link] = {}
        self._refused: set[int] = set()
        self._next_incoming_id = begin.next_outgoing_id
        self._incoming_window = self.limits.session_window
        self._next_outgoing_id = 0
        self._next_delivery_id = 0
        self._peer_window = begin.incoming_window
        self._blocked: deque[tuple[bytes, bytes]] = deque()
        window = self.limits.session_window
        self.send(encode_begin(channel, 0, window, self.limits.max_handles))

    def send(self, body: bytes, payload: bytes = b"") -> None:
        """Write a frame to the session's channel."""
        self.connection.send(self._channel, body, payload)

    def account_incomplete(self, size: int) -> None:
        """Add to the size of incomplete deliveries; raises ProtocolError if it is too large."""
        self.connection.account_incomplete(size)

    def links(self) -> list[Link]:
        """The attached links."""
        return list(self._links.values())

    def reply_link(self, node: str, reply_to: str | None) -> ReplyLink | None:
        """The link for replies of a node: the one with the target ``reply_to``, else any."""
        links = [
            link
            for link in self._links.values()
            if isinstance(link, ReplyLink) and link.node == node
        ]
        named = [link for link in links if reply_to is not None and link.target == reply_to]
        return next(iter(named or links), None)

    def on_frame(self, frame: Performative, encoded: bytes, end: int) -> None:
        """Answer one frame, whose performative ends at ``end`` in ``encoded``.

        Raises:
            ProtocolError: the peer violated AMQP.
        """
        if isinstance(frame, Transfer):
            self._on_transfer(frame, encoded[end:])
        elif isinstance(frame, Disposition):
            self._on_disposition(frame, encoded)
        elif isinstance(frame, Flow):
            self._on_flow(frame)
        elif isinstance(frame, Attach):
            self._on_attach(frame)
        elif isinstance(frame, Detach):
            self._on_detach(frame)
        else:
            raise ProtocolError("amqp:not-allowed", "a frame that is not allowed in a session")

    def can_deliver(self) -> bool:
        """Whether another delivery may be sent now."""
        if len(self.unsettled) >= self.limits.max_unsettled:
            self._forget_lost_locks()
        return (
            self._peer_window > 0
            and not self._blocked
            and len(self.unsettled) < self.limits.max_unsettled
            and self.connection.writable()
        )

    def offer(self) -> None:
        """Let all links send what they can, after the window or the connection has opened."""
        for link in self._links.values():
            if isinstance(link, ConsumerLink | ReplyLink):
                link.offer()

    def send_delivery(self, handle: int, tag: bytes, payload: bytes, settled: bool) -> int:
        """Send a message in as many frames as it needs; returns its delivery-id."""
        delivery_id = self._next_delivery_id
        self._next_delivery_id = (delivery_id + 1) & _SERIAL_MASK
        chunk = self.connection.peer_max_frame - _TRANSFER_OVERHEAD
        for start in range(0, len(payload), chunk):
            more = start + chunk < len(payload)
            body = encode_transfer(handle, delivery_id, tag, settled, more)
            self._blocked.append((body, payload[start : start + chunk]))
        self._send_blocked()
        return delivery_id

    def settle_incoming(self, delivery_id: int, state: bytes) -> None:
        """Send the outcome of a message that the peer has sent."""
        self.send(encode_disposition(True, delivery_id, delivery_id, state))

    def send_flow(
        self, handle: int | None, delivery_count: int, credit: int, drain: bool = False
    ) -> None:
        """Send the session's window and, with a handle, a link's credit."""
        self._incoming_window = self.limits.session_window
        link: tuple[UInt | None, ...] = (None,) * 4
        fields = (
            UInt(self._next_incoming_id),
            UInt(self._incoming_window),
            UInt(self._next_outgoing_id),
            UInt(self.limits.session_window),
        )
        if handle is not None:
            link = (UInt(handle), UInt(delivery_count), UInt(credit), None)
        self.send(performative(FLOW, *fields, *link, drain, False, None))

    def detach(self, link: Link, condition: str, description: str) -> None:
        """Detach a link with an error."""
        self._links.pop(link.handle, None)
        link.close()
        self.refuse(link.handle, condition, description)

    def refuse(self, handle: int, condition: str, description: str) -> None:
        """Detach a handle with an error, and ignore it until the peer has detached, too."""
        self._refused.add(handle)
        self.send(performative(DETACH, UInt(handle), True, error(condition, description)))

    def forget_deliveries(self, link: ConsumerLink) -> None:
        """Forget a detached link's unsettled deliveries; their locks stay until they expire."""
        for delivery_id in [d for d, (owner, _) in self.unsettled.items() if owner is link]:
            del self.unsettled[delivery_id]

    def close(self) -> None:
        """Close the links; locked messages stay locked until their locks expire."""
        for link in self.links():
            link.close()
        self._links.clear()
        self.unsettled.clear()
        self._blocked.clear()

    def _link(self, handle: int) -> Link | None:
        link = self._links.get(handle)
        if link is None and handle not in self._refused:
            raise ProtocolError("amqp:session:unattached-handle", f"handle {handle} is not in use")
        return link

    def _on_attach(self, attach: Attach) -> None:
        if attach.handle in self._links:
            raise ProtocolError("amqp:session:handle-in-use", f"handle {attach.handle} is in use")
        if attach.handle > self.limits.max_handles:
            raise ProtocolError("amqp:resource-limit-exceeded", "too many links in a session")
        self._refused.discard(attach.handle)
        link = self._attach(self, attach)
        if link is not None:
            self._links[attach.handle] = link

    def _on_detach(self, detach: Detach) -> None:
        self._refused.discard(detach.handle)
        link = self._links.pop(detach.handle, None)
        if link is not None:
            link.close()
            self.send(performative(DETACH, UInt(detach.handle), bool(detach.closed), None))

    def _on_transfer(self, transfer: Transfer, payload: bytes) -> None:
        self._next_incoming_id = (self._next_incoming_id + 1) & _SERIAL_MASK
        self._incoming_window -= 1
        if self._incoming_window < 0:
            raise ProtocolError("amqp:session:window-violation", "the session window is exceeded")
        link = self._link(transfer.handle)
        if link is not None:
            link.on_transfer(transfer, payload)
        if self._incoming_window <= self.limits.session_window // 2:
            self.send_flow(None, 0, 0)

    def _on_flow(self, flow: Flow) -> None:
        base = 0 if flow.next_incoming_id is None else flow.next_incoming_id
        window = (base + flow.incoming_window - self._next_outgoing_id) & _SERIAL_MASK
        self._peer_window = window if window <= _SERIAL_MASK // 2 else 0
        self._send_blocked()
        if flow.handle is None:
            self.offer()
            if flow.echo:
                self.send_flow(None, 0, 0)
            return
        link = self._link(flow.handle)
        if link is not None:
            link.on_flow(flow)

    def _send_blocked(self) -> None:
        while self._blocked and self._peer_window > 0:
            self._peer_window -= 1
            self._next_outgoing_id = (self._next_outgoing_id + 1) & _SERIAL_MASK
            self.send(*self._blocked.popleft())

    def _on_disposition(self, disposition: Disposition, encoded: bytes) -> None:
        if not disposition.role:
            return  # about deliveries from the peer, which are settled already
        first = disposition.first
        last = first if disposition.last is None else disposition.last
        if last - first >= len(self.unsettled):
            deliveries = [d for d in self.unsettled if first <= d <= last]
        else:
            deliveries = [d for d in range(first, last + 1) if d in self.unsettled]
        was_full = len(self.unsettled) >= self.limits.max_unsettled
        for delivery_id in deliveries:
            link, token = self.unsettled.pop(delivery_id)
            outcome = link.settle(token, disposition.state, encoded)
            self._answer(disposition, delivery_id, outcome)
        if not deliveries:
            self._answer(disposition, first, LOCK_LOST_STATE)
        if was_full:
            self.offer()

    def _answer(self, disposition: Disposition, delivery_id: int, state: bytes) -> None:
        """Send the outcome, unless the peer has settled the delivery already."""
        if not disposition.settled:
            self.send(encode_disposition(False, delivery_id, delivery_id, state))

    def _forget_lost_locks(self) -> None:
        lost = [d for d, (link, token) in self.unsettled.items() if not link.is_locked(token)]
        for delivery_id in lost:
            del self.unsettled[delivery_id]

"""One AMQP connection: handshake, frames, heartbeats, back-pressure and authorisation."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from infra.local.servicebus.amqp.answers import (
    encode_open,
    error,
    performative,
)
from infra.local.servicebus.amqp.authorisation import Authorisation
from infra.local.servicebus.amqp.cbs import Grant
from infra.local.servicebus.amqp.frames import (
    AMQP_FRAME,
    EMPTY_FRAME,
    FrameReader,
    encode_frame,
)
from infra.local.servicebus.amqp.handshake import Handshake, SignIn
from infra.local.servicebus.amqp.outbox import Outbox
from infra.local.servicebus.amqp.performatives import (
    CLOSE,
    END,
    Attach,
    Begin,
    Close,
    End,
    Open,
    Performative,
    parse,
)
from infra.local.servicebus.amqp.session import Session
from infra.local.servicebus.broker.entity import Clock
from infra.local.servicebus.errors import ProtocolError, Unauthorized
from infra.local.servicebus.limits import Limits

if TYPE_CHECKING:
    from infra.local.servicebus.amqp.links import Link

_log = logging.getLogger(__name__)

_CONTAINER = "servicebus-local"
_MIN_FRAME = 512
_MIN_PEER_IDLE_MS = 1000


class Connection(asyncio.Protocol):
    """The connection of one peer.

    Args:
        connections: the set of open connections; this one adds and removes itself.
        sign_in: checks the name and the key of SASL PLAIN.
    """

    def __init__(
        self,
        limits: Limits,
        clock: Clock,
        attach: Callable[[Session, Attach], Link | None],
        connections: set[Connection],
        sign_in: SignIn,
    ) -> None:
        self.limits = limits
        self.peer_max_frame = _MIN_FRAME
        self._attach = attach
        self._connections = connections
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._reader = FrameReader(limits.max_frame_bytes)
        self._opened = False
        self._closing = False
        self._sessions: dict[int, Session] = {}
        self._ended: set[int] = set()
        self._outbox = Outbox(limits.write_high_water_bytes)
        self._paused = False
        self._held_bytes = 0
        self._authorisation = Authorisation(clock)
        self._handshake = Handshake(self._reader, self._outbox, sign_in, self._authorisation.admit)
        self._peer_idle = 0.0
        self._last_received = self._loop.time()
        self._timers: dict[str, asyncio.TimerHandle] = {}

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start the handshake timeout, or abort if there are too many connections."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = self._outbox.transport = transport
        if len(self._connections) >= self.limits.max_connections:
            _log.warning("refused a connection: %d are open", len(self._connections))
            self._closing = True
            transport.abort()
            return
        self._connections.add(self)
        transport.set_write_buffer_limits(high=self.limits.write_high_water_bytes)
        self._set_timer("handshake", self.limits.handshake_timeout, self._handshake_overdue)

    def data_received(self, data: bytes) -> None:
        """Answer all complete frames, then write the answers together."""
        if self._closing:
            return
        self._last_received = self._loop.time()
        self._reader.feed(data)
        self._outbox.expect_flush()
        try:
            while self._step() and self.open:
                continue
        except ProtocolError as problem:
            self.fail(problem.condition, problem.description)
        finally:
            self._outbox.flush()

    def pause_writing(self) -> None:
        """Stop reading and delivering while the peer does not read."""
        self._paused = True
        if self._transport is not None and not self._closing:
            self._transport.pause_reading()
        self._set_timer("stall", self.limits.write_stall_timeout, self.abort)

    def resume_writing(self) -> None:
        """Continue reading and delivering."""
        self._paused = False
        self._cancel_timer("stall")
        if self._transport is not None and not self._closing:
            self._transport.resume_reading()
            for session in self._sessions.values():
                session.offer()

    def connection_lost(self, exc: Exception | None) -> None:
        """Close the sessions; messages locked by the peer stay locked until their locks expire."""
        self._closing = True
        self._connections.discard(self)
        for name in list(self._timers):
            self._cancel_timer(name)
        for session in self._sessions.values():
            session.close()
        self._sessions.clear()

    # for sessions and links

    @property
    def open(self) -> bool:
        """Whether it is not closing: frames are still answered."""
        return not self._closing

    def writable(self) -> bool:
        """Whether the peer reads what is sent."""
        return not self._paused and self.open

    def send(self, channel: int, body: bytes, payload: bytes = b"") -> None:
        """Write a frame, together with all others of this turn of the event loop."""
        self._outbox.write(encode_frame(channel, body, payload))

    def account_incomplete(self, size: int) -> None:
        """Add to the size of incomplete deliveries, or subtract.

        Raises:
            ProtocolError: the connection has too many bytes of them.
        """
        self._held_bytes += size
        if self._held_bytes > self.limits.max_assembling_bytes:
            raise ProtocolError("amqp:resource-limit-exceeded", "too many incomplete deliveries")

    def admit(self, grant: Grant) -> None:
        """Add a token's grant. Raises ProtocolError if there are too many."""
        self._authorisation.admit(grant)
        self._check_grants()

    def authorise(self, path: str) -> None:
        """Check that a valid token covers ``path``. Raises Unauthorized."""
        self._authorisation.authorise(path)

    def fail(self, condition: str, description: str) -> None:
        """Close the connection with an error."""
        if self._closing:
            return
        _log.info("closing a connection: %s: %s", condition, description)
        if self._opened:
            self.send(0, performative(CLOSE, error(condition, description)))
        self._hang_up()

    # frames

    def _step(self) -> bool:
        return self._read_frame() if self._handshake.done else self._handshake.step()

    def _read_frame(self) -> bool:
        cut = self._reader.frame()
        if cut is None:
            return False
        kind, channel, body = cut
        if kind != AMQP_FRAME:
            raise ProtocolError("amqp:connection:framing-error", f"frame type {kind} is unknown")
        if not body:
            return True  # a heartbeat
        frame, end = parse(body)
        if isinstance(frame, Open):
            self._on_open(frame)
        elif not self._opened:
            raise ProtocolError("amqp:not-allowed", "a frame before the open")
        elif isinstance(frame, Close):
            self.send(0, performative(CLOSE, None))
            self._hang_up()
        elif isinstance(frame, Begin):
            self._on_begin(channel, frame)
        elif isinstance(frame, End):
            self._on_end(channel)
        else:
            self._on_session_frame(channel, frame, body, end)
        return True

    def _on_open(self, frame: Open) -> None:
        if self._opened:
            raise ProtocolError("amqp:not-allowed", "a second open")
        self._opened = True
        max_frame = 2**32 - 1 if frame.max_frame_size is None else frame.max_frame_size
        idle_ms = int(self.limits.idle_timeout * 500)  # half of it, as the standard recommends
        own = self.limits.max_frame_bytes
        self.send(0, encode_open(_CONTAINER, own, self.limits.max_sessions - 1, idle_ms))
        if max_frame < _MIN_FRAME:
            raise ProtocolError(
                "amqp:invalid-field", f"max-frame-size must be {_MIN_FRAME} or more"
            )
        self.peer_max_frame = min(max_frame, self.limits.max_outgoing_frame_bytes)
        self._cancel_timer("handshake")
        self._set_timer("idle", self.limits.idle_timeout, self._check_idle)
        self._set_timer("grants", self.limits.authentication_timeout, self._check_grants)
        if frame.idle_time_out:
            if frame.idle_time_out < _MIN_PEER_IDLE_MS:
                raise ProtocolError(
                    "amqp:invalid-field", f"idle-time-out must be {_MIN_PEER_IDLE_MS} ms or more"
                )
            self._peer_idle = frame.idle_time_out / 1000
            self._set_timer("heartbeat", self._peer_idle / 2, self._heartbeat)

    def _on_begin(self, channel: int, frame: Begin) -> None:
        if channel in self._sessions:
            raise ProtocolError("amqp:not-allowed", f"channel {channel} is in use")
        if channel >= self.limits.max_sessions:
            raise ProtocolError("amqp:resource-limit-exceeded", "too many sessions")
        self._ended.discard(channel)
        self._sessions[channel] = Session(self, channel, frame, self._attach)

    def _on_end(self, channel: int) -> None:
        session = self._sessions.pop(channel, None)
        if session is not None:
            session.close()
            self._ended.add(channel)
            self.send(channel, performative(END, None))

    def _on_session_frame(
        self, channel: int, frame: Performative, encoded: bytes, end: int
    ) -> None:
        session = self._sessions.get(channel)
        if session is not None:
            session.on_frame(frame, encoded, end)
        elif channel not in self._ended:  # the SDK sends detaches after it has ended a session
            raise ProtocolError("amqp:not-allowed", f"channel {channel} has no session")

    # closing

    def _hang_up(self) -> None:
        """Stop sending and wait until the peer closes, so that it can read what was sent."""
        self._closing = True
        self._outbox.flush()
        if self._transport is None or self._transport.is_closing():
            return
        self._transport.resume_reading()
        if self._transport.can_write_eof():
            self._transport.write_eof()
        self._set_timer("close", self.limits.close_timeout, self.abort)

    def abort(self) -> None:
        """Close immediately; data that is not sent yet is lost."""
        if self._transport is not None:
            self._transport.abort()

    # timers

    def _set_timer(self, name: str, delay: float, callback: Callable[[], None]) -> None:
        self._cancel_timer(name)
        self._timers[name] = self._loop.call_later(max(delay, 0.0), callback)

    def _cancel_timer(self, name: str) -> None:
        timer = self._timers.pop(name, None)
        if timer is not None:
            timer.cancel()

    def _handshake_overdue(self) -> None:
        _log.info("aborting a connection: no open in %s s", self.limits.handshake_timeout)
        self.abort()

    def _check_idle(self) -> None:
        left = self._last_received + self.limits.idle_timeout - self._loop.time()
        if left > 0:
            self._set_timer("idle", left, self._check_idle)
        else:
            self.fail("amqp:resource-limit-exceeded", "nothing was received for the idle timeout")

    def _heartbeat(self) -> None:
        left = self._outbox.last_sent + self._peer_idle / 2 - self._loop.time()
        if left <= 0 and self.writable():
            self._outbox.write(EMPTY_FRAME)
            left = self._peer_idle / 2
        self._set_timer("heartbeat", max(left, self._peer_idle / 10), self._heartbeat)

    def _check_grants(self) -> None:
        """Detach links whose token has expired; close the connection if no token is left."""
        left = self._authorisation.seconds_to_next_expiry()
        for session in self._sessions.values():
            for link in session.links():
                if link.path is not None and not self._authorisation.covers(link.path):
                    session.detach(link, Unauthorized.condition, "the token has expired")
        if left is None:
            self.fail(Unauthorized.condition, "no valid token was put at $cbs")
        else:
            self._set_timer("grants", left, self._check_grants)

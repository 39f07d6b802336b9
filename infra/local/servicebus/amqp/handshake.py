"""The start of a connection: protocol headers and SASL.

Source: OASIS AMQP 1.0 part 2.2 and 5.3; RFC 4616 for PLAIN. A peer that uses ANONYMOUS, or MSSBCBS,
which is Microsoft's name for the same, has to put a token at ``$cbs`` later.
"""

from __future__ import annotations

from collections.abc import Callable

from infra.local.servicebus.amqp.answers import encode_sasl_mechanisms, encode_sasl_outcome
from infra.local.servicebus.amqp.cbs import Grant
from infra.local.servicebus.amqp.frames import (
    AMQP_HEADER,
    SASL_FRAME,
    SASL_HEADER,
    FrameReader,
    encode_frame,
)
from infra.local.servicebus.amqp.outbox import Outbox
from infra.local.servicebus.amqp.performatives import SaslInit, parse
from infra.local.servicebus.errors import ProtocolError

#: Returns the grant for a key's name and value, or None if they are wrong.
SignIn = Callable[[str, str], Grant | None]

_WITHOUT_KEY = ("ANONYMOUS", "MSSBCBS")
_TLS_HANDSHAKE = b"\x16\x03"


class Handshake:
    """Answers everything before the first AMQP frame."""

    def __init__(
        self,
        reader: FrameReader,
        outbox: Outbox,
        sign_in: SignIn,
        admit: Callable[[Grant], None],
    ) -> None:
        self.done = False
        self._reader = reader
        self._outbox = outbox
        self._sign_in = sign_in
        self._admit = admit
        self._expects_init = False
        self._sasl_done = False

    def step(self) -> bool:
        """Answer the next header or frame; False if it is not complete yet.

        Raises:
            ProtocolError: the peer uses another protocol, or a wrong key.
        """
        return self._read_init() if self._expects_init else self._read_header()

    def _read_header(self) -> bool:
        if self._reader.peek(2) == _TLS_HANDSHAKE:
            raise ProtocolError(
                "amqp:not-implemented",
                "the peer uses TLS; the connection string needs UseDevelopmentEmulator=true "
                "in lower case",
            )
        header = self._reader.protocol_header()
        if header is None:
            return False
        if header == SASL_HEADER and not self._sasl_done:
            self._outbox.write(SASL_HEADER)
            self._outbox.write(encode_frame(0, encode_sasl_mechanisms(), kind=SASL_FRAME))
            self._expects_init = True
            return True
        self._outbox.write(AMQP_HEADER)  # also the answer to an unknown header
        if header != AMQP_HEADER:
            raise ProtocolError("amqp:not-implemented", f"unknown protocol header {header!r}")
        self.done = True
        return True

    def _read_init(self) -> bool:
        frame = self._reader.frame()
        if frame is None:
            return False
        kind, _, body = frame
        init = parse(body)[0] if kind == SASL_FRAME and body else None
        if not isinstance(init, SaslInit):
            raise ProtocolError("amqp:not-allowed", "a SASL init is expected")
        accepted = init.mechanism in _WITHOUT_KEY or self._has_key(init)
        outcome = encode_sasl_outcome(0 if accepted else 1)
        self._outbox.write(encode_frame(0, outcome, kind=SASL_FRAME))
        if not accepted:
            raise ProtocolError("amqp:unauthorized-access", "SASL: the key is not the namespace's")
        self._sasl_done = True
        self._expects_init = False
        return True

    def _has_key(self, init: SaslInit) -> bool:
        """Whether a PLAIN response has the right key: ``authzid NUL name NUL key`` (RFC 4616)."""
        parts = (init.initial_response or b"").split(b"\x00")
        if init.mechanism != "PLAIN" or len(parts) != 3:
            return False
        grant = self._sign_in(*(part.decode(errors="replace") for part in parts[1:]))
        if grant is not None:
            self._admit(grant)
        return grant is not None

"""The beginning of a connection: protocol headers and SASL ANONYMOUS.

Source: OASIS AMQP 1.0 part 2.2 and 5.3. The token check comes later, at ``$cbs``.
"""

from __future__ import annotations

from infra.local.servicebus.answers import encode_sasl_mechanisms, encode_sasl_outcome
from infra.local.servicebus.errors import ProtocolError
from infra.local.servicebus.frames import (
    AMQP_HEADER,
    SASL_FRAME,
    SASL_HEADER,
    FrameReader,
    encode_frame,
)
from infra.local.servicebus.outbox import Outbox
from infra.local.servicebus.performatives import SaslInit, parse

_TLS_HANDSHAKE = b"\x16\x03"


class Handshake:
    """Answers what comes before the first AMQP frame."""

    def __init__(self, reader: FrameReader, outbox: Outbox) -> None:
        self.done = False
        self._reader = reader
        self._outbox = outbox
        self._expects_init = False
        self._sasl_done = False

    def step(self) -> bool:
        """Answer the next header or frame; False if it is not complete yet.

        Raises:
            ProtocolError: the peer speaks something else.
        """
        return self._read_init() if self._expects_init else self._read_header()

    def _read_header(self) -> bool:
        if self._reader.peek(2) == _TLS_HANDSHAKE:
            raise ProtocolError(
                "amqp:not-implemented",
                "the peer speaks TLS; the connection string needs UseDevelopmentEmulator=true "
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
        self._outbox.write(AMQP_HEADER)  # also the answer to a header that we do not know
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
        anonymous = init.mechanism == "ANONYMOUS"
        outcome = encode_sasl_outcome(0 if anonymous else 1)
        self._outbox.write(encode_frame(0, outcome, kind=SASL_FRAME))
        if not anonymous:
            raise ProtocolError("amqp:not-implemented", "only SASL ANONYMOUS is offered")
        self._sasl_done = True
        self._expects_init = False
        return True

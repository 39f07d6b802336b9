"""The ids in a message's body, even if that is not a valid envelope."""

from __future__ import annotations

import re
from codecs import BOM_UTF8
from dataclasses import dataclass

import msgspec

from domain.contracts.envelope import TENANT_PATTERN, is_traceparent

#: The largest message outside the premium tier; in larger bodies ids are not looked for.
_MAX_IDENTIFIED_BYTES = 256 * 1024


@dataclass(frozen=True, slots=True)
class MessageIds:
    """What a message body says about itself; None where that is missing or malformed."""

    tenant_id: str | None = None
    event_id: str | None = None
    traceparent: str | None = None


class _RawIds(msgspec.Struct, frozen=True):
    id: msgspec.Raw = msgspec.Raw()
    tenantid: msgspec.Raw = msgspec.Raw()
    traceparent: msgspec.Raw = msgspec.Raw()


def message_ids_of(body: bytes) -> MessageIds:
    """The ids in ``body``, even if it is not a valid envelope; nothing else in it is decoded."""
    if len(body) > _MAX_IDENTIFIED_BYTES:
        return MessageIds()
    try:
        decoded = msgspec.json.decode(body.removeprefix(BOM_UTF8), type=_RawIds)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return MessageIds()
    tenant_id, traceparent = _text(decoded.tenantid), _text(decoded.traceparent)
    return MessageIds(
        tenant_id if re.match(TENANT_PATTERN, tenant_id) else None,
        _text(decoded.id) or None,
        traceparent if is_traceparent(traceparent) else None,
    )


def _text(raw: msgspec.Raw) -> str:
    try:
        return msgspec.json.decode(raw, type=str)
    except (msgspec.MsgspecError, ValueError):
        return ""

"""Reads CloudEvents in the JSON format, as the specification defines it, of any type.

Source: CloudEvents 1.0.2, https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/spec.md
and .../formats/json-format.md. Structured mode only: the body is one event in the JSON format.
"""

from __future__ import annotations

import binascii
import re
from base64 import b64decode
from datetime import datetime, timedelta
from typing import Any

from domain.contracts.strict_json import InvalidJson, other_encoding, read_json

#: Bytes of one attribute in UTF-8. An Azure resource id takes up to about 1,000, a blob URL 2,000.
MAX_ATTRIBUTE_BYTES = 2048

#: Values and keys in an event; a job with the most inputs has 4,000.
_MAX_NODES = 10_000
_MAX_DEPTH = 32

_NAME = re.compile(r"[a-z0-9]+")
_REQUIRED = ("id", "source", "type")
_PAYLOAD = ("data", "data_base64")
_ABOUT_DATA = ("dataschema", "datacontenttype")
_INTEGERS = range(-(2**31), 2**31)

#: Added to errors about bodies that are not structured-mode events, so that senders learn the form.
_WANTED = (
    "the body must be one whole CloudEvent as a JSON object (structured mode, "
    "application/cloudevents+json); attributes in application properties (binary mode) are not read"
)
_BATCH = (
    "body: is a list, as in a batch (application/cloudevents-batch+json), which is not accepted; "
    "send each event as a message of its own"
)

_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"  # noqa: S105 the standard's word
_MEDIA_TYPE = re.compile(
    rf"{_TOKEN}/(?P<subtype>{_TOKEN})"
    rf"(?:\s*;\s*{_TOKEN}=(?:{_TOKEN}|\"(?:[^\"\\]|\\.)*\"))*",
    re.ASCII,
)
_TIMESTAMP = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2})[Tt ]([0-9]{2}:[0-9]{2}):([0-9]{2})"
    r"(\.[0-9]+)?([Zz]|[+-][0-9]{2}:[0-9]{2})"
)


class NoCloudEvent(ValueError):
    """The body is not an event in the JSON format; names the attribute and the error."""


def read_event(body: bytes) -> dict[str, Any]:
    """The attributes of an event that are set, with ``data`` as a JSON object.

    ``datacontenttype`` is checked and left out. Extension attributes are included under their
    names. The meaning of attributes is not checked.

    Raises:
        NoCloudEvent: not a single event, or its data is not a JSON object.
    """
    if other := other_encoding(body):
        raise NoCloudEvent(f"body: is encoded as {other}; send UTF-8 without a byte order mark")
    begins = body.lstrip()[:1]
    if begins == b"[":
        raise NoCloudEvent(_BATCH)
    event = _read(body, "body", "" if begins == b"{" else f"; {_WANTED}")
    if not isinstance(event, dict):
        raise NoCloudEvent(f"body: is not a JSON object; {_WANTED}")
    if event.get("specversion") is None:
        raise NoCloudEvent(f"specversion: is missing; {_WANTED}")
    attributes = {
        name: value
        for name, value in event.items()
        if name not in _PAYLOAD and _checked(name, value) is not None
    }
    for name in _REQUIRED:
        if name not in attributes:
            raise NoCloudEvent(f"{name}: is missing")
    for name in _ABOUT_DATA:
        if not _is_text(attributes.get(name, "unset")):
            raise NoCloudEvent(f"{name}: must be text of 1 to {MAX_ATTRIBUTE_BYTES} bytes")
    data = _data(event, attributes.pop("datacontenttype", "application/json"))
    return attributes if data is None else {**attributes, "data": data}


def _read(text: bytes, field: str, hint: str = "") -> object:
    try:
        return read_json(text, max_nodes=_MAX_NODES, max_depth=_MAX_DEPTH)
    except InvalidJson as error:
        raise NoCloudEvent(f"{field}: {error}{hint}") from None


def _checked(name: str, value: object) -> object:
    """The value of an attribute, checked for its type; None where it is not set."""
    if _NAME.fullmatch(name) is None:
        raise NoCloudEvent(
            f"{name[:64]!r}: is not a valid attribute name: only lower-case letters and digits"
        )
    if name == "traceparent" or value is None or isinstance(value, str | bool):
        return value  # an invalid traceparent is no reason to refuse an event
    if isinstance(value, int) and value in _INTEGERS:
        return value
    raise NoCloudEvent(
        f"{name[:64]}: must be text, true, false or a 32-bit integer, as any attribute"
    )


def _is_text(value: object) -> bool:
    return isinstance(value, str) and 0 < len(value.encode()) <= MAX_ATTRIBUTE_BYTES


def _data(event: dict[str, Any], content_type: str) -> dict[str, Any] | None:
    """The payload; None where there is none."""
    if event.get("data_base64") is None and "data" not in event:
        return None
    if not _is_json(content_type):
        raise NoCloudEvent(
            f"datacontenttype: must be application/json or another JSON type, "
            f"found {content_type[:100]!r}"
        )
    if event.get("data_base64") is None:
        field, data = "data", event["data"]
    elif "data" in event:
        raise NoCloudEvent("data_base64: excludes data; send one of them")
    else:
        field, data = "data_base64", _decoded(event["data_base64"])
    if not isinstance(data, dict):
        raise NoCloudEvent(f"{field}: must be a JSON object")
    return data


def _is_json(content_type: str) -> bool:
    match = _MEDIA_TYPE.fullmatch(content_type.strip().removesuffix(";").rstrip())
    subtype = match["subtype"].lower() if match else ""
    return subtype == "json" or subtype.endswith("+json")


def _decoded(given: object) -> object:
    if not isinstance(given, str):
        raise NoCloudEvent("data_base64: must be text")
    try:
        text = b64decode(given, validate=True)
    except (binascii.Error, ValueError):
        raise NoCloudEvent("data_base64: is not valid base64") from None
    if other := other_encoding(text):
        raise NoCloudEvent(
            f"data_base64: is encoded as {other}; send UTF-8 without a byte order mark"
        )
    return _read(text, "data_base64")


def timestamp(value: object) -> datetime:
    """The time that a text in RFC 3339 format stands for.

    A leap second becomes the first second of the next minute.

    Raises:
        ValueError: not text, or not in that format.
    """
    if isinstance(value, datetime):
        return value
    match = _TIMESTAMP.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError("must be a time such as '2026-11-29T17:31:00Z' (RFC 3339), as text")
    day, minute, second, fraction, zone = match.groups()
    leap = second == "60"
    text = f"{day}T{minute}:{'59' if leap else second}{(fraction or '')[:7]}{zone.upper()}"
    try:
        return datetime.fromisoformat(text) + timedelta(seconds=leap)
    except (ValueError, OverflowError):
        raise ValueError("must be a time that exists, with a time zone (RFC 3339)") from None

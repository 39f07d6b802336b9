from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.contracts.envelope import MAX_ENVELOPE_BYTES, Envelope, InvalidEnvelope

GOOD: dict[str, Any] = {
    "specversion": "1.0",
    "id": "1",
    "source": "/orders",
    "type": "qlp.intent.submit",
    "tenantid": "acme",
    "data": {"text": "hello"},
}


def test_what_is_encoded_is_decoded() -> None:
    envelope = Envelope(
        id="1",
        source="/orders",
        type="t",
        subject="s",
        time=datetime(2026, 3, 1, tzinfo=UTC),
        tenantid="acme",
        traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        data={"text": "žluťoučký kůň"},
    )
    assert Envelope.decode(envelope.encode()) == envelope


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"specversion": "0.3"}, "specversion"),
        ({"tenantid": "Acme"}, "tenantid"),
        ({"tenantid": "a\n"}, "tenantid"),
        ({"tenantid": "x" * 65}, "tenantid"),
        ({"data": [1]}, "data"),
    ],
)
def test_a_broken_envelope_names_its_field(change: dict[str, Any], named: str) -> None:
    body = orjson.dumps({**GOOD, **change})
    with pytest.raises(InvalidEnvelope, match=named):
        Envelope.decode(body)


@pytest.mark.parametrize("body", [b"", b"[]", b"null", b"{", b"\xff\xfe", b'"x"', b"1"])
def test_anything_but_a_json_object_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidEnvelope):
        Envelope.decode(body)


def test_oversize_is_refused_by_decoding_and_by_encoding() -> None:
    with pytest.raises(InvalidEnvelope, match="limit"):
        Envelope.decode(b" " * (MAX_ENVELOPE_BYTES + 1))
    with pytest.raises(InvalidEnvelope, match="limit"):
        Envelope(**{**GOOD, "data": {"x": "y" * MAX_ENVELOPE_BYTES}}).encode()


@given(st.binary(max_size=200))
def test_no_bytes_break_the_decoder(body: bytes) -> None:
    with pytest.raises(InvalidEnvelope, match=r"."):
        Envelope.decode(body)

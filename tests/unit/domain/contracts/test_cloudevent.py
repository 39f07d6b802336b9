"""CloudEvents 1.0.2: the specification's own examples, its rules one by one, and what they cost."""

from __future__ import annotations

import json
import time
from base64 import b64encode
from datetime import UTC, datetime
from typing import Any

import pytest

from domain.application.service import intent_id_for
from domain.contracts.cloudevent import MAX_ATTRIBUTE_BYTES
from domain.contracts.envelope import (
    MAX_ENVELOPE_BYTES,
    Envelope,
    InvalidEnvelope,
    event_key,
)
from domain.messaging.message_ids import MessageIds, message_ids_of

#: What all examples in section 3.2 of the JSON format have in common, and the event's tenant.
EXAMPLE: dict[str, Any] = {
    "specversion": "1.0",
    "type": "com.example.someevent",
    "source": "/mycontext",
    "id": "C234-1234-1234",
    "time": "2018-04-05T17:31:00Z",
    "comexampleextension1": "value",
    "comexampleothervalue": 5,
    "tenantid": "acme",
}
DATA = {"appinfoA": "abc", "appinfoB": 123, "appinfoC": True}
GOOD = {**EXAMPLE, "data": DATA}
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def decoded(event: object) -> Envelope:
    return Envelope.decode(json.dumps(event).encode())


def refusal(event: object) -> str:
    body = event if isinstance(event, bytes) else json.dumps(event).encode()
    with pytest.raises(InvalidEnvelope) as refused:
        Envelope.decode(body)
    return str(refused.value)


def test_the_specifications_example_with_an_object_is_read() -> None:
    event = decoded({**GOOD, "subject": None, "datacontenttype": "application/json"})
    assert event.data == DATA
    assert (event.source, event.id) == ("/mycontext", "C234-1234-1234")
    assert event.time == datetime(2018, 4, 5, 17, 31, tzinfo=UTC)
    assert event.subject is None


@pytest.mark.parametrize(
    ("example", "says"),
    [
        (
            {
                "datacontenttype": "application/vnd.apache.thrift.binary",
                "data_base64": "... base64 encoded string ...",
            },
            "datacontenttype: must be application/json",
        ),
        (
            {
                "unsetextension": None,
                "datacontenttype": "application/xml",
                "data": '<much wow="xml"/>',
            },
            "datacontenttype: must be application/json",
        ),
        ({"datacontenttype": "application/json", "data": 1.5}, "data: must be a JSON object"),
        ({"subject": None, "data": "I'm just a string"}, "data: must be a JSON object"),
    ],
)
def test_the_specifications_other_examples_are_refused_for_their_data(
    example: dict[str, Any], says: str
) -> None:
    assert refusal({**EXAMPLE, **example}).startswith(says)


@pytest.mark.parametrize("batch", [[], [EXAMPLE], [EXAMPLE, {**EXAMPLE, "id": "other"}]])
def test_batches_are_refused_by_their_name(batch: list[Any]) -> None:
    said = refusal(batch)
    assert "application/cloudevents-batch+json" in said
    assert "a message of its own" in said


@pytest.mark.parametrize("body", [json.dumps(DATA).encode(), b"1.5", b"", b"<xml/>", b'"text"'])
def test_what_could_be_binary_mode_data_is_refused_as_such(body: bytes) -> None:
    assert "binary mode" in refusal(body)


@pytest.mark.parametrize(
    "content_type",
    [
        "application/json",
        "Application/JSON",
        "application/json; charset=utf-8",
        'APPLICATION/JSON ; CharSet="UTF-8"',
        "text/json",
        "application/vnd.example.v2+json",
        "application/cloudevents+JSON;a=b; c=d;",
        None,
    ],
)
def test_every_way_to_say_json_is_understood(content_type: str | None) -> None:
    assert decoded({**GOOD, "datacontenttype": content_type}).data == DATA


@pytest.mark.parametrize("content_type", ["json", "application/jsonx", "text/plain", "a/b/json"])
def test_other_media_types_are_refused(content_type: str) -> None:
    assert refusal({**GOOD, "datacontenttype": content_type}).startswith("datacontenttype: ")


@pytest.mark.parametrize(
    "name", ["subject", "time", "dataschema", "datacontenttype", "traceparent", "someextension"]
)
def test_null_counts_as_absent(name: str) -> None:
    assert decoded({**GOOD, name: None}) == decoded(
        {key: value for key, value in GOOD.items() if key != name}
    )


@pytest.mark.parametrize("name", ["specversion", "id", "source", "type", "tenantid"])
@pytest.mark.parametrize("change", [None, "left out"])
def test_what_is_required_must_be_there(name: str, change: str | None) -> None:
    event: dict[str, Any] = {**GOOD, name: None}
    if change is not None:
        del event[name]
    assert refusal(event).startswith(f"{name}: ")


@pytest.mark.parametrize("value", ["text", "", True, False, 0, -(2**31), 2**31 - 1])
def test_extensions_of_simple_types_are_ignored(value: object) -> None:
    assert decoded({**GOOD, "ext1": value, "1" * 30: value}) == decoded(GOOD)


@pytest.mark.parametrize("value", [1.5, 2**31, -(2**31) - 1, [], {}, [1]])
def test_extensions_of_other_types_are_refused(value: object) -> None:
    assert refusal({**GOOD, "ext1": value}).startswith("ext1: must be text, true, false")


@pytest.mark.parametrize("name", ["comExample", "foo_bar", "foo-bar", "", "é", "a b", "a\n"])
def test_invalid_attribute_names_are_refused(name: str) -> None:
    assert refusal({**GOOD, name: "value"}).startswith(f"{name!r}: is not a valid attribute name")


@pytest.mark.parametrize(
    "moment",
    [
        "2018-04-05T17:31:00Z",
        "1985-04-12T23:20:50.52Z",
        "1996-12-19T16:39:57-08:00",
        "1990-12-31T23:59:60Z",
        "1990-12-31T15:59:60-08:00",
        "1937-01-01T12:00:27.87+00:20",
        "2018-04-05t17:31:00.123456789z",
    ],
)
def test_every_example_of_rfc_3339_is_a_time(moment: str) -> None:
    assert decoded({**GOOD, "time": moment}).time is not None


@pytest.mark.parametrize(
    "moment",
    [
        *(0, 1522949460, "1522949460", "", "now", True),
        *("2018-04-05", "2018-04-05T17:31Z", "2018-04-05T17:31:00", "٢018-04-05T17:31:00Z"),
        *("2018-13-05T17:31:00Z", "2018-04-05T17:31:61Z", "2018-04-05T17:31:00+24:00"),
        *("9999-12-31T23:59:60Z", "0000-01-01T00:00:00Z"),
    ],
)
def test_invalid_times_are_refused(moment: object) -> None:
    assert refusal({**GOOD, "time": moment}).startswith("time: must be a time")


@pytest.mark.parametrize("trace", ["", "nonsense", TRACE.upper(), 5, {}, ["x"], "x" * 5000, None])
def test_a_broken_trace_is_dropped_and_the_event_kept(trace: object) -> None:
    assert decoded({**GOOD, "traceparent": trace}).traceparent is None
    assert decoded({**GOOD, "traceparent": TRACE}).traceparent == TRACE


@pytest.mark.parametrize("content_type", [None, "application/json;charset=utf-8", "text/x+json"])
def test_data_in_base64_is_read_where_it_is_json(content_type: str | None) -> None:
    encoded = b64encode(json.dumps(DATA).encode()).decode()
    event = {**EXAMPLE, "datacontenttype": content_type, "data_base64": encoded}
    assert decoded(event).data == DATA


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"data": DATA, "data_base64": "e30="}, "data_base64: excludes data"),
        ({"data": None, "data_base64": "e30="}, "data_base64: excludes data"),
        ({"data": None}, "data: must be a JSON object"),
        ({"data_base64": "e30"}, "data_base64: is not valid base64"),
        ({"data_base64": "e\n30="}, "data_base64: is not valid base64"),
        ({"data_base64": {}}, "data_base64: must be text"),
        ({"data_base64": "/w=="}, "data_base64: it is not UTF-8"),
        ({"data_base64": "eyJhIjoxLCJhIjoyfQ=="}, "data_base64: the key 'a' occurs twice"),
        ({"data_base64": "WzFd"}, "data_base64: must be a JSON object"),
    ],
)
def test_other_data_is_refused_with_its_attributes_name(change: dict[str, Any], says: str) -> None:
    assert refusal({**EXAMPLE, **change}).startswith(says)


@pytest.mark.parametrize("name", ["id", "source", "type", "subject", "dataschema"])
def test_attributes_are_bounded_in_bytes_and_not_empty(name: str) -> None:
    longest = "é" * (MAX_ATTRIBUTE_BYTES // 2)
    decoded({**GOOD, name: longest})
    assert refusal({**GOOD, name: longest + "x"}).startswith(f"{name}: ")
    assert refusal({**GOOD, name: ""}).startswith(f"{name}: ")
    assert refusal({**GOOD, name: 5}).startswith(f"{name}: ")


def test_a_source_may_be_any_resource_of_azure() -> None:
    group = "/subscriptions/0b1f6471-1bf0-4dda-aec3-cb9272f09590/resourceGroups/" + "g" * 90
    source = f"{group}/providers/Microsoft.EventGrid/domains/{'d' * 50}/topics/{'t' * 800}"
    assert decoded({**GOOD, "source": source}).source == source


@pytest.mark.parametrize(
    "encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-be"]
)
def test_other_encodings_are_named(encoding: str) -> None:
    assert refusal(json.dumps(GOOD).encode(encoding)).startswith("body: is encoded as UTF-")


def test_a_key_that_occurs_twice_has_no_meaning() -> None:
    body = json.dumps(GOOD).encode()[:-1] + b', "tenantid": "other"}'
    assert "'tenantid' occurs twice" in refusal(body)


def test_a_refusal_shows_no_pattern_and_little_of_what_was_sent() -> None:
    for change in ({"tenantid": "NOT A TENANT"}, {"datacontenttype": "x" * 2000}, {"é" * 2000: 1}):
        said = refusal({**GOOD, **change})
        assert not set("^\\[]") & set(said)
        assert len(said) < 300


@pytest.mark.parametrize(
    ("source", "event_id", "intent_id"),
    [
        ("/orders", "1", "3856c73e-69bd-53ba-8062-0d2a49455303"),
        (
            "https://github.com/spec",
            "A234-1234-1234",
            "f4fb69c5-c9b1-528c-8dc2-1a1d50186b0c",
        ),
        (
            "/subscriptions/0f/rg",
            "kůň \U0001f600",
            "29ae39eb-d3aa-5b3c-9743-160e2e3e8ddb",
        ),
        ("7", "/o r", "f334bd51-6323-5ac7-a0d2-34b6bcbb37c2"),
    ],
)
def test_an_event_has_the_intent_that_it_always_had(
    source: str, event_id: str, intent_id: str
) -> None:
    key = event_key(source, event_id)
    assert str(intent_id_for("acme", "service_bus", key)) == intent_id


def test_different_events_have_different_keys() -> None:
    parts = ["", "a", "\n", "a\nb", "1", "1\na", "\n\n", "3", "3\na\nb", "a\n"]
    pairs = [(source, event_id) for source in parts for event_id in parts]
    assert len({event_key(*pair) for pair in pairs}) == len(pairs)


@pytest.mark.parametrize(
    "body",
    [
        json.dumps({**GOOD, "traceparent": TRACE, "data": [1]}).encode(),
        b"\xef\xbb\xbf" + json.dumps({**GOOD, "traceparent": TRACE}).encode(),
        json.dumps({**GOOD, "traceparent": TRACE, "x": [{}] * 20_000}).encode(),
        json.dumps({"x": 1.5, **GOOD, "traceparent": TRACE, "specversion": 9}).encode(),
        b'{"a": 1, "a": 2, ' + json.dumps({**GOOD, "traceparent": TRACE}).encode()[1:],
    ],
)
def test_ids_are_read_even_from_an_event_that_is_refused(body: bytes) -> None:
    refusal(body)
    assert message_ids_of(body) == MessageIds("acme", "C234-1234-1234", TRACE)


@pytest.mark.parametrize(
    "body",
    [
        *(b"", b"[]", b"5", b"{", b"\xff", b'{"tenantid": 5, "id": {}}', b'{"tenantid": "A B"}'),
        *(b"[" * 100_000, b'{"tenantid":' * 20_000, b'{"id": "\\ud800"}', b" " * 300_000),
        json.dumps(GOOD).encode("utf-16"),
    ],
)
def test_without_readable_ids_there_are_none(body: bytes) -> None:
    assert message_ids_of(body) == MessageIds()


@pytest.mark.parametrize(
    "body",
    [
        b'{"x":[' + b"{}," * 80_000 + b"{}]}",
        b"{" + b",".join(b'"e%d":1' % n for n in range(18_000)) + b"}",
        b'{"datacontenttype":"' + b" " * 240_000 + b'"}',
        json.dumps({**GOOD, "datacontenttype": "a/b" + "; " * 1000}).encode(),
        json.dumps({**EXAMPLE, "data_base64": "W1tb" * 60_000}).encode(),
        b'{"x":' * 40_000,
        b'{"x":"' + b"\\u0000" * 40_000 + b'"}',
    ],
)
def test_the_worst_bodies_are_refused_quickly(body: bytes) -> None:
    assert len(body) <= MAX_ENVELOPE_BYTES
    costs = []
    for _ in range(3):
        before = time.thread_time()
        refusal(body)
        message_ids_of(body)
        costs.append(time.thread_time() - before)
    assert min(costs) < 0.05


@pytest.mark.parametrize(
    ("codec", "named"),
    [
        ("utf-8-sig", "is encoded as UTF-8 with a byte order mark"),
        ("utf-16", "is encoded as UTF-16"),
        ("utf-16-be", "is encoded as UTF-16"),
        ("utf-32", "is encoded as UTF-32"),
        ("latin-1", "it is not UTF-8: byte 11"),
    ],
)
def test_data_in_base64_with_another_encoding_is_named(codec: str, named: str) -> None:
    encoded = b64encode('{"text": "é"}'.encode(codec)).decode()
    assert refusal({**EXAMPLE, "data_base64": encoded}).startswith(f"data_base64: {named}")

"""What requests may bring, at every route: parameters, methods, headers and bodies."""

from __future__ import annotations

import gzip
import json
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import pytest
from multidict import CIMultiDict
from yarl import URL

import function_app  # noqa: F401 declares the routes
from functions.routes import ROUTES, Route
from tests.support.stack import ECHO, NOBODYS, Client, Reply, RunningStack, problem
from tests.support.trace_contexts import KEPT, PARENT, RESTARTED, TRACE

_ROUTES = [ROUTES[name] for name in sorted(ROUTES)]
_TAKING = [route for route in _ROUTES if route.body]


def path_of(route: Route) -> str:
    """A path of the route."""
    values = {
        "id": NOBODYS,
        "run_id": NOBODYS,
        "sha256": "0" * 64,
        "first": "a",
        "stream": "stdout",
    }
    return "/" + route.template.replace("/{*rest}", "").format_map(values)


def name_of(route: Route) -> str:
    return route.name


async def send(
    client: Client, method: str, path: str, data: Any = None, headers: Any = ()
) -> Reply:
    """A request as it is written here, with headers that may come twice."""
    sent = CIMultiDict([("X-API-Key", client.key or ""), *headers])
    if data is not None:
        sent.setdefault("Content-Type", "application/json")
    url = URL(f"{client.base}/api{path}", encoded=True)
    async with client.session.request(method, url, data=data, headers=sent) as response:
        raw = await response.read()
        body = (
            json.loads(raw) if raw and "json" in response.headers.get("Content-Type", "") else raw
        )
        return Reply(response.status, response.headers, body)


async def chunked(body: bytes) -> AsyncIterator[bytes]:
    yield body


@pytest.fixture
async def operator(stack: RunningStack, client: Client) -> Client:
    return await stack.operator_of(client)


@pytest.mark.parametrize("route", _ROUTES, ids=name_of)
async def test_a_parameter_that_a_route_does_not_know_is_refused(
    operator: Client, route: Route
) -> None:
    for query in ("colour=red", "code=x", "Limit=5", "%00=1", "=", "x"):
        reply = await send(operator, route.method, f"{path_of(route)}?{query}")
        assert "is not a query parameter here" in problem(reply, 400, "invalid-request")["detail"]
    for name in route.query:
        for query, said in ((f"{name}=1&{name}=1", "more than once"), (f"{name}=", "is empty")):
            reply = await send(operator, route.method, f"{path_of(route)}?{query}")
            detail = problem(reply, 400, "invalid-request")["detail"]
            assert detail.startswith(f"{name}: {said}") or detail.startswith(f"{name}: is given")


@pytest.mark.parametrize("route", _ROUTES, ids=name_of)
async def test_another_method_is_405_and_told_which_there_are(
    stack: RunningStack, operator: Client, route: Route
) -> None:
    path = path_of(route)
    taken = {
        method
        for other in ROUTES.values()
        if other.template == route.template
        for method in other.methods
    }
    for method in {"GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "PROPFIND"} - taken:
        for client in (operator, stack.client_with(None)):
            if client.key is None and path == "/intents/search" and method == "GET":
                continue  # for the host it is an intent, which only its own may ask for
            reply = await send(client, method, path)
            assert set(reply.headers["Allow"].split(", ")) == taken
            if method == "HEAD":
                assert (reply.status, reply.body) == (405, b"")
            else:
                problem(reply, 405, "method-not-allowed")


@pytest.mark.parametrize(
    "path", ["", "/", "/nosuch", f"/intents/{NOBODYS}/nosuch", "/health/x", "/sandbox", "/%C3%A4"]
)
@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS"])
async def test_another_path_is_a_problem_too(stack: RunningStack, method: str, path: str) -> None:
    problem(await send(stack.client_with(None), method, path), 404, "not-found")


@pytest.mark.parametrize("route", _TAKING, ids=name_of)
async def test_a_body_that_does_not_arrive_as_it_is_meant_is_refused(
    operator: Client, route: Route
) -> None:
    path, headers = path_of(route), [("Content-Type", "application/json")]
    reply = await send(operator, route.method, path, chunked(b'{"reason": "mine"}'), headers)
    assert "Content-Length" in problem(reply, 411, "length-required")["detail"]
    headers = [*headers, ("Content-Encoding", "gzip")]
    reply = await send(operator, route.method, path, gzip.compress(b"{}"), headers)
    assert "gzip" in problem(reply, 415, "unsupported-media-type")["detail"]


@pytest.mark.parametrize("route", [route for route in _ROUTES if not route.body], ids=name_of)
async def test_a_body_is_refused_where_none_is_taken(operator: Client, route: Route) -> None:
    for data in (b"{}", chunked(b"{}")):
        reply = await send(operator, "GET", path_of(route), data)
        assert "takes no body" in problem(reply, 400, "invalid-request")["detail"]


class TestBodies:
    async def test_a_cancellation_in_chunks_does_not_lose_its_reason(self, client: Client) -> None:
        intent = (await client.submit({"program": ECHO, "text": "wait for it"})).body
        path = f"/intents/{intent['id']}/cancel"
        reply = await send(client, "POST", path, chunked(b'{"reason": "too slow"}'))
        problem(reply, 411, "length-required")
        events = await client.events(intent["id"])
        assert "IntentCancelled" not in [event["type"] for event in events]

    @pytest.mark.parametrize(
        ("body", "content_type", "status", "named"),
        [
            (b"\xef\xbb\xbf{}", "application/json", 400, "byte order mark"),
            ('{"text": "x"}'.encode("utf-16"), "application/json", 400, "UTF-16"),
            ('{"text": "x"}'.encode("utf-16-le"), "application/json", 400, "UTF-16"),
            ('{"text": "x"}'.encode("utf-32-be"), "application/json", 400, "UTF-32"),
            ('{"text": "é"}'.encode("latin-1"), "application/json", 400, "body"),
            (b'{"text": "x"}', "application/json; charset=utf-16", 415, "utf-16"),
            (b'{"text": "x"}', "application/json; charset=latin-1", 415, "latin-1"),
            (b'{"text": "x"}', "text/json", 415, "application/json"),
            (b"text=x", "application/x-www-form-urlencoded", 415, "application/json"),
            (b'{"text": "x"}', "text/plain,application/x+json", 415, "application/json"),
        ],
    )
    async def test_another_encoding_is_named(
        self, client: Client, body: bytes, content_type: str, status: int, named: str
    ) -> None:
        reply = await send(client, "POST", "/intents", body, [("Content-Type", content_type)])
        assert reply.status == status
        assert named in reply.body["detail"]

    async def test_a_text_is_as_long_as_its_characters_however_they_are_written(
        self, client: Client
    ) -> None:
        stdin = "é" * 75_000
        body = json.dumps({"program": {**ECHO, "stdin": stdin}}, ensure_ascii=True).encode()
        assert len(body) > 400_000
        reply = await send(client, "POST", "/intents", body)
        assert reply.status == 202
        assert len((await client.finished(reply.body["id"]))["outcome"]["stdout"]) > 10_000


class TestHeaders:
    async def test_two_idempotency_keys_are_no_key(self, client: Client) -> None:
        for headers in (
            [("Idempotency-Key", "a"), ("Idempotency-Key", "b")],
            [("Idempotency-Key", "a,b")],
        ):
            reply = await send(client, "POST", "/intents", b'{"text": "x"}', headers)
            assert "Idempotency-Key" in problem(reply, 400, "invalid-request")["detail"]

    async def test_two_api_keys_are_no_key(self, client: Client, stack: RunningStack) -> None:
        other = await stack.new_tenant()
        reply = await send(client, "GET", "/intents", headers=[("X-API-Key", other.key)])
        assert "X-API-Key" in problem(reply, 400, "invalid-request")["detail"]
        bearers = [("Authorization", f"Bearer {key}") for key in (client.key, other.key)]
        anonymous = Client(client.session, client.base, None)
        reply = await send(anonymous, "GET", "/intents", headers=bearers)
        assert "Authorization" in problem(reply, 400, "invalid-request")["detail"]

    @pytest.mark.parametrize(
        ("header", "applied"),
        [
            ('foo="a,wait=10"', None),
            ("wait=1_0", None),
            ("wait=１０", None),
            ("wait=soon", None),
            ("wait=-1", None),
            ('respond-async, wait="60"; x', "wait=60"),
            ("wait=999999999999", "wait=60"),
        ],
    )
    async def test_a_preference_is_read_by_its_grammar(
        self, client: Client, header: str, applied: str | None
    ) -> None:
        body = {"program": ECHO, "metadata": {"n": str(uuid4())}}
        reply = await client.submit(body, Prefer=header)
        assert reply.headers.get("Preference-Applied") == applied
        assert reply.status == (202 if applied is None else 200)

    async def test_an_artifact_is_matched_by_whole_tags(self, client: Client) -> None:
        source = "import os; open(os.environ['OUT_DIR'] + '/a.txt', 'w').write('abc')"
        intent = await client.run({"program": {"language": "python", "files": {"m.py": source}}})
        path = f"/intents/{intent['id']}/artifacts/a.txt"
        tag = (await client.get(path)).headers["ETag"]
        for header, status in (
            (tag, 304),
            (f'"x,y", W/{tag}', 304),
            ("*", 304),
            (tag.strip('"'), 200),
            ('"*"', 200),
        ):
            reply = await send(client, "GET", path, headers=[("If-None-Match", header)])
            assert reply.status == status, header
        for header, status in (("bytes=１-", 200), ("bytes=1-", 206)):
            reply = await send(client, "GET", path, headers=[("Range", header)])
            assert reply.status == status, header


@pytest.mark.parametrize(
    "intent_id",
    [
        NOBODYS.replace("-", ""),
        "{" + NOBODYS + "}",
        "urn:uuid:" + NOBODYS,
        "７" + NOBODYS[1:],
        NOBODYS[:1] + "_" + NOBODYS[2:],
    ],
)
async def test_an_id_has_one_form(client: Client, intent_id: str) -> None:
    reply = await client.get(f"/intents/{intent_id}")
    assert intent_id in problem(reply, 404, "not-found")["detail"]


@pytest.mark.parametrize(
    "query", ["limit=１", "limit=1_0", "threshold=0_1", "threshold=nan", "threshold=١", "limit=0"]
)
async def test_numbers_of_a_search_are_plain_digits(client: Client, query: str) -> None:
    intent = (await client.submit({"text": "add two numbers"})).body
    reply = await client.get(f"/intents/{intent['id']}/similar?{query}")
    assert query.partition("=")[0] in problem(reply, 400, "invalid-request")["detail"]


@pytest.mark.parametrize("moment", ["0001-01-01T00:00:00%2B14:00", "9999-12-31T23:59:59-14:00"])
async def test_the_first_and_the_last_times_are_times(client: Client, moment: str) -> None:
    for name in ("created_after", "created_before"):
        assert (await client.get(f"/intents?{name}={moment}")).status in (200, 400)


class TestTraceContext:
    async def test_a_valid_parent_is_kept_also_of_a_later_version(self, client: Client) -> None:
        for case, parent in KEPT:
            reply = await send(client, "GET", "/health", headers=[("traceparent", parent)])
            assert reply.headers["traceparent"].startswith(f"00-{TRACE}-"), case

    async def test_an_invalid_parent_starts_a_new_trace(self, client: Client) -> None:
        for case, parent in RESTARTED:
            if parent is None or "\n" in parent:
                continue  # no header can say that
            reply = await send(client, "GET", "/health", headers=[("traceparent", parent)])
            assert TRACE not in reply.headers["traceparent"], case

    async def test_two_parents_are_none(self, client: Client) -> None:
        headers = [("traceparent", PARENT), ("traceparent", PARENT)]
        reply = await send(client, "GET", "/health", headers=headers)
        assert TRACE not in reply.headers["traceparent"]

    async def test_a_later_version_reaches_every_event(self, client: Client) -> None:
        headers = [("traceparent", f"cc-{TRACE}-1234567890123456-01-later"), ("Prefer", "wait=60")]
        reply = await send(client, "POST", "/intents", json.dumps({"program": ECHO}), headers)
        events = await client.events(reply.body["id"])
        assert {event["traceparent"].split("-")[1] for event in events} == {TRACE}
        assert {event["traceparent"].split("-")[0] for event in events} == {"00"}

"""Results that people can use, on the whole stack: pictures, text, parts of files, and a page."""

from __future__ import annotations

import base64
import re
from html import unescape
from html.parser import HTMLParser
from typing import Any
from urllib.parse import quote

import pytest

from tests.support.stack import Client, Reply, RunningStack, leaving, problem, python

#: The smallest PNG: one transparent pixel.
PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)


async def artifact(
    client: Client, intent: Any, name: str, query: str = "", **headers: str
) -> Reply:
    path = f"/intents/{intent['id']}/artifacts/{quote(name)}{query}"
    return await client.get(
        path, **{key.replace("_", "-"): value for key, value in headers.items()}
    )


class TestInPlace:
    async def test_pictures_and_text_are_shown_as_what_they_are(self, client: Client) -> None:
        intent = await client.run(
            leaving(
                {
                    "plot.png": repr(PIXEL),
                    "plot.svg": "b'<svg xmlns=\"http://www.w3.org/2000/svg\"/>'",
                    "totals.csv": "b'a,b\\n'",
                    "totals.json": "b'{}'",
                }
            )
        )
        for name, kind in (
            ("plot.png", "image/png"),
            ("plot.svg", "image/svg+xml"),
            ("totals.csv", "text/plain"),
            ("totals.json", "text/plain"),
        ):
            shown = await artifact(client, intent, name, "?inline=1")
            assert shown.headers["Content-Type"].partition(";")[0] == kind
            assert shown.headers["Content-Disposition"].startswith("inline; ")
            saved = await artifact(client, intent, name)
            assert saved.headers["Content-Disposition"].startswith("attachment; ")
        assert (await artifact(client, intent, "plot.png", "?inline=1")).body == PIXEL

    async def test_what_only_claims_to_be_a_picture_is_saved_and_not_shown(
        self, client: Client
    ) -> None:
        intent = await client.run(
            leaving({"x.png": "b'<html><script>1</script>'", "x.html": "b'<p>'"})
        )
        for name in ("x.png", "x.html"):
            reply = await artifact(client, intent, name, "?inline=1")
            assert reply.status == 200
            assert reply.headers["Content-Disposition"].startswith("attachment; ")
            assert reply.headers["X-Content-Type-Options"] == "nosniff"

    async def test_whatever_a_file_is_called_its_address_leads_to_it(self, client: Client) -> None:
        names = [
            *("a?b.txt", "#x", "%41.txt", "a b.txt", "a;b=c", "...", "-rf", ".hidden", "a&b"),
            *('say "hi".txt', "größe.txt", "日本.txt", "dir/..x", "dir/%2F", "a+b", "~"),
            *("'; filename=x.exe; '.txt", "x" * 200),
        ]
        intent = await client.run(
            leaving({name: repr(str(at).encode()) for at, name in enumerate(names)})
        )
        listed = (await client.get(f"/intents/{intent['id']}/artifacts")).body["items"]
        assert {each["name"] for each in listed} == set(names)
        for each in listed:
            reply = await client.call("GET", each["href"].removeprefix("/api"))
            assert (reply.status, reply.body) == (200, str(names.index(each["name"])).encode())
            disposition = reply.headers["Content-Disposition"]
            assert re.fullmatch(
                r"attachment; filename=\"[^\"\\]+\"; filename\*=UTF-8''[\w.~%-]+", disposition
            ), disposition


class TestParts:
    @pytest.mark.parametrize(
        ("asked", "part", "content_range"),
        [
            ("bytes=0-3", b"0123", "bytes 0-3/10"),
            ("bytes=7-", b"789", "bytes 7-9/10"),
            ("bytes=-2", b"89", "bytes 8-9/10"),
            ("bytes=8-99", b"89", "bytes 8-9/10"),
            ("bytes=-99", b"0123456789", "bytes 0-9/10"),
        ],
    )
    async def test_a_part_of_a_file_can_be_had(
        self, client: Client, asked: str, part: bytes, content_range: str
    ) -> None:
        intent = await client.run(leaving({"a.bin": "b'0123456789'"}))
        reply = await artifact(client, intent, "a.bin", Range=asked)
        assert (reply.status, reply.body) == (206, part)
        assert reply.headers["Content-Range"] == content_range

    async def test_what_cannot_be_had_in_part_comes_whole_or_not_at_all(
        self, client: Client
    ) -> None:
        intent = await client.run(leaving({"a.bin": "b'0123456789'"}))
        whole = await artifact(client, intent, "a.bin")
        assert whole.headers["Accept-Ranges"] == "bytes"
        for asked in ("bytes=0-1,3-4", "lines=1-2", "bytes=5-2", "bytes=x-y", "bytes=", "0-3"):
            reply = await artifact(client, intent, "a.bin", Range=asked)
            assert (reply.status, reply.body) == (200, b"0123456789"), asked
        for asked in ("bytes=10-", "bytes=99-100", "bytes=-0", f"bytes={10**17}-"):
            beyond = await artifact(client, intent, "a.bin", Range=asked)
            problem(beyond, 416, "range-not-satisfiable")
            assert beyond.headers["Content-Range"] == "bytes */10"
        changed = await artifact(client, intent, "a.bin", Range="bytes=0-3", If_Range='"other"')
        assert changed.status == 200
        same = await artifact(
            client, intent, "a.bin", Range="bytes=0-3", If_Range=whole.headers["ETag"]
        )
        assert same.status == 206

    async def test_head_has_the_headers_alone(self, client: Client) -> None:
        intent = await client.run(leaving({"a.bin": "b'0123456789'"}))
        path = f"/intents/{intent['id']}/artifacts/a.bin"
        head = await client.call("HEAD", path, headers={"Range": "bytes=0-3"})
        assert (head.status, head.body, head.headers["Content-Length"]) == (200, b"", "10")
        assert head.headers["ETag"] == (await client.get(path)).headers["ETag"]
        url = f"{client.base}/api{path}x"
        async with client.session.head(url, headers={"X-API-Key": client.key or ""}) as missing:
            assert missing.status == 404


class Page(HTMLParser):
    """What a page holds: its tags with their attributes, and its text."""

    def __init__(self, raw: bytes) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(raw.decode())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


class TestThePage:
    async def test_it_shows_sentence_output_and_pictures(self, client: Client) -> None:
        body = leaving({"plots/may.png": repr(PIXEL), "data.csv": "b'1'"})
        body["text"] = "plot the totals of May"
        body["program"]["files"]["main.py"] += "\nprint('total', 42)"
        intent = await client.run(body)
        reply = await client.get(f"/intents/{intent['id']}/result")
        assert (reply.status, reply.headers["Content-Type"]) == (200, "text/html; charset=utf-8")
        page = Page(reply.body)
        for part in ("plot the totals of May", "succeeded", "total 42", "data.csv", intent["id"]):
            assert part in page.text
        [picture] = [attributes for tag, attributes in page.tags if tag == "img"]
        assert picture["alt"] == "plots/may.png"
        data = str(picture["src"]).removeprefix("data:image/png;base64,")
        assert base64.b64decode(data) == PIXEL

    async def test_nothing_on_it_runs_or_loads(self, client: Client) -> None:
        evil = '</pre><script>alert(1)</script><img src=//evil onerror=alert(1)>"'
        name = "\"><script>alert(1)<img src='x'>.png".replace("/", "")
        body = leaving({name: repr(PIXEL), "fake.png": "b'<script>1</script>'"})
        body["text"] = evil
        body["program"]["files"]["main.py"] += (
            f"\nimport sys\nprint({evil!r})\nprint({evil!r}, file=sys.stderr)\nsys.exit(3)"
        )
        intent = await client.run(body)
        assert intent["status"] == "failed"
        reply = await client.get(f"/intents/{intent['id']}/result")
        page = Page(reply.body)
        assert page.text.count(evil) >= 3
        assert {tag for tag, _ in page.tags} <= {
            *("html", "head", "meta", "title", "style", "body", "h1", "h2", "p", "pre"),
            *("figure", "figcaption", "img", "table", "tr", "td", "code"),
        }
        for tag, attributes in page.tags:
            assert not [each for each in attributes if each.startswith("on")]
            assert set(attributes) & {"src", "href"} == ({"src"} if tag == "img" else set())
            if tag == "img":
                assert str(attributes["src"]).startswith("data:image/png;base64,")
        policy = reply.headers["Content-Security-Policy"]
        assert policy.startswith("default-src 'none'; img-src data:; style-src 'sha256-")
        assert "script-src" not in policy
        assert policy.endswith("sandbox")
        [meta] = [a["content"] for t, a in page.tags if a.get("http-equiv")]
        assert unescape(str(meta)) in policy
        assert reply.headers["X-Content-Type-Options"] == "nosniff"

    async def test_it_is_there_before_the_end_and_for_nobody_else(
        self, client: Client, stack: RunningStack
    ) -> None:
        program = python("import time; time.sleep(60)", limits={"wall_seconds": 60})
        intent_id = (await client.submit(program)).body["id"]
        reply = await client.get(f"/intents/{intent_id}/result")
        assert reply.status == 200
        assert any(status in reply.body for status in (b"submitted", b"planned", b"running"))
        problem(await client.get(f"/intents/{intent_id}/result/stdout"), 409, "not-finished")
        other_tenant = await stack.new_tenant()
        for path in ("result", "result/stdout", "result/stderr"):
            problem(await other_tenant.get(f"/intents/{intent_id}/{path}"), 404, "not-found")
        await client.call("POST", f"/intents/{intent_id}/cancel")


async def test_what_was_printed_is_there_as_text(client: Client) -> None:
    code = "import sys; print('<b>1</b>\\r\\nü', end=''); print('oops', file=sys.stderr)"
    intent = await client.run(python(code))
    reply = await client.get(f"/intents/{intent['id']}/result/stdout")
    assert (reply.status, reply.body) == (200, "<b>1</b>\r\nü".encode())
    assert reply.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert reply.headers["X-Content-Type-Options"] == "nosniff"
    assert (await client.get(f"/intents/{intent['id']}/result/stderr")).body == b"oops\n"
    problem(await client.get(f"/intents/{intent['id']}/result/stdin"), 404, "not-found")
    program = python("print('x' * 100)", limits={"output_bytes": 10})
    cut = await client.run(program)
    reply = await client.get(f"/intents/{cut['id']}/result/stdout")
    assert (reply.body, reply.headers.get("X-Truncated")) == (b"x" * 10, "true")

"""HTTP triggers over a real socket answer as the real host answers."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from yarl import URL

from tests.support.functions_host import HostProcess, write_app

APP = """
import asyncio, json
import azure.functions as func

app = func.FunctionApp(http_auth_level=func.AuthLevel.ANONYMOUS)
finished = []
running = 0
most = 0

@app.route("echo/{id:int?}", methods=["GET", "POST"])
async def echo(req: func.HttpRequest, context: func.Context) -> func.HttpResponse:
    return func.HttpResponse(
        json.dumps({
            "method": req.method, "url": req.url, "params": dict(req.params),
            "route": dict(req.route_params), "headers": dict(req.headers),
            "body": req.get_body().decode("latin-1"),
            "trace": context.trace_context.trace_parent, "function": context.function_name,
        }),
        mimetype="application/json",
    )

@app.route("json", methods=["POST"])
def parse(req: func.HttpRequest) -> str:
    return json.dumps(req.get_json())

@app.route("raw/{*rest}")
def raw(req: func.HttpRequest) -> str:
    return req.route_params.get("rest", "-")

@app.route("default")
def default(req: func.HttpRequest) -> str:
    return "text"

@app.route("response")
def response(req: func.HttpRequest) -> func.HttpResponse:
    answer = func.HttpResponse(b"\\xff", status_code=418, mimetype="image/png",
                               headers={"X-One": "1"})
    answer.headers.add("Set-Cookie", "a=1; Path=/; HttpOnly")
    answer.headers.add("Set-Cookie", "b=2; SameSite=Lax")
    answer.headers.add("Content-Length", "5000")
    return answer

@app.route("charset")
def charset(req: func.HttpRequest) -> func.HttpResponse:
    return func.HttpResponse("\\u00e4", charset="latin-1")

@app.route("empty")
def empty(req: func.HttpRequest) -> func.HttpResponse:
    return func.HttpResponse(status_code=204)

@app.route("none")
def none(req: func.HttpRequest) -> func.HttpResponse:
    return None

@app.route("number")
def number(req: func.HttpRequest) -> func.HttpResponse:
    return 5

@app.route("status")
def status(req: func.HttpRequest) -> func.HttpResponse:
    return func.HttpResponse("x", status_code=int(req.params["code"]))

@app.route("broken")
async def broken(req: func.HttpRequest) -> func.HttpResponse:
    raise ValueError("secret detail")

@app.route("inject")
def inject(req: func.HttpRequest) -> func.HttpResponse:
    answer = func.HttpResponse("x")
    if req.params.get("raw"):
        answer.headers._list.append(("X-Header", req.params["value"]))
    else:
        answer.headers["X-Header"] = req.params["value"]
    return answer

@app.route("slow")
async def slow(req: func.HttpRequest) -> str:
    print("slow", req.params.get("n"), flush=True)
    await asyncio.sleep(0.3)
    finished.append(req.params.get("n"))
    return "slow"

@app.route("finished")
def told(req: func.HttpRequest) -> str:
    return json.dumps(finished)
"""


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HostProcess]:
    scratch = tmp_path_factory.mktemp("http")
    app = write_app(scratch / "an app, with späces", APP)
    settings = {"FUNCTIONS_REQUEST_BODY_SIZE_LIMIT": str(1024 * 1024)}
    process = HostProcess(app, settings, (), scratch)
    process.start()
    yield process
    process.kill()


@pytest.fixture(scope="module")
async def client(host: HostProcess) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(host.url) as session:
        yield session


async def fetch(
    client: aiohttp.ClientSession, path: str, method: str = "GET", **options: Any
) -> tuple[int, str]:
    url = URL(path, encoded=True)
    async with client.request(method, url, **options) as response:
        return response.status, await response.text()


async def exchange(host: HostProcess, request: bytes) -> bytes:
    """Send bytes as they are; return everything until the server closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", int(host.url.rpartition(":")[2]))
    writer.write(request)
    answer = await asyncio.wait_for(reader.read(), 60)
    writer.close()
    return answer


async def test_the_function_sees_the_request_as_the_worker_would_show_it(
    client: aiohttp.ClientSession, host: HostProcess
) -> None:
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    status, text = await fetch(
        client,
        "/api/echo/7?a=1&A=2&empty=&b=x%20y",
        "POST",
        data=b"\xff{}",
        headers=[("X-Twice", "1"), ("X-Twice", "2"), ("traceparent", trace)],
    )
    seen = json.loads(text)
    assert status == 200
    assert seen["method"] == "POST"
    assert seen["url"] == f"{host.url}/api/echo/7?a=1&A=2&empty=&b=x%20y"
    assert seen["params"] == {"a": "1,2", "b": "x y"}
    assert seen["route"] == {"id": "7"}
    assert seen["headers"]["x-twice"] == "1,2"
    assert seen["body"] == "\xff{}"
    assert seen["trace"] == trace
    assert seen["function"] == "echo"


@pytest.mark.parametrize(
    ("path", "method", "status"),
    [
        ("/api/echo", "GET", 200),
        ("/API/Echo/", "GET", 200),
        ("/api/echo/x", "GET", 404),
        ("/echo", "GET", 404),
        ("/api/nosuch", "GET", 404),
        ("/api/echo", "DELETE", 404),  # azure-functions-host#10098
        ("/api/echo", "PROPFIND", 404),
        ("/api/echo", "BREW", 400),  # refused by the parser
        ("/api/echo", "HEAD", 200),
        ("/api/json", "HEAD", 405),
        ("/api/default", "PATCH", 200),  # no methods: all
        ("/api/a%00b", "GET", 400),
        ("/api/echo/" + "9" * 5000, "GET", 404),
    ],
)
async def test_what_is_not_a_route_is_404(
    client: aiohttp.ClientSession, path: str, method: str, status: int
) -> None:
    assert (await fetch(client, path, method))[0] == status


@pytest.mark.parametrize("path", ["/api/default/a%00b", "/api/a%ffb", "/a%00b"])
async def test_a_path_that_is_no_text_is_refused_without_a_body(
    client: aiohttp.ClientSession, path: str
) -> None:
    """As Kestrel does, before any function."""
    async with client.get(URL(path, encoded=True)) as response:
        assert (response.status, await response.read()) == (400, b"")


async def test_head_has_the_headers_of_get_and_no_body(host: HostProcess) -> None:
    answer = await exchange(
        host, b"HEAD /api/default HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    )
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"200 OK" in head
    assert b"Content-Length: 4" in head
    assert body == b""


@pytest.mark.parametrize(
    ("path", "seen"),
    [
        ("/api/raw/a%20b/c", "a b/c"),
        ("/api/raw/a%2Fb", "a%2Fb"),
        ("/api/raw/%C3%A4%252e", "ä%2e"),
        ("/api/raw", "-"),
        ("/api/raw/x/../../raw/y", "y"),
        ("/api/raw/;a=1", ";a=1"),
    ],
)
async def test_paths_are_decoded_once(host: HostProcess, path: str, seen: str) -> None:
    request = f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    assert (await exchange(host, request.encode())).endswith(b"\r\n\r\n" + seen.encode())


async def test_an_absolute_request_target_is_accepted(host: HostProcess) -> None:
    request = (
        b"GET http://proxy.example/api/default HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    )
    assert (await exchange(host, request)).endswith(b"text")


async def test_a_string_is_text_plain(client: aiohttp.ClientSession) -> None:
    async with client.get("/api/default") as response:
        assert (response.status, await response.text()) == (200, "text")
        assert response.headers["Content-Type"] == "text/plain; charset=utf-8"


async def test_status_body_cookies_and_type_of_a_response(client: aiohttp.ClientSession) -> None:
    async with client.get("/api/response") as response:
        assert response.status == 418
        assert await response.read() == b"\xff"  # and not the function's own Content-Length
        assert response.headers["Content-Type"] == "image/png"
        assert response.headers["X-One"] == "1"
        cookies = response.headers.getall("Set-Cookie")
        assert cookies == ["a=1; HttpOnly; Path=/", "b=2; SameSite=Lax"]
    async with client.get("/api/charset") as response:
        assert await response.read() == b"\xe4"
        assert response.headers["Content-Type"] == "text/plain; charset=latin-1"


async def test_no_content_has_no_body(client: aiohttp.ClientSession) -> None:
    assert await fetch(client, "/api/empty") == (204, "")


@pytest.mark.parametrize("path", ["/api/none", "/api/number", "/api/status?code=100"])
async def test_anything_else_than_a_response_is_an_empty_500(
    client: aiohttp.ClientSession, path: str
) -> None:
    assert await fetch(client, path) == (500, "")


async def test_an_exception_is_an_empty_500_and_in_the_log(
    client: aiohttp.ClientSession, host: HostProcess
) -> None:
    assert await fetch(client, "/api/broken") == (500, "")
    host.wait_for_log("ValueError: secret detail")


async def test_bad_json_is_the_functions_business(client: aiohttp.ClientSession) -> None:
    assert await fetch(client, "/api/json", "POST", data=b'{"a": 1}') == (200, '{"a": 1}')
    assert await fetch(client, "/api/json", "POST", data=b"{") == (500, "")


@pytest.mark.parametrize("how", ["", "&raw=1"])
async def test_a_header_cannot_be_injected(client: aiohttp.ClientSession, how: str) -> None:
    path = f"/api/inject?value=a%0d%0aX-Evil:%201{how}"
    async with client.get(URL(path, encoded=True)) as response:
        assert response.status == 500
        assert "X-Evil" not in response.headers


async def test_a_body_over_the_limit_is_413(
    client: aiohttp.ClientSession, host: HostProcess
) -> None:
    body = b"x" * (1024 * 1024)
    assert (await fetch(client, "/api/json", "POST", data=b'"' + body[:-2] + b'"'))[0] == 200
    answer = await exchange(
        host, b"POST /api/json HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n"
    )
    assert answer.startswith(b"HTTP/1.1 413 ")

    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(3):
            yield body

    try:
        status, _ = await fetch(client, "/api/json", "POST", data=chunks())
    except aiohttp.ClientConnectionError:  # it was told 413 and cut off while it still sent
        return
    assert status == 413


async def test_a_body_without_a_length_does_not_reach_the_function(
    client: aiohttp.ClientSession, host: HostProcess
) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        yield b"hello"

    _, text = await fetch(client, "/api/echo", "POST", data=chunks())
    assert json.loads(text)["body"] == ""
    host.wait_for_log("without Content-Length")


async def test_a_client_may_ask_before_it_sends_the_body(client: aiohttp.ClientSession) -> None:
    answer = await asyncio.wait_for(
        fetch(client, "/api/json", "POST", data=b"1", expect100=True), 30
    )
    assert answer == (200, "1")


async def test_a_compressed_body_is_passed_on_as_it_is(client: aiohttp.ClientSession) -> None:
    headers = {"Content-Encoding": "gzip"}
    _, text = await fetch(client, "/api/echo", "POST", data=b"not gzip", headers=headers)
    assert json.loads(text)["body"] == "not gzip"


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"GET /api/echo HTTP/1.1\r\nHost: x\r\nX-Bad: \xff\xfe\r\nConnection: close\r\n\r\n",
        b"GET /api/echo?" + b"a=1&" * 2000 + b" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        b"GET /api/echo HTTP/9.9\r\n\r\n",
        b"POST /api/echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n"
        b"Connection: close\r\n\r\nZZ\r\n",
        b"\x00\x01\x02\r\n\r\n",
        b"GET /api/echo HTTP/1.1\r\nHost: x\r\n" + b"X: " + b"y" * 70000 + b"\r\n\r\n",
    ],
)
async def test_malformed_requests_are_400_and_the_host_goes_on(
    host: HostProcess, client: aiohttp.ClientSession, request_bytes: bytes
) -> None:
    answer = await exchange(host, request_bytes)
    assert answer.startswith((b"HTTP/1.1 400 ", b"HTTP/1.0 400 "))
    assert b"Traceback" not in answer
    assert (await fetch(client, "/api/default"))[0] == 200


async def test_a_client_that_leaves_does_not_stop_the_function(
    client: aiohttp.ClientSession, host: HostProcess
) -> None:
    with socket.create_connection(("127.0.0.1", int(host.url.rpartition(":")[2]))) as connection:
        connection.sendall(b"GET /api/slow?n=left HTTP/1.1\r\nHost: x\r\n\r\n")
        await asyncio.to_thread(host.wait_for_output, "slow left")
    async with asyncio.timeout(30):
        while "left" not in json.loads((await fetch(client, "/api/finished"))[1]):
            await asyncio.sleep(0.05)


async def test_pipelined_requests_are_answered_in_order(host: HostProcess) -> None:
    one = b"GET /api/raw/%d HTTP/1.1\r\nHost: x\r\n\r\n"
    last = b"GET /api/raw/3 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    answer = await exchange(host, one % 1 + one % 2 + last)
    bodies = [part.partition(b"\r\n\r\n")[2] for part in answer.split(b"HTTP/1.1 200 OK")[1:]]
    assert bodies == [b"1", b"2", b"3"]


async def test_the_root_is_a_page(client: aiohttp.ClientSession) -> None:
    status, text = await fetch(client, "/")
    assert status == 200
    assert "running" in text
    assert (await fetch(client, "/", "POST"))[0] == 404


async def test_limits_of_host_json_give_429_and_queue(tmp_path: Path) -> None:
    options = {"maxOutstandingRequests": 3, "maxConcurrentRequests": 1}
    app = write_app(
        tmp_path / "app",
        """
        import asyncio
        import azure.functions as func
        app = func.FunctionApp(http_auth_level=func.AuthLevel.ANONYMOUS)
        running = most = 0

        @app.route("slow")
        async def slow(req: func.HttpRequest) -> str:
            global running, most
            running += 1
            most = max(most, running)
            await asyncio.sleep(2)
            running -= 1
            return str(most)
        """,
        {"extensions": {"http": options}, "functionTimeout": "00:01:00"},
    )
    process = HostProcess(app, {}, (), tmp_path)
    process.start()
    try:
        async with aiohttp.ClientSession(process.url) as session:
            answers = await asyncio.gather(*(fetch(session, "/api/slow") for _ in range(5)))
    finally:
        process.kill()
    assert sorted(answers) == [(200, "1")] * 3 + [(429, "")] * 2

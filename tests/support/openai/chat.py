"""A server that speaks chat completions of the OpenAI API, for tests: real HTTP, scripted answers.

It checks requests as the service does (key, model, the rules of strict schemas), records them, and
answers streamed and whole, with whatever faults a test asks for. Nothing scripted is an error, so
that no call goes by unnoticed.
"""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from aiohttp import web

from tests.support.openai.rules import what_is_wrong

MODEL = "gpt-test"


@dataclass(frozen=True)
class Asked:
    """A request that was accepted."""

    body: dict[str, Any]
    headers: dict[str, str]

    @property
    def system(self) -> str:
        """What the model is told to do."""
        return str(self.body["messages"][0]["content"])

    @property
    def data(self) -> dict[str, Any]:
        """What it is told about the case: the first user message, which is JSON."""
        data: dict[str, Any] = json.loads(self.body["messages"][1]["content"])
        return data

    @property
    def schema(self) -> str:
        """Name of the schema of the answer, which says what the call is for."""
        return str(self.body["response_format"]["json_schema"]["name"])


@dataclass(frozen=True)
class Reply:
    """What the server does with one request.

    Attributes:
        content: of the message; what is not a string is sent as JSON.
        status: other than 200: an error of the API, with ``error`` as its body.
        seconds: to wait before the first byte.
        stall: to wait in the middle of the answer, seconds.
        cut: close the connection after this many characters of the content; 0 before any byte.
        usage: in place of the honest one; None leaves it out.
        raw: sent as the body in place of anything else, as `content_type`.
    """

    content: Any = ""
    refusal: str | None = None
    finish_reason: str = "stop"
    usage: Any = field(default_factory=lambda: {"prompt_tokens": 900, "completion_tokens": 100})
    status: int = 200
    error: Any = None
    headers: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0
    stall: float = 0.0
    cut: int | None = None
    raw: bytes | None = None
    content_type: str = "application/json"

    @property
    def text(self) -> str:
        return self.content if isinstance(self.content, str) else json.dumps(self.content)


def fault(
    status: int, message: str = "it happens", code: str | None = None, **headers: str
) -> Reply:
    """An error of the API; ``headers`` with ``_`` for ``-``."""
    body = {"error": {"message": message, "type": "error", "param": None, "code": code}}
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Reply(status=status, error=body, headers=named)


def program(code: str, **of_step: Any) -> dict[str, Any]:
    """An answer to ``plan``: one step in Python."""
    return {
        "explanation": "It does it.",
        "steps": [step(code, **of_step)],
        "expected_artifacts": [],
    }


def step(code: str, name: str = "main", needs: tuple[str, ...] = (), **more: Any) -> dict[str, Any]:
    """A step of an answer to ``plan``, in Python."""
    files = [{"path": "main.py", "content": code}]
    described = {"name": name, "language": "python", "files": files, "entrypoint": "main.py"}
    return {**described, "args": [], "stdin": None, "needs": list(needs), **more}


def repaired(code: str) -> dict[str, Any]:
    """An answer to ``repair``."""
    files = [{"path": "main.py", "content": code}]
    described = {"language": "python", "files": files, "entrypoint": "main.py"}
    return {"explanation": "Mended.", **described, "args": [], "stdin": None}


class OpenAIServer:
    """Answers with what `replies` holds, in order, else with what `respond` says.

    Attributes:
        url: the base URL to configure, with ``/v1``; the same paths lie below ``/openai/v1``.
        asked: the requests that were accepted, in order.
        refused: why others were not.
    """

    def __init__(self, key: str = "test-key", model: str = MODEL) -> None:
        self.key = key
        self.model = model
        self.url = ""
        self.replies: deque[Reply] = deque()
        self.respond: Callable[[Asked], Reply] | None = None
        self.asked: list[Asked] = []
        self.refused: list[str] = []
        self.forbidden: frozenset[str] = frozenset()
        self.arrived = asyncio.Event()
        application = web.Application(client_max_size=16 * 1024**2)
        for prefix in ("/v1", "/openai/v1"):
            application.router.add_post(f"{prefix}/chat/completions", self._complete)
            application.router.add_get(f"{prefix}/models/{{name}}", self._model)
        self.application = application
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)

    async def start(self, port: int = 0) -> None:
        """Serve on 127.0.0.1."""
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", port).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}/v1"

    async def aclose(self) -> None:
        """Stop serving; connections are cut."""
        await self._runner.cleanup()

    def script(self, *replies: Reply | dict[str, Any] | str) -> None:
        """Answer the next requests like this; what is no `Reply` is the content of one."""
        self.replies += [each if isinstance(each, Reply) else Reply(each) for each in replies]

    def forbid(self, *parameters: str) -> None:
        """Refuse requests with any of these, as Mistral does, which names each."""
        self.forbidden = frozenset(parameters)

    def environment(self) -> dict[str, str]:
        """The settings of an application that asks here."""
        return {
            "OPENAI_BASE_URL": self.url,
            "OPENAI_API_KEY": self.key,
            "QLP_LLM_MODEL": self.model,
        }

    async def _model(self, request: web.Request) -> web.Response:
        if problem := self._unauthorized(request):
            return problem
        if request.match_info["name"] != self.model:
            return self._refuse(404, "The model does not exist", "model_not_found")
        return web.json_response({"id": self.model, "object": "model", "owned_by": "tests"})

    async def _complete(self, request: web.Request) -> web.StreamResponse:
        if problem := self._unauthorized(request):
            return problem
        body = await request.json()
        if body.get("model") != self.model:
            message = f"The model `{body.get('model')}` does not exist"
            return self._refuse(404, message, "model_not_found")
        if problem := self._wrong(body):
            return problem
        asked = Asked(body, dict(request.headers))
        self.asked.append(asked)
        self.arrived.set()
        if self.replies:
            reply = self.replies.popleft()
        elif self.respond is not None:
            reply = self.respond(asked)
        else:
            return self._refuse(400, "the test has scripted no answer", "not_scripted")
        await asyncio.sleep(reply.seconds)
        if reply.cut == 0 and request.transport is not None:
            request.transport.abort()
        if reply.raw is not None:
            return web.Response(body=reply.raw, content_type=reply.content_type)
        if reply.status != 200:
            return web.json_response(reply.error, status=reply.status, headers=reply.headers)
        if body.get("stream"):
            return await _stream(request, reply, body)
        return await _whole(request, reply, self.model)

    def _wrong(self, body: dict[str, Any]) -> web.Response | None:
        if extra := sorted(self.forbidden & body.keys()):
            return self._refuse(422, f"Extra inputs are not permitted: {extra[0]}", "extra")
        what = what_is_wrong(body)
        return self._refuse(400, what, "invalid_request") if what else None

    def _unauthorized(self, request: web.Request) -> web.Response | None:
        given = request.headers.get("Authorization"), request.headers.get("api-key")
        if given[0] == f"Bearer {self.key}" or given[1] == self.key:
            return None
        return self._refuse(401, "Incorrect API key provided", "invalid_api_key")

    def _refuse(self, status: int, message: str, code: str) -> web.Response:
        self.refused.append(message)
        reply = fault(status, message, code)
        return web.json_response(reply.error, status=status)


def _choice(content: dict[str, Any], finish_reason: str | None, part: str) -> dict[str, Any]:
    return {"index": 0, part: content, "finish_reason": finish_reason, "logprobs": None}


def _object(kind: str, model: str, choices: list[Any], usage: Any) -> dict[str, Any]:
    head = {"id": "chatcmpl-1", "object": kind, "created": 1_700_000_000, "model": model}
    return {**head, "choices": choices, "usage": usage}


async def _whole(request: web.Request, reply: Reply, model: str) -> web.StreamResponse:
    message = {
        "role": "assistant",
        "content": None if reply.refusal else reply.text,
        "refusal": reply.refusal,
    }
    choices = [_choice(message, reply.finish_reason, "message")]
    body = json.dumps(_object("chat.completion", model, choices, reply.usage)).encode()
    response = web.StreamResponse(headers={"Content-Type": "application/json"})
    response.content_length = len(body)
    await response.prepare(request)
    cut = reply.cut if reply.cut is not None else len(body)
    try:
        await response.write(body[: min(cut, len(body) // 2)])
        await asyncio.sleep(reply.stall)
        if reply.cut is not None and request.transport is not None:
            request.transport.abort()
            return response
        await response.write(body[len(body) // 2 :])
        await response.write_eof()
    except ConnectionResetError:
        pass  # the client has had enough
    return response


async def _stream(request: web.Request, reply: Reply, body: dict[str, Any]) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await response.prepare(request)
    include_usage = bool((body.get("stream_options") or {}).get("include_usage"))
    sent = 0
    try:
        for chunk, characters in _chunks(reply, body["model"], include_usage):
            if reply.cut is not None and sent >= reply.cut and request.transport is not None:
                request.transport.abort()
                return response
            await response.write(b"data: " + json.dumps(chunk).encode() + b"\n\n")
            if sent == 0 and characters:
                await asyncio.sleep(reply.stall)
            sent += characters
        await response.write(b"data: [DONE]\n\n")
        await response.write_eof()
    except ConnectionResetError:
        pass  # the client has had enough
    return response


def _chunks(reply: Reply, model: str, include_usage: bool) -> list[tuple[dict[str, Any], int]]:
    def of(delta: dict[str, Any], finish_reason: str | None = None) -> dict[str, Any]:
        choices = [_choice(delta, finish_reason, "delta")]
        return _object("chat.completion.chunk", model, choices, None)

    chunks: list[tuple[dict[str, Any], int]] = [(of({"role": "assistant", "content": ""}), 0)]
    part, text = ("refusal", reply.refusal) if reply.refusal else ("content", reply.text)
    width = max(16, len(text) // 500)
    for start in range(0, len(text), width):
        piece = text[start : start + width]
        chunks.append((of({part: piece}), len(piece)))
    chunks.append((of({}, reply.finish_reason), 0))
    if include_usage and reply.usage is not None:
        chunks.append((_object("chat.completion.chunk", model, [], reply.usage), 0))
    return chunks


@pytest.fixture
async def openai_server() -> AsyncIterator[OpenAIServer]:
    """A server of the test's own."""
    server = OpenAIServer()
    await server.start()
    yield server
    await server.aclose()

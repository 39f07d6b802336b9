"""The embedder of a provider, against a real HTTP server that speaks the embeddings API."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable
from email.utils import formatdate
from typing import Any

import pytest
from aiohttp import web
from openai import AsyncOpenAI

from domain.models.client import open_client
from domain.models.settings import ModelSettings
from domain.similarity import embedder_registry, openai_embedder
from domain.similarity.embedder import DIMENSIONS, EmbeddingUnavailable
from domain.similarity.embedder_registry import EmbedderRegistry
from domain.similarity.openai_embedder import (
    MAX_REQUEST_BYTES,
    MAX_REQUEST_TEXTS,
    MAX_TEXT_TOKENS,
    OpenAiEmbedder,
)
from tests.support.openai.embeddings import EmbeddingsServer, error_body, vector_of

SECRET = "the quarterly figures of Frobozz"


def embedder(
    server: EmbeddingsServer,
    name: str = "text-embedding-ada-002",
    dimensions: int | None = None,
    budget: float = 60.0,
) -> OpenAiEmbedder:
    client = AsyncOpenAI(api_key="sk-test", base_url=server.url, max_retries=0)
    return OpenAiEmbedder(client, name, name, dimensions, budget)


def cosine(one: list[float], other: list[float]) -> float:
    dot = math.fsum(a * b for a, b in zip(one, other, strict=True))
    return dot / math.hypot(*one) / math.hypot(*other)


@pytest.mark.parametrize("packed", [True, False])
async def test_vectors_come_in_the_order_of_the_texts(
    embeddings_server: EmbeddingsServer, packed: bool
) -> None:
    embeddings_server.base64 = packed
    embeddings_server.change = lambda answer: {**answer, "data": answer["data"][::-1]}
    asked = embedder(embeddings_server)
    vectors = await asked.embed(["one apple", "two pears", "three figs"])
    for text, vector in zip(["one apple", "two pears", "three figs"], vectors, strict=True):
        assert vector == pytest.approx(vector_of(text, DIMENSIONS), abs=1e-6)
    assert asked.tokens == 6
    [request] = embeddings_server.requests
    assert request["model"] == "text-embedding-ada-002"
    assert "dimensions" not in request
    assert embeddings_server.keys == ["Bearer sk-test"]


async def test_shorter_vectors_are_filled_up_and_keep_their_cosines(
    embeddings_server: EmbeddingsServer,
) -> None:
    asked = embedder(embeddings_server, "text-embedding-3-large", 256)
    one, other = await asked.embed(["sort the list", "sort a list"])
    assert len(one) == DIMENSIONS
    assert one[256:] == [0.0] * (DIMENSIONS - 256)
    short = cosine(vector_of("sort the list", 256), vector_of("sort a list", 256))
    assert cosine(one, other) == pytest.approx(short, abs=1e-6)
    assert embeddings_server.requests[0]["dimensions"] == 256


async def test_vectors_that_do_not_fit_are_refused_with_the_fix(
    embeddings_server: EmbeddingsServer,
) -> None:
    embeddings_server.native["text-embedding-3-large"] = 3072
    with pytest.raises(EmbeddingUnavailable, match=r"3072 dimensions.*--dimensions 1536") as raised:
        await embedder(embeddings_server, "text-embedding-3-large").embed(["a"])
    assert raised.value.kind == "settings"


async def test_many_texts_go_in_several_requests(embeddings_server: EmbeddingsServer) -> None:
    texts = [f"text {number}" for number in range(MAX_REQUEST_TEXTS + 3)]
    vectors = await embedder(embeddings_server, "m", 8, budget=60).embed(texts)
    assert [len(body["input"]) for body in embeddings_server.requests] == [MAX_REQUEST_TEXTS, 3]
    assert vectors[-1][:8] == pytest.approx(vector_of(texts[-1], 8), abs=1e-6)


async def test_requests_are_bounded_by_their_size(embeddings_server: EmbeddingsServer) -> None:
    texts = [f"{number} " + "x" * 8_000 for number in range(40)]
    await embedder(embeddings_server, "m", 8, budget=60).embed(texts)
    sizes = [
        sum(len(text.encode()) for text in body["input"]) for body in embeddings_server.requests
    ]
    assert len(sizes) == 2
    assert max(sizes) <= MAX_REQUEST_BYTES


async def test_a_text_longer_than_the_model_takes_is_cut_between_characters_and_averaged(
    embeddings_server: EmbeddingsServer,
) -> None:
    text = "äöü€ " * 2_000
    [vector] = await embedder(embeddings_server, "m", 8).embed([text])
    assert math.hypot(*vector) == pytest.approx(1.0, abs=1e-5)
    assert "".join(embeddings_server.texts) == text
    assert len(embeddings_server.texts) == 3
    assert max(len(piece.encode()) for piece in embeddings_server.texts) <= MAX_TEXT_TOKENS


@pytest.mark.parametrize("text", ["", " \n"])
async def test_a_text_without_words_is_refused_before_it_is_sent(
    embeddings_server: EmbeddingsServer, text: str
) -> None:
    with pytest.raises(ValueError, match="no words"):
        await embedder(embeddings_server).embed([text])
    assert embeddings_server.requests == []


def failing(times: int, answer: Callable[[], web.Response]) -> Callable[[int, dict[str, Any]], Any]:
    async def trouble(number: int, _body: dict[str, Any]) -> web.Response | None:
        return answer() if number <= times else None

    return trouble


@pytest.mark.parametrize("status", [408, 409, 429, 500, 502, 503])
async def test_passing_failures_are_repeated(
    embeddings_server: EmbeddingsServer, status: int
) -> None:
    embeddings_server.trouble = failing(
        2, lambda: web.json_response(error_body(None), status=status)
    )
    [vector] = await embedder(embeddings_server).embed(["sort a list"])
    assert vector == pytest.approx(vector_of("sort a list", DIMENSIONS), abs=1e-6)
    assert len(embeddings_server.requests) == 3


@pytest.mark.parametrize(
    "value", [lambda: "1", lambda: "0.9", lambda: formatdate(time.time() + 2, usegmt=True)]
)
async def test_retry_after_is_kept_to(
    embeddings_server: EmbeddingsServer, value: Callable[[], str]
) -> None:
    embeddings_server.trouble = failing(
        1,
        lambda: web.json_response(
            error_body("rate_limit_exceeded"), status=429, headers={"Retry-After": value()}
        ),
    )
    started = time.monotonic()
    await embedder(embeddings_server).embed(["sort a list"])
    assert time.monotonic() - started >= 0.85


async def test_a_wait_beyond_the_budget_is_not_begun(embeddings_server: EmbeddingsServer) -> None:
    embeddings_server.trouble = failing(
        9, lambda: web.json_response(error_body(None), status=429, headers={"Retry-After": "60"})
    )
    started = time.monotonic()
    with pytest.raises(EmbeddingUnavailable, match="answers 429") as raised:
        await embedder(embeddings_server, budget=5.0).embed(["a"])
    assert (raised.value.kind, raised.value.retry_after) == ("outage", 60.0)
    assert time.monotonic() - started < 30
    assert len(embeddings_server.requests) == 1


async def test_an_answer_that_does_not_come_ends_with_the_budget(
    embeddings_server: EmbeddingsServer,
) -> None:
    async def hang(_number: int, _body: dict[str, Any]) -> None:
        await asyncio.sleep(30)

    embeddings_server.trouble = hang
    started = time.monotonic()
    with pytest.raises(EmbeddingUnavailable, match="no answer in time"):
        await embedder(embeddings_server, budget=0.5).embed(["a"])
    assert time.monotonic() - started < 25


async def test_a_connection_that_breaks_off_is_repeated(
    embeddings_server: EmbeddingsServer,
) -> None:
    async def drop(request: web.Request) -> web.StreamResponse:
        if len(embeddings_server.requests) < 2:
            embeddings_server.requests.append(await request.json())
            assert request.transport is not None
            request.transport.abort()
        return await EmbeddingsServer.embeddings(embeddings_server, request)

    await embeddings_server.stop()
    embeddings_server.embeddings = drop  # type: ignore[method-assign]
    await embeddings_server.start()
    [vector] = await embedder(embeddings_server).embed(["sort a list"])
    assert len(vector) == DIMENSIONS
    assert len(embeddings_server.requests) == 3


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (401, "invalid_api_key", "settings"),
        (403, None, "settings"),
        (404, "model_not_found", "settings"),
        (429, "insufficient_quota", "settings"),
    ],
)
async def test_lasting_failures_are_not_repeated_and_never_show_the_text(
    embeddings_server: EmbeddingsServer, status: int, code: str | None, kind: str
) -> None:
    embeddings_server.trouble = failing(
        9, lambda: web.json_response(error_body(code, f"cannot embed {SECRET!r}"), status=status)
    )
    with pytest.raises(EmbeddingUnavailable, match=f"answers {status}") as raised:
        await embedder(embeddings_server).embed([SECRET])
    assert raised.value.kind == kind
    assert SECRET not in str(raised.value)
    assert len(embeddings_server.requests) == 1


def changed(**changes: Any) -> Callable[[dict[str, Any]], Any]:
    return lambda answer: {**answer, **changes}


def with_vector(vector: Any) -> Callable[[dict[str, Any]], Any]:
    return lambda answer: {
        **answer,
        "data": [{**answer["data"][0], "embedding": vector}, *answer["data"][1:]],
    }


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (changed(data=[]), "0 vectors for 2 texts"),
        (lambda answer: {**answer, "data": answer["data"] * 2}, "4 vectors for 2 texts"),
        (lambda answer: {**answer, "data": [answer["data"][0]] * 2}, "not an answer"),
        (lambda answer: {**answer, "data": [*answer["data"][:1], {}]}, "not an answer"),
        (with_vector([True] * DIMENSIONS), "not an answer"),
        (with_vector(["0.5"] * DIMENSIONS), "not an answer"),
        (changed(data=None), "not an answer"),
        (changed(data=[{"index": "x"}] * 2), "not an answer"),
        (lambda _answer: ["nonsense"], "not an answer"),
        (lambda _answer: None, "not an answer"),
        (with_vector([0.0] * DIMENSIONS), "zero"),
        (with_vector([1.0] * (DIMENSIONS - 1)), "1535 and 1536 dimensions"),
        (with_vector([]), "empty"),
        (with_vector("***"), "not an answer|empty"),
        (with_vector("QUI="), "not an answer|empty"),
        (with_vector([None] * DIMENSIONS), "not an answer|empty"),
        (with_vector("AADAfw==" * 1), "dimensions|zero|finite"),
        (with_vector([1e999] * DIMENSIONS), "not an answer|finite"),
        (with_vector({"a": 1}), "not an answer|empty"),
    ],
)
async def test_what_comes_back_is_checked(
    embeddings_server: EmbeddingsServer, change: Callable[[dict[str, Any]], Any], reason: str
) -> None:
    embeddings_server.change = change
    with pytest.raises(EmbeddingUnavailable, match=f"unusable: .*({reason})") as raised:
        await embedder(embeddings_server).embed([SECRET, "another"])
    assert SECRET not in str(raised.value)


@pytest.mark.parametrize(
    "odd",
    [[], [0.0] * DIMENSIONS, [1e999] * DIMENSIONS, [0.5] * 3],
    ids=["empty", "zero", "infinite", "short"],
)
async def test_an_odd_first_vector_does_not_spoil_those_that_follow(
    embeddings_server: EmbeddingsServer, odd: list[float]
) -> None:
    asked = embedder(embeddings_server)
    embeddings_server.change = with_vector(odd)
    if len(odd) == 3:
        await asked.embed(["a"])  # it could be how the model answers
    else:
        with pytest.raises(EmbeddingUnavailable, match="unusable"):
            await asked.embed(["a"])
    embeddings_server.change = lambda answer: answer
    if len(odd) == 3:
        with pytest.raises(EmbeddingUnavailable, match="1536 dimensions, expected 3"):
            await asked.embed(["a"])
    [vector] = await asked.embed(["a"])
    assert sum(map(bool, vector)) > 1000


@pytest.mark.parametrize(
    "odd",
    [[0.0] * DIMENSIONS, [], None, [None] * DIMENSIONS, "***", [1e300] * DIMENSIONS, [0.5] * 3],
    ids=["zero", "empty", "null", "nulls", "no base64", "beyond single precision", "short"],
)
async def test_a_vector_that_one_text_has_not_is_no_fault_of_the_others(
    embeddings_server: EmbeddingsServer, odd: Any
) -> None:
    asked = embedder(embeddings_server)
    await asked.embed(["a"])
    embeddings_server.change = with_vector(odd)
    with pytest.raises(EmbeddingUnavailable, match=r"a vector (that is|of other)") as raised:
        await asked.embed(["odd", "good"])
    assert raised.value.kind == "text"


async def test_numbers_that_are_none_are_read_as_servers_in_python_write_them(
    embeddings_server: EmbeddingsServer,
) -> None:
    asked = embedder(embeddings_server, "m", 2)
    await asked.embed(["a"])
    body = b'{"data": [{"index": 0, "embedding": [NaN, 1]}, {"index": 1, "embedding": [1, 1]}]}'

    async def python(_number: int, _asked: dict[str, Any]) -> web.Response:
        return web.Response(body=body, content_type="application/json")

    embeddings_server.trouble = python
    with pytest.raises(EmbeddingUnavailable, match="finite") as raised:
        await asked.embed(["odd", "good"])
    assert raised.value.kind == "text"


async def test_a_text_at_which_the_server_breaks_is_no_outage_for_others(
    embeddings_server: EmbeddingsServer,
) -> None:
    said = {"error": {"message": "failed to encode response: json: unsupported value: NaN"}}
    embeddings_server.trouble = refusing(words="odd", status=500, body=said)
    client = AsyncOpenAI(api_key="sk-test", base_url=embeddings_server.url, max_retries=0)
    asked = EmbedderRegistry(client, budget_seconds=1.0).of("m")
    with pytest.raises(EmbeddingUnavailable, match="answers 500") as raised:
        await asked.embed(["odd"])
    assert raised.value.kind == "text"
    assert len(await asked.embed(["good"])) == 1

    embeddings_server.trouble = failing(10**6, lambda: web.json_response(said, status=500))
    with pytest.raises(EmbeddingUnavailable, match="answers 500") as raised:
        await asked.embed(["good"])
    assert raised.value.kind == "outage"


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        ({"error": {"message": "loading", "code": 503}}, "outage"),
        ({"error": "Unexpected endpoint or method"}, "outage"),
        ({"object": "error", "message": f"{SECRET} is too long", "code": 400}, "text"),
        ([{"error": {"code": 403, "message": "not for you"}}], "settings"),
        ({"data": None, "error": {"message": "no credits", "code": 402}}, "settings"),
    ],
)
async def test_an_error_with_200_is_what_its_code_says(
    embeddings_server: EmbeddingsServer, body: Any, kind: str
) -> None:
    await embedder(embeddings_server).embed(["a"])  # the first call imports the SDK
    asked = embedder(embeddings_server, budget=2)
    await asked.embed(["a"])
    embeddings_server.change = lambda _answer: body
    with pytest.raises(EmbeddingUnavailable, match="200") as raised:
        await asked.embed([SECRET])
    assert raised.value.kind == kind
    assert SECRET not in str(raised.value)


async def test_a_server_that_is_not_started_for_vectors_is_for_the_operator_to_correct(
    embeddings_server: EmbeddingsServer,
) -> None:
    embeddings_server.trouble = failing(9, lambda: web.json_response({}, status=501))
    with pytest.raises(EmbeddingUnavailable, match="answers 501") as raised:
        await embedder(embeddings_server).embed(["a"])
    assert (raised.value.kind, len(embeddings_server.requests)) == ("settings", 1)


def _numbered(answer: dict[str, Any], indexes: list[int | None]) -> dict[str, Any]:
    for item, index in zip(answer["data"], indexes, strict=True):
        item["index"] = index
    return answer


@pytest.mark.parametrize("indexes", [[None, 1, 2], [1, 2, 3]], ids=["Gemini", "from one"])
async def test_indexes_are_understood_as_they_are_counted(
    embeddings_server: EmbeddingsServer, indexes: list[int | None]
) -> None:
    texts = ["one", "two", "three"]
    expected = await embedder(embeddings_server).embed(texts)
    embeddings_server.change = lambda answer: _numbered(answer, indexes)
    assert await embedder(embeddings_server).embed(texts) == expected


async def test_a_vector_in_a_list_of_its_own_is_taken(embeddings_server: EmbeddingsServer) -> None:
    embeddings_server.base64 = False
    expected = await embedder(embeddings_server, "m", 8).embed(["one"])
    embeddings_server.change = with_vector([expected[0][:8]])
    assert await embedder(embeddings_server, "m", 8).embed(["one"]) == expected


@pytest.mark.parametrize("index", [None, "left out"])
async def test_items_without_an_index_are_in_the_order_of_the_texts(
    embeddings_server: EmbeddingsServer, index: str | None
) -> None:
    def without(answer: dict[str, Any]) -> dict[str, Any]:
        for item in answer["data"]:
            del item["index"]
            if index is None:
                item["index"] = None
        return answer

    expected = await embedder(embeddings_server).embed(["one", "two"])
    embeddings_server.change = without
    assert await embedder(embeddings_server).embed(["one", "two"]) == expected


def refusing(
    *, words: str = "", parameter: str = "", status: int = 400, body: Any = None
) -> Callable[[int, dict[str, Any]], Awaitable[web.Response | None]]:
    """Refuses texts with these words in them, or that are asked for with this parameter."""

    async def trouble(_number: int, asked: dict[str, Any]) -> web.Response | None:
        if parameter in asked or (words and any(words in text for text in asked["input"])):
            return web.json_response(body or error_body(None, f"not {SECRET}"), status=status)
        return None

    return trouble


@pytest.mark.parametrize("status", [400, 413, 422])
async def test_a_refused_text_is_told_from_refused_settings_by_another_text(
    embeddings_server: EmbeddingsServer, status: int
) -> None:
    asked = embedder(embeddings_server)
    embeddings_server.trouble = refusing(words=SECRET, status=status)
    with pytest.raises(EmbeddingUnavailable, match=f"answers {status}") as raised:
        await asked.embed([SECRET])
    assert raised.value.kind == "text"
    assert SECRET not in str(raised.value)
    assert embeddings_server.texts == [SECRET, "test"]
    # What was accepted a moment ago need not be tried again.
    with pytest.raises(EmbeddingUnavailable):
        await asked.embed([SECRET])
    assert embeddings_server.texts == [SECRET, "test", SECRET]


@pytest.mark.parametrize(
    "body",
    [
        error_body(None, "This model does not support specifying dimensions."),
        {"object": "error", "message": "does not support specifying dimensions", "code": 400},
        {"detail": [{"loc": ["body", "dimensions"], "msg": "specifying dimensions"}]},
        {"error": "specifying dimensions: unsupported"},
    ],
    ids=["OpenAI", "vLLM", "FastAPI", "a string"],
)
async def test_a_refused_parameter_is_for_the_operator_and_costs_no_text_its_vector(
    embeddings_server: EmbeddingsServer, body: Any
) -> None:
    embeddings_server.trouble = refusing(parameter="dimensions", body=body)
    with pytest.raises(EmbeddingUnavailable, match=r"400.*specifying dimensions") as raised:
        await embedder(embeddings_server, dimensions=64).embed([SECRET])
    assert raised.value.kind == "settings"
    assert SECRET not in str(raised.value)


async def test_a_server_that_knows_no_format_is_asked_without_one(
    embeddings_server: EmbeddingsServer,
) -> None:
    embeddings_server.trouble = refusing(parameter="encoding_format", status=422)
    asked = embedder(embeddings_server)
    [first] = await asked.embed(["sort a list"])
    assert "encoding_format" not in embeddings_server.requests[-1]
    before = len(embeddings_server.requests)
    assert await asked.embed(["sort a list"]) == [first]
    assert len(embeddings_server.requests) == before + 1


@pytest.mark.parametrize("body", [b"", b"<html>proxy</html>", b"{", b'{"data": "x"}'])
async def test_an_answer_that_is_no_json_is_refused(
    embeddings_server: EmbeddingsServer, body: bytes
) -> None:
    embeddings_server.trouble = failing(
        9, lambda: web.Response(body=body, content_type="application/json")
    )
    with pytest.raises(EmbeddingUnavailable, match="unusable"):
        await embedder(embeddings_server).embed(["a"])


class Clock:
    now = 1000.0

    def monotonic(self) -> float:
        return self.now


async def test_after_an_outage_the_provider_is_left_alone_for_a_while(
    embeddings_server: EmbeddingsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(openai_embedder, "_FIRST_WAIT", 1_000.0)  # no time to ask again
    monkeypatch.setattr(openai_embedder, "_LONGEST_WAIT", 1_000.0)
    monkeypatch.setattr(embedder_registry, "time", clock := Clock())
    client = AsyncOpenAI(api_key="k", base_url=embeddings_server.url, max_retries=0)
    embedders = EmbedderRegistry(client, budget_seconds=60, pause_seconds=15)
    asked = embedders.of("m")
    embeddings_server.trouble = failing(99, lambda: web.Response(status=503))
    with pytest.raises(EmbeddingUnavailable):
        await asked.embed(["a"])
    before = len(embeddings_server.requests)
    clock.now += 14
    with pytest.raises(EmbeddingUnavailable, match="503"):
        await asked.embed(["a"])
    assert len(embeddings_server.requests) == before
    assert embedders.problem_of("m") is not None
    embeddings_server.trouble = failing(0, web.Response)
    clock.now += 1
    await asked.embed(["a"])
    assert embedders.problem_of("m") is None


async def test_azure_is_asked_for_its_deployment_with_its_key(
    embeddings_server: EmbeddingsServer,
) -> None:
    root = embeddings_server.url.removesuffix("/v1")
    settings = ModelSettings.model_validate(
        {"AZURE_OPENAI_ENDPOINT": root, "AZURE_OPENAI_API_KEY": "azure-key"}
    )
    client = open_client(settings)
    assert client is not None
    assert str(client.base_url) == f"{root}/openai/v1/"
    assert settings.wanted_embedding == ("text-embedding-ada-002", None)

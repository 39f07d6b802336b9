"""Answers as servers that resemble OpenAI's send them: what is the same in each is the gist."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

#: What each of them says.
ANSWER = {"reason": "the same: 😀", "equivalent": True}
TEXT = json.dumps(ANSWER)
_USAGE = {"prompt_tokens": 900, "completion_tokens": 100}

_DRAFT = '{"reason": "a draft", "equivalent": false}'


def whole(message: Any, **more: Any) -> bytes:
    """A body of one JSON document."""
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    return json.dumps({"choices": [choice], "usage": _USAGE, **more}).encode()


def events(*chunks: Any, end: bytes = b"\n\n", done: bool = True) -> bytes:
    """A body of server-sent events; what is no bytes is sent as JSON."""
    sent = [each if isinstance(each, bytes) else _data(each) for each in chunks]
    return end.join([*sent, *([b"data: [DONE]"] if done else []), b""])


def _data(chunk: Any) -> bytes:
    return b"data: " + json.dumps(chunk).encode()


def delta(*, finish_reason: str | None = None, **of_delta: Any) -> dict[str, Any]:
    """A chunk of a stream."""
    return {"choices": [{"index": 0, "delta": of_delta, "finish_reason": finish_reason}]}


def content(*texts: str) -> list[dict[str, Any]]:
    """Chunks that say these texts, and the end."""
    last = {**delta(finish_reason="stop"), "usage": _USAGE}
    return [*(delta(content=text) for text in texts), last]


def _lines(text: str) -> bytes:
    """JSON over several lines of data, as the standard has it."""
    pretty = json.dumps(delta(content=text), indent=1).splitlines()
    return "\n".join(f"data: {line}" for line in pretty).encode()


def _repeating(*texts: str) -> list[dict[str, Any]]:
    """Chunks that say what is new, and beside it all that has been said."""
    chunks = content(*texts)
    for end, chunk in enumerate(chunks, 1):
        chunk["choices"][0]["message"] = {"content": "".join(texts[:end])}
    return chunks


_HALVES = TEXT.partition("\\ud83d")
_split = (TEXT[:20], TEXT[20:])

#: Name → what comes, each the `ANSWER` with its usage.
FORMS: dict[str, bytes] = {
    # What comes around the answer.
    "choices: null at first": events({"choices": None}, *content(TEXT)),
    "no choices at first, as Azure": events(
        {"choices": [], "prompt_filter_results": [{}]}, *content(TEXT)
    ),
    "delta: null at the end": events(
        *content(TEXT), {"choices": [{"index": 0, "delta": None, "finish_reason": "stop"}]}
    ),
    "usage with every chunk": events(
        {**delta(content=_split[0]), "usage": {"prompt_tokens": 900, "completion_tokens": 1}},
        *content(_split[1]),
    ),
    "usage alone at the end": events(
        delta(content=TEXT), delta(finish_reason="stop"), {"choices": [], "usage": _USAGE}
    ),
    "usage: null behind it": events(*content(TEXT), {"choices": [], "usage": None}),
    "usage, as Groq": events(
        delta(content=TEXT), {**delta(finish_reason="stop"), "x_groq": {"usage": _USAGE}}
    ),
    "a second choice": events(
        {"choices": [{"index": 1, "delta": {"content": _DRAFT}}]}, *content(TEXT)
    ),
    "usage in the choice, as Moonshot": events(
        delta(content=TEXT),
        {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop", "usage": _USAGE}]},
    ),
    "usage of nothing behind it": events(
        *content(TEXT), {"choices": [], "usage": {"prompt_tokens": 0, "completion_tokens": 0}}
    ),
    "usage in words": events(
        delta(content=TEXT),
        {
            **delta(finish_reason="stop"),
            "usage": {"prompt_tokens": "900", "completion_tokens": "100"},
        },
    ),
    "all of it repeated in each chunk, as Perplexity": events(*_repeating(*TEXT)),
    "a delta beside the message, as Perplexity": whole({"content": TEXT}).replace(
        b'"index"', b'"delta": {"role": "assistant", "content": ""}, "index"'
    ),
    "no finish but an empty one, as SGLang": events(
        {"choices": [{"index": 0, "delta": {"content": TEXT}, "finish_reason": ""}]}, *content()
    ),
    "choices from one": whole({"content": TEXT}).replace(b'"index": 0', b'"index": 1'),
    "numbers that are none": whole({"content": TEXT}, timings={"rate": float("nan")}),
    "a key twice around it": whole({"content": TEXT}).replace(
        b'"usage"', b'"id": 1, "id": 2, "usage"'
    ),
    # How it is cut.
    "content in parts": whole(
        {
            "content": [
                {"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]},
                {"type": "text", "text": _split[0]},
                {"type": "output_text", "text": _split[1]},
            ]
        }
    ),
    "content in parts, streamed": events(
        delta(content=[{"type": "text", "text": _split[0]}]),
        delta(content=[_split[1]]),
        *content(),
    ),
    "content that is one part": whole({"content": {"type": "text", "text": TEXT}}),
    "the arguments of a function, as once": whole(
        {"content": None, "function_call": {"name": "a", "arguments": TEXT}}
    ),
    "the arguments of a tool that is not the first": whole(
        {"content": None, "tool_calls": [{"index": 1, "function": {"arguments": TEXT}}]}
    ),
    "content that is the JSON itself": whole({"content": ANSWER}),
    "the arguments of a tool": whole(
        {
            "content": None,
            "tool_calls": [{"type": "function", "function": {"name": "a", "arguments": TEXT}}],
        }
    ),
    "the arguments of a tool, streamed": events(
        delta(tool_calls=[{"index": 0, "function": {"name": "a", "arguments": ""}}]),
        *(
            delta(tool_calls=[{"index": 0, "function": {"arguments": text}}], content=None)
            for text in _split
        ),
        *content(),
    ),
    "all of it taken for reasoning": whole({"content": "", "reasoning_content": TEXT}),
    "all of it taken for reasoning, with reasoning": whole(
        {"content": None, "reasoning": f"if {_DRAFT}\n</think>\n```json\n{TEXT}\n```\n"}
    ),
    "text, as completions had it": json.dumps(
        {"choices": [{"text": TEXT, "finish_reason": "stop"}], "usage": _USAGE}
    ).encode(),
    "a character in halves": events(
        delta(content=_HALVES[0] + "\ud83d"),
        delta(content="\ude00" + _HALVES[2].removeprefix("\\ude00")),
        *content(),
    ),
    # What a model says around it.
    "a fence": whole({"content": f"```json\n{TEXT}\n```"}),
    "a fence, and a word after it": whole({"content": f"```\n{TEXT}\n```\nI hope this helps!"}),
    "a word of courtesy": whole({"content": f"Sure! Here is the answer:\n\n{TEXT}"}),
    "reasoning before": whole({"content": f"<think>\nif {{x}} or {_DRAFT}\n</think>\n\n{TEXT}"}),
    "reasoning that nothing opens": whole({"content": f"{_DRAFT}?\n</think>{TEXT}"}),
    **{
        f"reasoning before, {name}": whole({"content": f"{_DRAFT}{end}{TEXT}{after}"})
        for name, end, after in (
            ("gpt-oss", "<|end|><|start|>assistant<|channel|>final<|message|>", "<|return|>"),
            ("gpt-oss, held to a form", "<|channel|>final <|constrain|>json<|message|>", ""),
            ("Cohere", "<|END_THINKING|><|START_RESPONSE|>", "<|END_RESPONSE|>"),
            ("Kimi", "◁/think▷", "<|im_end|>"),
            ("Seed", "</seed:think>", "</s>"),
            ("others", "</thoughts>", ""),
        )
    },
    "reasoning in a field": whole({"reasoning_content": "if {x}", "content": TEXT}),
    "reasoning in a field, streamed": events(
        delta(role="assistant", content="", reasoning="if {"), delta(reasoning="x}"), *content(TEXT)
    ),
    "said twice": whole({"content": f"{TEXT}\n{TEXT}"}),
    "JSON in a string of JSON": whole({"content": json.dumps(TEXT)}),
    "a byte order mark before it": whole({"content": "\ufeff" + TEXT}),
    # How events are written.
    "data over several lines": events(_lines(TEXT), *content()),
    "no blank after the colon": events(
        *(_data(each).replace(b"data: ", b"data:") for each in content(TEXT))
    ),
    "no empty lines between": events(*content(*_split), end=b"\n"),
    "CRLF": events(*content(*_split), end=b"\r\n\r\n"),
    "CR": events(*content(*_split), end=b"\r\r"),
    "names, ids and comments": events(
        b": OPENROUTER PROCESSING",
        b"event: message\nid: 1\nretry: 10\n" + _data(delta(content=TEXT)),
        b": keep-alive",
        *content(),
    ),
    "no end but the finish": events(*content(TEXT), done=False),
    "no empty line at the end": events(*content(TEXT), done=False).rstrip(),
    "a byte order mark before the events": b"\xef\xbb\xbf" + events(*content(TEXT)),
    "events that are no JSON": events(b"data: ping", *content(TEXT)),
    "an end in quotes": events(*content(TEXT), done=False) + b'data: "[DONE]"\n\n',
    "chunks, one on a line": b"\n".join(json.dumps(each).encode() for each in content(*_split)),
    # Another way than was asked for.
    "whole": whole({"content": TEXT}),
    "streamed": events(*content(*_split)),
    "whole, after lines that keep the connection": b"\n\n \n" + whole({"content": TEXT}),
    "whole, and printed nicely": json.dumps(
        json.loads(whole({"content": TEXT})), indent=2
    ).encode(),
}

#: Name → what comes, how the call ends, and what is said of it.
FAILURES: dict[str, tuple[bytes, str, str]] = {
    "an error with 200": (b'{"error": {"message": "overloaded"}}', "unavailable", "overloaded"),
    "an error in words": (b'{"error": "no such model"}', "unavailable", "no such model"),
    "an error beside choices": (whole({"content": ""}, error={"code": 502}), "unavailable", "502"),
    "an error, as vLLM": (
        b'{"object": "error", "message": "too long", "code": 400}',
        "rejected",
        "HTTP 400: too long",
    ),
    "an error in a list, as Gemini": (
        b'[{"error": {"code": 503, "message": "overloaded", "status": "UNAVAILABLE"}}]',
        "unavailable",
        "HTTP 503: overloaded",
    ),
    "an error in a field of its own, as llama.cpp": (
        b'error: {"code": 400, "message": "exceeds the context", "type": "exceed_context_size"}',
        "rejected",
        "HTTP 400: exceeds the context",
    ),
    "the same in the stream": (
        events(delta(content=_split[0]), b'error: {"code": 500, "message": "lost"}', done=False),
        "unavailable",
        "HTTP 500: lost",
    ),
    "an event of an error, as DashScope": (
        events(b'event:error\n:HTTP_STATUS/400\ndata:{"code": "InvalidParameter", "message": "m"}'),
        "rejected",
        "InvalidParameter m",
    ),
    "an event of an error in words": (events(b"event: error\ndata: gone"), "unavailable", "gone"),
    "an error of the choice, as OpenRouter": (
        events(
            delta(content=_split[0]),
            {
                "choices": [
                    {"index": 0, "finish_reason": "error", "error": {"code": 502, "message": "up"}}
                ]
            },
        ),
        "unavailable",
        "HTTP 502: up",
    ),
    **{
        f"an answer that ends with {reason}": (
            events(delta(content=_split[0]), delta(finish_reason=reason)),
            outcome,
            detail,
        )
        for reason, outcome, detail in (
            ("error", "unavailable", "ended with error"),
            ("insufficient_system_resource", "unavailable", "resource"),
            ("model_length", "truncated", "cut"),
            ("MAX_TOKENS", "truncated", "cut"),
            ("model_context_window_exceeded", "truncated", "cut"),
            ("sensitive", "refused", "filter"),
            ("content_filter: PROHIBITED_CONTENT", "refused", "filter"),
        )
    },
    "no money": (
        b'{"error": {"message": "Insufficient credits", "code": 402}}',
        "rejected",
        "HTTP 402: Insufficient credits",
    ),
    "too many": (b'{"error": {"message": "slow down", "code": "429"}}', "rate_limited", "slow"),
    "too many, in words": (
        b'{"error": {"message": "slow down", "code": "rate_limit_exceeded"}}',
        "rate_limited",
        "slow",
    ),
    "a filter": (b'{"error": {"message": "no", "code": "content_filter"}}', "refused", "no"),
    "no money, as MiniMax": (
        b'{"choices": null, "base_resp": {"status_code": 1008, "status_msg": "no balance"}}',
        "unavailable",
        "no balance",
    ),
    "an error, as Cloudflare": (
        b'{"success": false, "errors": [{"code": 7000, "message": "No route"}]}',
        "unavailable",
        "No route",
    ),
    "nothing but an end": (events(delta(content="")), "unavailable", "before the answer began"),
    "a draft in the reasoning, and no answer": (
        whole({"content": "", "reasoning_content": f"is it {TEXT}? No, that is wrong."}),
        "invalid",
        "empty",
    ),
    "a draft before the end of reasoning, and no answer": (
        whole({"content": f"{TEXT}</think>I cannot."}),
        "invalid",
        "not JSON",
    ),
    "an error in the stream": (
        events(delta(content=_split[0]), {"error": {"message": "broke"}}),
        "unavailable",
        "broke",
    ),
    "an event of an error": (
        events(b'event: error\ndata: {"error": {"message": "broke"}}'),
        "unavailable",
        "broke",
    ),
    "no choices": (b'{"choices": []}', "invalid", "no choices"),
    "another API's answer": (b'{"detail": "Not Found"}', "invalid", "Not Found"),
    "a page": (b"<html><body>Bad gateway</body></html>", "invalid", "neither JSON nor"),
    "no more than it began": (
        events(delta(content=_split[0]), done=False),
        "unavailable",
        "in the middle",
    ),
    "several that differ": (whole({"content": f"{_DRAFT}\n{TEXT}"}), "invalid", "differ"),
    "a list": (whole({"content": f"[{TEXT}]"}), "invalid", "dictionary|object"),
    "a refusal in parts": (
        whole({"content": [{"type": "refusal", "refusal": "I will not"}]}),
        "refused",
        "I will not",
    ),
    "too many events": (events(*[{}] * 20_000), "invalid", "more events"),
}

#: Usage as it is reported → tokens of input and output as they are charged.
USAGES: Sequence[tuple[dict[str, Any], tuple[int, int]]] = (
    ({"prompt_tokens": 900, "completion_tokens": 100, "total_tokens": 1000}, (900, 100)),
    ({"prompt_tokens": 900, "completion_tokens": 100, "total_tokens": 1500}, (900, 600)),
    ({"input_tokens": 900, "output_tokens": 100}, (900, 100)),
    ({"prompt_tokens": 900, "total_tokens": 1000}, (900, 100)),
    ({"completion_tokens": 100, "total_tokens": 1000}, (900, 100)),
    ({"prompt_tokens": 900.0, "completion_tokens": 100.0}, (900, 100)),
    ({"prompt_tokens": 900, "completion_tokens": 0}, (900, 0)),
)

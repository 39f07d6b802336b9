"""One sentence put to a running system, and what came of it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from tests.evaluation.case import Case, Output
from tests.evaluation.checkers import judge
from tests.support.stack import Client

#: Seconds that one request waits for the end of an intent.
_WAIT = 30

#: Bytes of artifacts of one intent; more than any case needs.
_MAX_ARTIFACTS = 16 * 1024**2


class Unexpected(Exception):
    """The system answered with what it should never answer with; the message says what."""


@dataclass(frozen=True, slots=True)
class Spent:
    """How much the language model was used for an intent.

    Attributes:
        calls: all calls, whatever came of them.
        cost_microusd: by the prices configured, millionths of a US dollar.
        model_seconds: of all calls together.
    """

    calls: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost_microusd: int = 0
    model_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt at a case.

    Attributes:
        wrong: what is wrong with what came of it; None if it passed.
        status: of the intent, ``unfinished`` where it did not end in time.
        repairs: programs that were given back to be repaired.
        seconds: from the intent's first event to its last.
    """

    case: Case
    intent_id: str
    status: str
    wrong: str | None
    repairs: int
    seconds: float
    spent: Spent

    @property
    def passed(self) -> bool:
        """Whether the answer was right in the end."""
        return self.wrong is None

    @property
    def passed_at_once(self) -> bool:
        """Whether it was right with the first program."""
        return self.passed and self.repairs == 0


async def attempt(client: Client, case: Case, timeout: float) -> Attempt:
    """Submit the sentence alone, await its end, and judge what it left.

    Args:
        client: of a tenant that has solved nothing: what it had solved would be shown to the model
            as examples, or be reused.
        case: with the sentence.
        timeout: seconds; then the intent is cancelled.

    Raises:
        Unexpected: the system answered a request with an error.
    """
    intent = await solve(client, {"text": case.sentence, "planning": {"reuse": "never"}}, timeout)
    events = await events_of(client, intent["id"])
    if intent["completed_at"] is None:
        wrong: str | None = f"not finished after {timeout:g} s"
    elif intent["status"] != "succeeded":
        error = (intent["outcome"] or {}).get("error") or {}
        wrong = f"{error.get('code', intent['status'])}: {error.get('message', '')}"
    else:
        wrong = judge(case.right, await _output(client, intent))
    return Attempt(
        case,
        intent["id"],
        "unfinished" if intent["completed_at"] is None else intent["status"],
        wrong,
        repairs=sum(event["type"] == "ProgramRepaired" for event in events),
        seconds=_seconds(events),
        spent=spent_in(events),
    )


async def solve(client: Client, content: dict[str, Any], timeout: float = 120) -> Any:
    """The intent after its end; as it is after ``timeout`` seconds, and then cancelled.

    Raises:
        Unexpected: the system answered a request with an error.
    """
    deadline = asyncio.get_running_loop().time() + timeout
    intent = await _answer(client, "POST", "/intents", content)
    while intent["completed_at"] is None:
        left = deadline - asyncio.get_running_loop().time()
        if left <= 0:
            await client.call("POST", f"/intents/{intent['id']}/cancel")
            break
        wait = max(1, round(min(left, _WAIT)))
        intent = await _answer(client, "GET", f"/intents/{intent['id']}", wait=wait)
    return intent


async def events_of(client: Client, intent_id: str) -> list[Any]:
    """All events of an intent."""
    page = await _answer(client, "GET", f"/intents/{intent_id}/events")
    events: list[Any] = page["items"]
    return events


def spent_in(events: list[Any]) -> Spent:
    """How much the language model was used, by the events."""
    calls = [event["data"]["call"] for event in events if event["type"] == "LanguageModelCalled"]
    return Spent(
        len(calls),
        sum(call["input_tokens"] for call in calls),
        sum(call["output_tokens"] for call in calls),
        sum(call["cost_microusd"] for call in calls),
        sum(call["latency_ms"] for call in calls) / 1000,
    )


async def _output(client: Client, intent: Any) -> Output:
    outcome = intent["outcome"]
    if sum(each["size"] for each in outcome["artifacts"]) > _MAX_ARTIFACTS:
        return Output(outcome["stdout"])
    contents = {each["name"]: await _content(client, each) for each in outcome["artifacts"]}
    return Output(outcome["stdout"], contents)


async def _content(client: Client, artifact: Any) -> bytes:
    url, headers = f"{client.base}{artifact['href']}", {"X-API-Key": client.key or ""}
    async with client.session.get(url, headers=headers) as response:
        if response.status != 200:
            raise Unexpected(f"GET {artifact['href']}: {response.status} {await response.text()}")
        return await response.read()


async def _answer(
    client: Client, method: str, path: str, body: object = None, wait: int | None = None
) -> Any:
    headers = {} if wait is None else {"Prefer": f"wait={wait}"}
    reply = await client.call(method, path, body, headers=headers)
    if reply.status not in (200, 202):
        raise Unexpected(f"{method} {path}: {reply.status} {reply.body}")
    return reply.body


def _seconds(events: list[Any]) -> float:
    moments = [datetime.fromisoformat(event["recorded_at"]) for event in events]
    return (max(moments) - min(moments)).total_seconds() if moments else 0.0

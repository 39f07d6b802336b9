"""The tour: a client, a producer and an operator use the running stack."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from time import monotonic
from typing import Any
from uuid import uuid4

import aiohttp
from azure.servicebus import ServiceBusMessage
from azure.servicebus.aio import ServiceBusClient

from domain.application.service import intent_id_for
from infra.local.stack.config import StackError
from infra.local.stack.qlp import run_qlp
from infra.local.stack.report import Report
from infra.local.stack.stack import TENANT, Endpoints

_WAIT_SECONDS = 30

# Programs that use nothing beyond what their language ships with, so that they run anywhere.

_MEAN = """\
import statistics
months = {"Jan": 120, "Feb": 95, "Mar": 143}
print("mean of", ", ".join(months), "=", round(statistics.mean(months.values()), 1))
"""

_SHOUT = """\
tr 'a-z' 'A-Z' < /dev/stdin
"""

#: Writes a bar chart as PNG: signature, header, compressed rows that each begin with filter 0, end.
_PLOT = """\
import os, struct, zlib
totals, width, height = {"Jan": 120, "Feb": 95, "Mar": 143}, 300, 160

def pixel(x, y):
    bar, at = divmod(x, width // len(totals))
    inside = at >= 20 and height - y <= list(totals.values())[bar]
    return bytes((37, 99, 235) if inside else (255, 255, 255))

def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

rows = b"".join(b"\\0" + b"".join(pixel(x, y) for x in range(width)) for y in range(height))
with open(os.path.join(os.environ["OUT_DIR"], "totals.png"), "wb") as file:
    file.write(b"\\x89PNG\\r\\n\\x1a\\n")
    file.write(chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)))
    file.write(chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))
print("plotted", ", ".join(totals))
"""


class Tour:
    """Steps of a client, a producer and an operator, each through its public interface."""

    def __init__(self, endpoints: Endpoints, report: Report) -> None:
        self._endpoints = endpoints
        self._report = report

    async def run(self) -> str:
        """Take all steps.

        Returns:
            the path of the page that shows the plot.

        Raises:
            StackError: a step had another result than expected, which the message contains.
        """
        async with aiohttp.ClientSession(
            headers={"X-API-Key": self._endpoints.api_key},
            timeout=aiohttp.ClientTimeout(total=_WAIT_SECONDS + 10),
        ) as session:
            client_intent = await self._timed(self._client_submits, session)
            await self._show_timeline(session, client_intent)
            plot = await self._timed(self._client_looks_at_a_plot, session)
            producer_intent = await self._timed(self._producer_publishes, session)
            await self._show_timeline(session, producer_intent)
        await self._timed(self._operator_lists)
        await self._timed(self._operator_replays, client_intent)
        return _page(plot)

    async def _timed(self, step: Callable[..., Awaitable[_Step]], *arguments: Any) -> str:  # noqa: ANN401
        started = monotonic()
        done = await step(*arguments)
        self._report.step(done.title, done.lines, monotonic() - started, **done.facts)
        return str(done.facts.get("intent_id", ""))

    async def _client_submits(self, session: aiohttp.ClientSession) -> _Step:
        status, intent = await self._submit(session, "mean of the monthly totals", _MEAN)
        return _Step(
            "A client submits a sentence and a program over HTTP",
            [f"POST /api/intents → {status}", *_outcome_lines(intent)],
            {"intent_id": intent.get("id"), "status": intent.get("status")},
        )

    async def _client_looks_at_a_plot(self, session: aiohttp.ClientSession) -> _Step:
        _, intent = await self._submit(session, "plot the monthly totals", _PLOT)
        lines = _outcome_lines(intent)
        [artifact] = intent["outcome"]["artifacts"]
        address = f"{artifact['href']}?inline=1"
        async with session.get(f"{self._endpoints.http_url}{address}") as response:
            picture = await response.read()
        if response.status != 200 or not picture.startswith(b"\x89PNG"):
            raise StackError(f"GET {address}: {response.status}, not a PNG: {picture[:200]!r}")
        return _Step(
            "A client has a plot drawn and looks at it",
            [
                *lines,
                f"GET {address} → {artifact['media_type']}, {len(picture):,} bytes",
                f"GET {_page(intent['id'])} → the whole result as a page for a browser",
            ],
            {"intent_id": intent["id"], "artifact": artifact["href"]},
        )

    async def _submit(
        self, session: aiohttp.ClientSession, text: str, program: str
    ) -> tuple[int, dict[str, Any]]:
        body = {"text": text, "program": {"language": "python", "files": {"main.py": program}}}
        headers = {"Prefer": f"wait={_WAIT_SECONDS}", "Idempotency-Key": str(uuid4())}
        url = f"{self._endpoints.http_url}/api/intents"
        async with session.post(url, json=body, headers=headers) as response:
            return response.status, await response.json()

    async def _producer_publishes(self, session: aiohttp.ClientSession) -> _Step:
        event = {
            "specversion": "1.0",
            "id": str(uuid4()),
            "source": "/tour/producer",
            "type": "qlp.intent.submit",
            "time": datetime.now(UTC).isoformat(),
            "tenantid": TENANT,
            "data": {
                "text": "shout it",
                "program": {
                    "language": "shell",
                    "files": {"main.sh": _SHOUT},
                    "stdin": "hello from the bus\n",
                },
            },
        }
        async with (
            ServiceBusClient.from_connection_string(self._endpoints.service_bus) as client,
            client.get_queue_sender("intents") as sender,
        ):
            await sender.send_messages(ServiceBusMessage(json.dumps(event)))
        key = f"{event['source']}\n{event['id']}"
        intent = await self._await_intent(session, str(intent_id_for(TENANT, "service_bus", key)))
        return _Step(
            "A producer publishes a program to Service Bus",
            ["azure-servicebus → queue 'intents'", *_outcome_lines(intent)],
            {"intent_id": intent.get("id"), "status": intent.get("status")},
        )

    async def _await_intent(self, session: aiohttp.ClientSession, intent_id: str) -> dict[str, Any]:
        url = f"{self._endpoints.http_url}/api/intents/{intent_id}"
        deadline = monotonic() + _WAIT_SECONDS
        while True:
            async with session.get(url, headers={"Prefer": "wait=10"}) as response:
                intent: dict[str, Any] = await response.json()
            if response.status == 200 and intent["completed_at"]:
                return intent
            if monotonic() > deadline:
                raise StackError(f"the producer's intent did not end: {json.dumps(intent)}")
            await asyncio.sleep(0.02)  # there is no intent until the bus has delivered the message

    async def _show_timeline(self, session: aiohttp.ClientSession, intent_id: str) -> None:
        url = f"{self._endpoints.http_url}/api/intents/{intent_id}/events"
        async with session.get(url) as response:
            records = (await response.json())["items"]
        self._report.timeline(intent_id, timeline(records))

    async def _operator_lists(self) -> _Step:
        streams = await self._qlp("streams", "list", "--limit", "5", "--json")
        lines = [
            f"{item['stream_id']}  {item['version']} events, last at {item['last_at']}"
            for item in streams["items"]
        ]
        return _Step("An operator lists the streams", ["qlp streams list --limit 5", *lines], {})

    async def _operator_replays(self, intent_id: str) -> _Step:
        replayed = await self._qlp("streams", "replay", intent_id, "--json")
        if not replayed["matches"]:
            raise StackError(f"the replay differs from the read model: {replayed['differences']}")
        lines = [
            f"qlp streams replay {intent_id}",
            " → ".join(step["status"] for step in replayed["steps"]),
            "the state folded from the events equals the read model",
        ]
        return _Step("An operator replays the client's stream", lines, {"matches": True})

    async def _qlp(self, *arguments: str) -> Any:  # noqa: ANN401 parsed JSON
        done = await run_qlp(self._endpoints, *arguments)
        if done.status != 0:
            raise StackError(f"qlp {' '.join(arguments)}: {done.errors.strip()}")
        return json.loads(done.output)


class _Step:
    """What a step did: ``lines`` for people, ``facts`` for programs."""

    def __init__(self, title: str, lines: list[str], facts: dict[str, Any]) -> None:
        self.title = title
        self.lines = lines
        self.facts = facts


def _page(intent_id: str) -> str:
    return f"/api/intents/{intent_id}/result"


def _outcome_lines(intent: dict[str, Any]) -> list[str]:
    outcome = intent.get("outcome") or {}
    if intent.get("status") != "succeeded":
        raise StackError(f"expected a succeeded intent, got {json.dumps(intent)}")
    usage = outcome.get("usage", {})
    memory = usage.get("peak_memory_bytes")
    used = f"ran {usage.get('wall_ms', 0):.0f} ms in {outcome['runtime']}"
    if memory:
        used += f", {memory / 1024**2:.0f} MiB at most"
    return [f"intent {intent['id']}: {intent['status']}", f"stdout: {outcome['stdout']!r}", used]


def timeline(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Events with the milliseconds since the first event and since the one before."""
    moments = [datetime.fromisoformat(record["recorded_at"]) for record in records]
    lines = []
    for index, record in enumerate(records):
        since_first = (moments[index] - moments[0]).total_seconds() * 1000
        since_last = (moments[index] - moments[max(index - 1, 0)]).total_seconds() * 1000
        lines.append(
            {
                "type": record["type"],
                "ms": round(since_first, 1),
                "delta_ms": round(since_last, 1),
                "note": _note(record),
            }
        )
    return lines


def _note(record: dict[str, Any]) -> str:
    data = record["data"]
    match record["type"]:
        case "IntentSubmitted":
            return f"over {data['origin'].replace('_', ' ')}"
        case "IntentPlanned":
            return f"program {data['source']}"
        case "SandboxRunRequested":
            return f"attempt {data['attempt']}"
        case "SandboxRunFinished":
            return f"{data['outcome']['verdict']} in {data['outcome']['runtime']}"
        case "IntentFailed":
            return str(data["cause"]["message"])
        case _:
            return ""

"""Integration tests of a deployment, through its public API and with its real sandbox."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from time import monotonic
from typing import Any
from uuid import uuid4

from infra.pipeline.client import Client, PipelineError, Reply

_WAIT = {"Prefer": "wait=30"}


@dataclass(frozen=True, slots=True)
class CheckResult:
    """The result of one check; ``problem`` is empty if it passed."""

    name: str
    seconds: float
    problem: str = ""


class Unexpected(Exception):
    """The deployment gave an unexpected answer; the message shows it."""


async def run_checks(client: Client, report: Callable[[CheckResult], None]) -> list[CheckResult]:
    """Run every check, even if some fail; ``report`` is called with each result."""
    results = []
    for name, check in CHECKS.items():
        started = monotonic()
        problem = ""
        try:
            await check(client)
        except (Unexpected, PipelineError) as error:
            problem = str(error)
        results.append(CheckResult(name, monotonic() - started, problem))
        report(results[-1])
    return results


async def _is_healthy(client: Client) -> None:
    reply = await client.request("GET", "/health", authenticated=False)
    _expect(reply.status == 200 and reply.body["status"] == "ok", reply)


async def _refuses_unauthenticated_clients(client: Client) -> None:
    reply = await client.request("GET", "/intents", authenticated=False)
    _expect(reply.status == 401 and _problem(reply) == "unauthenticated", reply)


async def _names_what_is_wrong(client: Client) -> None:
    reply = await client.request("POST", "/intents", {"program": {"language": "python"}})
    _expect(reply.status == 400 and bool(reply.body.get("errors")), reply)


async def _runs_a_program_once(client: Client) -> None:
    word, key = uuid4().hex, {"Idempotency-Key": str(uuid4())}
    body = _program(f"print('{word}')")
    first = await client.request("POST", "/intents", body, headers={**_WAIT, **key})
    first = await _ended(client, first)
    _expect(first.body["outcome"]["stdout"] == f"{word}\n", first)
    again = await client.request("POST", "/intents", body, headers=key)
    _expect(again.body["id"] == first.body["id"], again)
    _expect(again.headers.get("Idempotency-Replayed") == "true", again)


async def _reports_a_failure(client: Client) -> None:
    reply = await _submitted(client, "import sys; sys.exit(3)")
    _expect(reply.body["status"] == "failed", reply)
    _expect(reply.body["outcome"]["exit_code"] == 3, reply)


async def _kills_at_the_deadline(client: Client) -> None:
    reply = await _submitted(client, "while True: pass", limits={"wall_seconds": 1})
    _expect(reply.body["outcome"]["verdict"] == "timed_out", reply)


async def _has_no_network(client: Client) -> None:
    program = (
        "import socket\n"
        "try: socket.create_connection(('169.254.169.254', 80), 2)\n"
        "except OSError: print('closed')\n"
    )
    reply = await _submitted(client, program)
    _expect(reply.body["outcome"]["stdout"] == "closed\n", reply)


async def _hides_other_intents(client: Client) -> None:
    reply = await client.request("GET", f"/intents/{uuid4()}")
    _expect(reply.status == 404 and _problem(reply) == "not-found", reply)


CHECKS: dict[str, Callable[[Client], Awaitable[None]]] = {
    "every part is healthy": _is_healthy,
    "a request without a key is refused": _refuses_unauthenticated_clients,
    "a malformed request is told what is wrong": _names_what_is_wrong,
    "a program runs, and only once for one idempotency key": _runs_a_program_once,
    "a failing program is reported as failed": _reports_a_failure,
    "an endless program is killed at its deadline": _kills_at_the_deadline,
    "a program has no network": _has_no_network,
    "an unknown intent is not found": _hides_other_intents,
}


def _program(source: str, **program: object) -> dict[str, Any]:
    return {"program": {"language": "python", "files": {"main.py": source}, **program}}


async def _submitted(client: Client, source: str, **program: object) -> Reply:
    reply = await client.request("POST", "/intents", _program(source, **program), headers=_WAIT)
    return await _ended(client, reply)


async def _ended(client: Client, reply: Reply) -> Reply:
    """The intent of ``reply`` once it has ended, after waiting once more if necessary."""
    _expect(reply.status in (200, 202), reply)
    if reply.body.get("outcome") is None:
        reply = await client.request("GET", f"/intents/{reply.body['id']}", headers=_WAIT)
    _expect(reply.status == 200 and reply.body.get("outcome") is not None, reply)
    return reply


def _problem(reply: Reply) -> str:
    return str((reply.body or {}).get("type", "")).removeprefix("urn:qlp:problem:")


def _expect(right: bool, reply: Reply) -> None:
    if not right:
        raise Unexpected(f"answered {reply.status} {str(reply.body)[:600]}")

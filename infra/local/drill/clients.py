"""Clients that submit intents continuously and remember which were accepted."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from time import monotonic
from typing import Any
from uuid import uuid4

import aiohttp

from infra.local.drill.backup import DrillError
from infra.local.stack.stack import Endpoints

_PAUSE_SECONDS = 0.05
_FIRST_SECONDS = 60.0
_ENDED = ("succeeded", "failed", "cancelled")


@dataclass(frozen=True, slots=True)
class AcceptedIntent:
    """An accepted intent, its idempotency key, and when it was accepted (`monotonic` seconds)."""

    intent_id: str
    key: str
    at: float


@dataclass(slots=True)
class Clients:
    """The clients of one stack; ``refusals`` counts other answers by status or error."""

    session: aiohttp.ClientSession
    base: str
    accepted: list[AcceptedIntent] = field(default_factory=list)
    refusals: dict[str, int] = field(default_factory=dict)

    @classmethod
    @contextlib.asynccontextmanager
    async def connected(cls, endpoints: Endpoints) -> AsyncIterator[Clients]:
        """Clients that use the stack's API key."""
        timeout = aiohttp.ClientTimeout(total=60)
        headers = {"X-API-Key": endpoints.api_key}
        async with aiohttp.ClientSession(timeout=timeout, headers=headers) as session:
            yield cls(session, f"{endpoints.http_url}/api")

    @contextlib.asynccontextmanager
    async def submitting(self, count: int, pause: float) -> AsyncIterator[None]:
        """Let ``count`` clients submit until the block ends, with pauses of ``pause`` seconds."""
        tasks = [asyncio.create_task(self._submit_for_ever(pause)) for _ in range(count)]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def load_for(self, seconds: float) -> None:
        """Wait ``seconds``, and longer if no intent has been accepted in this time.

        Raises:
            DrillError: none was accepted for another minute.
        """
        began = monotonic()
        await asyncio.sleep(seconds)
        await self.first_accepted_after(began, seconds + _FIRST_SECONDS)

    async def first_accepted_after(self, moment: float, seconds: float) -> float:
        """Wait until an intent is accepted after ``moment``; returns when that was.

        Raises:
            DrillError: none was accepted within ``seconds``.
        """
        while monotonic() < moment + seconds:
            for intent in reversed(self.accepted):
                if intent.at > moment:
                    return intent.at
            await asyncio.sleep(_PAUSE_SECONDS)
        raise DrillError(f"no intent was accepted for {seconds:.0f} s: {self.refusals}")

    async def submit(self, key: str) -> str | None:
        """Submit an intent once; returns its id if it was accepted."""
        body = {"program": {"language": "python", "files": {"main.py": "print(6 * 7)"}}}
        try:
            async with self.session.post(
                f"{self.base}/intents", json=body, headers={"Idempotency-Key": key}
            ) as response:
                answer = await response.json(content_type=None)
                if response.status in (200, 202):
                    return str(answer["id"])
                why = str(response.status)
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            why = type(error).__name__
        self.refusals[why] = self.refusals.get(why, 0) + 1
        return None

    async def outcome(self, intent_id: str, seconds: float) -> str | None:
        """The final status of an intent; None if the service does not know it.

        Raises:
            DrillError: it has not ended after ``seconds``.
        """
        deadline, status = monotonic() + seconds, "never seen"
        while monotonic() < deadline:
            reply, body = await self._get(f"/intents/{intent_id}")
            if reply == 404:
                return None
            status = str(body.get("status"))
            if status in _ENDED:
                return status
        raise DrillError(f"intent {intent_id} is {status} after {seconds:.0f} s")

    async def _get(self, path: str) -> tuple[int, Any]:
        async with self.session.get(
            f"{self.base}{path}", headers={"Prefer": "wait=10"}
        ) as response:
            return response.status, await response.json(content_type=None)

    async def _submit_for_ever(self, pause: float) -> None:
        while True:
            key = str(uuid4())
            self.accepted.append(AcceptedIntent(await self._until_accepted(key), key, monotonic()))
            await asyncio.sleep(pause)

    async def _until_accepted(self, key: str) -> str:
        """Repeat a submission with the same key until it is accepted."""
        while True:
            if intent_id := await self.submit(key):
                return intent_id
            await asyncio.sleep(_PAUSE_SECONDS)

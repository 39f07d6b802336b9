"""An HTTP client of a deployed application."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from time import monotonic
from typing import Any, Self

import aiohttp

#: The variable with the API key; as an argument, every process on the machine could read it.
KEY_VARIABLE = "QLP_API_KEY"

_REQUEST_SECONDS = 60.0
_PAUSE_SECONDS = 2.0


class PipelineError(Exception):
    """A step failed; the message says what was found, and what was expected."""


@dataclass(frozen=True, slots=True)
class Reply:
    """Status, body (None if it is not JSON) and headers of a response."""

    status: int
    body: Any
    headers: dict[str, str]


class Client:
    """Sends requests to one deployment."""

    def __init__(self, session: aiohttp.ClientSession, url: str, key: str | None) -> None:
        self._session = session
        self._url = url.rstrip("/")
        self._key = key

    @classmethod
    @asynccontextmanager
    async def connect(cls, url: str, key: str | None = None) -> AsyncIterator[Self]:
        """A client of the deployment at ``url``, given without ``/api``."""
        timeout = aiohttp.ClientTimeout(total=_REQUEST_SECONDS)
        async with aiohttp.ClientSession(timeout=timeout) as session:
            yield cls(session, url, key)

    async def request(
        self,
        method: str,
        path: str,
        body: object | None = None,
        *,
        headers: dict[str, str] | None = None,
        authenticated: bool = True,
    ) -> Reply:
        """Send a request to ``path`` below ``/api``.

        Raises:
            PipelineError: there is no answer.
        """
        sent = dict(headers or {})
        if authenticated and self._key is not None:
            sent["X-API-Key"] = self._key
        try:
            async with self._session.request(
                method, f"{self._url}/api{path}", json=body, headers=sent, allow_redirects=False
            ) as response:
                try:
                    answer = await response.json(content_type=None)
                except ValueError:
                    answer = None
                return Reply(response.status, answer, dict(response.headers))
        except (aiohttp.ClientError, TimeoutError) as error:
            raise PipelineError(
                f"{method} /api{path}: no answer ({type(error).__name__}: {error})"
            ) from None

    async def wait_healthy(self, seconds: float, *, degraded_is_fine: bool = False) -> Reply:
        """Ask ``/api/health`` until it says ok.

        Args:
            seconds: how long.
            degraded_is_fine: accept degraded as well.

        Raises:
            PipelineError: it did not say so in time; the message shows the last answer.
        """
        wanted = {"ok", "degraded"} if degraded_is_fine else {"ok"}
        deadline = monotonic() + seconds
        last = "never asked"
        while True:
            try:
                reply = await self.request("GET", "/health", authenticated=False)
                last = f"{reply.status} {reply.body}"
                if reply.status == 200 and (reply.body or {}).get("status") in wanted:
                    return reply
            except PipelineError as error:
                last = str(error)
            if monotonic() + _PAUSE_SECONDS > deadline:
                parts = await self._health_of_parts()
                raise PipelineError(f"not healthy after {seconds:.0f} s; last: {last}{parts}")
            await asyncio.sleep(_PAUSE_SECONDS)

    async def _health_of_parts(self) -> str:
        """The details that a key gives access to; empty without a key, or an answer."""
        if self._key is None:
            return ""
        try:
            reply = await self.request("GET", "/health")
        except PipelineError:
            return ""
        return f"; with the key: {reply.status} {reply.body}"


def key_from_environment() -> str:
    """The API key.

    Raises:
        PipelineError: the variable is not set.
    """
    key = os.environ.get(KEY_VARIABLE, "")
    if not key:
        raise PipelineError(f"set {KEY_VARIABLE} to an API key of the deployment's test tenant")
    return key

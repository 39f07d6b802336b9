"""The host's side of HTTP connections with services it calls."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

import aiohttp

from sandbox_host.net.backoff import Backoff

#: What a request that did not come through raises.
HTTP_ERRORS = (aiohttp.ClientError, OSError, TimeoutError)

_CONNECT_SECONDS = 5.0
_MAX_PAUSE_SECONDS = 10.0

_REQUEST_TIMEOUT, _TOO_MANY_REQUESTS, _SERVER_ERROR = 408, 429, 500

Answer = TypeVar("Answer")


class TooLarge(Exception):
    """An answer is larger than it may be."""


class GaveUp(Exception):
    """A request did not come through; the message says why.

    Attributes:
        final: it was refused, and would be again.
    """

    def __init__(self, why: str, *, final: bool) -> None:
        super().__init__(why)
        self.final = final


class NotYet(Exception):
    """The service is not able to answer now; it asks to wait for ``pause`` seconds, or does not."""

    def __init__(self, why: str, pause: float | None) -> None:
        super().__init__(why)
        self.pause = pause


def open_session(seconds: float) -> aiohttp.ClientSession:
    """A session that verifies certificates and takes neither proxy nor password from outside.

    Args:
        seconds: that one request may take, its answer included.
    """
    timeout = aiohttp.ClientTimeout(total=seconds, connect=min(seconds, _CONNECT_SECONDS))
    cookies = aiohttp.DummyCookieJar()
    return aiohttp.ClientSession(timeout=timeout, trust_env=False, cookie_jar=cookies)


async def read_at_most(response: aiohttp.ClientResponse, limit: int) -> bytes:
    """The body of ``response``.

    Raises:
        TooLarge: it has more than ``limit`` bytes; the connection is dropped.
        HTTP_ERRORS: it broke off.
    """
    body = bytearray()
    async for part in response.content.iter_any():
        body += part
        if len(body) > limit:
            response.close()
            raise TooLarge(f"the answer takes more than {limit} bytes")
    return bytes(body)


def retry_after(response: aiohttp.ClientResponse, ceiling: float) -> float | None:
    """Seconds that a ``Retry-After`` header asks to wait; at most ``ceiling``.

    None where there is none, or one that names a date (RFC 9110, section 10.2.3).
    """
    text = response.headers.get("Retry-After", "")
    return min(float(text), ceiling) if text.isdecimal() else None


def check_answer(response: aiohttp.ClientResponse) -> None:
    """Let an answer with a status below 300 pass.

    Raises:
        NotYet: of one that may be another the next time.
        GaveUp: of any other.
    """
    if response.status < 300:
        return
    why = f"the application answered {response.status}"
    passing = response.status in (_REQUEST_TIMEOUT, _TOO_MANY_REQUESTS)
    if not passing and response.status < _SERVER_ERROR:
        raise GaveUp(why, final=True)
    raise NotYet(why, retry_after(response, _MAX_PAUSE_SECONDS))


async def until_deadline(request: Callable[[], Awaitable[Answer]], deadline: float) -> Answer:
    """What ``request`` gives, tried again until ``deadline`` on the clock of the loop.

    Raises:
        GaveUp: it is refused, or the time is over.
    """
    loop = asyncio.get_running_loop()
    backoff = Backoff(first=0.2, ceiling=5.0)
    while True:
        pause: float | None = None
        try:
            return await request()
        except NotYet as error:
            why, pause = str(error), error.pause
        except HTTP_ERRORS as error:
            why = f"the application cannot be reached ({type(error).__name__})"
        pause = backoff.next() if pause is None else pause
        if loop.time() + pause >= deadline:
            raise GaveUp(why, final=False)
        await asyncio.sleep(pause)

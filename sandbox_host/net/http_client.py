"""HTTP client: sessions, bounded answers, retries."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

import aiohttp

from sandbox_host.net.backoff import Backoff

#: What a failed request raises.
HTTP_ERRORS = (aiohttp.ClientError, OSError, TimeoutError)

_CONNECT_SECONDS = 5.0
_MAX_PAUSE_SECONDS = 10.0

_REQUEST_TIMEOUT, _TOO_MANY_REQUESTS, _SERVER_ERROR = 408, 429, 500

Answer = TypeVar("Answer")


class TooLarge(Exception):
    """An answer is larger than allowed."""


class GaveUp(Exception):
    """A request failed, and is not retried any more; the message says why.

    Attributes:
        final: it was refused, and would be refused again.
    """

    def __init__(self, why: str, *, final: bool) -> None:
        super().__init__(why)
        self.final = final


class NotYet(Exception):
    """The service cannot answer now; ``pause`` is how many seconds it asks to wait, if it does."""

    def __init__(self, why: str, pause: float | None) -> None:
        super().__init__(why)
        self.pause = pause


def open_session(seconds: float) -> aiohttp.ClientSession:
    """A session that verifies certificates and takes no proxy or password from the environment.

    Args:
        seconds: how long one request may take, its answer included.
    """
    timeout = aiohttp.ClientTimeout(total=seconds, connect=min(seconds, _CONNECT_SECONDS))
    cookies = aiohttp.DummyCookieJar()
    return aiohttp.ClientSession(timeout=timeout, trust_env=False, cookie_jar=cookies)


async def read_at_most(response: aiohttp.ClientResponse, limit: int) -> bytes:
    """The body of ``response``.

    Raises:
        TooLarge: it has more than ``limit`` bytes; the connection is closed.
        HTTP_ERRORS: the connection failed.
    """
    body = bytearray()
    async for part in response.content.iter_any():
        body += part
        if len(body) > limit:
            response.close()
            raise TooLarge(f"the answer takes more than {limit} bytes")
    return bytes(body)


def retry_after(response: aiohttp.ClientResponse, ceiling: float) -> float | None:
    """Seconds that the ``Retry-After`` header asks to wait, at most ``ceiling``.

    None if there is no such header, or if it has a date (RFC 9110, section 10.2.3).
    """
    text = response.headers.get("Retry-After", "")
    return min(float(text), ceiling) if text.isdecimal() else None


def check_answer(response: aiohttp.ClientResponse) -> None:
    """Accept an answer whose status is below 300.

    Raises:
        NotYet: the request may succeed later.
        GaveUp: it will not.
    """
    if response.status < 300:
        return
    why = f"the application answered {response.status}"
    passing = response.status in (_REQUEST_TIMEOUT, _TOO_MANY_REQUESTS)
    if not passing and response.status < _SERVER_ERROR:
        raise GaveUp(why, final=True)
    raise NotYet(why, retry_after(response, _MAX_PAUSE_SECONDS))


async def until_deadline(request: Callable[[], Awaitable[Answer]], deadline: float) -> Answer:
    """The result of ``request``, retried until ``deadline``, a time of the event loop's clock.

    Raises:
        GaveUp: it was refused, or the deadline has passed.
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

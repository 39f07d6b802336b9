"""Client for the data plane of a session pool, of Azure Container Apps dynamic sessions.

Source: Azure/azure-rest-api-specs, ``specification/app/data-plane/DynamicSessions``, API version
`API_VERSION`. A session begins with the first request that has its identifier. If the pool has no
room for another session, that request gets a 404; if too many sessions begin at once, a 429. An
unknown API version gets a 401.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from typing import Any
from urllib.parse import quote

import aiohttp
from azure.core.credentials import AccessToken
from azure.core.exceptions import AzureError
from azure.identity.aio import DefaultAzureCredential

from sandbox_host.net.backoff import Backoff
from sandbox_host.net.http_client import (
    HTTP_ERRORS,
    TooLarge,
    open_session,
    read_at_most,
    retry_after,
)
from sandbox_host.runtimes.base import RuntimeFailure

log = logging.getLogger(__name__)

API_VERSION = "2025-10-02-preview"
SCOPE = "https://dynamicsessions.io/.default"

#: Seconds for which a request is retried; seconds that each attempt may take.
RETRY_SECONDS = 12.0
_REQUEST_SECONDS = 30.0

#: Seconds before its expiry at which a token is replaced.
_TOKEN_MARGIN_SECONDS = 300.0

_MAX_JSON_BYTES = 4 * 1024**2
_MAX_PAUSE_SECONDS = 5.0
_UNAUTHORIZED, _NOT_FOUND, _TOO_MANY_REQUESTS, _SERVER_ERROR = 401, 404, 429, 500


class Unanswered(RuntimeFailure):
    """A request, or its answer, was lost; the request may have been carried out."""


class TooMuch(RuntimeFailure):
    """An answer is larger than allowed."""


class Refused(RuntimeFailure):
    """The service refused a request.

    Attributes:
        status: the HTTP status.
        pause: seconds that the answer asks to wait; None if it does not.
    """

    def __init__(self, message: str, status: int, pause: float | None) -> None:
        super().__init__(message)
        self.status = status
        self.pause = pause


class SessionPool:
    """One session pool.

    Args:
        endpoint: its management endpoint.
        retry_seconds: for how long a request is retried.
    """

    def __init__(self, endpoint: str, retry_seconds: float = RETRY_SECONDS) -> None:
        self._endpoint = endpoint.rstrip("/")
        self._retry_seconds = retry_seconds
        self._http: aiohttp.ClientSession | None = None
        self._credential: DefaultAzureCredential | None = None
        self._token: AccessToken | None = None

    async def upload(self, session: str, name: str, content: bytes) -> None:
        """Put a file into the session's file area, which begins the session.

        Raises:
            RuntimeFailure: the pool has no room for another session, or does not answer.
        """
        await self._request("upload", session, "files", file=(name, content))

    async def execute(self, session: str, code: str, seconds: int, stream_limit: int) -> Any:  # noqa: ANN401
        """Begin to execute Python ``code``; the execution in the API's format.

        The service ends it after ``seconds``, and returns at most ``stream_limit`` characters each
        of stdout and stderr. It is not retried if the answer is lost: the code may be running.
        """
        body = {
            "codeInputType": "Inline",
            "executionType": "Asynchronous",
            "code": code,
            "timeoutInSeconds": seconds,
            "outputStreamsMaxLength": stream_limit,
        }
        return _json(await self._request("execute", session, "executions", body=body))

    async def execution(self, session: str, execution: str) -> Any:  # noqa: ANN401
        """The state of an execution, in the API's format."""
        path = f"executions/{quote(execution, safe='')}"
        return _json(await self._request("poll", session, path))

    async def download(self, session: str, name: str, limit: int) -> bytes:
        """The content of a file.

        Raises:
            TooMuch: it has more than ``limit`` bytes.
            Refused: there is no such file.
        """
        path = f"files/{quote(name, safe='')}/content"
        return await self._request("download", session, path, limit=limit)

    async def delete(self, session: str) -> None:
        """End the session and all that runs in it; one that has ended already is no error.

        Raises:
            RuntimeFailure: it may continue until the pool ends it.
        """
        try:
            await self._request("delete", session, "session", method="DELETE")
        except Refused as error:
            if error.status != _NOT_FOUND:
                raise

    async def aclose(self) -> None:
        """Close the connections."""
        if self._http is not None:
            await self._http.close()
        await self._forget_token()

    async def _request(self, purpose: str, session: str, path: str, **request: Any) -> bytes:  # noqa: ANN401
        """Send a request; for `retry_seconds`, retry it when that may help and cannot do harm."""
        deadline = time.monotonic() + self._retry_seconds
        backoff = Backoff(first=0.25, ceiling=_MAX_PAUSE_SECONDS)
        renewed = False
        while True:
            pause: float | None = None
            failure: RuntimeFailure
            try:
                return await self._send(purpose, session, path, **request)
            except Refused as error:
                if error.status == _UNAUTHORIZED and not renewed:
                    renewed = True
                    await self._forget_token()
                    continue
                if not _may_pass(purpose, error):
                    raise
                pause, failure = error.pause, error
            except Unanswered as error:
                if purpose == "execute":
                    raise
                failure = error
            wait = backoff.next() if pause is None else pause
            if time.monotonic() + wait >= deadline:
                raise failure
            await asyncio.sleep(wait)

    async def _send(
        self,
        purpose: str,
        session: str,
        path: str,
        *,
        method: str | None = None,
        body: dict[str, Any] | None = None,
        file: tuple[str, bytes] | None = None,
        limit: int = _MAX_JSON_BYTES,
    ) -> bytes:
        data = _form(*file) if file else None
        headers = {"Authorization": f"Bearer {await self._bearer()}"}
        if self._http is None:
            self._http = open_session(_REQUEST_SECONDS)
        try:
            async with self._http.request(
                method or ("POST" if body or file else "GET"),
                f"{self._endpoint}/{path}",
                params={"api-version": API_VERSION, "identifier": session},
                headers=headers,
                json=body,
                data=data,
                allow_redirects=False,
            ) as response:
                if 200 <= response.status < 300:
                    return await read_at_most(response, limit)
                pause = retry_after(response, _MAX_PAUSE_SECONDS)
                detail = await _error_of(response)
                raise Refused(f"{purpose}: {response.status} {detail}", response.status, pause)
        except TooLarge as error:
            raise TooMuch(f"{purpose}: {error}") from None
        except HTTP_ERRORS as error:
            raise Unanswered(f"{purpose}: {type(error).__name__}: {error}") from None

    async def _bearer(self) -> str:
        if self._token is None or self._token.expires_on - time.time() < _TOKEN_MARGIN_SECONDS:
            if self._credential is None:
                self._credential = DefaultAzureCredential()
            try:
                self._token = await self._credential.get_token(SCOPE)
            except AzureError as error:
                first = str(error).splitlines()[0]
                raise RuntimeFailure(f"no token for the session pool: {first}") from None
        return self._token.token

    async def _forget_token(self) -> None:
        """Drop the token and its credential, which would return the same token again."""
        self._token = None
        credential, self._credential = self._credential, None
        if credential is not None:
            await credential.close()


def _may_pass(purpose: str, error: Refused) -> bool:
    """Whether the same request may succeed a little later."""
    if error.status == _TOO_MANY_REQUESTS:
        return True
    if purpose == "upload" and error.status == _NOT_FOUND:  # no room in the pool
        return True
    return error.status >= _SERVER_ERROR and purpose != "execute"


def _form(name: str, content: bytes) -> aiohttp.FormData:
    form = aiohttp.FormData()
    form.add_field("file", content, filename=name, content_type="application/octet-stream")
    return form


def _json(raw: bytes) -> Any:  # noqa: ANN401
    try:
        return json.loads(raw)
    except ValueError:
        raise RuntimeFailure("the session pool's answer is not JSON") from None


async def _error_of(response: aiohttp.ClientResponse) -> str:
    """Code and message of an error answer, at most 300 characters."""
    try:
        error = json.loads(await read_at_most(response, _MAX_JSON_BYTES))["error"]
        return f"{error['code']}: {error['message']}"[:300]
    except (TooLarge, ValueError, KeyError, TypeError):
        return response.reason or ""

"""Fetches a job's inputs, which are artifacts of earlier programs, before it runs."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial

import aiohttp

from domain.contracts.heartbeat import INPUT_ROUTE
from domain.contracts.job import JobInput, SandboxJob
from sandbox_host.net.http_client import (
    GaveUp,
    TooLarge,
    check_answer,
    open_session,
    read_at_most,
    until_deadline,
)
from sandbox_host.run.job import InvalidJob, PreparedJob, with_inputs

#: Seconds that all inputs of one run may take together, retries included.
GIVE_UP_SECONDS = 60.0

_REQUEST_SECONDS = 30.0


class InputsUnavailable(Exception):
    """The application did not provide an input; a retry may succeed."""


class InputFetcher:
    """Fetches inputs from the application at ``app_url``; without one, jobs with inputs fail."""

    def __init__(self, app_url: str | None, give_up_seconds: float = GIVE_UP_SECONDS) -> None:
        self._app_url = app_url
        self._give_up_seconds = give_up_seconds

    async def fetch(self, job: PreparedJob) -> PreparedJob:
        """``job`` with its inputs added to its files.

        Raises:
            InvalidJob: its inputs exceed its limits, or can never be fetched.
            InputsUnavailable: the application cannot be reached.
        """
        if not job.job.inputs:
            return job
        if self._app_url is None:
            raise InvalidJob("inputs: this sandbox host needs QLP_SANDBOX_APP_URL to fetch them")
        if job.job.token is None:
            raise InvalidJob("inputs: the job has no token; set QLP_RUN_TOKEN_KEY")
        deadline = asyncio.get_running_loop().time() + self._give_up_seconds
        contents: dict[str, bytes] = {}
        async with open_session(_REQUEST_SECONDS) as session:
            for wanted in job.job.inputs:
                if wanted.sha256 not in contents:
                    get = partial(_get, session, self._url(job.job, wanted), job.job.token, wanted)
                    contents[wanted.sha256] = await _retry_while_unavailable(get, deadline, wanted)
        return replace(job, files=with_inputs(job, contents))

    def _url(self, job: SandboxJob, wanted: JobInput) -> str:
        route = INPUT_ROUTE.format(run_id=job.run_id, sha256=wanted.sha256)
        return f"{self._app_url}/api/{route}"


async def _retry_while_unavailable(
    get: Callable[[], Awaitable[bytes]], deadline: float, wanted: JobInput
) -> bytes:
    try:
        return await until_deadline(get, deadline)
    except GaveUp as error:
        why = f"inputs: {wanted.path!r} cannot be fetched: {error}"
        if error.final:
            raise InvalidJob(why) from None
        raise InputsUnavailable(why) from None


async def _get(session: aiohttp.ClientSession, url: str, token: str, wanted: JobInput) -> bytes:
    headers = {"Authorization": f"Bearer {token}"}
    async with session.get(url, headers=headers, allow_redirects=False) as response:
        check_answer(response)
        try:
            content = await read_at_most(response, wanted.size)
        except TooLarge as error:
            raise GaveUp(str(error), final=True) from None
    if hashlib.sha256(content).hexdigest() != wanted.sha256:
        raise GaveUp("its content does not match its hash", final=True)
    return content

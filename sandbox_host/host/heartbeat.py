"""Reports running programs and their output to the application, and learns which to kill.

No failure here affects a run: a program never waits for the application. While the application is
unavailable, output is kept up to a limit; the result carries what was never reported.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Iterator
from dataclasses import dataclass, field
from uuid import UUID

import aiohttp
from pydantic import ValidationError

from domain.contracts.heartbeat import (
    HEARTBEAT_ROUTE,
    HEARTBEAT_SECONDS,
    MAX_RUNS,
    RUN_HEADER,
    RUN_REALM,
    Heartbeat,
    Order,
    Orders,
    RunBeat,
)
from domain.contracts.job import SandboxJob
from domain.contracts.strict_json import read_as
from sandbox_host.host.live_output import LiveOutput
from sandbox_host.net.backoff import Backoff
from sandbox_host.net.http_client import HTTP_ERRORS, TooLarge, open_session, read_at_most
from sandbox_host.run.events import security_event
from sandbox_host.runtimes.base import RunControl

log = logging.getLogger(__name__)

#: Age of a run at its first heartbeat, seconds. Most programs have ended by then, and one that was
#: cancelled while in the queue is killed soon.
FIRST_SECONDS = 0.25

#: Minimum seconds between two heartbeats, however many runs begin.
_GAP_SECONDS = 0.1

#: Seconds a heartbeat request may take; a later answer would be useless.
_REQUEST_SECONDS = 5.0

#: Encoded bytes of runs in one request; the application accepts at most 256 KB.
_MAX_REQUEST_BYTES = 192 * 1024
_MAX_ANSWER_BYTES = 64 * 1024

_OK = 200


@dataclass
class _Followed:
    """A run that is reported; ``started`` and ``due`` are times of the event loop's clock."""

    job: SandboxJob
    token: str
    control: RunControl
    started: float
    due: float
    output: LiveOutput = field(default_factory=LiveOutput)

    def beat(self) -> RunBeat:
        return RunBeat(
            run_id=self.job.run_id,
            intent_id=self.job.intent_id,
            token=self.token,
            output=self.output.chunks(),
        )


class _TokenRefused(Exception):
    """The application refused a heartbeat's token."""


class _Failed(Exception):
    """A heartbeat failed; the message says why."""

    def __repr__(self) -> str:
        return str(self)


class HeartbeatClient:
    """Sends heartbeats for all followed runs, in one request if they fit.

    Args:
        app_url: base URL of the application's HTTP API, without ``/api``.
        host: this host's name in the application's logs.
    """

    def __init__(self, app_url: str, host: str) -> None:
        self._url = f"{app_url}/api/{HEARTBEAT_ROUTE}"
        self._host = host[:128]
        self._followed: dict[UUID, _Followed] = {}
        self._changed = asyncio.Event()
        self._backoff = Backoff(first=HEARTBEAT_SECONDS, ceiling=10.0)
        self._not_before = 0.0
        self._problem: str | None = None

    def state(self) -> dict[str, object]:
        """For ``/health``."""
        status = "degraded" if self._problem else "ok"
        return {"status": status, "problem": self._problem, "following": len(self._followed)}

    @contextlib.contextmanager
    def following(self, job: SandboxJob, control: RunControl) -> Iterator[None]:
        """Send heartbeats for ``job`` while the block runs, if it has a token."""
        if job.token is None:
            yield
            return
        now = asyncio.get_running_loop().time()
        followed = _Followed(job, job.token, control, now, now + FIRST_SECONDS)
        control.on_output = followed.output.feed
        self._followed[job.run_id] = followed
        self._changed.set()
        try:
            yield
        finally:
            self._followed.pop(job.run_id, None)

    async def beat_forever(self) -> None:
        """Send heartbeats until cancelled."""
        async with open_session(_REQUEST_SECONDS) as session:
            while True:
                await self._until_due()
                await self._beat(session)

    async def _until_due(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            due = min((run.due for run in self._followed.values()), default=None)
            wait = None if due is None else max(due, self._not_before) - loop.time()
            if wait is not None and wait <= 0:
                return
            self._changed.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), wait)

    async def _beat(self, session: aiohttp.ClientSession) -> None:
        now = asyncio.get_running_loop().time()
        runs = [run for run in self._followed.values() if run.started + FIRST_SECONDS <= now]
        for run in runs:
            run.due = now + HEARTBEAT_SECONDS
        outcomes = await asyncio.gather(
            *(self._send(session, group) for group in _groups(runs)), return_exceptions=True
        )
        failures = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
        for failure in failures:
            if not isinstance(failure, Exception):
                raise failure
            if not isinstance(failure, _Failed):
                # A bug in this host; it must not keep programs from running.
                log.error("a heartbeat failed unexpectedly", exc_info=failure)
        self._note(repr(failures[0]) if failures else None)

    def _note(self, problem: str | None) -> None:
        if problem and not self._problem:
            log.warning("heartbeats do not reach the application (%s); runs continue", problem)
        if self._problem and not problem:
            log.info("heartbeats reach the application again")
        self._problem = problem
        pause = _GAP_SECONDS
        if problem:
            pause = self._backoff.next()
        else:
            self._backoff.reset()
        self._not_before = asyncio.get_running_loop().time() + pause

    async def _send(
        self, session: aiohttp.ClientSession, group: list[tuple[_Followed, RunBeat]]
    ) -> None:
        beat = Heartbeat(host=self._host, runs=tuple(one for _, one in group))
        try:
            orders = await self._post(session, beat)
        except _TokenRefused:
            # The request was sent with the first run's token; the other runs will use their own.
            orders = {group[0][1].run_id: Order.REFUSED}
        for followed, _ in group:
            self._apply(followed, orders.get(followed.job.run_id))

    async def _post(self, session: aiohttp.ClientSession, beat: Heartbeat) -> dict[UUID, Order]:
        try:
            async with session.post(
                self._url,
                data=beat.model_dump_json().encode(),
                headers={
                    "Content-Type": "application/json",
                    "Authorization": f"Bearer {beat.runs[0].token}",
                    RUN_HEADER: str(beat.runs[0].run_id),
                },
                allow_redirects=False,
            ) as response:
                if RUN_REALM in response.headers.get("WWW-Authenticate", ""):
                    raise _TokenRefused
                if response.status != _OK:
                    raise _Failed(f"the application answered {response.status}")
                raw = await read_at_most(response, _MAX_ANSWER_BYTES)
            return read_as(Orders, raw).orders
        except (TooLarge, ValidationError) as error:
            raise _Failed(f"the answer has no orders: {type(error).__name__}") from None
        except HTTP_ERRORS as error:
            raise _Failed(f"{type(error).__name__}: {error}".removesuffix(": ")) from None

    def _apply(self, followed: _Followed, order: Order | None) -> None:
        run_id = followed.job.run_id
        if order is None:
            return
        if order is Order.REFUSED:
            if self._followed.get(run_id) is followed:
                del self._followed[run_id]
            security_event(
                "token_refused",
                f"the application refused the token of run {run_id}",
                run_id=str(run_id),
                intent_id=str(followed.job.intent_id),
            )
            return
        followed.output.delivered()
        if order is Order.KILL and not followed.control.kill.is_set():
            log.info("the application asks to kill run %s", run_id)
            followed.control.kill.set()


def _groups(runs: list[_Followed]) -> Iterator[list[tuple[_Followed, RunBeat]]]:
    """``runs`` with their heartbeats, divided into requests that are not too large."""
    group: list[tuple[_Followed, RunBeat]] = []
    size = 0
    for run in runs:
        beat = run.beat()
        needed = len(beat.model_dump_json().encode())
        if group and (len(group) == MAX_RUNS or size + needed > _MAX_REQUEST_BYTES):
            yield group
            group, size = [], 0
        group.append((run, beat))
        size += needed
    if group:
        yield group

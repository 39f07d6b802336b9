"""Receives jobs from the queue, has them run, sends their results, and settles the messages.

A crash at any point is harmless: the result is sent before the job is completed. If the host dies
in between, the job is delivered again, and its result has the same message ID.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Iterator

from azure.servicebus import ServiceBusReceivedMessage
from azure.servicebus.exceptions import MessageLockLostError

from domain.contracts.envelope import Envelope
from sandbox_host.host.bus import BUS_ERRORS, Bus, Link
from sandbox_host.host.job_runner import NotNow, Runner
from sandbox_host.host.messages import (
    Refused,
    Reply,
    Unreadable,
    body_of,
    failure,
    read_envelope,
    read_job,
    reply,
)
from sandbox_host.host.recent_runs import RecentRuns
from sandbox_host.host.status import HostStatus
from sandbox_host.host.supervisor import Supervisor
from sandbox_host.net.backoff import Backoff
from sandbox_host.run.background import unless_set
from sandbox_host.run.events import run_ended
from sandbox_host.run.job import PreparedJob
from sandbox_host.settings import HAND_BACK_SECONDS

log = logging.getLogger(__name__)

#: Seconds that abandoning a job's message may take while the host stops; killing takes the rest.
_ABANDON_SECONDS = HAND_BACK_SECONDS / 2

#: Seconds for which a message that failed unexpectedly is held back: four times longer each time.
_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 30.0


def _pause(message: ServiceBusReceivedMessage) -> float:
    return min(_FIRST_PAUSE * 4.0 ** min(message.delivery_count or 0, 8), _LONGEST_PAUSE)


class Consumer:
    """Runs up to ``concurrency`` jobs at once; each worker has its own link to the bus.

    A worker receives a job only when it can start one, so that no job waits here that another host
    could run. The exception: each worker may hold one job that needs more memory than is free.
    """

    def __init__(
        self,
        bus: Bus,
        supervisor: Supervisor,
        runner: Runner,
        status: HostStatus,
        concurrency: int,
    ) -> None:
        self._bus = bus
        self._supervisor = supervisor
        self._runner = runner
        self._status = status
        self._runs = RecentRuns()
        self._stop = asyncio.Event()
        self._workers = [
            asyncio.create_task(self._work(), name=f"worker-{n}") for n in range(concurrency)
        ]

    def stop(self) -> None:
        """Receive no more jobs; running ones continue."""
        self._status.stopping = True
        self._stop.set()

    async def drain(self, seconds: float) -> None:
        """Wait for running jobs; after ``seconds``, kill the rest and abandon their messages."""
        _, late = await asyncio.wait(self._workers, timeout=seconds)
        for worker in late:
            worker.cancel()
        if late:
            log.warning(
                "%d jobs still ran after %g s; they go back to the queue", len(late), seconds
            )
            await asyncio.wait(late, timeout=HAND_BACK_SECONDS)

    async def _work(self) -> None:
        backoff = Backoff()
        while not self._stop.is_set():
            if await unless_set(self._stop, self._supervisor.available()) is None:
                return
            try:
                async with self._bus.link() as link:
                    with self._connected():
                        await self._serve(link, backoff)
            except Exception as error:  # noqa: BLE001 - the SDK raises more than it documents
                pause = backoff.next()
                self._status.failed(f"Service Bus: {type(error).__name__}: {error}")
                log.warning("Service Bus is unavailable (%s); retrying in %.1f s", error, pause)
                await unless_set(self._stop, asyncio.sleep(pause))

    @contextlib.contextmanager
    def _connected(self) -> Iterator[None]:
        self._status.connected += 1
        try:
            yield
        finally:
            self._status.connected -= 1

    async def _serve(self, link: Link, backoff: Backoff) -> None:
        """Receive and handle messages, one after the other, while there is a runtime."""
        while not self._stop.is_set() and self._supervisor.runtime is not None:
            if await unless_set(self._stop, self._runner.wait_for_capacity()) is None:
                return
            message = await unless_set(self._stop, link.receive())
            backoff.reset()
            if message is not None:
                await self._settle(link, message)

    async def _settle(self, link: Link, message: ServiceBusReceivedMessage) -> None:
        """Handle one message; whatever happens, it is settled or abandoned.

        Raises:
            BUS_ERRORS: the link is broken; the message's lock will expire.
        """
        try:
            await self._handle(link, message)
        except asyncio.CancelledError:
            with contextlib.suppress(*BUS_ERRORS):
                await asyncio.wait_for(link.abandon(message), _ABANDON_SECONDS)
            raise
        except MessageLockLostError:
            log.warning(
                "the lock on message %s was lost; it will be delivered again", message.message_id
            )
        except BUS_ERRORS:
            raise
        except NotNow as why:
            log.info("message %s is abandoned: %s", message.message_id, why)
            await link.abandon(message)
        except Exception as error:
            log.exception("message %s failed unexpectedly", message.message_id)
            self._status.failed(f"{type(error).__name__}: {error}")
            # An abandoned message is delivered again at once, perhaps to this host. Holding it
            # first keeps its delivery attempts from being used up.
            await unless_set(self._stop, asyncio.sleep(_pause(message)))
            await link.abandon(message)

    async def _handle(self, link: Link, message: ServiceBusReceivedMessage) -> None:
        try:
            envelope = read_envelope(body_of(message))
            job = read_job(envelope)
        except Unreadable as error:
            self._status.dead_lettered += 1
            log.warning("dead-lettered message %s: %s", message.message_id, error)
            await link.dead_letter(message, error.reason, str(error))
        except Refused as error:
            result = failure(error.run_id, error.intent_id, error.verdict, str(error))
            await self._answer(link, message, reply(envelope, result))
            self._status.finished[result.verdict] += 1
            run_ended(result)
        else:
            await self._once(link, message, envelope, job)

    async def _once(
        self, link: Link, message: ServiceBusReceivedMessage, envelope: Envelope, job: PreparedJob
    ) -> None:
        """Send a job's result; run the job only if this host has not done so already."""
        run_id, sequence_number = job.job.run_id, message.sequence_number or 0
        running = self._runs.running(run_id)
        if running is not None and self._runs.result(run_id) is None:
            if running.sequence_number != sequence_number:
                log.info("run %s is in progress; dropped a duplicate of its job", run_id)
                await link.complete(message)
                return
            # This is the message that started the run; its lock was lost. To complete it now would
            # lose the job if this host died before the result is sent.
            await running.settled.wait()
        answer = self._runs.result(run_id)
        if answer is not None:
            log.info("run %s has ended already; sending its result again", run_id)
            await self._answer(link, message, answer)
            return
        self._runs.begin(run_id, sequence_number)
        try:
            answer = reply(envelope, await self._runner.run(job))
            self._runs.remember(run_id, answer)
            await self._answer(link, message, answer)
        finally:
            self._runs.end(run_id)

    async def _answer(self, link: Link, message: ServiceBusReceivedMessage, answer: Reply) -> None:
        if await link.send(message, answer):
            await link.complete(message)

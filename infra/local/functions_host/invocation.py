"""Running a function as the Python worker does: on the event loop or in a thread."""

from __future__ import annotations

import asyncio
import inspect
import logging
import os
import time
import uuid
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

from infra.local.functions_host.context import Context, thread_local
from infra.local.functions_host.errors import HostStartupError
from infra.local.functions_host.model import HostedFunction

logger = logging.getLogger(__name__)

_NO_TRACE: Mapping[str, str] = {}


class FunctionFailedError(Exception):
    """The function raised, timed out or broke a rule of the worker; this has been logged."""


def thread_count(environ: Mapping[str, str]) -> int:
    """Return PYTHON_THREADPOOL_THREAD_COUNT, by default min(32, processors + 4)."""
    text = environ.get("PYTHON_THREADPOOL_THREAD_COUNT")
    if text is None:
        return min(32, (os.cpu_count() or 1) + 4)
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= 1000:
        raise HostStartupError(
            f"PYTHON_THREADPOOL_THREAD_COUNT must be a number from 1 to 1000, got {text!r}"
        )
    return int(text)


class Invoker:
    """Runs functions and counts those that are running.

    ``timeout`` is ``functionTimeout`` in seconds, None for no limit. A coroutine that exceeds it is
    cancelled; a synchronous function cannot be stopped and keeps its thread until it returns.
    """

    def __init__(self, *, timeout: float | None, threads: int) -> None:
        self._timeout = timeout
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="function")
        self._idle = asyncio.Event()
        self._idle.set()
        self.in_flight = 0

    async def run(
        self, function: HostedFunction, argument: object, trace: Mapping[str, str] = _NO_TRACE
    ) -> object:
        """Call ``function`` and return its result.

        ``trace`` may hold ``traceparent`` and ``tracestate``. Any error of the function is logged
        and raised as FunctionFailedError; the cancellation of the calling task is passed on.
        """
        invocation_id = str(uuid.uuid4())
        arguments = {function.trigger.parameter: argument}
        if function.requires_context:
            arguments["context"] = Context(invocation_id, function.name, function.directory, trace)
        started = time.perf_counter()
        self._enter()
        try:
            return await self._guarded(function, arguments, invocation_id)
        finally:
            self._leave()
            if logger.isEnabledFor(logging.DEBUG):
                milliseconds = (time.perf_counter() - started) * 1000
                logger.debug(
                    "invoked %s (%s) in %.1f ms", function.name, invocation_id, milliseconds
                )

    async def _guarded(
        self, function: HostedFunction, arguments: dict[str, object], invocation_id: str
    ) -> object:
        deadline = asyncio.timeout(self._timeout)
        try:
            async with deadline:
                if function.is_async:
                    result = await function.call(**arguments)
                else:
                    result = await self._in_thread(function, arguments, invocation_id)
            _check_result(function, result)
            return result
        except (GeneratorExit, KeyboardInterrupt):
            raise
        except BaseException as error:  # sys.exit() in a function ends only its call
            task = asyncio.current_task()
            if isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling():
                logger.warning("function %s was cancelled (%s)", function.name, invocation_id)
                raise
            if deadline.expired():
                logger.error(  # a traceback would show this host, not the function
                    "function %s exceeded functionTimeout of %g s (%s)",
                    function.name,
                    self._timeout,
                    invocation_id,
                )
            else:
                logger.error(
                    "function %s failed (%s)", function.name, invocation_id, exc_info=error
                )
            raise FunctionFailedError(function.name) from error

    async def _in_thread(
        self, function: HostedFunction, arguments: dict[str, object], invocation_id: str
    ) -> object:
        def call() -> object:
            thread_local.invocation_id = invocation_id
            try:
                return function.call(**arguments)
            finally:
                thread_local.invocation_id = None

        return await asyncio.get_running_loop().run_in_executor(self._threads, call)

    def _enter(self) -> None:
        self.in_flight += 1
        self._idle.clear()

    def _leave(self) -> None:
        self.in_flight -= 1
        if not self.in_flight:
            self._idle.set()

    async def drain(self, seconds: float) -> bool:
        """Wait until no function runs; False if one still does after ``seconds``."""
        try:
            async with asyncio.timeout(seconds):
                await self._idle.wait()
        except TimeoutError:
            return False
        return True

    def close(self) -> None:
        """Start no more threads; does not wait for those that run."""
        self._threads.shutdown(wait=False, cancel_futures=True)


def _check_result(function: HostedFunction, result: object) -> None:
    if inspect.iscoroutine(result):
        result.close()
        raise TypeError(
            f"function {function.name} is a plain function that returned a coroutine; "
            "make it (or its decorator's wrapper) `async def`"
        )
    if result is not None and not function.has_return:
        raise TypeError(
            f"function {function.name} returned {type(result).__name__}, "
            "but has no $return binding: it must return None"
        )

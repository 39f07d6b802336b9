"""An invocation ends in a result or in one kind of failure, and is timed and traced."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

import azure.functions as func
import pytest

from infra.local.functions_host.errors import HostStartupError
from infra.local.functions_host.invocation import FunctionFailedError, Invoker, thread_count
from infra.local.functions_host.model import HostedFunction, TimerTrigger

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def hosted(
    call: Callable[..., Any], *, context: bool = False, has_return: bool = True
) -> HostedFunction:
    trigger = TimerTrigger("x", "00:01:00", False, None)
    is_async = asyncio.iscoroutinefunction(call)
    return HostedFunction("f", call, is_async, context, has_return, trigger, "/app", False, [])


def invoker(timeout: float | None = 60, threads: int = 2) -> Invoker:
    return Invoker(timeout=timeout, threads=threads)


async def test_coroutines_run_on_the_loop_and_functions_in_threads() -> None:
    async def on_loop(x: int) -> tuple[int, str]:
        return x, threading.current_thread().name

    def in_thread(x: int) -> tuple[int, str]:
        return x, threading.current_thread().name

    assert await invoker().run(hosted(on_loop), 1) == (1, "MainThread")
    result = await invoker().run(hosted(in_thread), 2)
    assert isinstance(result, tuple)
    assert result[0] == 2
    assert result[1].startswith("function_")


async def test_only_as_many_threads_as_configured() -> None:
    running, most = 0, 0
    lock = threading.Lock()

    def busy(x: None) -> None:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        time.sleep(0.05)
        with lock:
            running -= 1

    shared = invoker(threads=2)
    await asyncio.gather(*(shared.run(hosted(busy), None) for _ in range(6)))
    assert most == 2


@pytest.mark.parametrize("error", [ValueError("broken"), SystemExit(3), asyncio.CancelledError()])
async def test_whatever_a_function_raises_is_one_failure_and_is_logged(
    error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken(x: None) -> None:
        raise error

    with pytest.raises(FunctionFailedError):
        await invoker().run(hosted(broken), None)
    assert "function f failed" in caplog.text
    assert "in broken" in caplog.text  # the stack


async def test_a_coroutine_that_exceeds_the_timeout_is_cancelled(
    caplog: pytest.LogCaptureFixture,
) -> None:
    cancelled = asyncio.Event()

    async def slow(x: None) -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            cancelled.set()
            raise

    with pytest.raises(FunctionFailedError):
        await invoker(timeout=0.05).run(hosted(slow), None)
    assert cancelled.is_set()
    assert "exceeded functionTimeout of 0.05 s" in caplog.text


async def test_a_functions_own_timeout_error_is_not_taken_for_the_hosts(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def gives_up(x: None) -> None:
        raise TimeoutError("upstream")

    with pytest.raises(FunctionFailedError):
        await invoker().run(hosted(gives_up), None)
    assert "exceeded" not in caplog.text


async def test_a_synchronous_function_that_exceeds_the_timeout_has_failed() -> None:
    release = threading.Event()

    def stuck(x: None) -> None:
        release.wait(10)

    with pytest.raises(FunctionFailedError):
        await invoker(timeout=0.05).run(hosted(stuck), None)
    release.set()


async def test_cancelling_the_host_passes_through() -> None:
    async def slow(x: None) -> None:
        await asyncio.sleep(60)

    shared = invoker()
    task = asyncio.create_task(shared.run(hosted(slow), None))
    while not shared.in_flight:
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert shared.in_flight == 0


async def test_a_returned_coroutine_is_explained(caplog: pytest.LogCaptureFixture) -> None:
    async def inner() -> None: ...

    def wrapper(x: None) -> Any:
        return inner()

    with pytest.raises(FunctionFailedError):
        await invoker().run(hosted(wrapper), None)
    assert "async def" in caplog.text


async def test_a_result_without_a_return_binding_is_a_failure(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def chatty(x: None) -> str:
        return "done"

    with pytest.raises(FunctionFailedError):
        await invoker().run(hosted(chatty, has_return=False), None)
    assert "$return" in caplog.text


async def context_of(trace: Mapping[str, str]) -> func.Context:
    seen: list[func.Context] = []

    async def f(x: None, context: func.Context) -> None:
        seen.append(context)

    await invoker().run(hosted(f, context=True), None, trace)
    return seen[0]


async def test_the_context_has_what_the_worker_gives() -> None:
    context = await context_of({"traceparent": TRACE, "tracestate": "a=b"})
    assert context.function_name == "f"
    assert context.function_directory == "/app"
    assert len(context.invocation_id) == 36
    assert context.trace_context.trace_parent == TRACE
    assert context.trace_context.trace_state == "a=b"
    assert context.retry_context.retry_count == 0


@pytest.mark.parametrize(
    "header",
    [
        "",
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331",
        TRACE.upper(),
        TRACE + "\n",
        TRACE.replace("b7ad6b7169203331", "0" * 16),
        "01" + TRACE[2:],
    ],
)
async def test_an_invalid_traceparent_is_replaced_and_its_state_dropped(header: str) -> None:
    trace = (await context_of({"traceparent": header, "tracestate": "a=b"})).trace_context
    assert trace.trace_parent != header
    assert len(trace.trace_parent) == 55
    assert trace.trace_state == ""


async def test_the_thread_knows_its_invocation() -> None:
    def f(x: None, context: func.Context) -> bool:
        return bool(context.thread_local_storage.invocation_id == context.invocation_id)  # type: ignore[attr-defined]

    assert await invoker().run(hosted(f, context=True), None)


async def test_each_invocation_is_one_line_at_debug(caplog: pytest.LogCaptureFixture) -> None:
    async def f(x: None) -> None: ...

    with caplog.at_level(logging.DEBUG):
        await invoker().run(hosted(f), None)
    assert sum("invoked f" in record.getMessage() for record in caplog.records) == 1


async def test_draining_waits_for_what_runs_and_no_longer_than_told() -> None:
    release = asyncio.Event()

    async def slow(x: None) -> None:
        await release.wait()

    shared = invoker()
    task = asyncio.create_task(shared.run(hosted(slow), None))
    while not shared.in_flight:
        await asyncio.sleep(0)
    assert not await shared.drain(0.01)
    release.set()
    assert await shared.drain(30)
    await task


def test_the_number_of_threads_is_checked() -> None:
    assert thread_count({"PYTHON_THREADPOOL_THREAD_COUNT": "7"}) == 7
    assert 5 <= thread_count({}) <= 32
    for wrong in ("0", "many", "-1", "1.5", "99999"):
        with pytest.raises(HostStartupError, match="PYTHON_THREADPOOL_THREAD_COUNT"):
            thread_count({"PYTHON_THREADPOOL_THREAD_COUNT": wrong})

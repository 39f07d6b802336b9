"""What the Python worker refuses is refused at start, by name; what it takes is indexed."""

from __future__ import annotations

import functools
import json
import logging
import typing
from collections.abc import Callable
from typing import Any

import azure.functions as func
import pytest

from infra.local.functions_host import worker_rules
from infra.local.functions_host.errors import HostStartupError
from infra.local.functions_host.worker_rules import Signature


def check(build: Callable[[func.FunctionApp], Any]) -> Signature:
    app = func.FunctionApp()
    build(app)
    (function,) = app.get_functions()
    bindings = [json.loads(raw) for raw in function.get_raw_bindings()]
    return worker_rules.check("function f", function.get_user_function(), bindings)


def refused(build: Callable[[func.FunctionApp], Any]) -> str:
    with pytest.raises(HostStartupError, match=r"^function f") as refusal:
        check(build)
    return str(refusal.value)


def test_async_and_context_are_found() -> None:
    def build(app: func.FunctionApp) -> None:
        @app.route("x")
        async def f(req: func.HttpRequest, context: func.Context) -> func.HttpResponse:
            return func.HttpResponse()

    rules = check(build)
    assert rules.is_async
    assert rules.requires_context
    assert rules.has_return


def test_a_timer_has_no_return() -> None:
    def build(app: func.FunctionApp) -> None:
        @app.timer_trigger(arg_name="timer", schedule="0 * * * * *")
        def f(timer: func.TimerRequest) -> None: ...

    rules = check(build)
    assert not rules.has_return
    assert not rules.is_async


@pytest.mark.parametrize("plain", [str, bytes])
def test_a_message_may_be_taken_as_its_plain_body(plain: type) -> None:
    def build(app: func.FunctionApp) -> None:
        def f(m): ...  # type: ignore[no-untyped-def]

        f.__annotations__["m"] = plain
        app.service_bus_queue_trigger(arg_name="m", queue_name="q", connection="c")(f)

    assert check(build).plain is plain


def test_a_parameter_without_a_binding_is_named() -> None:
    def build(app: func.FunctionApp) -> None:
        @app.route("x")
        def f(req: func.HttpRequest, extra: str) -> str:
            return ""

    assert "without a binding: extra" in refused(build)


def test_a_binding_without_a_parameter_is_named() -> None:
    def build(app: func.FunctionApp) -> None:
        @app.route("x", trigger_arg_name="request")
        def f() -> str:
            return ""

    assert "without a parameter: request" in refused(build)


def test_a_wrong_annotation_is_named() -> None:
    def build(app: func.FunctionApp) -> None:
        @app.timer_trigger(arg_name="timer", schedule="0 * * * * *")
        def f(timer: func.HttpRequest) -> None: ...

    assert "'timer'" in refused(build)


def test_a_builtin_list_is_refused_as_by_the_worker_and_typing_list_is_not() -> None:
    def build(annotation: object) -> Callable[[func.FunctionApp], None]:
        def into(app: func.FunctionApp) -> None:
            def f(m): ...  # type: ignore[no-untyped-def]

            f.__annotations__["m"] = annotation
            app.service_bus_queue_trigger(
                arg_name="m", queue_name="q", connection="c", cardinality="many"
            )(f)

        return into

    assert "typing.List" in refused(build(list[func.ServiceBusMessage]))
    assert check(build(typing.List[func.ServiceBusMessage])).plain is None  # noqa: UP006


def test_a_union_as_return_annotation_is_refused_as_by_the_worker() -> None:
    def build(app: func.FunctionApp) -> None:
        @app.route("x")
        def f(req: func.HttpRequest) -> str | func.HttpResponse:
            return ""

    assert "return annotation" in refused(build)


def test_a_context_of_another_type_is_refused() -> None:
    def build(app: func.FunctionApp) -> None:
        @app.route("x")
        def f(req: func.HttpRequest, context: dict[str, str]) -> str:
            return ""

    assert "azure.functions.Context" in refused(build)


def test_a_generator_is_refused() -> None:
    def build(app: func.FunctionApp) -> None:
        @app.route("x")
        async def f(req: func.HttpRequest):  # type: ignore[no-untyped-def]
            yield ""

    assert "generator" in refused(build)


def test_a_plain_wrapper_of_a_coroutine_is_told_at_start(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def traced(inner: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(inner)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            return inner(*args, **kwargs)

        return wrapper

    def build(app: func.FunctionApp) -> None:
        @app.route("x")
        @traced
        async def f(req: func.HttpRequest) -> str:
            return ""

    with caplog.at_level(logging.WARNING):
        assert not check(build).is_async
    assert "function f: a plain function wraps a coroutine" in caplog.text

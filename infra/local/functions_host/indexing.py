"""Indexing: import ``function_app.py``, read the functions' bindings, resolve their settings.

This follows what the Python worker does at start (``loader.index_function_app`` in
azure-functions-runtime), and what the host then does with the bindings.
"""

from __future__ import annotations

import importlib
import json
import logging
import os
import re
import sys
import traceback
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from azure.functions import FunctionRegister
from azure.functions.decorators.function_app import Function

from infra.local.functions_host import settings, worker_rules
from infra.local.functions_host.errors import HostStartupError
from infra.local.functions_host.model import (
    HostedFunction,
    HttpTrigger,
    ServiceBusTrigger,
    TimerTrigger,
    Trigger,
)

MODULE = "function_app"
MAX_FUNCTIONS = 1000

logger = logging.getLogger(__name__)

_NAME = re.compile(r"[a-zA-Z][a-zA-Z0-9_-]{0,127}\Z")

_TRIGGERS = ("httpTrigger", "serviceBusTrigger", "timerTrigger")


def load(app_dir: Path, environ: Mapping[str, str]) -> list[HostedFunction]:
    """Import the app and index its functions, in the order of registration.

    The app's ``get_functions`` is called once: in azure-functions 1.x a second call fails. Settings
    must already be in the environment, since the app may read them when it is imported.
    """
    if not (app_dir / f"{MODULE}.py").is_file():
        raise HostStartupError(f"{app_dir}: there is no {MODULE}.py; --app-dir names its directory")
    sys.path.insert(0, str(app_dir))
    os.chdir(app_dir)
    registered = _registered(_import_app())
    if len(registered) > MAX_FUNCTIONS:
        raise HostStartupError(
            f"{MODULE}.py has {len(registered)} functions; at most {MAX_FUNCTIONS} are allowed"
        )
    _check_names([str(function.get_function_name()) for function in registered])
    indexed = (_index_unless_disabled(function, environ) for function in registered)
    return [function for function in indexed if function is not None]


def _check_names(names: Sequence[str]) -> None:
    """Check names by the real host's rules (Utility.IsValidFunctionName)."""
    seen: dict[str, str] = {}
    for name in names:
        if not _NAME.match(name) or name.lower() == "host":
            raise HostStartupError(
                f"function {name!r}: a name starts with a letter, has at most 128 letters, digits, "
                "- and _, and is not host"
            )
        if name.lower() in seen:
            raise HostStartupError(
                f"functions {seen[name.lower()]} and {name} differ in case only, which the host "
                "does not distinguish; rename one"
            )
        seen[name.lower()] = name


def _index_unless_disabled(function: Function, environ: Mapping[str, str]) -> HostedFunction | None:
    """Index a function; return None for a disabled one that this host cannot index."""
    try:
        return _index(function, environ)
    except HostStartupError as error:
        if not settings.is_disabled(str(function.get_function_name()), environ):
            raise
        logger.info("skipped a disabled function: %s", error)
        return None


def _import_app() -> FunctionRegister:
    try:
        module = importlib.import_module(MODULE)
    except BaseException as error:  # SystemExit in the app's module must not end the host
        if isinstance(error, KeyboardInterrupt):
            raise
        raise HostStartupError(
            f"{MODULE}.py cannot be imported:\n{''.join(traceback.format_exception(error))}"
        ) from error
    apps = [value for value in vars(module).values() if isinstance(value, FunctionRegister)]
    if not apps:
        raise HostStartupError(f"{MODULE}.py has no FunctionApp: add app = func.FunctionApp()")
    if any(app is not apps[0] for app in apps):
        raise HostStartupError(f"{MODULE}.py has several FunctionApps; register blueprints in one")
    return apps[0]


def _registered(app: FunctionRegister) -> list[Function]:
    try:
        return list(app.get_functions())
    except Exception as error:
        raise HostStartupError(f"{MODULE}.py: {error}") from error


def _index(function: Function, environ: Mapping[str, str]) -> HostedFunction:
    name = str(function.get_function_name())
    where = f"function {name}"
    bindings = [_resolved(json.loads(raw), environ, where) for raw in function.get_raw_bindings()]
    trigger_binding = _only_trigger(where, bindings)
    rules = worker_rules.check(where, function.get_user_function(), bindings)
    plain = rules.plain if trigger_binding["type"] == "serviceBusTrigger" else None
    return HostedFunction(
        name=name,
        call=function.get_user_function(),
        is_async=rules.is_async,
        requires_context=rules.requires_context,
        has_return=rules.has_return,
        trigger=_trigger(where, trigger_binding, plain),
        directory=rules.directory,
        disabled=settings.is_disabled(name, environ),
        bindings=bindings,
    )


def _resolved(binding: dict[str, Any], environ: Mapping[str, str], where: str) -> dict[str, Any]:
    place = f"{where}, binding {binding.get('name')!r}"
    return {
        key: settings.resolve(value, environ, f"{place}, {key}")
        if isinstance(value, str) and key not in {"name", "type", "direction"}
        else value
        for key, value in binding.items()
    }


def _only_trigger(where: str, bindings: Iterable[dict[str, Any]]) -> dict[str, Any]:
    trigger = None
    for binding in bindings:
        kind = binding["type"]
        if kind in _TRIGGERS:
            trigger = binding
        elif kind == "http" and binding["name"] == "$return":
            continue
        elif binding.get("direction") == "OUT":
            raise HostStartupError(
                f"{where}: the output binding {binding['name']!r} of type {kind!r} is not "
                "supported by this host; send from the function with the service's SDK"
            )
        else:
            raise HostStartupError(
                f"{where}: the binding type {kind!r} is not supported by this host; it knows "
                f"{', '.join(_TRIGGERS)}; set AzureWebJobs.NAME.Disabled=true to go without it"
            )
    if trigger is None:
        raise HostStartupError(f"{where}: it has no trigger")
    return trigger


def _trigger(where: str, binding: dict[str, Any], plain: type[str] | type[bytes] | None) -> Trigger:
    if binding["type"] == "httpTrigger":
        methods = binding.get("methods")
        return HttpTrigger(
            binding["name"],
            binding["route"],
            frozenset(method.upper() for method in methods) if methods else None,
            binding.get("authLevel") or "FUNCTION",
        )
    if binding["type"] == "timerTrigger":
        return TimerTrigger(
            binding["name"],
            binding["schedule"],
            bool(binding.get("runOnStartup")),
            binding.get("useMonitor"),
        )
    return _service_bus_trigger(where, binding, plain)


def _service_bus_trigger(
    where: str, binding: dict[str, Any], plain: type[str] | type[bytes] | None
) -> ServiceBusTrigger:
    if binding.get("isSessionsEnabled"):
        raise HostStartupError(f"{where}: is_sessions_enabled is not supported by this host")
    names = {key: binding.get(key) for key in ("queueName", "topicName", "subscriptionName")}
    if not (names["queueName"] or (names["topicName"] and names["subscriptionName"])):
        raise HostStartupError(
            f"{where}: queue_name, or topic_name and subscription_name, must not be empty"
        )
    many = binding.get("cardinality") == "MANY"
    if many and plain is not None:
        raise HostStartupError(
            f"{where}: with cardinality many, {binding['name']!r} must be annotated "
            "typing.List[func.ServiceBusMessage]"
        )
    binary = binding.get("dataType") == "BINARY" or plain is bytes
    body: Literal["text", "binary"] = "binary" if binary else "text"
    return ServiceBusTrigger(
        binding["name"],
        binding.get("connection") or "AzureWebJobsServiceBus",
        names["queueName"],
        names["topicName"],
        names["subscriptionName"],
        many,
        body,
        plain,
    )

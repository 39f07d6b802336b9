"""The Python worker's rules for a function's signature, checked at start.

They are the rules of ``functions.Registry`` in azure-functions-runtime 1.3 (and worker 4.x): what
is accepted here loads on Azure, and what the worker refuses is refused here for the same reason.
"""

from __future__ import annotations

import inspect
import logging
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from infra.local.functions_host.converters import converter
from infra.local.functions_host.errors import HostStartupError

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Signature:
    """What the worker learns from a function's signature.

    Attributes:
        is_async: it is a coroutine function and runs on the event loop, not in a thread.
        requires_context: it has the parameter ``context``.
        has_return: it has a ``$return`` binding; without one it must return None.
        plain: ``str`` or ``bytes`` if the trigger's parameter is annotated so.
        directory: the directory of its source.
    """

    is_async: bool
    requires_context: bool
    has_return: bool
    plain: type[str] | type[bytes] | None
    directory: str


def check(where: str, call: Callable[..., Any], bindings: Sequence[Mapping[str, Any]]) -> Signature:
    """Check ``call`` against its bindings; HostStartupError names the function and the rule."""
    parameters = dict(inspect.signature(call).parameters)
    try:
        annotations = typing.get_type_hints(call)
    except Exception as error:
        raise HostStartupError(f"{where}: its annotations cannot be read: {error}") from error
    bound = {str(binding["name"]): binding for binding in bindings}
    if len(bound) != len(bindings):
        raise HostStartupError(f"{where}: two of its bindings have the same name")
    output = bound.pop("$return", None)

    requires_context = "context" in parameters and "context" not in bound
    if requires_context:
        del parameters["context"]
        _check_context(where, annotations)
    _check_names(where, set(parameters), set(bound))
    plain = None
    for name, binding in bound.items():
        if name in annotations:
            plain = _check_parameter(where, name, annotations[name], str(binding["type"])) or plain
    if output is not None and "return" in annotations:
        _check_return(where, annotations["return"], str(output["type"]))
    return Signature(
        _is_async(where, call),
        requires_context,
        output is not None,
        plain,
        str(Path(inspect.getfile(inspect.unwrap(call))).parent),
    )


def _check_context(where: str, annotations: Mapping[str, Any]) -> None:
    annotation = annotations.get("context")
    if annotation is not None and getattr(annotation, "__name__", "") != "Context":
        raise HostStartupError(
            f'{where}: "context" must be annotated azure.functions.Context, not {annotation!r}'
        )


def _check_names(where: str, parameters: set[str], bound: set[str]) -> None:
    if extra := sorted(parameters - bound):
        raise HostStartupError(
            f"{where}: parameters without a binding: {', '.join(extra)}; "
            "name the parameter like the binding's arg_name (or trigger_arg_name)"
        )
    if missing := sorted(bound - parameters):
        raise HostStartupError(
            f"{where}: bindings without a parameter: {', '.join(missing)}; "
            "name the parameter like the binding's arg_name (or trigger_arg_name)"
        )


def _check_parameter(
    where: str, name: str, annotation: object, binding_type: str
) -> type[str] | type[bytes] | None:
    """Return str or bytes if a Service Bus trigger's parameter takes only the body, else None."""
    if binding_type == "serviceBusTrigger" and annotation in (str, bytes):
        return annotation
    try:
        fits = converter(binding_type).check_input_type_annotation(annotation)
    except TypeError:  # issubclass() of something that is not a class
        fits = False
    if not fits:
        raise HostStartupError(
            f"{where}: the annotation {annotation!r} of {name!r} does not fit {binding_type}; "
            "use func.HttpRequest, func.TimerRequest, func.ServiceBusMessage or (many) "
            "typing.List[func.ServiceBusMessage]"
        )
    return None


def _check_return(where: str, annotation: object, binding_type: str) -> None:
    if not isinstance(annotation, type) or not converter(binding_type).check_output_type_annotation(
        annotation
    ):
        raise HostStartupError(
            f"{where}: the return annotation {annotation!r} does not fit {binding_type}; "
            "the worker takes func.HttpResponse or str"
        )


def _is_async(where: str, call: Callable[..., Any]) -> bool:
    if inspect.iscoroutinefunction(call):
        return True
    if inspect.isasyncgenfunction(call) or inspect.isgeneratorfunction(call):
        raise HostStartupError(f"{where}: a function cannot be a generator; return one value")
    if inspect.iscoroutinefunction(inspect.unwrap(call)):
        logger.warning(
            "%s: a plain function wraps a coroutine function. The worker runs it in a thread and "
            "fails if it returns a coroutine: make the wrapper `async def` and await inside it",
            where,
        )
    return False

"""The ``context`` argument of an invocation."""

from __future__ import annotations

import re
import secrets
import threading
from collections.abc import Mapping

import azure.functions as func

# W3C Trace Context, version 00: https://www.w3.org/TR/trace-context/#traceparent-header
_TRACEPARENT = re.compile(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}\Z")
_MAX_TRACESTATE = 512

#: The value of ``context.thread_local_storage``; one per process, as in the worker.
thread_local = threading.local()


class TraceContext:
    """The caller's trace context if it sent a valid one, else that of a new, unsampled trace."""

    def __init__(self, trace_parent: str | None, trace_state: str | None) -> None:
        valid = trace_parent is not None and _TRACEPARENT.match(trace_parent)
        self._parent = str(trace_parent) if valid else _new_trace_parent()
        state = trace_state if valid and trace_state else ""
        self._state = state if len(state) <= _MAX_TRACESTATE else ""

    @property
    def trace_parent(self) -> str:
        """The ``traceparent``."""
        return self._parent

    @property
    def trace_state(self) -> str:
        """The ``tracestate``; empty without a valid ``traceparent``."""
        return self._state

    @property
    def attributes(self) -> dict[str, str]:
        """Empty: on Azure, they belong to the host's own telemetry."""
        return {}

    # Deprecated spellings that the worker's class still has.
    Traceparent = trace_parent
    Tracestate = trace_state
    Attributes = attributes


def _new_trace_parent() -> str:
    return f"00-{secrets.token_hex(16)}-{secrets.token_hex(8)}-00"


class RetryContext:
    """Zeros: this host has no retry policies, and the real one ignores them for Service Bus."""

    retry_count = 0
    max_retry_count = 0
    exception = None
    rpc_exception = None


class Context(func.Context):
    """The ``context`` argument, as the worker passes it."""

    def __init__(
        self, invocation_id: str, name: str, directory: str, trace: Mapping[str, str]
    ) -> None:
        self._invocation_id = invocation_id
        self._name = name
        self._directory = directory
        self._trace = TraceContext(trace.get("traceparent"), trace.get("tracestate"))

    @property
    def invocation_id(self) -> str:
        """Unique per invocation."""
        return self._invocation_id

    @property
    def thread_local_storage(self) -> threading.local:  # type: ignore[override]  # it says type[local]
        """Holds ``invocation_id`` in the thread that runs a synchronous function."""
        return thread_local

    @property
    def function_name(self) -> str:
        """Name of the function."""
        return self._name

    @property
    def function_directory(self) -> str:
        """Directory of the function's source."""
        return self._directory

    @property
    def trace_context(self) -> TraceContext:  # type: ignore[override]  # base not exported
        """The distributed trace that this invocation belongs to."""
        return self._trace

    @property
    def retry_context(self) -> RetryContext:  # type: ignore[override]  # base not exported
        """Always zeros."""
        return RetryContext()

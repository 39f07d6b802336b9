"""W3C trace context: one trace from a client's request to the sandbox's result.

Source: https://www.w3.org/TR/trace-context/ (version 00).
"""

from __future__ import annotations

import secrets

from domain.messaging.envelope import is_traceparent


def child_of(parent: str | None) -> str:
    """A ``traceparent`` for new work caused by ``parent``.

    The trace id and flags are kept and the span id is new; a missing or invalid parent starts a
    new, sampled trace.
    """
    if parent is not None and is_traceparent(parent):
        _, trace_id, _, flags = parent.split("-")
    else:
        trace_id, flags = _non_zero_hex(16), "01"
    return f"00-{trace_id}-{_non_zero_hex(8)}-{flags}"


def _non_zero_hex(size: int) -> str:
    while not any(value := secrets.token_bytes(size)):  # all-zero ids are invalid
        continue
    return value.hex()

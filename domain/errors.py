"""What operations raise for an operator to read."""

from __future__ import annotations


class OperationError(Exception):
    """What was asked for cannot be done; the message says why and what helps."""

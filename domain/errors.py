"""The error of operations, with a message for an operator."""

from __future__ import annotations


class OperationError(Exception):
    """What was asked for cannot be done; the message says why and what helps."""

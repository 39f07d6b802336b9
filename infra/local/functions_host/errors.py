"""The one error that keeps the host from starting."""

from __future__ import annotations


class HostStartupError(Exception):
    """The app, its settings or this machine keep the host from starting.

    The text names what is wrong and how to put it right; it is shown without a stack.
    """

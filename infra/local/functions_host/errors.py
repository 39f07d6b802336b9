"""The error that is raised when the host cannot start."""

from __future__ import annotations


class HostStartupError(Exception):
    """The app, its settings or this machine keep the host from starting.

    The message says what is wrong and how to correct it; it is shown without a traceback.
    """

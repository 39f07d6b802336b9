"""Questions to the person at the terminal."""

from __future__ import annotations

import signal

import typer


def asked(question: str, *, err: bool = False) -> bool:
    """Whether the person agrees; Ctrl-C is for the question, and not for the event loop.

    The loop only notes it, and cannot look at it before the question is answered.

    Args:
        question: to be answered with yes or no.
        err: ask on standard error.

    Raises:
        typer.Abort: Ctrl-C, or the input's end.
    """
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return typer.confirm(question, err=err)
    finally:
        signal.signal(signal.SIGINT, before)

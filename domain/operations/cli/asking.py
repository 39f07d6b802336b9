"""Asks the person at the terminal."""

from __future__ import annotations

import signal

import typer


def asked(question: str, *, err: bool = False) -> bool:
    """Whether the person agrees. Ctrl-C ends the question at once.

    Left to the event loop, Ctrl-C would have no effect until the question is answered.

    Args:
        question: can be answered with yes or no.
        err: ask on standard error.

    Raises:
        typer.Abort: Ctrl-C, or the input ended.
    """
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return typer.confirm(question, err=err)
    finally:
        signal.signal(signal.SIGINT, before)

"""A progress bar on standard error."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


class ProgressBar:
    """Shows how far the work has come."""

    def __init__(self, bar: Progress, label: str) -> None:
        self._bar = bar
        self._stage = label
        self._task = bar.add_task(label, total=None)

    def show(self, done: float, total: float | None = None, stage: str | None = None) -> None:
        """Show that ``done`` of ``total`` is done.

        Args:
            done: in whatever the caller counts.
            total: the same for all of the work; None: as before, unknown at first.
            stage: what is being done now; None: as before.
        """
        if stage is not None and stage != self._stage:
            self._stage = stage
            self._bar.reset(self._task, description=stage)
        self._bar.update(self._task, completed=done, total=total)

    def stop(self) -> None:
        """Take the bar away, before a question for example."""
        self._bar.stop()


@contextmanager
def progress_bar(label: str, quiet: bool) -> Iterator[ProgressBar]:
    """A bar that is drawn only on a terminal, and goes away at the end.

    Args:
        label: what is being done.
        quiet: draw nothing in any case.
    """
    console = Console(stderr=True)
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
        disable=quiet or not console.is_terminal,
        transient=True,
    ) as bar:
        yield ProgressBar(bar, label)

"""Options and output that commands on a selection of intents share."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from domain.operations.cli.console import print_table, printable
from domain.operations.cli.numbers import whole
from domain.operations.selection import MAX_SELECTED, Preview

Where = Annotated[
    str | None,
    typer.Option(
        help="Conditions that must all hold: status, tenant, code, language, since, until. "
        "For example 'status=failed,since=2026-03-01T00:00:00Z'.",
    ),
]
SelectionLimit = Annotated[int, whole(1, MAX_SELECTED, help="At most this many, the oldest first.")]


def print_preview(found: Preview, effect: str) -> None:
    """How many intents match, by status, and the first of them."""
    counts = ", ".join(f"{count} {printable(status)}" for status, count in found.by_status.items())
    typer.echo(f"matching intents: {found.matching}{f' ({counts})' if counts else ''}")
    if found.matching > len(found.selected):
        typer.echo(f"the oldest {len(found.selected)} are taken; raise --limit for more")
    for unknown in found.unknown:
        typer.echo(f"there is no intent {unknown}")
    if found.selected:
        rows = [(s.intent_id, s.tenant_id, s.status, s.version, s.created_at) for s in found.first]
        print_table(("intent", "tenant", "status", "version", "submitted"), rows)
    if len(found.selected) > len(found.first):
        typer.echo(f"… and {len(found.selected) - len(found.first)} more")
    typer.echo(f"each: {effect}")


@contextmanager
def progress_bar(label: str, quiet: bool) -> Iterator[Progress]:
    """A bar on standard error while there is a terminal; ``label`` names its one task."""
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        disable=quiet or not Console(stderr=True).is_terminal,
        transient=True,
    ) as bar:
        bar.add_task(label, total=None)
        yield bar

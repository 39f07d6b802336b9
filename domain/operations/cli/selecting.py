"""Options and output of commands that work on selected intents."""

from __future__ import annotations

from typing import Annotated

import typer

from domain.operations.cli.console import print_table, printable
from domain.operations.cli.numbers import whole
from domain.operations.selection import MAX_SELECTED, Preview

Where = Annotated[
    str | None,
    typer.Option(
        help="Conditions, separated by commas, all of which must hold: status, tenant, code, "
        "language, since, until. For example 'status=failed,since=2026-03-01T00:00:00Z'.",
    ),
]
SelectionLimit = Annotated[int, whole(1, MAX_SELECTED, help="At most this many, oldest first.")]


def print_preview(found: Preview, effect: str) -> None:
    """Print how many intents match, by status, and the first of them.

    Args:
        found: the intents.
        effect: what will be done with each.
    """
    counts = ", ".join(f"{count} {printable(status)}" for status, count in found.by_status.items())
    typer.echo(f"matching intents: {found.matching}{f' ({counts})' if counts else ''}")
    if found.matching > len(found.selected):
        typer.echo(f"only the oldest {len(found.selected)} are selected; --limit allows more")
    for unknown in found.unknown:
        typer.echo(f"there is no intent {unknown}")
    if found.selected:
        rows = [(s.intent_id, s.tenant_id, s.status, s.version, s.created_at) for s in found.first]
        print_table(("intent", "tenant", "status", "version", "submitted"), rows)
    if len(found.selected) > len(found.first):
        typer.echo(f"… and {len(found.selected) - len(found.first)} more")
    typer.echo(f"for each: {effect}")

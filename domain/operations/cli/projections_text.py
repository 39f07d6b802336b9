"""What ``qlp projections`` says to people."""

from __future__ import annotations

import typer

from domain.operations.cli.console import printable
from domain.projections.rebuild.contract import RebuildPlan, Rebuilt
from domain.projections.verify.contract import Difference, Verified


def print_verified(verified: Verified) -> None:
    """The differences, and how many rows were compared."""
    for found in verified.differences:
        typer.echo(printable(_line_of(found)))
    hidden = verified.differing - len(verified.differences)
    if hidden:
        typer.echo(f"… and {hidden} more")
    if verified.unfoldable:
        typer.echo(f"{verified.unfoldable} streams are parked: this release cannot fold them")
    typer.echo(f"{verified.compared} rows compared, {verified.differing} differ")


def _line_of(found: Difference) -> str:
    key = ", ".join(f"{column} {value}" for column, value in found.key.items())
    if found.folded is None:
        return f"{found.table} {key}: the log has no such row"
    if found.live is None:
        return f"{found.table} {key}: the row is missing"
    sides = [
        f"{column}: events say {value!r}, the row says {found.live[column]!r}"
        for column, value in found.folded.items()
    ]
    return f"{found.table} {key}: {'; '.join(sides)}"


def describe_plan(plan: RebuildPlan) -> str:
    """What a rebuild would do."""
    resumed = f", going on after {plan.done:,}" if plan.done else ""
    return f"{plan.projection} ({', '.join(plan.tables)}) from {plan.events:,} events{resumed}"


def describe_outcome(rebuilt: Rebuilt) -> str:
    """What a rebuild has done."""
    resumed = f", {rebuilt.resumed_from:,} of them before" if rebuilt.resumed_from else ""
    parked = f"; {rebuilt.parked:,} streams are parked" if rebuilt.parked else ""
    return f"rebuilt {rebuilt.projection} from {rebuilt.events:,} events{resumed}{parked}"

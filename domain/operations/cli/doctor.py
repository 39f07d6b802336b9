"""``qlp doctor``: examine everything that the application depends on."""

from __future__ import annotations

import os

import typer
from rich.console import Console
from rich.text import Text

from domain.operations.cli.console import AsJson, guard, print_json, printable
from domain.operations.doctor.examine import examine_environment
from domain.operations.doctor.findings import Finding, worst

_STYLES = {"ok": "green", "warn": "yellow", "fail": "bold red"}


def doctor_command(json: AsJson = False) -> None:
    """Examine database, event log, Service Bus, sandbox and models; say what is wrong and the fix.

    Changes nothing: statements that must be refused are tried in transactions that are rolled back.
    Exits with 1 if a check fails.
    """

    async def work() -> None:
        findings = await examine_environment(os.environ)
        status = worst(findings)
        if json:
            print_json({"status": status, "findings": findings})
        else:
            _print(findings)
        if status == "fail":
            raise typer.Exit(1)

    guard(work())


def _print(findings: list[Finding]) -> None:
    """Print all at once: after ``| head -1``, the exit code still says whether a check fails."""
    width = max(len(finding.check) for finding in findings)
    lines = []
    for finding in findings:
        line = Text(f"{finding.status:<5}", style=_STYLES[finding.status])
        line.append(f"{finding.check:<{width}}  ", style="bold")
        line.append(printable(finding.detail), style="default")
        lines.append(line)
        if finding.fix:
            lines.append(Text(" " * (width + 7) + "→ " + printable(finding.fix)))
    Console(highlight=False, soft_wrap=True).print(Text("\n").join(lines))

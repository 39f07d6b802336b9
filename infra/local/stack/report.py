"""What the stack prints: text for people, or JSON lines for programs."""

from __future__ import annotations

import json
from typing import Any, Protocol

from rich.console import Console
from rich.table import Table
from rich.text import Text

from infra.local.stack.stack import Endpoints


class Report(Protocol):
    """Receives what happens, in the order in which it happens."""

    def part(self, name: str, seconds: float) -> None:
        """A part of the stack is ready, ``seconds`` after it was started."""

    def healthy(self, seconds: float) -> None:
        """All parts are healthy, ``seconds`` after the stack was started."""

    def step(self, title: str, lines: list[str], seconds: float, **facts: Any) -> None:  # noqa: ANN401
        """A step of the tour succeeded: ``lines`` are for people, ``facts`` for programs."""

    def timeline(self, intent_id: str, events: list[dict[str, Any]]) -> None:
        """The events of one intent: ``type``, ``ms`` since the first, ``delta_ms``, ``note``."""

    def failed(self, problem: str) -> None:
        """Something did not work."""

    def serving(self, endpoints: Endpoints, examples: list[tuple[str, str]]) -> None:
        """The stack serves; ``examples`` are pairs of a title and a command to copy."""

    def ended(self, name: str, code: int, log_tail: str) -> None:
        """A part ended by itself and is started again; ``log_tail`` is the end of its log."""

    def note(self, what: str) -> None:
        """A remark that is not an error."""

    def stopping(self, programs: int, seconds: float) -> None:
        """All parts are asked to stop; ``programs`` still run, for ``seconds`` at most."""

    def stopped(self) -> None:
        """Everything has stopped; the data is kept."""


class HumanReport:
    """Text for a terminal, in colour where the terminal has it."""

    def __init__(self) -> None:
        self._console = Console(highlight=False, soft_wrap=True)

    def part(self, name: str, seconds: float) -> None:
        """See `Report`."""
        self._console.print(f"  [green]✓[/] {name:<20} [dim]{_duration(seconds * 1000)}[/]")

    def healthy(self, seconds: float) -> None:
        """See `Report`."""
        self._console.print(f"  [bold]healthy after {seconds:.1f} s[/]\n")

    def step(self, title: str, lines: list[str], seconds: float, **facts: Any) -> None:  # noqa: ANN401
        """See `Report`."""
        self._console.print(f"[bold]{title}[/] [dim]{_duration(seconds * 1000)}[/]")
        for line in lines:
            self._console.print(Text(f"  {line}"))

    def timeline(self, intent_id: str, events: list[dict[str, Any]]) -> None:
        """See `Report`."""
        table = Table(box=None, pad_edge=False, padding=(0, 2), show_header=False)
        table.add_column(justify="right", style="dim")
        table.add_column(justify="right")
        table.add_column(style="cyan")
        table.add_column()
        for event in events:
            table.add_row(
                "    " + _duration(event["ms"]),
                "+" + _duration(event["delta_ms"]),
                event["type"],
                Text(event["note"]),
            )
        self._console.print(table)
        self._console.print()

    def failed(self, problem: str) -> None:
        """See `Report`."""
        self._console.print(Text.assemble(("✗ ", "bold red"), problem))

    def serving(self, endpoints: Endpoints, examples: list[tuple[str, str]]) -> None:
        """See `Report`."""
        self._console.rule("[bold]serving")
        self._console.print(f"HTTP         {endpoints.http_url}/api")
        self._console.print(f"health       {endpoints.http_url}/api/health")
        self._console.print(f"sandbox host {endpoints.sandbox_url}/health")
        self._console.print(f"API key      {endpoints.api_key}")
        for title, command in examples:
            self._console.print(f"\n[bold]{title}[/]")
            self._console.print(Text(command))
        self._console.print("\n[dim]Ctrl-C stops everything and keeps the data.[/]")

    def ended(self, name: str, code: int, log_tail: str) -> None:
        """See `Report`."""
        self._console.print(
            Text.assemble(("✗ ", "bold red"), f"{name} ended with {code} and is started again:")
        )
        for line in log_tail.splitlines():
            self._console.print(Text(f"    {line}"))

    def note(self, what: str) -> None:
        """See `Report`."""
        self._console.print(Text(what))

    def stopping(self, programs: int, seconds: float) -> None:
        """See `Report`."""
        which = "1 program that runs has" if programs == 1 else f"{programs} programs that run have"
        left = f"; {which} {seconds:g} s left" if programs else ""
        self._console.print(f"[dim]stopping{left}; Ctrl-C now ends everything at once[/]")

    def stopped(self) -> None:
        """See `Report`."""
        self._console.print("[dim]stopped; the data is kept[/]")


class JsonReport:
    """One JSON object per line on standard output."""

    def part(self, name: str, seconds: float) -> None:
        """See `Report`."""
        self._write("part", name=name, seconds=round(seconds, 3))

    def healthy(self, seconds: float) -> None:
        """See `Report`."""
        self._write("healthy", seconds=round(seconds, 3))

    def step(self, title: str, lines: list[str], seconds: float, **facts: Any) -> None:  # noqa: ANN401
        """See `Report`."""
        self._write("step", title=title, seconds=round(seconds, 3), **facts)

    def timeline(self, intent_id: str, events: list[dict[str, Any]]) -> None:
        """See `Report`."""
        self._write("timeline", intent_id=intent_id, events=events)

    def failed(self, problem: str) -> None:
        """See `Report`."""
        self._write("failed", problem=problem)

    def serving(self, endpoints: Endpoints, examples: list[tuple[str, str]]) -> None:
        """See `Report`."""
        self._write(
            "serving",
            url=f"{endpoints.http_url}/api",
            sandbox=endpoints.sandbox_url,
            api_key=endpoints.api_key,
        )

    def ended(self, name: str, code: int, log_tail: str) -> None:
        """See `Report`."""
        self._write("ended", name=name, code=code, last_words=log_tail)

    def note(self, what: str) -> None:
        """See `Report`."""
        self._write("note", note=what)

    def stopping(self, programs: int, seconds: float) -> None:
        """See `Report`."""
        self._write("stopping", programs=programs, seconds=seconds)

    def stopped(self) -> None:
        """See `Report`."""
        self._write("stopped")

    def _write(self, what: str, **facts: Any) -> None:  # noqa: ANN401
        print(json.dumps({"what": what, **facts}), flush=True)


def _duration(milliseconds: float) -> str:
    if milliseconds < 1000:
        return f"{milliseconds:.0f} ms"
    return f"{milliseconds / 1000:.2f} s"

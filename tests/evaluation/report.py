"""What the evaluation tells whoever started it: a table for people, JSON for programs."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from statistics import quantiles
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from tests.evaluation.attempt import Attempt
from tests.evaluation.case import Case
from tests.evaluation.cases import FAMILIES
from tests.evaluation.reuse import Asked, Tally

_FAMILY = {case.id: name for name, cases in FAMILIES.items() for case in cases}


def family_of(case: Case) -> str:
    """The family that a case belongs to."""
    return _FAMILY[case.id]


def totals(attempts: Sequence[Attempt]) -> dict[str, Any]:
    """Figures over attempts; shares from 0 to 1, None where there is nothing to share.

    ``pass_at_1`` is the share of attempts that were right with the first program, which is the
    unbiased estimate of pass@1 (Chen et al. 2021, https://arxiv.org/abs/2107.03374, with k = 1);
    the intervals are Wilson's, at 95 %.
    """
    count = len(attempts)
    at_once = sum(each.passed_at_once for each in attempts)
    passed = sum(each.passed for each in attempts)
    times = sorted(each.seconds for each in attempts)
    return {
        "attempts": count,
        "pass_at_1": at_once / count if count else None,
        "pass_at_1_interval": wilson(at_once, count),
        "pass_after_repair": passed / count if count else None,
        "pass_after_repair_interval": wilson(passed, count),
        "repairs": sum(each.repairs for each in attempts),
        "calls": sum(each.spent.calls for each in attempts),
        "input_tokens": sum(each.spent.input_tokens for each in attempts),
        "output_tokens": sum(each.spent.output_tokens for each in attempts),
        "cost_usd": sum(each.spent.cost_microusd for each in attempts) / 1e6,
        "seconds_p50": percentile(times, 50),
        "seconds_p95": percentile(times, 95),
        "model_seconds_p50": percentile(sorted(e.spent.model_seconds for e in attempts), 50),
    }


def wilson(successes: int, count: int) -> tuple[float, float] | None:
    """The 95 % interval of a share (Wilson 1927); sound for few attempts and near 0 and 1."""
    if count == 0:
        return None
    z, share = 1.96, successes / count
    centre = share + z * z / (2 * count)
    spread = z * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    scale = 1 + z * z / count
    return max(0.0, (centre - spread) / scale), min(1.0, (centre + spread) / scale)


def percentile(ordered: Sequence[float], percent: int) -> float | None:
    """A percentile of ordered values, interpolated; None without any."""
    if len(ordered) < 2:
        return ordered[0] if ordered else None
    return quantiles(ordered, n=100, method="inclusive")[percent - 1]


def as_json(attempts: Sequence[Attempt], facts: Mapping[str, Any]) -> dict[str, Any]:
    """Everything that is known, as a JSON value."""
    return {
        **facts,
        "totals": totals(attempts),
        "by_family": {name: totals(found) for name, found in _grouped(attempts, family_of)},
        "by_level": {
            name: totals(found) for name, found in _grouped(attempts, lambda case: case.level)
        },
        "attempts": [
            {
                "case": each.case.id,
                "family": family_of(each.case),
                "level": each.case.level,
                "intent_id": each.intent_id,
                "status": each.status,
                "passed": each.passed,
                "passed_at_once": each.passed_at_once,
                "wrong": each.wrong,
                "repairs": each.repairs,
                "seconds": each.seconds,
                **asdict(each.spent),
            }
            for each in attempts
        ],
    }


def show(console: Console, attempts: Sequence[Attempt], priced: bool) -> None:
    """Print a line for each case, then the figures by level, by family and of all."""
    order = {case_id: at for at, case_id in enumerate(_FAMILY)}
    lines = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for name in ("", "case", "level"):
        lines.add_column(name)
    for name in ("repairs", "tokens", "seconds"):
        lines.add_column(name, justify="right")
    lines.add_column("what is wrong", overflow="fold")
    for each in sorted(attempts, key=lambda each: order[each.case.id]):
        lines.add_row(
            _sign(each),
            each.case.id,
            each.case.level,
            str(each.repairs or ""),
            f"{each.spent.input_tokens + each.spent.output_tokens:,}",
            f"{each.seconds:.1f}",
            Text(each.wrong or "", style="red"),
        )
    console.print(lines)
    console.print()
    console.print(_summary(attempts, priced))


def _summary(attempts: Sequence[Attempt], priced: bool) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("", no_wrap=True)
    for name in ("attempts", "pass@1", "after repair", "tokens in", "out", "USD", "p50 s", "p95 s"):
        table.add_column(name, justify="right")
    groups = [
        *_grouped(attempts, lambda case: case.level),
        ("", []),
        *_grouped(attempts, family_of),
        ("", []),
        ("all", list(attempts)),
    ]
    for name, found in groups:
        if not found:
            table.add_row()
            continue
        figures = totals(found)
        table.add_row(
            name,
            str(figures["attempts"]),
            _share(figures, "pass_at_1", name == "all"),
            _share(figures, "pass_after_repair", name == "all"),
            f"{figures['input_tokens']:,}",
            f"{figures['output_tokens']:,}",
            f"{figures['cost_usd']:.4f}" if priced else "–",
            f"{figures['seconds_p50']:.1f}",
            f"{figures['seconds_p95']:.1f}",
            style="bold" if name == "all" else None,
        )
    return table


def show_reuse(console: Console, tallies: Sequence[Tally]) -> None:
    """Print how often programs were reused, and every time it was wrong."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("reuse")
    for name in ("near misses", "wrongly reused", "paraphrases", "reused", "repeats", "reused"):
        table.add_column(name, justify="right")
    for tally in tallies:
        near, same, repeats = tally.near_misses, tally.paraphrases, tally.repeats
        wrong = len(tally.wrong)
        table.add_row(
            tally.mode,
            str(len(near)),
            Text(str(wrong), style="bold red" if wrong else "green"),
            str(len(same)),
            str(sum(each.reused for each in same)),
            str(len(repeats)),
            str(sum(each.reused for each in repeats)),
        )
    console.print(table)
    for tally in tallies:
        for each in tally.wrong:
            console.print(
                Text(f"wrongly reused ({tally.mode}, {each.pair.kind}): ", style="red").append(
                    f"{each.pair.asked!r}, solved was {each.pair.solved!r}", style="default"
                )
            )


def reuse_as_json(tallies: Sequence[Tally]) -> list[dict[str, Any]]:
    """The same as a JSON value."""

    def of(asked: Asked) -> dict[str, Any]:
        return {**asdict(asked.pair), "reused": asked.reused, "right": asked.right}

    return [
        {"mode": tally.mode, "wrong": len(tally.wrong), "pairs": [of(each) for each in tally.asked]}
        for tally in tallies
    ]


def _grouped(
    attempts: Sequence[Attempt], key: Callable[[Case], str]
) -> list[tuple[str, list[Attempt]]]:
    groups: dict[str, list[Attempt]] = {}
    for each in attempts:
        groups.setdefault(key(each.case), []).append(each)
    return list(groups.items())


def _share(figures: Mapping[str, Any], name: str, with_interval: bool) -> str:
    shown = f"{figures[name]:.1%}"
    if with_interval:
        low, high = figures[f"{name}_interval"]
        shown += f" ({low:.0%}–{high:.0%})"
    return shown


def _sign(attempt: Attempt) -> Text:
    if attempt.passed_at_once:
        return Text("✓", style="green")
    return Text("r", style="yellow") if attempt.passed else Text("✗", style="red")

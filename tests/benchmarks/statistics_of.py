"""Percentiles and ratios for benchmark output."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median


def percentile(values: Sequence[float], percent: float) -> float:
    """The nearest-rank percentile of ``values``."""
    ordered = sorted(values)
    rank = max(0, min(len(ordered) - 1, round(percent / 100 * len(ordered) + 0.5) - 1))
    return ordered[rank]


def median_ratio(values: Sequence[float], others: Sequence[float]) -> float:
    """The median of the ratios of each value to the other one of its round."""
    return median(value / other for value, other in zip(values, others, strict=True))

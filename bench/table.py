"""What was measured as lines of one table: beside its baseline of the same run, and beside what was asked for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """The goal of docs/performance.md, and the bound that counts as met today: half a rate, twice a latency."""

    goal: float
    bound: float
    side: Literal["least", "most"]

    def met_by(self, value: float) -> bool:
        """Tell whether a value is on the right side of the bound."""
        return value >= self.bound if self.side == "least" else value <= self.bound

    def __str__(self) -> str:
        sign = "≥" if self.side == "least" else "≤"
        return f"{sign} {_number(self.bound)} (goal {_number(self.goal)})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One measured value; the baseline is in the same unit, from the same run."""

    name: str
    value: float
    unit: str
    baseline: float | None = None
    target: Target | None = None


def rate(goal: float) -> Target:
    """Return the target of a rate, or of a ratio of rates."""
    return Target(goal=goal, bound=goal / 2, side="least")


def latency(goal: float) -> Target:
    """Return the target of a latency, or of a cost."""
    return Target(goal=goal, bound=goal * 2, side="most")


def percentile(values: list[float], share: float) -> float:
    """Return the value below which this share of the values stays; all of them pooled, never an average."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def show(title: str, lines: list[Line]) -> None:
    """Print a table; nothing is judged but the targets, and nothing fails on them."""
    print(f"\n{title}")
    print(f"  {'':56} {'measured':>20} {'baseline':>11} {'ratio':>7}   target")
    for line in lines:
        value = f"{_number(line.value)} {line.unit}"
        beside = "" if line.baseline is None else _number(line.baseline)
        ratio = "" if not line.baseline else f"{line.value / line.baseline:.2f}"
        judged = (
            "" if line.target is None else f"{line.target} {'met' if line.target.met_by(line.value) else 'NOT MET'}"
        )
        print(f"  {line.name:56} {value:>20} {beside:>11} {ratio:>7}   {judged}".rstrip(), flush=True)


def _number(value: float) -> str:
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"

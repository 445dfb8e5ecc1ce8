"""Plans, signals and comparisons that show themselves: as text, in a notebook, as pictures.

What is decided and measured (`fanwise.planning`, `fanwise.signal`, `fanwise.comparing`) doesn't
know how it is shown; front ends return these.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Self

from fanwise.comparing.comparison import Comparison
from fanwise.comparing.drift import RateDrift
from fanwise.comparing.transfer import TransferCheck
from fanwise.planning.plan import Plan
from fanwise.signal import Signal


@dataclass(frozen=True)
class ShownPlan(Plan):
    """A plan that prints as a table."""

    @classmethod
    def of(cls, plan: Plan) -> Self:
        """Return a plan as one of this class."""
        return cls(**{field.name: getattr(plan, field.name) for field in fields(Plan)})

    def __str__(self) -> str:
        """Return the plan as a table in plain text."""
        from fanwise.report.terminal import plain_text
        from fanwise.report.terminal_tables import plan_table

        return plain_text(plan_table(self))

    def _repr_html_(self) -> str:
        """Return what a notebook shows."""
        from fanwise.report.notebook import plan_html

        return plan_html(self)


@dataclass(frozen=True)
class ShownSignal(Signal):
    """A signal that prints as a table, and writes pages and pictures."""

    @classmethod
    def of(cls, signal: Signal) -> Self:
        """Return a signal as one of this class."""
        return cls(**{field.name: getattr(signal, field.name) for field in fields(Signal)})

    def __str__(self) -> str:
        """Return the table and the verdicts in plain text."""
        from fanwise.report.terminal import plain_text
        from fanwise.report.terminal_tables import signal_table

        return f"{plain_text(signal_table(self))}\n{self.summary}"

    def to_html(self, path: str | Path, after: Signal | None = None, **more: Any) -> None:
        """Write the page of `fanwise.report.html.page`: one file, read without a network."""
        from fanwise.report.html import page

        Path(path).write_text(page(self, after, **more), encoding="utf-8")

    def to_markdown(self, after: Signal | None = None, **more: Any) -> str:
        """Return the summary of `fanwise.report.markdown.markdown`, as GitHub shows it."""
        from fanwise.report.markdown import markdown

        return markdown(self, after, **more)

    def plot(self, path: str | Path, after: Signal | None = None, **more: Any) -> None:
        """Write the charts of `fanwise.report.figures.save`: PNG, SVG or PDF, by Matplotlib."""
        from fanwise.report.figures import save

        save(path, self, after, **more)

    def _repr_html_(self) -> str:
        """Return what a notebook shows."""
        from fanwise.report.notebook import signal_html

        return signal_html(self)


@dataclass(frozen=True)
class ShownTransferCheck(TransferCheck):
    """A transfer check that writes its page."""

    @classmethod
    def of(cls, check: TransferCheck) -> Self:
        """Return a check as one of this class."""
        return cls(**{field.name: getattr(check, field.name) for field in fields(TransferCheck)})

    def to_html(self, path: str | Path, drift: RateDrift | None = None, **more: Any) -> None:
        """Write the page of `fanwise.report.transfers.transfer_page`: one file."""
        from fanwise.report.transfers import transfer_page

        Path(path).write_text(transfer_page(self, drift, **more), encoding="utf-8")


@dataclass(frozen=True)
class ShownComparison(Comparison):
    """A comparison that prints as a table, and draws its figure."""

    @classmethod
    def of(cls, comparison: Comparison) -> Self:
        """Return a comparison as one of this class."""
        return cls(**{field.name: getattr(comparison, field.name) for field in fields(Comparison)})

    def __str__(self) -> str:
        """Return the table and the verdicts in plain text."""
        from fanwise.report.comparisons import comparison_table
        from fanwise.report.terminal import plain_text

        return f"{plain_text(comparison_table(self))}\n{self.summary}"

    def plot(self, path: str | Path, **more: Any) -> None:
        """Write the figure of `fanwise.report.comparisons.save`: PNG, SVG or PDF."""
        from fanwise.report.comparisons import save

        save(path, self, **more)

"""A summary in Markdown, as GitHub shows it: for pull requests, issues and job summaries."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import zip_longest
from typing import TYPE_CHECKING

from fanwise.report.charts import matched_layers
from fanwise.report.numbers import number_text
from fanwise.report.sentences import headline, sentence

if TYPE_CHECKING:
    from fanwise.signal import Layer, Signal

OPEN_ROWS = 12
"""A longer table is folded."""
SPECIAL = str.maketrans({c: f"\\{c}" for c in "\\|`*_{}[]<>#~&@"})


def text(value: str) -> str:
    """Return a text in which Markdown finds nothing to format, and no mention or tag."""
    return value.replace("\n", " ").translate(SPECIAL)


def markdown(signal: Signal, after: Signal | None = None, *, target: str = "") -> str:
    """Return verdicts and layers as GitHub Markdown; beside them the signal after a mend."""
    return "\n".join(_lines(signal, after, target)) + "\n"


def _lines(signal: Signal, after: Signal | None, target: str) -> Iterator[str]:
    mark = "✅" if signal.healthy else "❌"
    yield f"### {mark} {text(headline(signal))}"
    yield ""
    if target:
        yield f"`fanwise check {target}`"
        yield ""
    for i, verdict in enumerate(signal.verdicts):
        title = f"**{text(sentence(verdict))}** " if i else ""
        yield f"- {title}{text(verdict.cause)}"
        yield f"  **Fix:** {text(f'{verdict.fix} {verdict.after}'.rstrip())}"
    if not signal.verdicts:
        told = signal.overall
        yield text(told[:1].upper() + told[1:])
    yield ""
    if after is not None:
        told = f"healthy: {after.overall}" if after.healthy else headline(after)
        yield f"After `init_`: {text(told)}"
        yield ""
    if signal.layers:
        yield from _table(signal, after)


def _table(signal: Signal, after: Signal | None) -> Iterator[str]:
    folded = len(signal.layers) > OPEN_ROWS
    if folded:
        yield f"<details><summary>{len(signal.layers)} layers</summary>"
        yield ""
    whens = ("", " after") if after else ("",)
    heads = ["kernel", "then", "weights ÷ plan"]
    heads += [f"{head}{when}" for head in ("rms →", "gradient ←") for when in whens]
    yield f"| {' | '.join(heads)} |"
    yield f"| {' | '.join(['---', '---'] + ['---:'] * (len(heads) - 2))} |"
    for layer, other in zip_longest(signal.layers, matched_layers(signal, after)):
        runs: tuple[Layer | None, ...] = (layer, other) if after else (layer,)
        cells = [text(layer.name), text(layer.follows.label), number_text(layer.scale)]
        cells += [number_text(run.rms if run else None) for run in runs]
        cells += [number_text(run.gradient_rms if run else None) for run in runs]
        yield f"| {' | '.join(cells)} |"
    if folded:
        yield ""
        yield "</details>"

"""Charts as data: what every picture of a signal shows, computed once; pages and plots draw it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from fanwise.signal import Layer, Signal, predicted_backward, predicted_forward
from fanwise.signal.roles import roles_of

Style = Literal["before", "after", "predicted"]
BEFORE, AFTER, PREDICTED = "as it is", "after init_", "predicted after init_"
VARIES_LESS = 0.5
"""The varying part of a signal is drawn where it falls below this share of the rms."""
LEAST_SHARE = 0.1
"""A share that reaches this in no layer is not drawn."""


@dataclass(frozen=True)
class Series:
    """One line: a value for each layer, None where there is none that can be drawn.

    `role` is that of its layers, where there is a line for each role.
    """

    label: str
    style: Style
    values: tuple[float | None, ...]
    varying: bool = False
    role: str = ""


@dataclass(frozen=True)
class Chart:
    """Lines over the layers in execution order.

    Attributes:
        key: a name for programs.
        title, quantity: for readers; quantity names what the vertical axis counts.
        log: whether the vertical axis is logarithmic; then every value is positive.
        series: the lines.
        joined: whether a line goes on over layers without a value.
    """

    key: str
    title: str
    quantity: str
    log: bool
    series: tuple[Series, ...]
    joined: bool = False


@dataclass(frozen=True)
class Charts:
    """The layers' names, the charts, and the index of the layer that the verdict names, if any."""

    names: tuple[str, ...]
    charts: tuple[Chart, ...]
    where: int | None


Pick = Callable[[Layer], float | None]
SHARE_CHARTS: tuple[tuple[str, str, str, Pick], ...] = (
    ("saturated", "Saturated", "share of the activation's entries", lambda x: x.saturated),
    ("dead", "Dead", "share of the activation's units", lambda x: x.dead),
    ("cosine", "Likeness", "cosine between different inputs", lambda x: x.cosine),
)


Pairs = Callable[[Signal], Iterable[tuple[str, float | None]]]


def matched_layers(signal: Signal, after: Signal | None) -> tuple[Layer | None, ...]:
    """Return the layers of `after` that have the names of `signal`'s, in `signal`'s order.

    A model that branches on its data may have run other kernels after the mend.
    """
    others = {layer.name: layer for layer in after.layers} if after else {}
    return tuple(others.get(layer.name) for layer in signal.layers)


def _values(layers: Sequence[Layer | None], pick: Pick, *, log: bool) -> tuple[float | None, ...]:
    def value(layer: Layer | None) -> float | None:
        found = pick(layer) if layer is not None else None
        drawable = found is not None and math.isfinite(found) and (found > 0 or not log)
        return found if drawable else None

    return tuple(value(layer) for layer in layers)


def _backward_in_order(layers: Sequence[Layer]) -> list[float]:
    return predicted_backward(layers)[::-1]


def _predicted(
    layers: Sequence[Layer], predict: Callable[[Sequence[Layer]], list[float]]
) -> Series | None:
    """Return the values predicted for weights of the planned scale; None where none is known."""
    sound = all(math.isfinite(x.rms) and math.isfinite(x.weight_rms) for x in layers)
    if not sound or not any(x.planned_rms for x in layers):
        return None
    values = tuple(v if math.isfinite(v) and v > 0 else None for v in predict(layers))
    return Series(PREDICTED, "predicted", values) if any(values) else None


def _by_name(
    signal: Signal, after: Signal | None, key: Callable[[Layer], str], values: Pairs
) -> tuple[Series, ...]:
    """Return a line for each run, of values that have a layer's name or parameter as their key."""
    lines = []
    runs: list[tuple[str, Style, Signal | None]]
    runs = [(BEFORE, "before", signal), (AFTER, "after", after)]
    for label, style, run in runs:
        known = dict(values(run)) if run is not None else {}
        read = [known.get(key(layer)) for layer in signal.layers]
        found = tuple(v if v and math.isfinite(v) else None for v in read)
        if any(found):
            lines.append(Series(label, style, found))
    return tuple(lines)


def _stream(signal: Signal, after: Signal | None) -> Chart | None:
    lines = _by_name(
        signal, after, lambda x: x.name, lambda run: [(s.name, s.rms) for s in run.sums]
    )
    what = "rms of each residual sum"
    return Chart("stream", "Stream", what, True, lines, joined=True) if lines else None


def _updates(signal: Signal, after: Signal | None) -> Chart | None:
    lines = _by_name(
        signal,
        after,
        lambda x: x.parameter,
        lambda run: [(w.name, w.update_ratio) for w in run.weights],
    )
    return Chart("update", "First step", "update ÷ weight", True, lines) if lines else None


def charts(signal: Signal, after: Signal | None = None) -> Charts:
    """Return what to draw of a signal; beside it the signal after a mend."""
    runs: list[tuple[str, Style, Sequence[Layer | None]]] = [(BEFORE, "before", signal.layers)]
    if after is not None:
        runs.append((AFTER, "after", matched_layers(signal, after)))

    def lines(pick: Pick, *, log: bool) -> list[Series]:
        found = [
            Series(label, style, _values(layers, pick, log=log)) for label, style, layers in runs
        ]
        return [series for series in found if any(v is not None for v in series.values)]

    def varying() -> list[Series]:
        apart = []
        for label, style, layers in runs:
            values = _values(layers, lambda layer: layer.varying, log=True)
            if any(
                v is not None and x is not None and v < VARIES_LESS * x.rms
                for v, x in zip(values, layers, strict=True)
            ):
                apart.append(Series(f"{label}, between samples", style, values, varying=True))
        return apart

    forward = lines(lambda layer: layer.rms, log=True) + varying()
    backward = lines(lambda layer: layer.gradient_rms, log=True)
    for found, predict in ((forward, predicted_forward), (backward, _backward_in_order)):
        if found and (line := _predicted(signal.layers, predict)):
            found.append(line)
    made = [
        Chart("forward", "Forward", "rms of each kernel's output", True, tuple(forward)),
        Chart("backward", "Backward", "rms of the gradient there", True, tuple(backward)),
        Chart(
            "scale",
            "Weights",
            "their deviation ÷ the planned one",
            True,
            tuple(lines(lambda layer: layer.scale, log=True)),
        ),
    ]
    made += filter(None, (_updates(signal, after),))
    for key, title, quantity, pick in SHARE_CHARTS:
        shown = lines(pick, log=False)
        if any((value or 0.0) >= LEAST_SHARE for series in shown for value in series.values):
            made.append(Chart(key, title, quantity, False, tuple(shown)))
    names = tuple(layer.name for layer in signal.layers)
    made = [_by_role(chart, roles_of(names)) for chart in made]
    stream = _stream(signal, after)
    if stream is not None:  # what runs level in a residual model
        made.insert(0, stream)
    where = signal.verdicts[0].where if signal.verdicts else ""
    return Charts(names, tuple(c for c in made if c.series), _index_of(signal.layers, where))


def _by_role(chart: Chart, roles: Sequence[str]) -> Chart:
    """Return a chart with a line for each role, and a point for each layer without one."""
    if not any(roles):
        return chart
    groups: dict[tuple[str, int], set[int]] = {}
    for i, role in enumerate(roles):
        groups.setdefault((role, 0 if role else i), set()).add(i)
    lines = []
    for series in chart.series:
        for (role, _), own in groups.items():
            values = tuple(v if i in own else None for i, v in enumerate(series.values))
            if any(v is not None for v in values):
                lines.append(replace(series, values=values, role=role))
    return replace(chart, series=tuple(lines), joined=True)


def _index_of(layers: Sequence[Layer], where: str) -> int | None:
    """Return the index of the first layer of this name, of this parameter, or in this module."""
    for i, layer in enumerate(layers):
        if where and (where in (layer.name, layer.parameter) or layer.name.startswith(f"{where}.")):
            return i
    return None

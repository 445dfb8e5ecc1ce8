"""Comparison: what the trials of several starts say, against the first of them."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean, median
from typing import Any

from fanwise.comparing.sweep import best_power, trains
from fanwise.comparing.trials import Setting, Trial
from fanwise.comparing.verdicts import Difference, Verdict, difference


@dataclass(frozen=True)
class Outcome:
    """How one start trained.

    Attributes:
        start: its name.
        rate: the learning rate of the least mean final loss over the seeds; None where none trains.
        final: that mean.
        first: the mean loss at step 0.
        steps: the median number of steps to the reference's final loss; None where it isn't
            reached on half of the seeds.
        rates: the learning rates whose final loss is within a tenth of the best of any start, on
            the first seed.
        failed: the rates at which a run broke off, and how.
        difference: of the final losses from the reference's; None for the reference.
        curve: the mean loss of each step at the best rate.
        reason: why the start doesn't fit the model, where it doesn't; all else is then empty.
    """

    start: str
    rate: float | None = None
    final: float = math.inf
    first: float = math.nan
    steps: float | None = None
    rates: tuple[float, ...] = ()
    failed: Mapping[float, str] | None = None
    difference: Difference | None = None
    curve: tuple[float, ...] = ()
    reason: str = ""


@dataclass(frozen=True)
class Comparison:
    """Several starts of one model, each at its best learning rate; the first is the reference.

    Attributes:
        outcomes: of the starts, in the order given.
        steps: of each trial.
        seeds: of each start at its best rate.
        seconds: CPU time of all trials.
    """

    outcomes: tuple[Outcome, ...]
    steps: int
    seeds: int
    seconds: float

    def __getitem__(self, start: str) -> Outcome:
        """Return the outcome of a start.

        Raises:
            KeyError: none is called so.
        """
        for outcome in self.outcomes:
            if outcome.start == start:
                return outcome
        raise KeyError(start)

    @property
    def summary(self) -> str:
        """The comparison in a sentence for each start after the first."""
        reference = self.outcomes[0].start
        return " ".join(_sentence(outcome, reference) for outcome in self.outcomes[1:])

    def to_plain(self) -> dict[str, Any]:
        """Return it as dictionaries and lists, without infinities and NaN."""
        plain: dict[str, Any] = _finite(asdict(self))
        return plain

    def to_json(self) -> str:
        """Return it as JSON."""
        return json.dumps(self.to_plain(), ensure_ascii=False)


def compare_trials(
    trials: Iterable[Trial],
    starts: Mapping[str, str],
    *,
    base: float,
    steps: int,
    unfit: Mapping[str, str] | None = None,
) -> Comparison:
    """Return what trials say of the starts, against the first of them.

    Args:
        trials: of all starts.
        starts: the `Trial.start` of each start by its name, the reference first.
        base: the learning rate of power 0.
        steps: of a trial that didn't break off.
        unfit: why, of the starts that don't fit the model.
    """
    trials = list(trials)
    by_start: dict[str, dict[Setting, Trial]] = {
        name: {t.setting: t for t in trials if t.start == start} for name, start in starts.items()
    }
    best = {name: best_power(runs) for name, runs in by_start.items()}
    finals = {name: _by_seed(by_start[name], best[name]) for name in starts}
    swept = [t.final for runs in by_start.values() for s, t in runs.items() if s.seed == 0]
    least = min(swept, default=math.inf)
    reference = next(iter(starts))
    outcomes = []
    for name, runs in by_start.items():
        if unfit and name in unfit:
            outcomes.append(Outcome(name, reason=unfit[name]))
            continue
        chosen = [t for s, t in sorted(runs.items()) if s.power == best[name]]
        paired = sorted(finals[name].keys() & finals[reference].keys())
        compared = None
        if name != reference:
            seeds = paired or [0]
            ours, theirs = ([finals[n].get(s, math.inf) for s in seeds] for n in (name, reference))
            compared = difference(ours, theirs)
        goal = finals[reference]
        reached = [t.steps_to(goal[t.setting.seed]) for t in chosen if t.setting.seed in goal]
        firsts = [t.first for t in chosen or runs.values()]
        outcomes.append(
            Outcome(
                name,
                None if best[name] is None else base * 2.0 ** (best[name] or 0),
                fmean(t.final for t in chosen) if chosen else math.inf,
                fmean(firsts) if firsts else math.nan,
                _median_steps(reached),
                _rates(runs, base, least),
                {base * 2.0**s.power: t.problem for s, t in sorted(runs.items()) if t.problem},
                compared,
                tuple(map(fmean, zip(*(t.losses for t in chosen), strict=True))),
            )
        )
    pairs = max((len(f) for f in finals.values()), default=0)
    return Comparison(tuple(outcomes), steps, pairs, sum(t.seconds for t in trials))


def _by_seed(runs: Mapping[Setting, Trial], power: int | None) -> dict[int, float]:
    """Return the final loss of each seed at one rate."""
    return {s.seed: t.final for s, t in runs.items() if s.power == power}


def _median_steps(reached: Sequence[int | None]) -> float | None:
    found = median(math.inf if n is None else n for n in reached) if reached else math.inf
    return found if math.isfinite(found) else None


def _rates(runs: Mapping[Setting, Trial], base: float, least: float) -> tuple[float, ...]:
    """Return the rates whose final loss is within a tenth of the least, on the sweep's seed."""
    swept = sorted((s.power, t.final) for s, t in runs.items() if s.seed == 0)
    return tuple(base * 2.0**power for power, final in swept if trains(final, least))


def _sentence(outcome: Outcome, reference: str) -> str:
    if outcome.reason:
        return f"{outcome.start} doesn't fit: {outcome.reason}."
    found = outcome.difference
    assert found is not None
    if found.verdict == Verdict.NEITHER:
        return f"Neither {outcome.start} nor {reference} trains at any rate."
    if not math.isfinite(found.mean):
        one, other = outcome.start, reference
        trained, failed = (one, other) if found.verdict == Verdict.WIN else (other, one)
        return f"{trained} trains, {failed} at no rate."
    interval = f"{found}, {found.pairs} seed{'s' * (found.pairs != 1)}"
    return {
        Verdict.WIN: f"{outcome.start} ends lower than {reference}: {interval}.",
        Verdict.LOSS: f"{outcome.start} ends higher than {reference}: {interval}.",
        Verdict.TIE: f"{outcome.start} and {reference} tie: {interval}.",
    }.get(
        found.verdict,
        f"{outcome.start} against {reference} is undecided: {interval}; more seeds would tell.",
    )


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {str(key): _finite(item) for key, item in value.items()}
    return [_finite(item) for item in value] if isinstance(value, list | tuple) else value

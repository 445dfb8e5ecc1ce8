"""Measure every case at every seed, compare with what was planted, and tabulate."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass

from benchmarks.diagnosis.cases import DIAGNOSIS_CASES, NO_DEFECT, DiagnosisCase


@dataclass(frozen=True)
class Score:
    """What was said of one specimen.

    Attributes:
        found: whether the gravest verdict is of an accepted kind; for a healthy model, whether
            there is none.
        located: whether that verdict names an accepted layer.
        extra: how many further verdicts there are.
        said: the gravest verdict's kind, direction and place.
    """

    case: str
    family: str
    defect: str
    seed: int
    found: bool
    located: bool
    extra: int
    said: str
    note: str


def score_case(case: DiagnosisCase, seed: int) -> Score:
    """Return the outcome of one specimen."""
    import fanwise.torch as fwt

    specimen = None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            specimen = case.build(seed)
            signal = fwt.measure(
                specimen.model, specimen.inputs, loss=specimen.loss, **specimen.options
            )
        except Exception as error:  # whatever it is, a user would see it
            said, note = f"{type(error).__name__}: {error}", specimen.note if specimen else ""
            return Score(case.name, case.family, case.defect, seed, False, False, 0, said, note)
    verdicts = signal.verdicts
    said = "; ".join(f"{v.kind} {v.direction}".strip() + f" at {v.where}" for v in verdicts)
    if case.defect == NO_DEFECT:
        found = not verdicts
        located = True
    else:
        found = bool(verdicts) and any(
            verdicts[0].kind == kind.split()[0]
            and all(word in verdicts[0].direction for word in kind.split()[1:])
            for kind in case.accepted
        )
        located = found and specimen.is_at(verdicts[0].where)
    extra = max(len(verdicts) - 1, 0)
    note = specimen.note if located else f"{specimen.note} expected {specimen.where[:3]}"
    return Score(case.name, case.family, case.defect, seed, found, located, extra, said, note)


def scores(
    seeds: Iterable[int], only: str = "", collection: str = "first", *, held_out: bool = False
) -> Iterator[Score]:
    """Yield the outcome of every case whose name or defect contains `only`, at every seed."""
    seeds = list(seeds)
    for case in DIAGNOSIS_CASES:
        if case.collection != collection or case.held_out != held_out:
            continue
        if only in case.name or only == case.defect:
            for seed in seeds:
                yield score_case(case, seed)


def score_table(results: list[Score], key: str) -> str:
    """Return a Markdown table: one row a value of `key`."""
    lines = [f"| {key} | models | found | located | extra verdicts |", "|---|---|---|---|---|"]
    sick = [r for r in results if r.defect != NO_DEFECT]
    for value in [*sorted({getattr(r, key) for r in sick}), "all"]:
        rows = [r for r in sick if value in ("all", getattr(r, key))]
        found, located = sum(r.found for r in rows), sum(r.located for r in rows)
        extra = sum(r.extra for r in rows)
        lines.append(
            f"| {value} | {len(rows)} | {found / len(rows):.1%} | {located / len(rows):.1%} "
            f"| {extra} |"
        )
    return "\n".join(lines)


def alarm_table(results: list[Score]) -> str:
    """Return a Markdown table of false alarms on healthy models, by family."""
    lines = ["| family | healthy models | false alarms |", "|---|---|---|"]
    well = [r for r in results if r.defect == NO_DEFECT]
    for value in [*sorted({r.family for r in well}), "all"]:
        rows = [r for r in well if value in ("all", r.family)]
        false = sum(not r.found for r in rows)
        lines.append(f"| {value} | {len(rows)} | {false} ({false / len(rows):.1%}) |")
    return "\n".join(lines)


def json_values(results: list[Score]) -> list[dict[str, object]]:
    """Return the outcomes as JSON values."""
    return [asdict(r) for r in results]

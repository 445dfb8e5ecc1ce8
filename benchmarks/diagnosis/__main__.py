"""Plant defects, measure, and score: found, located, and false alarms on healthy models.

    python -m benchmarks.diagnosis [--seeds 100:110] [--only NAME] [--output benchmarks/results]

Cases were written and thresholds set on seeds 0 to 6; a score that is published uses others. A
defect is found where the gravest verdict is of the planted kind, or of one that the case accepts as
another true name for it; located where that verdict names the planted layer (or one of the few that
the case accepts); a healthy model with any verdict is a false alarm.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

import torch

from benchmarks.diagnosis import (  # noqa: F401  (they register their cases)
    defects,
    fifth_defects,
    fifth_losses,
    fifth_sequences,
    fifth_sets,
    fifth_trained,
    fifth_vision,
    fourth_defects,
    fourth_healthy,
    fourth_layers,
    fourth_libraries,
    fourth_scales,
    healthy,
    second_defects,
    second_healthy,
    sixth_defects,
    sixth_fields,
    sixth_libraries,
    sixth_memories,
    sixth_mistakes,
    sixth_parts,
    sixth_samples,
    sixth_sequences,
    sixth_tables,
    sixth_vision,
    third_defects,
    third_healthy,
)
from benchmarks.diagnosis.cases import DIAGNOSIS_CASES, NO_DEFECT
from benchmarks.diagnosis.score import alarm_table, json_values, score_table, scores

SPLIT = ("second", "third", "fourth", "fifth", "sixth")
"""The collections of which a part is held out."""

SEEN = "The part of the collection that verdicts were mended on."
HELD_OUT = "The part of the collection that nobody looked at while verdicts were mended."
OF_COLLECTION = {
    "first": "The seeds draw widths, depths, factors, places, activations and data, and were not "
    "used while verdicts were written; the kinds of models are those on which thresholds were set, "
    "so this says nothing of architectures that aren't there.",
    **dict.fromkeys(SPLIT, SEEN),
    **{f"{name}, held out": HELD_OUT for name in SPLIT},
}
"""By collection and part, what a table of it says."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", default="100:110", help="first:last, the last not included")
    parser.add_argument("--only", default="", help="cases whose name contains this")
    parser.add_argument("--collection", choices=("first", *SPLIT), default="first")
    parser.add_argument(
        "--held-out",
        action="store_true",
        help="the part of a collection that nobody looks at, by a hash",
    )
    parser.add_argument("--output", type=Path, help="folder for diagnosis.md and diagnosis.json")
    options = parser.parse_args()
    first, last = (int(end) for end in options.seeds.split(":"))
    started = time.process_time()
    results = []
    for outcome in scores(
        range(first, last), options.only, options.collection, held_out=options.held_out
    ):
        results.append(outcome)
        if not outcome.located:
            what = outcome.defect or "healthy"
            print(f"{outcome.case} [{outcome.seed}] {what}: {outcome.said or 'nothing'} "
                  f"({outcome.note.strip()})", file=sys.stderr)  # fmt: skip
        elif not outcome.found:
            print(f"{outcome.case} [{outcome.seed}] {outcome.said}", file=sys.stderr)
    seconds = time.process_time() - started
    named = f"{options.collection}{', held out' if options.held_out else ''}"
    cases = [
        case
        for case in DIAGNOSIS_CASES
        if (case.collection, case.held_out) == (options.collection, options.held_out)
    ]
    well = sum(case.defect == NO_DEFECT for case in cases)
    held_out = " --held-out" if options.held_out else ""
    parts = [
        "# Planted defects",
        f"`python -m benchmarks.diagnosis --collection {options.collection}{held_out} --seeds "
        f"{options.seeds}`, torch {torch.__version__}: {well} kinds of healthy models and "
        f"{len(cases) - well} of defective ones, each at {last - first} seeds ({seconds:.0f} s of "
        f"CPU time). {OF_COLLECTION[named]} Found: the gravest verdict is of the planted kind, or "
        "of one that the case accepts as another true name; located: it names the planted layer, "
        "or one of the few that the case accepts.",
    ]
    sick = [r for r in results if r.defect != NO_DEFECT]
    if sick:
        parts += [score_table(results, "defect"), score_table(results, "family")]
    if len(sick) < len(results):
        parts.append(alarm_table(results))
    misses = [r for r in results if not (r.found and r.located)]
    if misses:
        lines = ["Every miss:", "", "| case | seed | planted | said |", "|---|---|---|---|"]
        lines += [
            f"| {r.case} | {r.seed} | {r.defect or '–'} | {r.said or 'healthy'} |" for r in misses
        ]
        parts.append("\n".join(lines))
    text = "\n\n".join(parts) + "\n"
    print(text)
    if options.output:
        options.output.mkdir(parents=True, exist_ok=True)
        part = named.replace(", ", "-").replace(" ", "-")
        name = "diagnosis" if part == "first" else f"diagnosis-{part}"
        (options.output / f"{name}.md").write_text(text)
        text = json.dumps(json_values(results), indent=1)
        (options.output / f"{name}.json").write_text(text + "\n")


if __name__ == "__main__":
    main()

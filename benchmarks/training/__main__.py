"""Which start trains better, on tasks of many kinds.

    python -m benchmarks.training run [--tasks GLOB] [--half first] [--starts own,init_] [--seeds 5]
    python -m benchmarks.training report

`run` trains every task from every start that fits, by `fanwise.torch.compare`: a sweep of the
learning rate in factors of 2 on one seed, then `--seeds` seeds at the best rate and beside it; a
task on which ours and the package's own are undecided gets up to `--most` seeds. Each trial is
written to a record, so that an interrupted run goes on where it was, and only what a changed rule
draws anew is run anew. `report` writes docs/training.md, and a figure a task.

The tasks are in two halves by a hash of their names, so that rules chosen by the first can be
judged by the second; docs/training.md says which rules were.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
import warnings
from fnmatch import fnmatchcase
from pathlib import Path

import torch

import fanwise.torch as fwt
from benchmarks.fill.__main__ import describe_machine
from benchmarks.training.report import write_report
from benchmarks.training.starts import OURS, REFERENCE, STARTS
from benchmarks.training.task import OPTIMIZERS
from benchmarks.training.tasks import TASKS, Task
from fanwise.comparing.verdicts import Verdict

RESULTS = Path(__file__).parents[1] / "results" / "training"
RECORDS = Path(__file__).parent / "records"


def slug(task: Task) -> str:
    """Return a file's name for a task."""
    return "".join(c if c.isalnum() else "-" for c in task.name).strip("-")


def commit() -> str:
    """Return the commit that is checked out."""
    found = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    )
    return found.stdout.strip() or "unknown"


def run_task(task: Task, starts: list[str], seeds: int, most: int) -> None:
    """Train a task from every start, and write what that says."""
    parts = task.parts()
    optimizer, rate = OPTIMIZERS[task.optimizer]
    records = RECORDS / f"{slug(task)}.jsonl"
    records.parent.mkdir(exist_ok=True)
    while True:
        found = fwt.compare(
            parts.build,
            parts.batches,
            loss=parts.loss,
            starts={name: STARTS[name] for name in starts},
            optimizer=optimizer,
            rate=rate,
            steps=task.steps,
            seeds=seeds,
            record=records,
        )
        ours = found[OURS].difference if OURS in starts else None
        undecided = ours is not None and ours.verdict == Verdict.UNDECIDED
        if not undecided or seeds >= most:
            break
        seeds = min(2 * seeds, most)
    RESULTS.mkdir(parents=True, exist_ok=True)
    plain = {
        "task": task.name,
        "family": task.family,
        "half": task.half,
        "commit": commit(),
        "date": time.strftime("%Y-%m-%d"),
        **found.to_plain(),
    }
    path = RESULTS / f"{slug(task)}.json"
    path.write_text(json.dumps(plain, ensure_ascii=False) + "\n", encoding="utf-8")
    print(f"{task.name}\n{found}", flush=True)


def main() -> None:
    """Run tasks, or report what was run."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.training", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("what", choices=("run", "report", "list"))
    parser.add_argument("--tasks", default="*", help="a glob on their names")
    parser.add_argument("--half", choices=("first", "second"))
    parser.add_argument("--starts", default=",".join(STARTS), help="names, with commas between")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--most", type=int, default=20, help="seeds of a task that is undecided")
    options = parser.parse_args()
    if options.what == "report":
        write_report(RESULTS, TASKS.values())
        return
    starts = options.starts.split(",")
    unknown = [name for name in starts if name not in STARTS]
    if unknown or starts[0] != REFERENCE:
        parser.error(f"--starts: {REFERENCE} first, then some of {', '.join(STARTS)}")
    torch.set_num_threads(1)
    for task in TASKS.values():
        if not fnmatchcase(task.name, options.tasks) or options.half not in (None, task.half):
            continue
        if options.what == "list":
            print(f"{task.name:40} {task.family:22} {task.half}")
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                run_task(task, starts, options.seeds, options.most)
            except Exception as error:  # the others are run all the same
                print(f"{task.name}: {type(error).__name__}: {error}", file=sys.stderr)
    if options.what == "run":
        (RESULTS / "machine.json").write_text(json.dumps(describe_machine()) + "\n")


if __name__ == "__main__":
    main()

"""Models at scale, each command one table; `--output` keeps it as JSON, and makes the page anew.

    python -m benchmarks.scale bits       W ranks draw what one process draws
    python -m benchmarks.scale memory     what a rank takes beyond its shards
    python -m benchmarks.scale time       W ranks beside one process, the same bytes
    python -m benchmarks.scale ranks      the regions of a rank of many, and of all of them
    python -m benchmarks.scale disk --config 7b --folder FOLDER [--format dcp]

The first three start gloo processes, one thread each. Time is CPU time, summed over the ranks: on a
machine that others use, wall time says what they do.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from benchmarks.scale import disk, processes, regions

RESULTS = Path("benchmarks/results")
TITLES = {
    "bits": "Bits: `bits`. Parameters of which every rank's shards are those of one process",
    "memory": "Memory: `memory`. Peak of the fullest rank's resident memory above that before "
    "`to_empty`, in MiB",
    "time": "Time: `time`. CPU seconds of `apply` for 2 GiB, the least of several rounds, in which "
    "one process and all ranks take turns",
    "ranks": "Many ranks: `ranks`. A Llama of 70 billion parameters, FSDP2 over tensor parallelism "
    "of 4; no processes",
    "disk": "To disk: `disk`. bfloat16; beside it as many bytes in as many files from one block of "
    "memory, both with fsync",
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=TITLES)
    parser.add_argument("--config", choices=disk.SIZES, default="7b")
    parser.add_argument("--format", choices=("safetensors", "dcp"), default="safetensors")
    parser.add_argument("--folder", type=Path, default=Path("scale"))
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--output", action="store_true", help="keep it in benchmarks/results")
    given = parser.parse_args()
    if given.what == "disk":
        rows = [disk.measure(given.config, given.format, given.folder)]
    elif given.what == "ranks":
        rows = [regions.measure(world) for world in (100, 1000)]
    else:
        rows = processes.measure(given.what, given.rounds)
    print(table(rows))
    if given.output:
        keep(given.what, rows)


def table(rows: list[dict[str, Any]]) -> str:
    """Return rows of the same keys as a table."""

    def text(value: Any) -> str:
        return f"{value:.3g}" if isinstance(value, float) else str(value)

    heads = list(rows[0])
    lines = [heads, ["---"] * len(heads), *([text(row[h]) for h in heads] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def keep(what: str, rows: list[dict[str, Any]]) -> None:
    """Put rows into the JSON file, and make the page of all of it anew."""
    path = RESULTS / "scale.json"
    kept = json.loads(path.read_text("utf-8")) if path.exists() else {}
    if what == "disk":  # one row a configuration and format
        new = {(row["config"], row["format"]) for row in rows}
        others = [r for r in kept.get("disk", []) if (r["config"], r["format"]) not in new]
        rows = [*others, *rows]
    kept[what] = rows
    path.write_text(json.dumps(kept, indent=1) + "\n", "utf-8")
    parts = [f"{TITLES[key]}.\n\n{table(kept[key])}\n" for key in TITLES if key in kept]
    head = (
        "# Models at scale\n\n`python -m benchmarks.scale COMMAND --output`, on two cores that "
        "other work shares: seconds of wall time are upper bounds.\n\n"
    )
    (RESULTS / "scale.md").write_text(head + "\n".join(parts), "utf-8")


if __name__ == "__main__":
    main()

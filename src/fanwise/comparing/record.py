"""Record: trials in a file, a line each, so that an interrupted comparison goes on where it was."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from fanwise.comparing.trials import Setting, Trial
from fanwise.errors import ArgumentError


class Record:
    """The trials so far; with a path, those of its file, and each new one is appended to it.

    The file's first line says of which comparison it is. A line that was cut short is dropped.

    Args:
        path: of the file, or None to keep trials in memory alone.
        about: what a trial's losses depend on, beside its start and setting.

    Raises:
        ArgumentError: the file is of another comparison, no record, or can't be written.
    """

    def __init__(self, path: Path | None, about: Mapping[str, Any]) -> None:
        self.path = path
        self._trials: dict[tuple[str, Setting], Trial] = {}
        if path is None:
            return
        header = json.dumps(dict(about), sort_keys=True, ensure_ascii=False)
        try:
            text = path.read_text(encoding="utf-8") if path.exists() else ""
            lines = text.splitlines()
            whole = [header]
            if lines:
                self._check_header(lines[0], header)
            for line in lines[1:]:
                trial = _read(line)
                if trial is None:
                    continue
                whole.append(line)
                self._keep(trial)
            mended = "".join(f"{line}\n" for line in whole)
            if mended != text:
                path.write_text(mended, encoding="utf-8")
        except OSError as error:
            reason = error.strerror or error
            raise ArgumentError(
                f"record {path}: {reason}. Name a file in a folder that can be written to."
            ) from error

    def of(self, start: str) -> dict[Setting, Trial]:
        """Return the trials of one start."""
        return {s: t for (of, s), t in self._trials.items() if of == start}

    def __iter__(self) -> Iterator[Trial]:
        """Yield every trial."""
        return iter(self._trials.values())

    def add(self, trial: Trial) -> None:
        """Keep a trial as its line says it, in the file too."""
        line = _line(trial)
        if self.path is not None:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(line)
        kept = _read(line)  # rounded, so that a run that is resumed gives the same numbers
        assert kept is not None
        self._keep(kept)

    def _keep(self, trial: Trial) -> None:
        self._trials[trial.start, trial.setting] = trial

    def _check_header(self, line: str, header: str) -> None:
        try:
            before = json.loads(line)
        except ValueError:
            before = None
        if not isinstance(before, dict):
            raise ArgumentError(f"record {self.path} holds no trials: name another file.")
        now = json.loads(header)
        for key in {**before, **now}:
            if before.get(key) != now.get(key):
                raise ArgumentError(
                    f"record {self.path} is of another comparison: its {key} is "
                    f"{before.get(key)!r}, and here it is {now.get(key)!r}. Name another file."
                )


def _line(trial: Trial) -> str:
    plain = {
        "start": trial.start,
        "power": trial.setting.power,
        "seed": trial.setting.seed,
        "seconds": round(trial.seconds, 3),
        "problem": trial.problem,
        "losses": [float(f"{loss:.6g}") if math.isfinite(loss) else None for loss in trial.losses],
    }
    return json.dumps(plain, ensure_ascii=False) + "\n"


def _read(line: str) -> Trial | None:
    """Return the trial of a line; None for one that was cut short."""
    try:
        plain = json.loads(line)
        losses = tuple(math.nan if loss is None else float(loss) for loss in plain["losses"])
        setting = Setting(plain["power"], plain["seed"])
        return Trial(plain["start"], setting, losses, plain["problem"], plain["seconds"])
    except (ValueError, KeyError, TypeError):
        return None

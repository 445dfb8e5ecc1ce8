"""A record survives an interruption, and is taken for no other comparison's."""

from __future__ import annotations

import math

import pytest

from fanwise.comparing.record import Record
from fanwise.comparing.trials import Setting, Trial
from fanwise.errors import ArgumentError

ABOUT = {"steps": 3, "model": {"weight": [4, 4]}}
TRIALS = [
    Trial("own", Setting(0, 0), (3.0, 2.0, 1.0), seconds=0.25),
    Trial("plan 01", Setting(-2, 1), (3.0, math.nan), "NaN at step 1", 0.125),
]


def written(path):
    record = Record(path, ABOUT)
    for trial in TRIALS:
        record.add(trial)
    return path


def test_what_was_written_is_read(tmp_path):
    found = Record(written(tmp_path / "a.jsonl"), ABOUT)
    assert [(t.start, t.setting, t.problem, t.seconds) for t in found] == [
        (t.start, t.setting, t.problem, t.seconds) for t in TRIALS
    ]
    assert found.of("own") == {Setting(0, 0): TRIALS[0]}
    assert math.isnan(found.of("plan 01")[Setting(-2, 1)].losses[1])


@pytest.mark.parametrize("cut", [1, 20, 60])
def test_a_line_that_was_cut_short_is_dropped_and_the_file_goes_on(tmp_path, cut):
    path = written(tmp_path / "a.jsonl")
    path.write_bytes(path.read_bytes()[:-cut])
    record = Record(path, ABOUT)
    assert len(list(record)) == (2 if cut == 1 else 1)  # only the line's end was missing
    record.add(TRIALS[1])
    assert [t.start for t in Record(path, ABOUT)] == ["own", "plan 01"]


def test_another_comparison_s_record_is_refused(tmp_path):
    path = written(tmp_path / "a.jsonl")
    before = path.read_bytes()
    message = r"a\.jsonl is of another comparison: its steps is 3, and here it is 4\. Name another"
    with pytest.raises(ArgumentError, match=message):
        Record(path, {**ABOUT, "steps": 4})
    assert path.read_bytes() == before


def test_a_file_that_is_no_record_is_left_alone(tmp_path):
    path = tmp_path / "notes.txt"
    path.write_text("dear diary\n")
    with pytest.raises(ArgumentError, match=r"notes\.txt holds no trials: name another file\."):
        Record(path, ABOUT)
    assert path.read_text() == "dear diary\n"


def test_a_folder_that_isn_t_there(tmp_path):
    with pytest.raises(ArgumentError, match=r"Name a file in a folder that can be written to\."):
        Record(tmp_path / "none" / "a.jsonl", ABOUT)

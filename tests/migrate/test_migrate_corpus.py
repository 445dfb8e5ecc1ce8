"""Files in the styles that tutorials and research code used, and exactly what becomes of them.

`expected.diff` and `expected.txt` were read line by line when they were accepted; after a wanted
change, `FANWISE_ACCEPT=1 pytest tests/migrate/test_migrate_corpus.py` writes them anew.
"""

import ast
import io
import os
import shutil
import tokenize
from pathlib import Path

import pytest

from fanwise.migrate import migrate

HERE = Path(__file__).parent
CORPUS = HERE / "corpus"
PYTHON = sorted(path.name for path in CORPUS.glob("*.py") if path.name != "python2.py")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """A copy of the corpus, the report on it, and what a run with write left."""
    place = tmp_path_factory.mktemp("corpus")
    shutil.copytree(CORPUS, place, dirs_exist_ok=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        before = {path.name: path.read_bytes() for path in place.iterdir()}
        report = migrate(["."])
        assert {path.name: path.read_bytes() for path in place.iterdir()} == before
        migrate(["."], write=True)
        again = migrate(["."])
    after = {path.name: path.read_bytes() for path in place.iterdir()}
    return before, report, after, again


def findings(report):
    lines = []
    for file in report.files:
        lines.append(file.path)
        for finding in file.findings:
            lines.append(f"  {finding.place}: {finding.kind}: {finding.old}")
            reason = finding.reason
            if finding.kind == "unread":  # Python's own words come after the colon.
                reason = reason.split(":")[0]
            lines += [f"      {text}" for text in (finding.new, reason) if text]
    return "\n".join(lines) + "\n"


def accepted(name, content):
    path = HERE / name
    if os.environ.get("FANWISE_ACCEPT"):
        path.write_bytes(content)
    return path.read_bytes()


def test_corpus_is_large_enough():
    assert len(list(CORPUS.glob("*.py"))) >= 15
    assert list(CORPUS.glob("*.ipynb"))


def test_diff_is_the_accepted_one(corpus):
    diff = corpus[1].diff().encode("utf-8", "surrogateescape")
    assert diff == accepted("expected.diff", diff)


def test_findings_are_the_accepted_ones(corpus):
    text = findings(corpus[1])
    assert text == accepted("expected.txt", text.encode()).decode()


def test_second_run_changes_nothing(corpus):
    _, _, _, again = corpus
    assert again.changed == ()


def test_written_is_what_was_reported(corpus):
    before, report, after, _ = corpus
    expected = before | {file.path: file.after for file in report.files}
    assert after == expected


@pytest.mark.parametrize("name", PYTHON)
def test_output_parses_and_keeps_comments(corpus, name):
    before, _, after, _ = corpus
    ast.parse(after[name])
    assert comments(after[name]) == comments(before[name])


def comments(source):
    tokens = tokenize.tokenize(io.BytesIO(source).readline)
    return sorted(token.string for token in tokens if token.type == tokenize.COMMENT)


def test_line_endings_and_marks_stay(corpus):
    _, _, after, _ = corpus
    windows = after["crlf_windows.py"]
    assert windows.startswith(b"\xef\xbb\xbf#")
    assert windows.count(b"\n") == windows.count(b"\r\n") == 10
    assert b"\r" not in after["tabs.py"]
    assert b"    " not in after["tabs.py"]
    assert "# Poids initialisés à la Glorot".encode("latin-1") in after["latin1.py"]


def test_unparsable_file_is_reported_and_left(corpus):
    before, report, after, _ = corpus
    assert after["python2.py"] == before["python2.py"]
    (file,) = [file for file in report.files if file.path == "python2.py"]
    assert [(f.kind, f.line) for f in file.findings] == [("unread", 4)]


def test_answering_the_version_leaves_no_question(corpus, tmp_path):
    shutil.copytree(CORPUS, tmp_path, dirs_exist_ok=True)
    for version in ("1.4", "1.15"):
        assert migrate([tmp_path], tf_version=version).counts["question"] == 0

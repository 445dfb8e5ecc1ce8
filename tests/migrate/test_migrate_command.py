"""The command: what it prints, and how it ends."""

import io
import itertools
import json
import re
import subprocess
from pathlib import Path

import pytest
import typer
from rich.console import Console
from typer.testing import CliRunner

from fanwise.cli.app import migrate as migrate_command
from fanwise.migrate.report import Finding, Kind, Report

OLD = "import tensorflow as tf\nx = tf.contrib.layers.xavier_initializer()\n"
NEW = "import tensorflow as tf\nx = tf.keras.initializers.GlorotUniform()\n"
QUESTION = "import tensorflow as tf\nx = tf.glorot_normal_initializer()\n"
ADVICE = (
    "import keras\nx = keras.layers.Dense(3, activation='relu', "
    "kernel_initializer='glorot_uniform')\n"
)

app = typer.Typer()
app.command("migrate")(migrate_command)
app.command("other")(lambda: None)


def command(*arguments):
    return CliRunner().invoke(app, ["migrate", *map(str, arguments)])


@pytest.fixture
def file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "a.py"
    path.write_text(OLD)
    return path


def test_dry_run_tells_and_waits(file):
    done = command("a.py")
    assert done.exit_code == 1
    assert file.read_text() == OLD
    assert "2  converted  tf.contrib.layers.xavier_initializer()" in done.output
    assert "→ tf.keras.initializers.GlorotUniform()" in done.output
    assert "1 file read, 1 file to change: --diff shows how, --write does it." in done.output


def test_write_does_it_once(file):
    done = command("a.py", "--write")
    assert (done.exit_code, file.read_text()) == (0, NEW)
    assert "1 file read, 1 file rewritten." in done.output
    again = command("a.py", "--write")
    assert again.exit_code == 0
    assert again.output == "1 file read, nothing to change.\n"


def test_question_needs_a_person(file):
    file.write_text(QUESTION)
    assert command("a.py", "--write").exit_code == 1
    assert command("a.py", "--write", "--tf-version", "1.9").exit_code == 0
    assert "scale=0.773741304" in file.read_text()


def test_advice_does_not(file):
    file.write_text(ADVICE)
    done = command("a.py")
    assert done.exit_code == 0
    assert "instead: keras.initializers.HeUniform()" in done.output


def test_diff_is_a_patch(file):
    done = command("a.py", "--diff")
    assert done.stdout == (
        "--- a/a.py\n+++ b/a.py\n@@ -1,2 +1,2 @@\n import tensorflow as tf\n"
        "-x = tf.contrib.layers.xavier_initializer()\n"
        "+x = tf.keras.initializers.GlorotUniform()\n"
    )
    assert "1 file to change" in done.stderr


@pytest.mark.parametrize(
    "content",
    [
        OLD.encode(),
        OLD.rstrip().encode(),
        OLD.replace("\n", "\r\n").encode(),
        "# -*- coding: latin-1 -*-\n# é\n".encode("latin-1") + OLD.encode(),
        OLD.encode() + b"# \xe2\x80\xa8 a line separator\n",
    ],
)
def test_git_applies_the_diff(file, content):
    file.write_bytes(content)
    patch = command("a.py", "--diff").stdout_bytes
    subprocess.run(["git", "init", "-q"], check=True)
    subprocess.run(["git", "apply", "-"], input=patch, check=True)
    applied = file.read_bytes()
    file.write_bytes(content)
    assert command("a.py", "--write").exit_code == 0
    assert file.read_bytes() == applied


def test_json_tells_the_same(file):
    file.write_text(OLD + "y = tf.contrib.layers.xavier_initializer(*a)\n")
    done = command("a.py", "--json")
    told = json.loads(done.stdout)
    assert done.exit_code == 1
    assert (told["scanned"], told["changed"], told["written"]) == (1, 1, False)
    assert told["counts"] == {
        "converted": 1, "check": 0, "question": 0, "left": 1, "unread": 0, "advice": 0,
    }  # fmt: skip
    assert told["files"][0]["findings"][1] == {
        "kind": "left",
        "line": 3,
        "old": "tf.contrib.layers.xavier_initializer(*a)",
        "reason": "*a hides which arguments are meant",
        "new": "the arguments in full",
        "cell": None,
    }


def test_simplify_and_target(file):
    file.write_text(
        "import tensorflow as tf\n"
        "x = tf.contrib.layers.variance_scaling_initializer(1.0, 'FAN_AVG', True)\n"
    )
    assert "GlorotUniform()" in command("a.py", "--simplify").output
    assert "fanwise.tf1.variance" in command("a.py", "--to", "fanwise").output


@pytest.mark.parametrize(
    "arguments",
    [("no.py",), ("a.py", "--tf-version", "new"), ("a.py", "--to", "jax"), ()],
)
def test_misuse_ends_with_2(file, arguments):
    assert command(*arguments).exit_code == 2
    assert file.read_text() == OLD


def test_messages_of_misuse(file):
    assert command("no.py").stderr == (
        "fanwise: no.py does not exist: pass a Python file, a notebook or a folder.\n"
    )


def test_each_skipped_name_is_told_once(file, tmp_path):
    for folder in (".git", ".ipynb_checkpoints", "a/.ipynb_checkpoints"):
        (tmp_path / folder).mkdir(parents=True)
    done = command(".", "--write")
    assert done.output.splitlines()[-2] == "Skipped: .git, 2 × .ipynb_checkpoints."
    told = json.loads(command(".", "--json").stdout)["skipped"]
    assert told == [".git", ".ipynb_checkpoints", "a/.ipynb_checkpoints"]


@pytest.fixture
def slow_reading(monkeypatch):
    """Every file takes long enough for a bar to be shown."""
    from fanwise.cli import progress

    clock = itertools.count()
    monkeypatch.setattr(progress, "monotonic", lambda: float(next(clock)))


def test_a_terminal_sees_how_far_it_is(file, slow_reading, monkeypatch):
    for number in range(3):
        (file.parent / f"b{number}.py").write_text(OLD)
    shown = io.StringIO()
    terminal = Console(file=shown, force_terminal=True, width=80)
    monkeypatch.setattr("fanwise.cli.console.console", lambda **_: terminal)
    command(".")
    assert "reading" in shown.getvalue()
    assert "4/4" in shown.getvalue()


def test_a_pipe_gets_no_progress(file, slow_reading):
    for number in range(3):
        (file.parent / f"b{number}.py").write_text(OLD)
    done = command(".", "--diff")
    assert done.stderr.startswith("a.py\n")  # A bar that has been would leave an empty line.
    assert "reading" not in done.output
    assert "\x1b" not in done.output


def test_table_counts_every_kind(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.py").write_text(OLD)
    (tmp_path / "b.py").write_text(QUESTION)
    lines = command(".").output.splitlines()
    table = [line.split() for line in lines if line.startswith(("file ", "a.py ", "b.py ", "all "))]
    assert table == [
        ["file", "converted", "check", "question", "left", "unread", "advice"],
        ["a.py", "1", "·", "·", "·", "·", "·"],
        ["b.py", "·", "·", "1", "·", "·", "·"],
        ["all", "1", "·", "1", "·", "·", "·"],
    ]


def test_markup_in_code_is_printed_as_it_is(file):
    file.write_text("import tensorflow as tf\nx = tf.constant_initializer([b'[bold]', a[0]])\n")
    assert "tf.constant_initializer([b'[bold]', a[0]])" in command("a.py").output


def test_empty_report():
    report = Report((), 0, False)
    assert (report.exit_status, report.diff()) == (0, "")


def test_place_names_the_cell():
    assert Finding(Kind.LEFT, 3).place == "3"
    assert Finding(Kind.LEFT, 3, cell=2).place == "cell 2, line 3"


DOCS = Path(__file__).parents[2] / "docs" / "migrate.md"


def test_the_example_of_the_docs_is_real(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    fences = re.findall(r"```(\w*).*?\n(.*?)```\n", DOCS.read_text(encoding="utf-8"), re.DOTALL)
    (code,) = [text for kind, text in fences if kind == "python"]
    (diff,) = [text for kind, text in fences if kind == "diff"]
    (told,) = [text for kind, text in fences if text.startswith("model.py\n")]
    (tmp_path / "model.py").write_text(code)
    assert command("model.py", "--diff").stdout == diff
    shown = [line.rstrip() for line in command("model.py").output.splitlines()]
    assert shown == [line.rstrip() for line in told.splitlines()]
    answered = command("model.py", "--diff", "--tf-version", "1.9").stdout
    assert 'scale=0.773741304, mode="fan_avg", distribution="truncated_normal"' in answered

"""Which files are read, and how they are written: whole or not at all, and never run."""

import contextlib
import os
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import libcst
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fanwise.errors import ArgumentError, FanwiseError, TargetError
from fanwise.migrate import files, migrate, run
from fanwise.migrate.rewrite import Outcome

OLD = "import tensorflow as tf\nx = tf.contrib.layers.xavier_initializer()\n"
NEW = "import tensorflow as tf\nx = tf.keras.initializers.GlorotUniform()\n"


def tree(place, paths, content=OLD):
    for path in paths:
        file = place / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)


def read(place):
    return sorted(str(path.relative_to(place)) for path in files.source_files([place], str))


# Which files.


def test_gitignore_is_honoured(tmp_path):
    tree(tmp_path, ["a.py", "b.ipynb", "c.txt", "build/d.py", "src/e.py", "src/gen/f.py",
                    "src/gen/keep.py", "g_pb2.py", "docs/h.py", "docs/deep/h.py"])  # fmt: skip
    (tmp_path / ".gitignore").write_text("build/\n*_pb2.py\n/docs/*.py\n")
    (tmp_path / "src" / ".gitignore").write_text("gen/*\n!gen/keep.py\n")
    assert read(tmp_path) == ["a.py", "b.ipynb", "docs/deep/h.py", "src/e.py", "src/gen/keep.py"]


def test_rules_above_the_folder_count_inside_a_repository(tmp_path):
    tree(tmp_path, ["src/a.py", "src/b.py", "src/c.py"])
    (tmp_path / ".git" / "info").mkdir(parents=True)
    (tmp_path / ".git" / "info" / "exclude").write_text("c.py\n")
    (tmp_path / ".gitignore").write_text("/src/b.py\n")
    assert read(tmp_path / "src") == ["a.py"]


PARTS = st.sampled_from(["a", "b", "ab", "x.py", "y.py", "out", "[a]", "a b"])
PATHS = st.lists(PARTS, min_size=1, max_size=4).map("/".join)
GLOBS = st.sampled_from(
    [
        "a",
        "b",
        "*.py",
        "*",
        "**",
        "?b",
        "[ab]",
        "[!a]",
        "[^x]*",
        "out",
        "x.*",
        "a*",
        "\\[a]",
        "a\\ b",
    ]
)
LINES = st.tuples(
    st.sampled_from(["", "!", "/", "!/", "**/", "# "]),
    st.lists(GLOBS, min_size=1, max_size=3).map("/".join),
    st.sampled_from(["", "/", "/**", " ", "  "]),
).map("".join)


@given(
    st.lists(PATHS, min_size=3, max_size=12, unique=True),
    st.lists(LINES, min_size=1, max_size=6),
    st.lists(LINES, max_size=3),
)
def test_git_itself_agrees(paths, outer, inner):
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        for path in paths:
            if not any((place / parent).is_file() for parent in Path(path).parents):
                with contextlib.suppress(IsADirectoryError):
                    tree(place, [f"{path}.py" if path.endswith("b") else path])
        (place / ".gitignore").write_text("\n".join(outer))
        if inner and (place / "a").is_dir():
            (place / "a" / ".gitignore").write_text("\n".join(inner))
        subprocess.run(["git", "init", "-q"], cwd=place, check=True)
        listed = subprocess.run(
            ["git", "ls-files", "-z", "--others", "--exclude-standard"],
            cwd=place, check=True, capture_output=True, text=True,
        ).stdout.split("\0")  # fmt: skip
        python = sorted(name for name in listed if name.endswith(".py"))
        assert read(place) == python


NASTY = {
    "comments and blanks": ["#a.py", "", "   ", "\\#b.py"],
    "an escaped exclamation mark": ["\\!a.py", "!b.py"],
    "spaces at the end": ["a.py   ", "b/   ", "c.py\\ "],
    "a carriage return": ["a.py\r", "b/\r"],
    "a byte-order mark": ["\ufeffa.py"],
    "taken back within an ignored folder": ["b/", "!b/a.py"],
    "taken back by a later line about a folder above": ["b", "!a"],
    "a folder taken back, its files not": ["*", "!a/"],
    "everything but one folder": ["/*", "!/a", "/a/*", "!/a/b"],
    "folders below, not the folder": ["a/**/"],
    "all below": ["a/**"],
    "a file is no folder": ["a.py/", "b/"],
    "anchored by a slash within": ["a/b", "/b"],
    "any depth": ["**/b/a.py", "a/**/c.py"],
    "two stars in a name": ["**b", "a**.py"],
    "sets": ["[ab].py", "[!a]b", "[]x].py", "[a-b]/c.py"],
    "sets that match nothing": ["[z-a].py", "[a.py", "b/[/]a.py"],
    "a backslash at the end": ["a.py\\"],
    "lone slashes": ["/", "//", "!/"],
    "all folders": ["*/"],
    "all folders at any depth": ["**/"],
    "questions": ["?.py", "?/?.py"],
    "letters that are no expression": ["a+.py", "(a).py", "a|b.py", "^a.py", "a$.py"],
}
FILES = """
    a.py b.py c.py ab.py #a.py #b.py !a.py !b.py ].py x.py a+.py (a).py ^a.py a/a.py a/b.py
    a/c.py a/b/a.py a/b/c.py a/b/b/c.py a/ab/c.py
    b/a.py b/b.py b/a/a.py b/a/c.py ab/a.py c/b/a.py c/b/c.py
""".split()


INNER = {"": [], "a": ["!a.py", "b"], "a/b": ["/c.py", "!b/"]}
"""Where a second .gitignore lies, and what it says."""


@pytest.fixture(scope="module")
def nasty_repository(tmp_path_factory):
    """Return a repository with a folder for each nasty case, and the paths that Git ignores."""
    top = tmp_path_factory.mktemp("nasty")
    for case, lines in NASTY.items():
        for where, inner in INNER.items():
            folder = top / case / (where.replace("/", "_") or "alone")
            tree(folder, FILES)
            (folder / where / ".gitignore").write_text("\n".join(inner))
            (folder / ".gitignore").write_bytes("\n".join(lines).encode())
    paths = [str(path.relative_to(top)) for path in top.rglob("*.py")]
    subprocess.run(["git", "init", "-q"], cwd=top, check=True)
    ignored = subprocess.run(
        ["git", "check-ignore", "-z", "--stdin"],
        cwd=top, input="\0".join(paths), capture_output=True, text=True, check=True,
    ).stdout.split("\0")  # fmt: skip
    return top, set(paths), set(ignored[:-1])


@pytest.mark.parametrize("case", NASTY)
def test_git_itself_agrees_on_what_is_nasty(nasty_repository, case):
    top, paths, ignored = nasty_repository
    there = {path for path in paths if path.startswith(f"{case}/")}
    assert {f"{case}/{path}" for path in read(top / case)} == there - ignored


def test_git_ignores_some_and_not_all_of_what_is_nasty(nasty_repository):
    _, paths, ignored = nasty_repository
    assert 0.1 < len(ignored) / len(paths) < 0.9


def test_environments_and_caches_are_left_out(tmp_path):
    tree(tmp_path, ["a.py", "env/lib/b.py", ".ipynb_checkpoints/c.py", "lib/site-packages/d.py"])
    (tmp_path / "env" / "pyvenv.cfg").write_text("")
    assert read(tmp_path) == ["a.py"]


def test_skipped_folders_are_named(tmp_path):
    folders = (
        ".ipynb_checkpoints b/.ipynb_checkpoints .venv env node_modules __pycache__ own".split()
    )
    tree(tmp_path, ["a.py", *(f"{folder}/b.py" for folder in folders)])
    (tmp_path / "env" / "pyvenv.cfg").write_text("")
    (tmp_path / ".git").mkdir()
    (tmp_path / ".gitignore").write_text("own/\n__pycache__/\n")
    names = [".git", ".ipynb_checkpoints", ".venv", "b/.ipynb_checkpoints", "env", "node_modules"]
    report = migrate([tmp_path])
    assert (report.scanned, report.skipped) == (1, tuple(str(tmp_path / name) for name in names))


def test_a_named_folder_is_always_read(tmp_path):
    tree(tmp_path, [".ipynb_checkpoints/a.py"])
    report = migrate([tmp_path / ".ipynb_checkpoints"])
    assert (report.scanned, report.skipped) == (1, ())


def test_a_named_file_is_always_read(tmp_path):
    tree(tmp_path, ["a.py", "script"])
    (tmp_path / ".gitignore").write_text("*\n")
    named = [tmp_path / "a.py", tmp_path / "script", tmp_path / "a.py"]
    assert list(files.source_files(named, str)) == named[:2]


def test_links_are_not_followed_out_of_the_tree(tmp_path):
    tree(tmp_path, ["in/a.py", "out/b.py"])
    (tmp_path / "in" / "loop").symlink_to(tmp_path / "in", target_is_directory=True)
    (tmp_path / "in" / "b.py").symlink_to(tmp_path / "out" / "b.py")
    assert read(tmp_path / "in") == ["a.py"]


def test_missing_path(tmp_path):
    with pytest.raises(TargetError) as raised:
        migrate([tmp_path / "no.py"])
    assert str(raised.value) == (
        f"{tmp_path / 'no.py'} does not exist: pass a Python file, a notebook or a folder."
    )


# How they are written.


def test_nothing_is_written_unless_asked(tmp_path):
    tree(tmp_path, ["a.py"])
    status = (tmp_path / "a.py").stat()
    report = migrate([tmp_path])
    assert (tmp_path / "a.py").read_text() == OLD
    assert (tmp_path / "a.py").stat().st_mtime_ns == status.st_mtime_ns
    assert report.changed[0].after.decode() == NEW


@pytest.mark.parametrize("mode", [0o644, 0o755, 0o600, 0o664])
def test_mode_is_kept(tmp_path, mode):
    tree(tmp_path, ["a.py"])
    (tmp_path / "a.py").chmod(mode)
    migrate([tmp_path], write=True)
    assert (tmp_path / "a.py").read_text() == NEW
    assert stat.S_IMODE((tmp_path / "a.py").stat().st_mode) == mode


def test_untouched_files_are_not_rewritten(tmp_path):
    tree(tmp_path, ["a.py"], content="import tensorflow as tf\n# zeros_initializer\n")
    before = (tmp_path / "a.py").stat()
    migrate([tmp_path], write=True)
    after = (tmp_path / "a.py").stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)


def test_a_named_link_stays_a_link(tmp_path):
    tree(tmp_path, ["a.py"])
    (tmp_path / "link.py").symlink_to("a.py")
    migrate([tmp_path / "link.py"], write=True)
    assert (tmp_path / "link.py").is_symlink()
    assert (tmp_path / "a.py").read_text() == NEW


@pytest.mark.parametrize("step", ["fsync", "replace", "chmod"])
def test_failure_leaves_the_file_and_no_litter(tmp_path, monkeypatch, step):
    tree(tmp_path, ["a.py", "b.py"])

    def fail(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, step, fail)
    report = migrate([tmp_path], write=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.py", "b.py"]
    assert (tmp_path / "a.py").read_text() == OLD
    assert report.problems[0] == (
        str(tmp_path / "a.py"),
        f"{tmp_path / 'a.py'} can't be written: No space left on device.",
    )
    assert report.exit_status == 1


def test_interruption_leaves_the_file(tmp_path, monkeypatch):
    tree(tmp_path, ["a.py"])

    def interrupt(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(files.os, "replace", interrupt)
    with pytest.raises(KeyboardInterrupt):
        migrate([tmp_path], write=True)
    assert [path.name for path in tmp_path.iterdir()] == ["a.py"]
    assert (tmp_path / "a.py").read_text() == OLD


def test_a_file_that_changed_meanwhile_is_left(tmp_path):
    tree(tmp_path, ["a.py"])
    with pytest.raises(TargetError, match="changed while it was being read: run again"):
        files.replace_file(tmp_path / "a.py", b"other", b"new")
    assert (tmp_path / "a.py").read_text() == OLD


# What can't be read.


NOT_3 = "it can't be read as Python 3"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"print 'zeros_initializer', tf\n", f"{NOT_3}: Missing parentheses in call to 'print'"),
        (
            b"import tensorflow as tf  # zeros_initializer \xe9\n",
            "LibCST can't read it: invalid or missing encoding",
        ),
        (b"# coding: klingon\n# tf.zeros_initializer\n", f"{NOT_3}: unknown encoding: klingon"),
        (
            b"import tensorflow as tf\n\x0cy = tf.zeros_initializer()\n",
            "LibCST can't reproduce it byte for byte",
        ),
        (b"(" * 5000 + b"tf.zeros_initializer()" + b")" * 5000, f"{NOT_3}: too many nested paren"),
        (b"x = tf.zeros_initializer()\nx = 1" + b" + 1" * 1200, "it is nested too deeply"),
        (b"x = tf.zeros_initializer()\nx = 1" + b" + 1" * 20000, "it is nested too deeply"),
        (
            b"x = tf.zeros_initializer()\n@f(1" + b"\n+1" * 1200 + b")\ndef f(): pass",
            "it is nested too",
        ),
        (
            b"x = tf.zeros_initializer()\ntry:\n  f()\nexcept f(1" + b"+1" * 1200 + b"): pass",
            "it is nested too deeply",
        ),
        (
            b"match tf.zeros_initializer():\n  case 1 if 1" + b"+1" * 1200 + b": pass",
            "it is nested too deeply",
        ),
        (
            b"x = tf.zeros_initializer()\nif x: 1\n" + b"elif x: 1\n" * 1200,
            "it is nested too deeply",
        ),
        (b"x = 'tf.zeros_initializer()'\0", f"{NOT_3}: source code string cannot contain null"),
    ],
)
def test_unreadable(tmp_path, content, reason):
    (tmp_path / "a.py").write_bytes(content)
    report = migrate([tmp_path], write=True)
    (finding,) = report.files[0].findings
    assert finding.kind == "unread"
    assert finding.reason.startswith(reason)
    assert finding.new or finding.reason.startswith("LibCST can't read")
    assert (tmp_path / "a.py").read_bytes() == content
    assert report.exit_status == 1


def test_a_fault_of_ours_costs_one_file(tmp_path, monkeypatch):
    from fanwise.migrate import run

    tree(tmp_path, ["a.py", "b.py"])
    whole = run.rewrite
    monkeypatch.setattr(run, "rewrite", lambda *_: monkeypatch.undo() or 1 / 0)
    report = migrate([tmp_path], write=True)
    assert whole is run.rewrite
    assert report.files[0].findings[0].reason == (
        "fanwise failed on it: ZeroDivisionError('division by zero')"
    )
    assert (tmp_path / "a.py").read_text() == OLD
    assert (tmp_path / "b.py").read_text() == NEW


def test_long_chains_are_read(tmp_path):
    tree(
        tmp_path, ["a.py"], OLD + "y = 1" + " + 1" * 900 + "\nif x: pass\n" + "elif y: pass\n" * 600
    )
    assert migrate([tmp_path]).counts["converted"] == 1


def test_no_code_is_run(tmp_path):
    mark = tmp_path / "ran"
    spy = f"open({str(mark)!r}, 'w')\n"
    tree(
        tmp_path, ["a.py", "conftest.py", "setup.py", "tensorflow.py", "keras.py"], spy + OLD + spy
    )
    done = subprocess.run(
        [sys.executable, "-c", "from fanwise.migrate import migrate; migrate(['.'], write=True)"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        check=True,
        capture_output=True,
    )
    assert done.stderr == b""
    assert not mark.exists()
    assert "GlorotUniform" in (tmp_path / "a.py").read_text()


def test_workers_agree_with_one(tmp_path):
    tree(tmp_path, [f"m{i}.py" for i in range(60)])
    assert migrate([tmp_path], workers=2) == migrate([tmp_path])


def test_a_process_that_dies_is_an_error(tmp_path, monkeypatch):
    tree(tmp_path, [f"m{i}.py" for i in range(60)])
    monkeypatch.setattr(run, "SERVE", "import sys; sys.stdin.read()")
    with pytest.raises(FanwiseError, match="a process of fanwise migrate died; nothing was writ"):
        migrate([tmp_path], workers=2)


@pytest.mark.parametrize("workers", [1, 2])
def test_progress_counts_every_file(tmp_path, workers):
    tree(tmp_path, [f"m{i}.py" for i in range(60)])
    tree(tmp_path, ["plain.py", "z.py"], content="x = 1\n")
    told = []
    migrate([tmp_path], workers=workers, progress=lambda *pair: told.append(pair))
    assert told == [(done, 62) for done in range(1, 63)]


# Misuse.


@pytest.mark.parametrize("version", ["1", "1.x", "new", "3.1", ""])
def test_version_must_be_one(tmp_path, version):
    with pytest.raises(ArgumentError) as raised:
        migrate([tmp_path], tf_version=version)
    assert str(raised.value) == (
        f"--tf-version {version} is no version: write it like 1.9 or 1.15."
    )


def test_unknown_target(tmp_path):
    with pytest.raises(ArgumentError, match=r"unknown target 'jax': pass one of keras, torch, fan"):
        migrate([tmp_path], to="jax")


def test_without_libcst_the_remedy_is_named(tmp_path, monkeypatch):
    import fanwise.migrate

    monkeypatch.setattr(fanwise.migrate.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(FanwiseError) as raised:
        migrate([tmp_path])
    assert str(raised.value) == ("fanwise migrate needs LibCST: pip install 'fanwise[migrate]'.")


def test_importing_costs_no_libcst():
    code = (
        "import sys, fanwise, fanwise.cli.app; "
        "print([m for m in ('libcst', 'tensorflow', 'keras') if m in sys.modules])"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run([sys.executable, "-c", code], env=environment, check=True,
                          capture_output=True, text=True)  # fmt: skip
    assert done.stdout.strip() == "[]"


def test_paths_may_be_strings(tmp_path):
    tree(tmp_path, ["a.py"])
    assert migrate([str(tmp_path / "a.py")]).scanned == 1
    assert isinstance(Path(migrate([str(tmp_path)]).files[0].path), Path)


def test_output_that_python_cannot_read_never_reaches_the_disk(tmp_path, monkeypatch):
    """LibCST alone is no judge: it takes what Python refuses."""
    tree(tmp_path, ["a.py"])
    before = (tmp_path / "a.py").read_bytes()
    refused = "x = b'é'\n"
    libcst.parse_module(refused)
    monkeypatch.setattr(run, "rewrite", lambda *_: Outcome(refused, (), True))
    found = migrate([tmp_path], write=True).files[0]
    assert found.findings[0].reason.startswith("what it would become doesn't parse, a fault in")
    assert (tmp_path / "a.py").read_bytes() == before

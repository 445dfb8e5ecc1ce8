"""Short ways to migrate a piece of code and to look at what came of it."""

import io
import sys
import tokenize
from unittest.mock import patch

import libcst as cst

from fanwise.migrate.options import Options
from fanwise.migrate.report import Kind, one_line
from fanwise.migrate.rewrite import rewrite


def migrate_code(code, **options):
    """Return the new code and the findings, having checked that a second run changes nothing."""
    outcome = rewrite(cst.parse_module(code), Options(**options))
    new = outcome.code
    again = rewrite(cst.parse_module(new), Options(**options)).code
    assert again == new, "a second run changed something"
    return new, outcome.findings


def converted(code, **options):
    """Return the new code, having checked that nothing was left for a person to answer."""
    new, findings = migrate_code(code, **options)
    left = [f for f in findings if f.kind in (Kind.LEFT, Kind.QUESTION, Kind.UNREAD)]
    assert not left, left
    return new


def expression(old, **options):
    """Return what one expression becomes, in a file that imports TensorFlow as tf."""
    new = converted(f"import tensorflow as tf\nx = {old}\n", **options)
    return one_line(new.split("\nx = ", 1)[1])


def refused(code, kind=Kind.LEFT, **options):
    """Return the reason and the remedy of the one thing left, having checked that it stays."""
    new, findings = migrate_code(code, **options)
    (finding,) = [f for f in findings if f.kind in (Kind.LEFT, Kind.QUESTION, Kind.UNREAD)]
    assert finding.kind is kind
    assert new == code, new
    return finding.reason, finding.new


def comments(code):
    """Return the comments of some code, sorted."""
    tokens = tokenize.generate_tokens(io.StringIO(code).readline)
    return sorted(token.string for token in tokens if token.type == tokenize.COMMENT)


def run(code, modules):
    """Run a program with these modules in place of the real ones; return its globals."""
    with patch.dict(sys.modules, modules):
        scope = {}
        exec(compile(code, "<program>", "exec"), scope)
    return scope

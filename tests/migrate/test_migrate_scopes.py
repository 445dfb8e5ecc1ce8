"""Scopes, lines and texts are LibCST's own, found in less time: its providers are asked too."""

import sysconfig
from pathlib import Path

import libcst as cst
import pytest
from libcst.metadata import Assignment, MetadataWrapper, PositionProvider, ScopeProvider

from fanwise.migrate.edits import ModuleEdits, NewCode, apply_edits
from fanwise.migrate.module_names import ModuleNames, root_name

CORPUS = Path(__file__).parent / "corpus"
STDLIB = Path(sysconfig.get_path("stdlib"))

SNIPPETS = {
    "functions": "x = 1\ndef f(a, b=x, *c, d: x = a, **e) -> x:\n    x = a\n    return x, c, e\n",
    "classes": "x = 1\nclass A(x):\n    x = 2\n    def f(self, y=x):\n        return x\n"
    "    z = x\n",
    "global": "x = 1\ndef f():\n    global x, y\n    x = y = 2\n    return x\ny\n",
    "nonlocal": "def f():\n    x = 1\n    def g():\n        nonlocal x\n        x = 2\n"
    "    return x\n",
    "comprehensions": "x = []\ny = [x for x in x if x]\nz = {k: v for k in x for v in k}\n",
    "comprehension in a class": "class A:\n    x = []\n    y = [x for _ in x]\n",
    "generator with a walrus": "t = any((y := x) for x in z)\ny\n",
    "lambda": "f = lambda a, b=a: (a, b)\n",
    "unpacking": "a, (b, *c), d.e, f[g] = h\nfor i, (j, k) in a: i, j\n",
    "augmented": "x = 1\nx += x\nx: int\ny: x = x\n",
    "handlers": "try:\n    a\nexcept E as e:\n    e\nelse:\n    b = 1\nfinally:\n    b\n",
    "with": "with a as b, c as (d, e), f as g.h:\n    b, d, e, g\n",
    "imports": "import a.b.c, d.e as f\nfrom . import g as h, i\na.b, a.b.c.x, f, h, i\n",
    "twice": "try:\n    import a\nexcept E:\n    a = None\na.b\n",
    "builtins": "len(x)\ndef f(len):\n    return len, print\n",
    "del": "x = 1\ndel x, y.z\n",
    "decorators": "@a(b)\n@c\ndef d(): pass\n\n# e\n@f\n\nclass g(h, i=j): pass\n",
    "loops": "while x:\n    x = 1\nelse:\n    y = x\nasync def f():\n    async for a in b: a\n",
    "lines": "x = [\n  f(\n    a),\n  '''\n''', b]; y = (\n c)\nif (a or\n    b): d\n"
    "elif (\n  e): f\n",
}
FILES = [*sorted(CORPUS.glob("[!p]*.py")), STDLIB / "functools.py"]
SOURCES = SNIPPETS | {f.name: f.read_bytes() for f in FILES}


@pytest.fixture(scope="module", params=SOURCES, ids=str)
def both(request):
    """Return one module's names, and what LibCST says of its scopes and lines."""
    module = cst.parse_module(SOURCES[request.param])
    wrapper = MetadataWrapper(module, unsafe_skip_copy=True)
    return (
        ModuleNames(module),
        wrapper.resolve(ScopeProvider),
        wrapper.resolve(PositionProvider),
    )


def names_in(names):
    """Return the names that are expressions, with what they stand in."""
    for node, parent in names.parents.items():
        label = isinstance(parent, cst.Attribute) and parent.attr is node
        if isinstance(node, cst.Name) and not label:
            yield node


def test_bindings_are_libcst_s(both):
    names, scopes, _ = both
    for name in names_in(names):
        theirs = {getattr(a, "node", None) for a in scopes[name][name.value]}
        assert {binding.node for binding in names.assignments(name)} == theirs, name.value


def test_readers_are_libcst_s(both):
    """But for those above the binding, which a loop may come back to: they read it too.

    What a class binds is read as an attribute, and nobody asks; what it reads may be its own.
    """
    names, scopes, positions = both
    for name in names_in(names):
        assignments = [a for a in scopes[name][name.value] if isinstance(a, Assignment)]
        if len(assignments) == 1 and assignments[0].node is name and not names.in_class(name):
            theirs = {root_name(access.node) for access in assignments[0].references}
            ours = set(names.readers(name))
            assert theirs - {None} <= ours  # A quoted annotation is a string to us.
            where = (positions[n].start for n in ours - theirs if not names.in_class(n))
            here = positions[name].start
            assert all((at.line, at.column) < (here.line, here.column) for at in where)


def test_patterns_bind():
    """LibCST takes the names that a pattern binds for names that it reads."""
    names = ModuleNames(
        cst.parse_module(
            "match a:\n    case [b, *c] if b:\n        c\n    case {'k': d, **e}:\n        d, e\n"
            "    case F(g, h=i) as j:\n        g, i, j\n    case k.l | 1:\n        pass\n"
        )
    )
    assert names.taken == set("bcdegij")
    assert {name for name, read in names.scopes.read.items() if read} == set("abcdegijkF")


def test_lines_are_libcst_s(both):
    names, _, positions = both
    for node in names.parents:
        if isinstance(node, (cst.BaseExpression, cst.BaseSmallStatement, cst.Arg, cst.Param)):
            assert names.line(node) == positions[node].start.line


def test_only_what_is_edited_changes(both):
    """Every tenth call gets another name, by pieces, as a transformer of the whole would do it."""
    names, _, _ = both
    renamed = dict.fromkeys(names.calls[::10], NewCode("renamed", verbatim=True))

    class Whole(cst.CSTTransformer):
        def leave_Call(self, original_node, updated_node):
            if original_node in renamed:
                return updated_node.with_changes(func=cst.Name("renamed"))
            return updated_node

    assert apply_edits(names, ModuleEdits(calls=renamed)) == names.module.visit(Whole()).code

"""Which files are worth LibCST's time: first by their bytes, then by what Python's parser sees."""

from __future__ import annotations

import ast
import re
from typing import Final

from fanwise.migrate.old_initializers import NO_EQUAL, OLD_NAMES

OLD_PATTERN: Final = re.compile(
    rb"(?:xavier|variance_scaling|glorot\w*|zeros|ones|constant|random_uniform|random_normal"
    rb"|truncated_normal|uniform_unit_scaling|orthogonal)_initializer|\binitializers\b|\binit_ops\b"
    rb"|convolutional_\w*orthogonal|glorot_|Glorot"
)
FRAMEWORK_PATTERN: Final = re.compile(rb"tensorflow|keras|(?<![a-zA-Z])tf|slim|contrib|init_ops")
ROOT_PATTERN: Final = re.compile(rb"sqrt|\*\*\s*\(?-?0?\.5")
TWO_AXES_PATTERN: Final = re.compile(
    rb"(\w+(?:\(\))?)\s*\[\s*0\s*\][^\n]{0,40}\+[^\n]{0,40}\b\1\s*\[\s*1\s*\]"
    rb"|=\s*(?:\w+\()?(\w+(?:\(\))?)\s*\[\s*0\s*\].{0,80}?\b\2\s*\[\s*1\s*\]",
    re.DOTALL,
)


def is_relevant(source: bytes) -> bool:
    """Whether a file is worth parsing: it names an old initializer, or takes a root of two axes."""
    if not FRAMEWORK_PATTERN.search(source):
        return False
    named = any(part in source for part in (b"nitializer", b"init_ops", b"lorot", b"orthogonal"))
    if named and OLD_PATTERN.search(source):
        return True
    return bool(ROOT_PATTERN.search(source) and TWO_AXES_PATTERN.search(source))


OLD_MODULES: Final = frozenset({"tensorflow", "tf_slim"})
"""Where every old name comes from, so that one of these has to be imported to name one."""

UNMISTAKABLE: Final = frozenset(
    name for name in (dotted.rsplit(".", 1)[-1] for dotted in OLD_NAMES) if "_initializer" in name
) | frozenset(NO_EQUAL)
"""Last parts of old names that are reported even where nothing is imported."""


IN_INITIALIZERS: Final = frozenset(
    dotted.rsplit(".", 1)[-1] for dotted, old in OLD_NAMES.items() if not old.today
)
"""Last parts of old names that are looked into behind `.initializers`."""


def names_old(tree: ast.AST, source: bytes) -> bool:
    """Whether a parsed file may name an old initializer, or may deserve advice."""
    if ROOT_PATTERN.search(source) and TWO_AXES_PATTERN.search(source):
        return True
    advised = b"relu" in source.lower()
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names):
                if any(alias.name.split(".", 1)[0] in OLD_MODULES for alias in names):
                    return True
            case ast.ImportFrom(module=str(module), level=0):
                if module.split(".", 1)[0] in OLD_MODULES:
                    return True
            case ast.Attribute(attr=name, value=ast.Attribute(attr="initializers")):
                if name in IN_INITIALIZERS or (advised and name.startswith("Glorot")):
                    return True
            case ast.Name(id=name) | ast.Attribute(attr=name):
                if name in UNMISTAKABLE or (advised and name.startswith("Glorot")):
                    return True
            case ast.Constant(value=str(text)):
                if advised and text.startswith(("glorot_", "Glorot")):
                    return True
    return False

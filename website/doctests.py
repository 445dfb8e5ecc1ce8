"""A griffe extension: doctests in docstrings become blocks of code, not Markdown's quotations."""

from __future__ import annotations

import re
from typing import Any

import griffe


class Doctests(griffe.Extension):
    """Fence every run of lines that begins with ``>>>`` and ends at an empty one."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Rewrite an object's docstring."""
        if obj.docstring is not None:
            obj.docstring.value = fence_doctests(obj.docstring.value)


def fence_doctests(text: str) -> str:
    r"""Return a docstring with its doctests fenced, less doctest's own directives.

    >>> fence_doctests("Say one.\n\n>>> 1  # doctest: +SKIP\n1")
    'Say one.\n\n```pycon\n>>> 1\n1\n```'
    """
    lines, inside = [], False
    for line in [*text.splitlines(), ""]:
        if line.lstrip().startswith(">>>") and not inside:
            inside = True
            lines.append("```pycon")
        elif inside and not line.strip():
            inside = False
            lines.append("```")
        lines.append(re.sub(r"\s*# doctest: .*", "", line) if inside else line)
    return "\n".join(lines[:-1])

"""Tables of the page, which sort and filter themselves where scripts run."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from fanwise.report.numbers import number_text

TableCell = tuple[str, float | None] | str
"""A cell's text, and the number to sort by where the text isn't one."""


def table(
    name: str, heads: Sequence[tuple[str, str]], rows: Iterable[tuple[str, Sequence[TableCell]]]
) -> str:
    """Return a table from heads (text, class) and rows (attributes, cells); the first cell heads.

    A column without a single entry is left out.
    """
    rows = list(rows)
    used = [i for i in range(len(heads)) if any(cells[i] for _, cells in rows)]
    heads = [heads[i] for i in used]
    rows = [(attributes, [cells[i] for i in used]) for attributes, cells in rows]
    top = "".join(
        f'<th scope="col"{f" class={kind}" if kind else ""}>{text}</th>' for text, kind in heads
    )
    body = []
    for attributes, cells in rows:
        parts = []
        for i, (cell, (_, kind)) in enumerate(zip(cells, heads, strict=True)):
            text, value = cell if isinstance(cell, tuple) else (cell, None)
            tag = 'th scope="row"' if i == 0 else "td"
            sort = f' data-v="{value:.4g}"' if value is not None else ""
            parts.append(f"<{tag}{f' class={kind}' if kind else ''}{sort}>{text}</{tag[:2]}>")
        body.append(f"<tr{attributes}>{''.join(parts)}</tr>")
    rows_text = "\n".join(body)
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-labelledby="{name}-h">'
        f'<table class="sortable" id="{name}"><thead><tr>{top}</tr></thead>\n'
        f"<tbody>\n{rows_text}\n</tbody></table></div>"
    )


def controls(name: str, what: str, extra: str = "") -> str:
    return (
        f'<div class="controls" data-for="{name}" hidden><label>Filter <input type="search" '
        f'placeholder="{what}" autocomplete="off" spellcheck="false"></label>{extra}'
        '<span class="count" role="status"></span></div>'
    )


def name_code(name: str) -> str:
    """Return a qualified name as code that breaks at its dots, where it has to."""
    return f"<code>{'.<wbr>'.join(escape(name).split('.'))}</code>"


def number_cell(value: float | None) -> TableCell:
    return (number_text(value), value) if value is not None else "–"


def percent_cell(value: float | None) -> TableCell:
    return (f"{value:.0%}", value) if value is not None else ""

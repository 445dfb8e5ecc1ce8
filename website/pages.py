"""The code on a page of the site, and how it runs: top to bottom, in an empty folder.

- A block of ``python`` is the next part of the page's program; ``text`` after it is what it prints,
  where ``...`` stands for anything.
- A block of ``python`` or ``toml`` with a title is a file of that name.
- A block of ``sh`` is run by bash; ``text`` after it is what it prints.
- Any other language, and ``console``, is shown and not run.

    python -m website.pages docs/do/siren.md
"""

from __future__ import annotations

import contextlib
import doctest
import io
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

ROOT = Path(__file__).parents[1]
FENCE = re.compile(
    r"^```(?P<language>\w+)(?: title=\"(?P<title>[^\"]+)\")?[^\n]*\n(?P<code>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
LOOSELY = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


class Block(NamedTuple):
    """A fenced block of a page, and the number of its first line of code."""

    language: str
    title: str
    code: str
    line: int


def blocks_of(page: str) -> list[Block]:
    r"""Return the fenced blocks of a page, in order.

    >>> blocks_of("Say:\n```python\n1\n```\n")
    [Block(language='python', title='', code='1\n', line=3)]
    """
    return [
        Block(m["language"], m["title"] or "", m["code"], page.count("\n", 0, m.start("code")) + 1)
        for m in FENCE.finditer(page)
    ]


def notebook_page(path: Path) -> str:
    """Return a notebook as a page in Markdown: its text, and its cells as blocks of code."""
    parts = []
    for cell in json.loads(path.read_text("utf-8"))["cells"]:
        text = "".join(cell["source"]).strip("\n")
        parts.append(f"```python\n{text}\n```" if cell["cell_type"] == "code" else text)
    parts.append(f"[The notebook]({path.name})")
    return "\n\n".join(parts) + "\n"


def run_page(path: Path) -> None:
    """Run a page's blocks.

    Raises:
        AssertionError: what is printed isn't what the page says; the message names the line.
        Exception: whatever the page's code raises.
    """
    notebook = path.suffix == ".ipynb"
    blocks = blocks_of(notebook_page(path) if notebook else path.read_text("utf-8"))
    page = ModuleType("page")  # where dataclasses and pickle look a class's module up
    with tempfile.TemporaryDirectory() as folder, _inside(Path(folder), page):
        printed = ""
        for block in blocks:
            where = f"{path.name}:{block.line}"
            if block.title:
                Path(block.title).parent.mkdir(parents=True, exist_ok=True)
                Path(block.title).write_text(block.code, encoding="utf-8")
            elif block.language == "python":
                printed = _python(block, path, vars(page))
            elif block.language == "sh":
                printed = _shell(block, where)
            elif block.language == "text":
                same = doctest.OutputChecker().check_output(block.code, printed, LOOSELY)
                assert same, (
                    f"{where}: the page says\n{block.code}\nand this is printed:\n{printed}"
                )


def _python(block: Block, path: Path, namespace: dict[str, Any]) -> str:
    """Run a block in the page's namespace, with the page's own line numbers in tracebacks."""
    printed = io.StringIO()
    code = compile("\n" * (block.line - 1) + block.code, str(path), "exec")
    with contextlib.redirect_stdout(printed):
        exec(code, namespace)
    return printed.getvalue()


def _shell(block: Block, where: str) -> str:
    """Run a block in bash, where `fanwise` is this checkout's."""
    paths = [str(ROOT / "src"), os.environ.get("PYTHONPATH", "")]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, paths)),
        "COLUMNS": "100",
        "NO_COLOR": "1",
    }
    program = f'fanwise() {{ "{sys.executable}" -m fanwise.cli "$@"; }}\n'
    program += f'python() {{ "{sys.executable}" "$@"; }}\n{block.code}'
    done = subprocess.run(
        ["bash", "-e", "-c", program], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{where}: {done.stdout[-2000:]}\n{done.stderr[-2000:]}"
    return done.stdout


@contextlib.contextmanager
def _inside(folder: Path, page: ModuleType) -> Iterator[None]:
    """Run in a folder, from which modules are imported too, with the page as a module."""
    before = Path.cwd()
    os.chdir(folder)
    sys.path.insert(0, str(folder))
    sys.modules[page.__name__] = page
    try:
        yield
    finally:
        del sys.modules[page.__name__]
        sys.path.remove(str(folder))
        os.chdir(before)


if __name__ == "__main__":
    for argument in sys.argv[1:]:
        run_page(Path(argument).resolve())

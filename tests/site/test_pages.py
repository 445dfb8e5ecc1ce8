"""Every block of code on every page of the site runs, and prints what the page says."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from website.pages import ROOT, blocks_of, run_page

DOCS = ROOT / "docs"
PAGES = sorted(p.relative_to(DOCS).as_posix() for p in DOCS.rglob("*.md"))
QUICK = ("depth.md", "migrate.md", "do/lora.md", "do/gan.md", "do/diffusion.md", "do/rnn.md",
         "learn/he.md", "learn/fans.md", "learn/false-sayings.md")  # fmt: skip
"""What runs in a second or two in this process; the others have one of their own (`-m slow`)."""


NOTEBOOKS = sorted(p.relative_to(DOCS).as_posix() for p in DOCS.rglob("*.ipynb"))


def with_code(pages):
    runs = ("python", "sh")
    found = {page: blocks_of((DOCS / page).read_text("utf-8")) for page in pages}
    return [page for page, blocks in found.items() if any(b.language in runs for b in blocks)]


@pytest.mark.parametrize("page", QUICK)
def test_a_page_runs(page):
    run_page(DOCS / page)


@pytest.mark.slow
@pytest.mark.parametrize("page", NOTEBOOKS + [p for p in with_code(PAGES) if p not in QUICK])
def test_a_page_runs_in_its_own_process(page, tmp_path):
    """Keras keeps the backend that it is imported with, and TensorFlow keeps away from PyTorch."""
    environment = {**os.environ, "KERAS_BACKEND": "torch", "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-m", "website.pages", str(DOCS / page)],
        cwd=ROOT, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-1000:] + done.stderr[-3000:]


def test_a_fence_has_a_known_language():
    """A misspelt one would be shown, and never run."""
    known = {"python", "sh", "text", "console", "toml", "yaml", "diff", "json"}
    for page in PAGES:
        assert {b.language for b in blocks_of((DOCS / page).read_text("utf-8"))} <= known, page


def page_of(folder: Path, text: str) -> Path:
    page = folder / "page.md"
    page.write_text(text, encoding="utf-8")
    return page


def test_what_a_page_says_is_held_to_what_is_printed(tmp_path):
    said = "```python\nprint(6 * 7)\n```\n\n```text\n{}\n```\n"
    run_page(page_of(tmp_path, said.format("42")))
    with pytest.raises(AssertionError, match=r"(?s)page\.md:6: the page says\n43\n.*\n42"):
        run_page(page_of(tmp_path, said.format("43")))


def test_a_shell_that_fails_fails_the_page(tmp_path):
    run_page(page_of(tmp_path, '```python title="a/b.txt"\nx\n```\n```sh\ngrep x a/b.txt\n```\n'))
    with pytest.raises(AssertionError, match=r"page\.md:2: "):
        run_page(page_of(tmp_path, "```sh\nfalse\ntrue\n```\n"))


def test_a_page_leaves_nothing_behind(tmp_path):
    before = Path.cwd(), list(sys.path)
    with pytest.raises(ZeroDivisionError):
        run_page(page_of(tmp_path, "```python\nopen('left', 'w').close()\n1 / 0\n```\n"))
    assert (Path.cwd(), sys.path, "page" in sys.modules) == (*before, False)
    assert not Path("left").exists()

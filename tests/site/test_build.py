"""The site as it is built: without a warning, and without anything from the network."""

import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
RESOURCES = {"script": "src", "img": "src", "link": "href", "iframe": "src", "source": "src"}

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "-q", "-d", str(folder)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    return folder


class Loaded(HTMLParser):
    """What a page loads by itself, rather than links to."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        if tag in RESOURCES and values.get("rel") not in ("canonical", "prev", "next"):
            self.found.append(values.get(RESOURCES[tag]) or "")


def from_elsewhere(urls):
    return [url for url in urls if re.match(r"(https?:)?//", url)]


def test_a_reader_loads_nothing_from_the_network(site):
    pages = list(site.rglob("*.html"))
    assert len(pages) > 20
    for page in pages:
        assert from_elsewhere(Loaded(page.read_text("utf-8")).found) == [], page
    for sheet in site.rglob("*.css"):
        urls = re.findall(r"(?:url\(|@import )[\"']?([^\"')]+)", sheet.read_text("utf-8"))
        assert from_elsewhere(urls) == [], sheet
    assert from_elsewhere(Loaded('<script src="https://a.b/c.js"></script>').found)


def test_every_entry_of_the_reference_is_there(site):
    for page in (ROOT / "docs/reference").glob("*.md"):
        built = site / "reference" / page.stem / "index.html"
        text = (built if page.stem != "index" else site / "reference/index.html").read_text("utf-8")
        for name in re.findall(r"^::: (\S+)", page.read_text("utf-8"), re.MULTILINE):
            assert f'id="{name}"' in text, name


def test_no_doctest_is_shown_as_a_quotation(site):
    for page in (site / "reference").rglob("*.html"):
        assert "<blockquote>" not in page.read_text("utf-8"), page  # Markdown's >>>

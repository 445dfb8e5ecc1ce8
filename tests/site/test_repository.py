"""One setting holds the repository's address: README's links, project URLs, the site's links."""

import re
import tomllib

import pytest
from support.frameworks import require
from website.repository import ROOT, absolute_links, repository_address

ADDRESS = "https://example.org/owner/name"
README = (ROOT / "README.md").read_text("utf-8")


def built(repository):
    """Return (README, URLs) as a wheel of this setting would have them."""
    require("hatchling")
    from hatchling.metadata.core import ProjectMetadata
    from hatchling.plugin.manager import PluginManager

    config = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    config["tool"]["hatch"]["metadata"]["hooks"]["custom"]["repository"] = repository
    core = ProjectMetadata(str(ROOT), PluginManager(), config).core
    assert core.readme_content_type == "text/markdown"
    return core.readme, core.urls


def links(markdown):
    """Return where links and pictures outside of code lead, found by another way than a build's."""
    prose = "".join(markdown.split("```")[::2])
    return re.findall(r"\]\(([^)]*)\)", prose)


@pytest.mark.parametrize("setting", [ADDRESS, ADDRESS + "/"])
def test_with_an_address_no_link_is_relative(setting):
    readme, urls = built(setting)
    assert len(links(readme)) == len(links(README)) > 10
    for link, written in zip(links(readme), links(README), strict=True):
        kind = "raw" if written.endswith((".png", ".svg")) else "blob"
        assert link == f"{ADDRESS}/{kind}/main/{written}"
        assert (ROOT / written.partition("#")[0]).exists()
    assert readme.count("/raw/") == 1  # a picture's page is no picture
    assert all(url.startswith(ADDRESS) for url in urls.values())
    assert set(urls) == {"Repository", "Issues", "Changelog"}


def test_the_placeholder_changes_nothing():
    assert built("REPOSITORY-ADDRESS-NOT-SET") == (README, {})


def test_the_setting_is_an_address_or_the_placeholder():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    setting = project["tool"]["hatch"]["metadata"]["hooks"]["custom"]["repository"]
    assert setting == "REPOSITORY-ADDRESS-NOT-SET" or setting == repository_address()


def test_only_relative_links_change():
    text = "[a](https://b.c) [d](#e) [f](mailto:g@h)\n```python\nx[0](docs/i.md)\n```\n[j](k.md)"
    assert absolute_links(text, ADDRESS) == text.replace("k.md", f"{ADDRESS}/blob/main/k.md")


def test_the_site_takes_its_links_from_it(monkeypatch):
    from types import SimpleNamespace

    from website import hooks, repository

    config = SimpleNamespace(docs_dir=str(ROOT / "docs"), repo_url=None)
    page = SimpleNamespace(file=SimpleNamespace(src_uri="do/lora.md"))
    text = "[what is timed](../../benchmarks/fill/tasks.py)"
    shown = {
        None: "what is timed (`benchmarks/fill/tasks.py`)",
        ADDRESS: f"[what is timed]({ADDRESS}/blob/main/benchmarks/fill/tasks.py)",
    }
    for address, link in shown.items():
        monkeypatch.setattr(repository, "repository_address", lambda address=address: address)
        assert hooks.on_page_markdown(text, page=page, config=hooks.on_config(config)) == link

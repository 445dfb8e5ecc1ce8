"""MkDocs' hooks: pages that are made at build, and links to files that aren't on the site."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Take the repository's address from where it is set."""
    sys.path[:0] = [str(ROOT / "src"), str(ROOT)]  # here: MkDocs forgets what a hook's file adds
    from website.repository import repository_address

    config.repo_url = repository_address() or ""
    return config


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Add the pages that fanwise itself writes."""
    from website.commands import commands_page
    from website.pages import notebook_page
    from website.verdicts import verdicts_page

    for path, content in (
        ("reference/commands.md", commands_page()),
        ("reference/verdicts.md", verdicts_page()),
    ):
        files.append(File.generated(config, path, content=content))
    for notebook in sorted(Path(config.docs_dir, "notebooks").glob("*.ipynb")):
        path = f"notebooks/{notebook.stem}.md"
        files.append(File.generated(config, path, content=notebook_page(notebook)))
    return files


def on_page_markdown(markdown: str, *, page: Any, config: MkDocsConfig, **_: Any) -> str:
    """Turn links to the repository's files into links there, or into their paths without one."""
    from website.repository import file_address

    folder = (Path(config.docs_dir) / page.file.src_uri).parent

    def elsewhere(link: re.Match[str]) -> str:
        file = (folder / link["path"]).resolve()
        if not file.exists() or file.is_relative_to(config.docs_dir):
            return link[0]
        path = file.relative_to(ROOT).as_posix()
        if config.repo_url:
            return f"[{link['text']}]({file_address(config.repo_url, path)})"
        return link["text"] if link["text"].strip("`") == path else f"{link['text']} (`{path}`)"

    return re.sub(r"(?<!!)\[(?P<text>[^]]+)\]\((?P<path>\.\./[^)#]+)\)", elsewhere, markdown)

"""The repository's address, one setting in pyproject.toml, and the links that lead there.

Hatchling loads this file at build for README's links, which an index shows without the files beside
them, and for the project's URLs; the site's hooks take its links to files from here. Until the
setting is an address, links stay relative and there are no URLs.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hatchling.metadata.plugin.interface import MetadataHookInterface

ROOT = Path(__file__).parents[1]
FENCED = re.compile(r"(^```.*?^```$)", re.MULTILINE | re.DOTALL)
RELATIVE_LINK = re.compile(r"(?P<text>!?\[[^\]]*\])\((?![a-z]+:|[#/])(?P<path>[^)\s]+)\)")


def repository_address(settings: dict[str, Any] | None = None) -> str | None:
    """Return the repository's address without a slash at its end; None while none is set.

    Args:
        settings: pyproject.toml's table tool.hatch.metadata.hooks.custom; read, if None.
    """
    if settings is None:
        project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
        settings = project["tool"]["hatch"]["metadata"]["hooks"]["custom"]
    setting: str = settings["repository"]
    return setting.rstrip("/") if setting.startswith("https://") else None


def file_address(address: str, path: str, *, raw: bool = False) -> str:
    """Return where the repository's host shows a file, or gives it as it is, on branch main."""
    return f"{address}/{'raw' if raw else 'blob'}/main/{path}"


def absolute_links(text: str, address: str) -> str:
    """Return Markdown whose relative links lead to the repository; code is left alone.

    >>> absolute_links("![a](b.png) [c](d.md#e) [f](#g)", "https://host/x")
    '![a](https://host/x/raw/main/b.png) [c](https://host/x/blob/main/d.md#e) [f](#g)'
    """

    def absolute(link: re.Match[str]) -> str:
        picture = link["text"].startswith("!")
        return f"{link['text']}({file_address(address, link['path'], raw=picture)})"

    parts = FENCED.split(text)
    parts[::2] = [RELATIVE_LINK.sub(absolute, part) for part in parts[::2]]
    return "".join(parts)


def project_urls(address: str) -> dict[str, str]:
    """Return the links that an index shows beside the project."""
    return {
        "Repository": address,
        "Issues": f"{address}/issues",
        "Changelog": file_address(address, "CHANGELOG.md"),
    }


def get_metadata_hook() -> type[MetadataHookInterface]:
    """Return the hook that Hatchling runs at build."""
    from hatchling.metadata.plugin.interface import MetadataHookInterface

    class Hook(MetadataHookInterface):
        """Set what pyproject.toml declares as dynamic."""

        def update(self, metadata: dict[str, Any]) -> None:
            """Set README's text and the URLs."""
            text = Path(self.root, "README.md").read_text("utf-8")
            address = repository_address(self.config)
            if address is not None:
                text = absolute_links(text, address)
            metadata["readme"] = {"content-type": "text/markdown", "text": text}
            metadata["urls"] = {} if address is None else project_urls(address)

    return Hook

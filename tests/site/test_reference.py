"""The site's reference: nothing public is missing, and each verdict's example is what it says."""

import re
from pathlib import Path

import griffe
import pytest
from website.commands import commands_page
from website.doctests import fence_doctests
from website.verdicts import EXAMPLES, run, verdicts_page

from fanwise.signal import Kind

ROOT = Path(__file__).parents[2]
MODULES = {
    "fanwise": "fanwise.md",
    "fanwise.schemes": "schemes.md",
    "fanwise.schemes.compat": "schemes.md",
    "fanwise.policies": "policies.md",
    "fanwise.names": "names.md",
    "fanwise.errors": "errors.md",
    "fanwise.testing": "testing.md",
    "fanwise.tf1": "tf1.md",
    "fanwise.torch": "torch.md",
    "fanwise.torch.init": "torch.md",
    "fanwise.torch.lightning": "torch.md",
    "fanwise.torch.transformers": "torch.md",
    "fanwise.jax": "jax.md",
    "fanwise.jax.callbacks": "jax.md",
    "fanwise.jax.initializers": "jax.md",
    "fanwise.keras": "keras.md",
    "fanwise.keras.initializers": "keras.md",
    "fanwise.keras.callbacks": "keras.md",
}
"""What users import, and the page that has it."""


@pytest.fixture(scope="module")
def package():
    return griffe.load("fanwise", search_paths=[ROOT / "src"])


def public_names(package, module):
    """A module's `__all__`; where it has none, the functions and classes that it defines."""
    found = package if module == "fanwise" else package[module.removeprefix("fanwise.")]
    if found.exports is not None:
        return {str(name) for name in found.exports}
    own = {name: m for name, m in found.members.items() if not name.startswith("_")}
    return {n for n, m in own.items() if not m.is_alias and (m.is_function or m.is_class)}


def missing_from(page, module, names):
    """A name has an entry of its own, or the page names it in code as what it is an alias of."""
    entries = set(re.findall(r"^::: (\S+)", page, re.MULTILINE))
    said = set(re.findall(r"`(?:fw\.|fanwise\.\w+\.)?(\w+)`", page))
    return {n for n in names if f"{module}.{n}" not in entries and n not in said}


@pytest.mark.parametrize("module", MODULES)
def test_every_public_name_is_in_the_reference(package, module):
    names = public_names(package, module)
    page = (ROOT / "docs/reference" / MODULES[module]).read_text("utf-8")
    assert names
    assert missing_from(page, module, names) == set()
    assert missing_from(page, module, {*names, "forgotten"}) == {"forgotten"}


def test_every_public_module_is_here(package):
    """A front end's file without an underscore that users are told to import."""
    said = "\n".join(
        p.read_text("utf-8") for p in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
    )
    told = set(re.findall(r"^(?:import|from) (fanwise[\w.]*)", said, re.MULTILINE))
    assert told - set(MODULES) <= {"fanwise.signal", "fanwise.network"}


def test_every_kind_of_verdict_has_an_example():
    assert [e.kind for e in EXAMPLES] == list(Kind)


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda e: e.kind)
def test_an_example_has_its_verdict(example):
    """By the gravest verdict's kind: an example that has become healthy, or another, fails."""
    assert run(example).verdicts[0].kind == example.kind


@pytest.mark.slow
def test_the_page_of_verdicts_has_what_is_said():
    page = verdicts_page()
    assert all(f"## {kind}\n" in page for kind in Kind)
    assert page.count("\n✗ ") + page.count("```text\n✗ ") >= len(Kind)


def test_the_page_of_commands_has_every_command():
    page = commands_page()
    for name in ("plan", "init", "check", "compare", "explain", "migrate"):
        assert f"\n## fanwise {name}\n" in page
        assert f"Usage: fanwise {name} " in page
    assert max(len(line) for line in page.splitlines()) < 110


def test_doctests_become_code():
    text = "Say.\n\n>>> a = [\n...     1]  # doctest: +SKIP\n>>> a\n[1]\n\nMore."
    fenced = fence_doctests(text)
    assert fenced == "Say.\n\n```pycon\n>>> a = [\n...     1]\n>>> a\n[1]\n```\n\nMore."

"""Print what a newcomer meets: rooms, lines, the longest file and function, names that stand twice.

python benchmarks/house.py [src/fanwise]
"""

from __future__ import annotations

import ast
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path


def definitions(tree: ast.Module) -> Iterator[str]:
    """Yield the names that a module defines at its top level."""
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Assign):
            yield from (t.id for t in node.targets if isinstance(t, ast.Name))
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            yield node.target.id


def functions(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Yield (lines, name) of each function."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and node.end_lineno is not None:
            yield node.end_lineno - node.lineno + 1, node.name


def main() -> None:
    """Read every module below a folder, and print the figures."""
    root = Path(sys.argv[1] if len(sys.argv) > 1 else "src/fanwise")
    files = {path: path.read_text(encoding="utf-8") for path in sorted(root.rglob("*.py"))}
    lines = {path: text.count("\n") for path, text in files.items()}
    trees = {path: ast.parse(text) for path, text in files.items()}
    top = [p for p in root.iterdir() if p.suffix == ".py" or (p / "__init__.py").exists()]
    homes: dict[str, list[str]] = defaultdict(list)
    for path, tree in trees.items():
        for name in set(definitions(tree)) - {"__all__"}:
            homes[name].append(path.relative_to(root).as_posix())
    twice = {name: places for name, places in homes.items() if len(places) > 1}
    public = {name: places for name, places in twice.items() if not name.startswith("_")}
    longest_file = max(lines, key=lines.__getitem__)
    length, function, where = max(
        (n, name, path) for path, tree in trees.items() for n, name in functions(tree)
    )
    print(f"at the top: {len(top)} ({sum(p.suffix == '.py' for p in top)} of them files)")
    print(f"files: {len(files)}, lines: {sum(lines.values()):,}")
    print(f"longest file: {longest_file.relative_to(root)}, {lines[longest_file]} lines")
    print(f"longest function: {function} in {where.relative_to(root)}, {length} lines")
    print(f"names defined in several modules: {len(twice)}, {len(public)} of them public")
    for name in sorted(public):
        print(f"  {name}: {', '.join(public[name])}")


if __name__ == "__main__":
    main()

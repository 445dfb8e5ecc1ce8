"""The whole run: files in, report out. Nothing is written unless asked for."""

from __future__ import annotations

import ast
import gc
import os
import pickle
import subprocess
import sys
import warnings
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from threading import Lock

import libcst as cst

from fanwise.errors import FanwiseError, TargetError
from fanwise.migrate.edits import IrreproducibleError
from fanwise.migrate.files import replace_file, source_files
from fanwise.migrate.notebooks import NotebookError, rewrite_notebook
from fanwise.migrate.options import Options, Progress, silent
from fanwise.migrate.relevance import is_relevant, names_old
from fanwise.migrate.report import FileResult, Finding, Kind, Report
from fanwise.migrate.rewrite import rewrite

FEW_FILES = 48
"""So many files are read sooner by one process than others are started."""

DEEPEST = 1000
"""So many nodes within each other LibCST reads with a usual stack; it crashes at some thousands."""

BLOCKS = ("body", "handlers", "cases", "orelse", "finalbody")
"""Fields of Python's statements that hold others, or the clauses that do."""

SERVE = "from fanwise.migrate.run import serve; serve()"

NOT_PYTHON_3 = "it can't be read as Python 3"
TO_PYTHON_3 = "Python 3: for Python 2, run 2to3, then this again"


def run(
    paths: Iterable[Path],
    options: Options,
    *,
    write: bool,
    workers: int,
    progress: Progress = silent,
) -> Report:
    """Return the report over all source files under the paths; with `write`, replace what changes.

    Raises:
        TargetError: a path that doesn't exist.
    """
    skipped: list[Path] = []
    sources = list(source_files(paths, skipped.append))
    relevant: list[Path] = []
    problems: list[tuple[str, str]] = []
    tell = _Teller(progress, len(sources))
    for path in sources:
        try:
            if is_relevant(path.read_bytes()):
                relevant.append(path)
                continue
        except OSError as error:
            problems.append((str(path), f"it can't be read: {error.strerror}"))
        tell()
    results = [result for result in _all(relevant, options, workers, tell) if result is not None]
    if write:
        problems += _write(results)
    failed = {path for path, _ in problems}
    kept = tuple(result for result in results if result.path not in failed)
    return Report(kept, len(sources), write, tuple(problems), tuple(map(str, skipped)))


class _Teller:
    """Tells how many files are done; may be called by several threads."""

    def __init__(self, progress: Progress, of: int) -> None:
        self._progress, self._of, self._done = progress, of, 0
        self._lock = Lock()

    def __call__(self) -> None:
        with self._lock:
            self._done += 1
            self._progress(self._done, self._of)


def _all(
    paths: Sequence[Path], options: Options, workers: int, tell: _Teller
) -> Iterable[FileResult | None]:
    if workers < 2 or len(paths) < FEW_FILES:
        for path in paths:
            yield migrate_file(path, options)
            tell()
        return
    # multiprocessing would import the caller's main module again, or copy its threads' locks.
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, "-c", SERVE]
    pipe = subprocess.PIPE
    servers = [
        subprocess.Popen(command, stdin=pipe, stdout=pipe, env=environment) for _ in range(workers)
    ]
    shares = [paths[start::workers] for start in range(workers)]
    for server, share in zip(servers, shares, strict=True):
        assert server.stdin is not None
        server.stdin.write(pickle.dumps((share, options)))
        server.stdin.close()
    results: dict[Path, FileResult | None] = {}
    with ThreadPoolExecutor(workers) as readers:
        for answers in readers.map(_answers, servers, shares, [tell] * workers):
            results |= answers
    yield from (results[path] for path in paths)


def _answers(
    server: subprocess.Popen[bytes], share: Sequence[Path], tell: _Teller
) -> dict[Path, FileResult | None]:
    """Return what one process makes of its files, told as they come."""
    assert server.stdout is not None
    results: dict[Path, FileResult | None] = {}
    with server.stdout:
        for path in share:
            try:
                results[path] = pickle.load(server.stdout)
            except (EOFError, pickle.UnpicklingError):
                break
            tell()
    if server.wait() or len(results) < len(share):
        raise FanwiseError("a process of fanwise migrate died; nothing was written.")
    return results


def serve() -> None:
    """Answer one request for files to migrate: pickled on stdin, each pickled to stdout."""
    paths, options = pickle.load(sys.stdin.buffer)
    for path in paths:
        pickle.dump(migrate_file(path, options), sys.stdout.buffer)
        sys.stdout.buffer.flush()


def _write(results: Sequence[FileResult]) -> list[tuple[str, str]]:
    problems: list[tuple[str, str]] = []
    for result in results:
        if result.changed:
            try:
                replace_file(Path(result.path), result.before, result.after)
            except TargetError as error:
                problems.append((result.path, str(error)))
    return problems


def migrate_file(path: Path, options: Options) -> FileResult | None:
    """Return what a file becomes; None where nothing was found in it. Writes nothing."""
    try:
        before = path.read_bytes()
    except OSError as error:
        reason = f"it can't be read: {error.strerror}"
        return FileResult(str(path), b"", b"", (Finding(Kind.UNREAD, 1, reason=reason),))
    try:
        read = _notebook if path.suffix == ".ipynb" else _python
        with _deep_recursion(), _no_collection():
            after, findings = read(before, options)
    except _Unreadable as unreadable:
        return FileResult(str(path), before, before, (unreadable.finding,))
    except IrreproducibleError:
        reason = "LibCST can't reproduce it byte for byte: a form feed, or a lone \\r"
        finding = Finding(Kind.UNREAD, 1, reason=reason, new="it without them")
        return FileResult(str(path), before, before, (finding,))
    except Exception as fault:  # One file must not keep the others from being read.
        reason = f"fanwise failed on it: {fault!r}"
        finding = Finding(Kind.UNREAD, 1, reason=reason, new="a report to fanwise; it was left")
        return FileResult(str(path), before, before, (finding,))
    if after == before and not findings:
        return None
    return FileResult(str(path), before, after, findings)


class _Unreadable(Exception):
    """A file that is left because it can't be read, with what is said of it."""

    def __init__(self, reason: str, instead: str = "", line: int = 1) -> None:
        super().__init__(reason)
        self.finding = Finding(Kind.UNREAD, line, reason=reason, new=instead)


def _parse(source: bytes) -> cst.Module:
    try:
        return cst.parse_module(source)
    except (cst.ParserSyntaxError, SyntaxError, ValueError, LookupError) as error:
        raise _Unreadable(f"LibCST can't read it: {error}") from error


def _checked(source: bytes) -> ast.Module:
    """Let CPython's parser judge first: LibCST's dies of nesting that is too deep."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Old escapes are no concern of ours.
            tree = ast.parse(source)
    except SyntaxError as error:
        raise _Unreadable(f"{NOT_PYTHON_3}: {error.msg}", TO_PYTHON_3, error.lineno or 1) from error
    except ValueError as error:
        raise _Unreadable(f"{NOT_PYTHON_3}: {error}", TO_PYTHON_3) from error
    if not _is_shallow(tree, source):
        raise RecursionError
    return tree


def _is_shallow(tree: ast.Module, source: bytes) -> bool:
    """Whether no more than `DEEPEST` nodes stand within each other.

    Blocks are followed; an expression is looked into only where it is written long enough for that,
    a character for each level.
    """
    lengths = [len(line) + 1 for line in source.splitlines()]
    block: list[ast.AST] = [*tree.body]
    long: list[ast.AST] = []
    for _ in range(DEEPEST):
        if not block:
            break
        inner: list[ast.AST] = []
        for node in block:
            nested = [child for field in BLOCKS for child in getattr(node, field, ())]
            if isinstance(node, ast.stmt):
                start = min(d.lineno for d in (node, *getattr(node, "decorator_list", ())))
                head = nested and isinstance(nested[0], ast.stmt) and not hasattr(node, "handlers")
                end = nested[0].lineno if head else node.end_lineno
                if sum(lengths[start - 1 : end]) > DEEPEST:
                    long.append(node)
            inner += nested
        block = inner
    for _ in range(DEEPEST):
        if not long:
            break
        long = [child for node in long for child in ast.iter_child_nodes(node)]
    return not block and not long


@contextmanager
def _deep_recursion() -> Iterator[None]:
    """Let long chains of + and elif be walked: LibCST takes some frames for each link."""
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(max(limit, 10_000))
    try:
        yield
    except (RecursionError, MemoryError) as error:
        raise _Unreadable("it is nested too deeply", "shorter chains") from error
    finally:
        sys.setrecursionlimit(limit)


@contextmanager
def _no_collection() -> Iterator[None]:
    """Put off the garbage collector: a tree of 100,000 nodes keeps it busy for nothing."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _python(source: bytes, options: Options) -> tuple[bytes, tuple[Finding, ...]]:
    tree = _checked(source)
    if not names_old(tree, source):
        return source, ()
    module = _parse(source)
    outcome = rewrite(module, options, source.decode(module.encoding), tree)
    after = outcome.code.encode(module.encoding)
    if after != source:
        _check(after)
    return after, outcome.findings


def _notebook(source: bytes, options: Options) -> tuple[bytes, tuple[Finding, ...]]:
    try:
        text, findings = rewrite_notebook(source.decode("utf-8"), options)
    except UnicodeDecodeError as error:
        raise _Unreadable("it is not UTF-8", "UTF-8, which notebooks are") from error
    except NotebookError as error:
        raise _Unreadable(str(error)) from error
    return text.encode("utf-8"), findings


def _check(after: bytes) -> None:
    """Refuse output that wouldn't parse: a fault of ours that must not reach the disk.

    Python judges: LibCST reads newer f-strings than the Python that runs.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ast.parse(after)
    except (SyntaxError, ValueError) as error:
        reason = f"what it would become doesn't parse, a fault in fanwise: {error}"
        raise _Unreadable(reason) from error

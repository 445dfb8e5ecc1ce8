"""A tree of 5,000 files, one in fifty with something to do; and files that all have something.

`pytest -m slow -s tests/migrate/test_migrate_speed.py` prints the figures.
"""

import os
import random
import statistics
import time
from pathlib import Path

import libcst
import pytest
from libcst.metadata import MetadataWrapper, ScopeProvider

from fanwise.migrate import migrate

CORPUS = Path(__file__).parent / "corpus"

PLAIN = '''
class Layer{i}(Base):
    """Layer number {i}: its weights, its forward pass, its configuration."""

    def __init__(self, units, activation=None, use_bias=True, name="layer_{i}", **kwargs):
        super().__init__(name=name, **kwargs)
        self.units = int(units)
        self.activation = activation
        self.use_bias = use_bias

    def call(self, inputs, training=False):
        outputs = tf.matmul(inputs, self.kernel) + self.offsets[{i}]
        if self.use_bias:
            outputs = tf.nn.bias_add(outputs, self.bias)
        for step in range({i}):
            outputs = [part * step for part in outputs if part is not None]
        return outputs if self.activation is None else self.activation(outputs)
'''


def make_tree(place, count):
    """Files of about 7 kB; every fiftieth begins as one of the corpus does."""
    rng = random.Random(0)
    old = [p.read_bytes() for p in sorted(CORPUS.glob("*.py")) if p.name not in SPECIAL]
    for number in range(count):
        folder = place / f"package{number // 100}"
        folder.mkdir(exist_ok=True)
        classes = "".join(PLAIN.format(i=rng.randrange(999)) for _ in range(8))
        head = rng.choice(old) if number % 50 == 0 else b"import tensorflow as tf\n"
        (folder / f"module{number}.py").write_bytes(head + classes.encode())


def make_busy_files(place, count, classes):
    """Files that begin as those of the corpus do, with classes of about 720 bytes behind."""
    rng = random.Random(0)
    old = [p.read_bytes() for p in sorted(CORPUS.glob("*.py")) if p.name not in SPECIAL]
    for number in range(count):
        rest = "".join(PLAIN.format(i=rng.randrange(999)) for _ in range(classes))
        (place / f"module{number}.py").write_bytes(old[number % len(old)] + rest.encode())


def resolve_scopes(sources):
    """What every codemod begins with: LibCST's reading of the files, and whose name is whose."""
    for source in sources:
        MetadataWrapper(libcst.parse_module(source), unsafe_skip_copy=True).resolve(ScopeProvider)


@pytest.mark.slow
@pytest.mark.parametrize("classes", [8, 24], ids=["7 kB", "18 kB"])
def test_a_file_with_something_to_do(tmp_path, classes):
    """A third of the CPU time in which LibCST resolves the scopes of the same files."""
    make_busy_files(tmp_path, 42, classes)
    sources = [path.read_bytes() for path in sorted(tmp_path.iterdir())]
    migrate([tmp_path / "module0.py"])
    ratios = []
    for _ in range(3):
        start = time.process_time()
        report = migrate([tmp_path])
        between = time.process_time()
        resolve_scopes(sources[::3])
        seconds, scopes = between - start, 3.0 * (time.process_time() - between)
        ratios.append(seconds / scopes)
        size, each = sum(map(len, sources)) / len(sources) / 1000, seconds / len(sources)
        print(f"\n{len(sources)} files of {size:.1f} kB: {each:.3f} s each, {ratios[-1]:.2f} ×")
    assert len(report.changed) == report.scanned == len(sources)
    assert statistics.median(ratios) < 0.6


SPECIAL = {"crlf_windows.py", "python2.py", "already_new.py"}


@pytest.mark.slow
def test_five_thousand_files(tmp_path):
    make_tree(tmp_path, 5000)
    start = time.perf_counter()
    report = migrate([tmp_path], workers=min(2, os.cpu_count() or 1))
    seconds = time.perf_counter() - start
    print(f"\n{report.scanned} files, {len(report.changed)} to change: {seconds:.1f} s")
    assert (report.scanned, len(report.changed)) == (5000, 100)
    assert seconds < 60


def test_what_has_nothing_to_do_is_not_parsed(tmp_path, monkeypatch):
    from fanwise.migrate import run

    make_tree(tmp_path, 100)
    parsed = []
    parse = run._parse
    monkeypatch.setattr(run, "_parse", lambda source: parsed.append(source) or parse(source))
    migrate([tmp_path])
    assert len(parsed) == 2

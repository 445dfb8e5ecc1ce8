"""A tree of 5,000 files, one in fifty with something to do; and files that all have something.

`pytest -m slow -s tests/migrate/test_migrate_speed.py` prints the figures.
"""

import os
import random
import time
from pathlib import Path

import pytest

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


@pytest.mark.slow
@pytest.mark.parametrize(("classes", "limit"), [(8, 0.06), (24, 0.1)], ids=["7 kB", "18 kB"])
def test_a_file_with_something_to_do(tmp_path, classes, limit):
    """At most 0.1 s of CPU for one of 18 kB; the module's own start isn't counted."""
    make_busy_files(tmp_path, 42, classes)
    migrate([tmp_path / "module0.py"])
    took = []
    for _ in range(3):  # the least: a busy machine's cores take longer for the same work
        start = time.process_time()
        report = migrate([tmp_path])
        took.append((time.process_time() - start) / report.scanned)
    seconds = min(took)
    size = sum(path.stat().st_size for path in tmp_path.iterdir()) / report.scanned
    print(f"\n{report.scanned} files of {size / 1000:.1f} kB: {seconds:.3f} s of CPU each")
    assert len(report.changed) == report.scanned
    assert seconds < limit


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

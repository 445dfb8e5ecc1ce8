"""Roles of layers, the lines that charts draw by them, and the sentence that sees the middle."""

from support.signals import layer

from fanwise.report.charts import charts
from fanwise.signal import ResidualSum, Signal
from fanwise.signal.roles import roles_of

BLOCKS = tuple(f"stage{i // 2}.{i % 2}.{name}" for i in range(4) for name in ("up", "down"))


def blocks(rms=1.0, gradient=1.0, **changes):
    """Return a signal of four blocks, each with an `up` of this rms and a small `down`."""
    layers = [
        layer(i, name=name, rms=rms if name.endswith("up") else 0.01, gradient=gradient ** (8 - i))
        for i, name in enumerate(BLOCKS)
    ]
    return Signal(tuple(layers), **changes)


def test_a_role_is_a_name_within_a_block():
    assert roles_of(["stem", *BLOCKS, "head"]) == ("", *["up", "down"] * 4, "")
    assert roles_of([f"{name}#2" for name in BLOCKS]) == ("up", "down") * 4
    keras = [f"block_{i}/{name}" for i in range(3) for name in ("query", "value")]
    assert roles_of(keras) == ("query", "value") * 3


def test_chains_have_no_roles():
    assert set(roles_of([f"layers.{i}" for i in range(9)])) == {""}
    assert set(roles_of([f"blocks.{i}.fc" for i in range(9)])) == {""}  # one role: a chain
    assert set(roles_of([f"heads.{i}.{n}" for i in range(2) for n in "ab"])) == {""}  # too few


def test_each_role_has_a_line_and_each_other_layer_a_point():
    found = blocks()
    found = Signal((layer(9, name="stem", rms=5.0), *found.layers))
    forward = next(c for c in charts(found).charts if c.key == "forward")
    measured = [s for s in forward.series if s.style == "before"]
    assert [(s.role, [v for v in s.values if v is not None]) for s in measured] == [
        ("", [5.0]),
        ("up", [1.0] * 4),
        ("down", [0.01] * 4),
    ]
    assert forward.joined
    assert {s.role for s in forward.series if s.style == "predicted"} == {"", "up", "down"}


def test_the_stream_is_drawn_first():
    sums = tuple(ResidualSum(f"stage{i // 2}.{i % 2}.down", 1.0, 0.5, 1.1) for i in range(4))
    assert charts(blocks(sums=sums)).charts[0].key == "stream"
    assert charts(blocks()).charts[0].key == "forward"


def test_the_sentence_follows_the_stream_and_one_role():
    sums = tuple(ResidualSum(f"stage{i // 2}.{i % 2}.down", 1.0, 0.5, 1.5**i) for i in range(4))
    assert blocks(gradient=2.0, sums=sums).overall == (
        "the stream's rms changes by 3.38 over 4 sums, "
        "the gradient's by 64 on its way back through 4 up."
    )


def test_the_sentence_sees_the_middle():
    """Ends that are alike hide what a model does in between."""
    gradients = [1.0, 30.0, 100.0, 20.0, 0.9]
    found = Signal(tuple(layer(i, name=f"fc{i}", gradient=g) for i, g in enumerate(gradients)))
    assert found.overall == (
        "the rms changes by 1 from the first kernel to the last, the gradient's by 1.11 on its way "
        "back and by 111 at fc2 in between."
    )
    sunk = Signal(tuple(layer(i, name=f"fc{i}", rms=r) for i, r in enumerate([1.0, 0.1, 2.0])))
    assert "changes by 2 from the first kernel to the last and by 0.1 at fc1 in" in sunk.overall

"""Charts and sentences: the data that every picture shows."""

import math
from dataclasses import replace

import pytest
from support.signals import EVIL, layer, plan, shape, signal

from fanwise.report.charts import charts, matched_layers
from fanwise.report.facts import facts_of
from fanwise.report.numbers import number_text
from fanwise.report.sentences import SENTENCES, headline, sentence
from fanwise.schemes.fans import Fans
from fanwise.signal import Kind, ResidualSum, Signal, Verdict, Weights
from fanwise.signal.histogram import bounds


def chart(found, key):
    return next(c for c in found.charts if c.key == key)


def lines(found, key):
    return {s.label: s.values for s in chart(found, key).series}


def test_each_line_is_what_was_measured_in_execution_order():
    before, after = signal(8, rate=0.3), signal(8)
    found = charts(before, after)
    assert found.names == tuple(f"blocks.{i}.fc" for i in range(8))
    forward, backward = lines(found, "forward"), lines(found, "backward")
    assert forward["as it is"] == pytest.approx([0.3**i for i in range(8)])
    assert forward["after init_"] == (1.0,) * 8
    assert backward["as it is"] == pytest.approx([0.3 ** (7 - i) for i in range(8)])
    assert lines(found, "scale")["as it is"] == pytest.approx([0.3] * 8)


def test_the_prediction_runs_from_the_first_layer_to_the_last():
    """A gradient that grows on its way back is largest at the first layer: a fan_out too large."""
    wide = [replace(x, fans=Fans(64, 4 * 64)) for x in signal(6).layers]
    found = lines(charts(Signal(tuple(wide), ())), "backward")["predicted after init_"]
    assert found == pytest.approx([2.0 ** (5 - i) for i in range(6)])


def test_the_prediction_is_that_of_planned_weights_whatever_they_are():
    found = lines(charts(signal(9, rate=0.4)), "forward")["predicted after init_"]
    assert found == pytest.approx([1.0 / 0.4] * 9)  # of an input as it is, by a weight as planned


def test_what_cannot_be_drawn_is_a_gap():
    layers = list(signal(5).layers)
    layers[1], layers[2] = layer(1, rms=0.0), layer(2, rms=math.nan)
    layers[3] = layer(3, gradient=None)
    found = charts(Signal(tuple(layers), ()))
    assert lines(found, "forward")["as it is"] == (1.0, None, None, 1.0, 1.0)
    assert lines(found, "backward")["as it is"] == (1.0, 1.0, 1.0, None, 1.0)


def test_the_part_that_varies_has_a_line_where_it_leaves_the_rms():
    def labels(varying):
        layers = [layer(i, varying=varying) for i in range(4)]
        return list(lines(charts(Signal(tuple(layers), ())), "forward"))

    assert labels(0.9) == ["as it is", "predicted after init_"]
    assert labels(0.1) == ["as it is", "as it is, between samples", "predicted after init_"]
    assert labels(None) == ["as it is", "predicted after init_"]


def test_shares_are_drawn_only_where_there_is_something_to_see():
    def keys(**changes):
        return [c.key for c in charts(Signal((layer(0, **changes), layer(1)), ())).charts]

    assert keys() == ["forward", "backward", "scale"]
    assert keys(dead=0.05) == keys()
    assert keys(dead=0.6) == [*keys(), "dead"]
    assert keys(saturated=0.6) == [*keys(), "saturated"]


def test_likeness_the_stream_and_updates_are_drawn_where_they_are_known():
    layers = [layer(i, cosine=0.9) for i in range(4)]
    sums = (ResidualSum("blocks.1.fc", 1.0, 1.0, 1.4), ResidualSum("blocks.3.fc", 1.4, 1.0, 1.8))
    weights = [
        Weights(x.parameter, (4, 4), "dense", x.output, update_rms=0.001 * i)
        for i, x in enumerate(layers)
    ]
    found = charts(Signal(tuple(layers), (), tuple(weights), sums))
    assert lines(found, "cosine")["as it is"] == (0.9,) * 4
    assert lines(found, "stream")["as it is"] == (None, 1.4, None, 1.8)
    assert chart(found, "stream").joined
    assert lines(found, "update")["as it is"] == pytest.approx((None, 0.001, 0.002, 0.003))


def test_layers_are_matched_by_name():
    """A model that branches on its data runs other kernels after the mend."""
    before, after = signal(4), signal(4)
    after = Signal((after.layers[2], after.layers[0], layer(9)), ())
    assert [x and x.name for x in matched_layers(before, after)] == [
        "blocks.0.fc", None, "blocks.2.fc", None,
    ]  # fmt: skip
    assert matched_layers(before, None) == (None,) * 4


@pytest.mark.parametrize("where", ["blocks.3.fc", "blocks.3.fc.weight", "blocks.3"])
def test_the_place_of_the_verdict_is_marked(where):
    verdict = Verdict("dead", "", where, "Cause.", "Fix.", 1.0)
    assert charts(replace(signal(6), verdicts=(verdict,))).where == 3
    for elsewhere in ("else", "block", "blocks.33", ""):
        aside = replace(verdict, where=elsewhere)
        assert charts(replace(signal(6), verdicts=(aside,))).where is None
    assert charts(signal(6)).where is None


def test_a_signal_without_layers():
    found = charts(Signal((), ()))
    assert (found.names, found.charts, found.where) == ((), (), None)


def test_a_histogram_covers_the_values_but_no_outlier():
    assert bounds(-1.0, 2.0, 0.0, 1.0) == (-1.0, 2.0)
    assert bounds(-1.0, 900.0, 0.0, 1.0) == (-1.0, 5.0)
    assert bounds(3.0, 3.0, 3.0, 0.0) == (1.5, 4.5)
    assert bounds(0.0, 0.0, 0.0, 0.0) == (-1.0, 1.0)


# --- sentences and numbers ----------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "direction", "text"), [
    ("vanishing", "forward", "The signal vanishes forward, from 'a.b' on."),
    ("vanishing", "backward", "The gradient vanishes backward, from 'a.b' on."),
    ("exploding", "forward and backward",
     "The signal explodes, forward and backward, from 'a.b' on."),
    ("saturated", "", "Activations are saturated, from 'a.b' on."),
    ("wrong_scale", "", "The weights of 'a.b' have the wrong scale."),
    ("identical", "", "'a.b' starts as a copy of another layer."),
    ("new_kind", "", "New kind, from 'a.b' on."),
])  # fmt: skip
def test_a_verdict_in_a_sentence(kind, direction, text):
    assert sentence(Verdict(kind, direction, "a.b", "", "", 1.0)) == text


def test_every_kind_has_its_sentence():
    assert set(Kind) <= set(SENTENCES)


def test_headline():
    assert headline(signal(5)) == "The signal is healthy."
    assert headline(signal(30, rate=0.4)).startswith("The signal vanishes, forward and backward")


@pytest.mark.parametrize(("value", "text"), [
    (None, "–"), (0.0, "0"), (1.0, "1"), (0.98765, "0.988"), (999.4, "999"), (999.9, "1000"),
    (12345.6, "12346"), (123456.0, "1.23×10⁵"), (-0.00012, "−1.2×10⁻⁴"), (2.1e-12, "2.1×10⁻¹²"),
    (math.inf, "inf"), (math.nan, "nan"), (-math.inf, "−inf"),
])  # fmt: skip
def test_numbers(value, text):
    assert number_text(value) == text


def test_facts_name_what_was_measured_and_skip_what_was_not():
    labels, (before, after) = facts_of([(layer(0), layer(1, rms=0.5)), (layer(0), None)])
    assert "activation, saturated share" not in labels
    assert before[1][labels.index("output, rms")] == 0.5
    assert after[1] is None
    assert "fans" not in labels


def test_the_hand_made_values_are_sound():
    assert len(plan(3).rows) == 6
    assert sum(shape(1).counts) > 0
    assert "<" in EVIL

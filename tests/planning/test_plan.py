"""Plans as values: rows from uses and rules, JSON there and back, errors in full. No framework."""

import dataclasses
import json
import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fanwise import schemes
from fanwise.drawing.draw import draw as fill_draw
from fanwise.errors import ArgumentError, ModelError
from fanwise.network.uses import Neighbour, Use
from fanwise.planning.choose import Choice, choose
from fanwise.planning.decide import decide
from fanwise.planning.plan import Plan
from fanwise.planning.rows import Row, entry_std, make_row, skipped_row
from fanwise.planning.rules import Parameter, Rule
from fanwise.report.shown import ShownPlan
from fanwise.schemes.distributions import (
    Constant,
    DeltaOrthogonal,
    Dirac,
    Draw,
    Identity,
    Normal,
    Orthogonal,
    Sparse,
    TruncatedNormal,
    Uniform,
)

RELU = Neighbour("relu", "rectifier", "linear", 0.5, 0.5)
TANH = Neighbour("tanh", "saturating", "linear", 0.394294, 0.464403)
DENSE = Use("dense", (64, 32), "OI", feeds=RELU, follows=TANH)
LSTM = ("input", "forget", "cell", "output")


def parameter(name, use, **how):
    return Parameter(name, how.pop("shape", use.view if use else (3,)), use, **how)


def rows_of(*uses, rules=()):
    return decide([parameter(f"p{i}", use) for i, use in enumerate(uses)], rules)


# --- rows ---------------------------------------------------------------------------------------


def test_a_row_says_what_and_why():
    (row,) = rows_of(DENSE)
    assert row == Row(
        name="p0",
        shape=(64, 32),
        role="dense",
        view=(64, 32),
        layout="OI",
        fan_in=32,
        fan_out=64,
        feeds="relu",
        follows="tanh",
        scheme="he_normal",
        draws=(Normal(0.25),),
        forward=pytest.approx(1.0),
        backward=pytest.approx(0.25 * math.sqrt(64 * 0.464403)),
        reason="relu keeps 0.5 of the second moment; fan_in makes up for it",
    )
    assert (row.std, row.gain) == (0.25, pytest.approx(math.sqrt(2.0)))


def test_rows_are_frozen():
    (row,) = rows_of(DENSE)
    with pytest.raises(dataclasses.FrozenInstanceError):
        row.scheme = "zeros"
    with pytest.raises(dataclasses.FrozenInstanceError):
        Plan((row,)).rows = ()


@pytest.mark.parametrize(
    ("change", "end"),
    [
        ({"times": 1}, "makes up for it"),
        ({"times": 3}, "makes up for it; used 3 times in a forward pass"),
        (
            {"seen": "not reached"},
            "makes up for it; not reached by the forward pass, so judged by its module",
        ),
        ({"seen": "module order"}, "makes up for it"),
    ],
)
def test_a_reason_says_what_is_unusual(change, end):
    (row,) = rows_of(dataclasses.replace(DENSE, **change))
    assert row.reason.endswith(end)


@pytest.mark.parametrize(
    ("scheme", "name"),
    [
        (schemes.Zeros(), "zeros"),
        (schemes.Ones(), "ones"),
        (schemes.Constant(0.25), "constant 0.25"),
        (schemes.Xavier(), "xavier_uniform"),
        (schemes.Xavier("normal"), "xavier_normal"),
        (schemes.He("uniform"), "he_uniform"),
        (schemes.LeCun("truncated_normal"), "lecun_truncated_normal"),
        (schemes.VarianceScaling(2.5, "fan_in", "normal"), "normal(fan_in, gain 1.581)"),
        (schemes.Normal(0.02), "normal(0.02)"),
        (schemes.Uniform(-0.1, 0.1), "uniform(-0.1, 0.1)"),
        (schemes.Orthogonal(), "orthogonal"),
        (schemes.Orthogonal(2.0), "orthogonal(2)"),
        (schemes.TruncatedNormal(0.02), "truncatednormal(0.02)"),
        (schemes.Sparse(0.9), "sparse(0.9)"),
        (schemes.Identity(), "identity"),
    ],
)
def test_schemes_go_by_their_usual_names(scheme, name):
    row = make_row("w", (64, 32), DENSE, Choice((scheme,), "asked for"))
    assert row.scheme == name


def test_gates_that_differ_are_named():
    use = Use("recurrent bias", (4, 8), gates=LSTM)
    row = make_row("b", (32,), use, choose(use))
    assert row.scheme == "zeros; forget ones"
    assert len(row.draws) == 4
    two = make_row("b", (16,), Use("recurrent bias", (2, 8), gates=("a", "b")), Choice(
        (schemes.Zeros(), schemes.Ones()), ""))  # fmt: skip
    assert two.scheme == "zeros; b ones"  # of as many, the first counts as common


@pytest.mark.parametrize(
    ("scheme", "shape", "layout"),
    [
        (Uniform(-0.5, 1.5), (200, 300), "OI"),
        (Normal(0.3), (200, 300), "OI"),
        (TruncatedNormal(0.3, low=-1.0, high=2.5), (200, 300), "OI"),
        (Orthogonal(1.5), (100, 300), "OI"),
        (Orthogonal(1.5), (300, 100), "OI"),
        (Orthogonal(), (4, 100, 50), "BOI"),
        (Orthogonal(), (50, 10, 3, 3), "OIKK"),
    ],
)
def test_the_std_of_an_entry_is_that_of_the_drawn_ones(scheme, shape, layout):
    """To 1 %: over 20,000 entries and more, three standard errors."""
    weights = fill_draw(scheme, shape, seed=0, name="w", layout=layout).astype(float)
    about = 0.0 if isinstance(scheme, Orthogonal) else weights.mean()
    found = math.sqrt(float(((weights - about) ** 2).mean()))
    assert found == pytest.approx(entry_std(scheme, shape, layout), rel=0.015)


@pytest.mark.parametrize("draw", [Constant(1.0), Identity(), Dirac()])
def test_what_is_not_random_has_no_std(draw):
    assert entry_std(draw, (8, 8, 3), "OIK") is None


def test_a_skipped_row():
    row = skipped_row("w", (2, 3), "frozen")
    assert (row.scheme, row.draws, row.std, row.gain, row.forward) == (
        "skipped",
        (),
        None,
        None,
        None,
    )
    assert (row.role, row.view, row.reason) == ("", (2, 3), "frozen")


# --- decide -------------------------------------------------------------------------------------


def test_every_parameter_gets_one_row_in_order():
    uses = [DENSE, Use("bias", (64,)), Use("scale", (64,)), Use("embedding", (9, 4), "BO")]
    assert [row.name for row in rows_of(*uses)] == ["p0", "p1", "p2", "p3"]


def test_skips_and_rules():
    parameters = [
        parameter("a.weight", DENSE, skip="frozen"),
        parameter("a.bias", Use("bias", (64,))),
        parameter("b.weight", DENSE, skip="frozen"),
    ]
    rows = decide(parameters, [Rule("b.*", "xavier_normal"), Rule("role:bias", None)])
    assert [row.scheme for row in rows] == ["skipped", "skipped", "xavier_normal"]
    assert [row.reason for row in rows] == [
        "frozen",
        "left alone by the rule 'role:bias'",
        "the rule 'b.*'",
    ]


def test_globs_match_case_and_whole_names():
    rule = Rule("enc.*.weight", "zeros")
    assert rule.matches(Parameter("enc.0.weight", (2, 2), None))
    assert not rule.matches(Parameter("Enc.0.weight", (2, 2), None))
    assert not rule.matches(Parameter("enc.0.weight_g", (2, 2), None))
    assert not rule.matches(Parameter("my.enc.0.weight", (2, 2), None))
    assert Rule("role:dense", "zeros").matches(Parameter("x", DENSE.view, DENSE))
    assert not Rule("role:dense", "zeros").matches(Parameter("x", DENSE.view, None))
    assert not Rule("role:den", "zeros").matches(Parameter("x", DENSE.view, DENSE))


def test_rules_by_the_type_of_the_module():
    parameter = Parameter("x.weight", DENSE.view, DENSE, owner="ClassBlock")
    assert Rule("type:ClassBlock", "zeros").matches(parameter)
    assert Rule("type:*Block", "zeros").matches(parameter)
    assert not Rule("type:Class", "zeros").matches(parameter)


def test_a_shadowed_rule_is_no_error():
    rows = rows_of(DENSE, rules=[Rule("p0", "zeros"), Rule("p*", "ones")])
    assert rows[0].scheme == "zeros"


def test_a_rule_for_a_parameter_nobody_has_seen():
    kernel = decide([parameter("w", None, shape=(8, 4))], [Rule("w", "he_normal")])[0]
    assert (kernel.layout, kernel.fan_in, kernel.fan_out) == ("OI", 4, 8)
    vector = decide([parameter("v", None, shape=(8,))], [Rule("v", "zeros")])[0]
    assert (vector.role, vector.scheme) == ("bias", "zeros")
    laid_out = decide([parameter("w", None, shape=(8, 4))], [Rule("w", "he_normal", "IO")])[0]
    assert (laid_out.fan_in, laid_out.fan_out) == (8, 4)


def test_a_layout_overrides_what_was_seen():
    row = rows_of(DENSE, rules=[Rule("p0", "he_normal", layout="IO")])[0]
    assert (row.fan_in, row.fan_out) == (64, 32)


def test_an_unknown_parameter():
    with pytest.raises(ModelError) as error:
        decide([parameter("a", DENSE), parameter("odd", None, owner="Mystery")])
    assert str(error.value) == (
        "no use was seen for 1 parameter(s): odd (3,), in Mystery. Give example inputs that reach "
        "them; or leave one alone, rules=[Rule('odd', None)]; or say how it is drawn, such as "
        "Rule('odd', 'xavier_normal')."
    )


def test_many_unknown_parameters():
    with pytest.raises(ModelError) as error:
        decide([parameter(f"x{i}", None) for i in range(9)])
    assert " x7 (3,), in Module and 1 more. Give" in str(error.value)


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        (Rule("q*", "zeros"), "the rule 'q*' matches no parameter of this model."),
        (
            Rule("p1", "he_normal"),
            "'p1', shape (64,): he_normal scales by fans, and this parameter has none. Biases are "
            "usually zeros: pass schemes.Zeros(), or layout= if this is a kernel.",
        ),
        (
            Rule("p0", "zeros", layout="OX"),
            "layout 'OX' has the letter 'X': the roles are O (outputs), I (inputs), K (receptive "
            "field), B (kernels stacked).",
        ),
    ],
)
def test_rules_that_do_not_fit(rule, message):
    with pytest.raises(ArgumentError) as error:
        rows_of(DENSE, Use("bias", (64,)), rules=[rule])
    assert str(error.value) == message


# --- plans, and JSON ----------------------------------------------------------------------------


def test_rows_by_name():
    plan = Plan(rows_of(DENSE, Use("bias", (64,))))
    assert plan["p1"].role == "bias"
    with pytest.raises(KeyError, match="p7"):
        plan["p7"]


def test_a_plan_as_a_table():
    plan = Plan(
        (*rows_of(DENSE, Use("bias", (64,))), skipped_row("q", (2, 2), "frozen")), "A note."
    )
    text = str(ShownPlan.of(plan))
    assert "\x1b" not in text
    assert text.endswith("3 parameters, 2,112 values drawn, 1 left alone.\nA note.")
    (line,) = [line for line in text.splitlines() if line.lstrip().startswith("p0")]
    columns = re.split(r"\s{2,}", line.strip())
    assert columns[:7] == ["p0", "64×32", "dense", "32, 64", "relu → tanh", "he_normal", "0.25"]


DRAWS = st.one_of(
    st.builds(Constant, st.floats(-5, 5)),
    st.builds(Normal, st.floats(0, 5), st.floats(-5, 5)),
    st.builds(lambda low, width: Uniform(low, low + width), st.floats(-5, 5), st.floats(0, 5)),
    st.builds(
        lambda std, low, width: TruncatedNormal(std, 0.0, low, low + width),
        st.floats(0, 5),
        st.floats(-2, 1),
        st.floats(0.5, 3),
    ),
    st.builds(Orthogonal, st.floats(0, 5)),
    st.builds(DeltaOrthogonal, st.floats(0, 5)),
    st.builds(Identity, st.floats(-5, 5)),
    st.builds(Dirac, st.integers(1, 4)),
    st.builds(Sparse, st.floats(0, 1), st.floats(0, 5)),
)


@given(st.lists(DRAWS, min_size=1, max_size=4), st.text(max_size=20), st.text(max_size=20))
def test_json_there_and_back(draws, name, reason):
    row = Row(
        name, (64, 32), "dense", (2, 32, 32), "BOI", 32, 31.5, "relu", "tanh", "some", tuple(draws),
        1.0, None, reason,
    )  # fmt: skip
    plan = Plan((row, skipped_row("q", (), reason)), reason)
    again = Plan.from_json(plan.to_json())
    assert again == plan
    assert [type(d) for d in again.rows[0].draws] == [type(d) for d in draws]
    assert again.to_json() == plan.to_json()
    assert Plan.from_json(plan.to_json(indent=None)) == plan


def test_json_says_what_a_reader_wants():
    data = json.loads(Plan(rows_of(DENSE)).to_json())
    assert data["fanwise_plan"] == 3
    (row,) = data["rows"]
    assert row["name"] == "p0"
    assert row["draws"] == [{"draw": "Normal", "std": 0.25, "mean": 0.0}]
    assert (row["std"], row["fan_in"], row["scheme"]) == (0.25, 32, "he_normal")


GOOD = json.loads(Plan(rows_of(DENSE)).to_json())


def changed(**rows):
    (row,) = GOOD["rows"]
    return json.dumps({**GOOD, "rows": [{**row, **rows}]})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "this is no fanwise plan: JSONDecodeError("),
        ("[]", "this is no fanwise plan: TypeError("),
        ("{}", "this is no fanwise plan: KeyError('fanwise_plan')"),
        (
            json.dumps({**GOOD, "fanwise_plan": 4}),
            "this plan has version 4, and this fanwise reads 3: update fanwise.",
        ),
        (
            json.dumps({**GOOD, "fanwise_plan": 2}),
            "this plan has version 2, and this fanwise reads 3: plan the model anew.",
        ),
        (json.dumps({**GOOD, "rows": [{}]}), "this is no fanwise plan: KeyError('name')"),
        (json.dumps({**GOOD, "rows": ["w"]}), "this is no fanwise plan: TypeError("),
        (changed(draws=[{"draw": "Cauchy"}]), "plan: 'Cauchy' is no draw of this version."),
        (changed(draws=[{"draw": "Fans"}]), "plan: 'Fans' is no draw of this version."),
        (changed(draws=[{}]), "this is no fanwise plan: KeyError('draw')"),
        (changed(draws=[{"draw": "Normal", "scale": 1}]), "this is no fanwise plan: TypeError("),
        (
            changed(draws=[{"draw": "Normal", "std": -1.0}]),
            "Normal: std must not be negative, got -1.",
        ),
        (changed(shape=3), "this is no fanwise plan: TypeError("),
    ],
)
def test_text_that_is_no_plan(text, message):
    with pytest.raises(ArgumentError) as error:
        Plan.from_json(text)
    assert str(error.value).startswith(message)


def test_every_draw_is_known_to_from_json():
    """A new kind of draw must be readable again: `from_dict` looks it up by its class's name."""
    known = set()
    pending = [Draw]
    while pending:
        for kind in pending.pop().__subclasses__():
            known.add(kind)
            pending.append(kind)
    assert all(kind.__module__ == "fanwise.schemes.distributions" for kind in known)

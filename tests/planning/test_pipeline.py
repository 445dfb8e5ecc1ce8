"""The pipeline from a trace to a plan, with traces built by hand: no framework at all.

`Tracer` is what a front end does, in its smallest form. The networks are small enough that what
their plan must predict can be written down: see `RESIDUAL` below for the derivation.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from fanwise.errors import ModelError
from fanwise.network.context import Context
from fanwise.network.curves import Curve
from fanwise.network.graph import Graph
from fanwise.network.statistics import Weight
from fanwise.network.steps.attention import AttentionOutput, Scores, Softmax
from fanwise.network.steps.base import Source
from fanwise.network.steps.signals import Normalization, Pointwise, Sum
from fanwise.network.steps.weights import Kernel, Scale, Shift
from fanwise.network.trace import Contraction, Trace
from fanwise.network.uses import Use
from fanwise.planning.findings import Helper
from fanwise.planning.pipeline import Model, plan_traced, plan_unseen
from fanwise.planning.rules import Parameter, Rule
from fanwise.policies import GPT2, Auto, Change, Plain
from fanwise.schemes import Normal

RELU = Curve("relu", lambda z: np.maximum(z, 0.0), "relu")
WIDTH, BLOCKS, BATCH = 64, 3, 8


class Tracer:
    """Builds a trace step by step; signals are (node, width)."""

    def __init__(self):
        self.graph, self.names, self.nodes = Graph(), [], {}
        self.contractions, self.uses = [], {}

    def add(self, step, *inputs, width=None):
        width = inputs[0][1] if width is None else width
        return self.graph.add(step, [node for node, _ in inputs], BATCH * width), width

    def input(self, width):
        return self.add(Source(), width=width)

    def kernel(self, name, x, outputs):
        index, inputs = len(self.names), x[1]
        feeds = Context(self.graph).feed(x[0], self.names)
        y = self.add(Kernel(f"{name}.weight", inputs, outputs, index), x, width=outputs)
        use = Use("dense", (outputs, inputs), "OI", feeds=feeds)
        self.names.append(name)
        self.contractions.append(Contraction(f"{name}.weight", name, use))
        self.nodes[index] = [y[0]]
        return y

    def relu(self, x):
        return self.add(Pointwise(RELU), x)

    def layer_norm(self, name, x):
        x = self.add(Normalization(label="layer norm"), x)
        for leaf, role, step in (("weight", "scale", Scale), ("bias", "bias", Shift)):
            self.uses[f"{name}.{leaf}"] = Use(role, (x[1],))
            x = self.add(step(f"{name}.{leaf}"), x)
        return x

    def finish(self, *outputs, **more):
        self.graph.outputs += [node for node, _ in outputs]
        for index, after in Context(self.graph).following(self.nodes).items():
            made = self.contractions[index]
            made.use = replace(made.use, follows=after.neighbour, logits=after.logits)
        self.uses |= {made.parameter: made.use for made in self.contractions}
        return Trace(self.uses, self.contractions, self.graph, self.nodes, **more)


class Fake(Model):
    """A model of the parameters that a trace shows, and of others."""

    def __init__(self, trace, *others, skip=()):
        self.known = [
            Parameter(name, use.view, skip="frozen" if name in skip else "")
            for name, use in trace.uses.items()
        ]
        self.known += others

    def parameters(self):
        return self.known


def residual(blocks=BLOCKS):
    """Return the trace of x ← x + down(relu(up(norm(x)))), block by block, and a head."""
    tracer = Tracer()
    x = tracer.input(WIDTH)
    for i in range(blocks):
        y = tracer.layer_norm(f"{i}.norm", x)
        y = tracer.kernel(f"{i}.down", tracer.relu(tracer.kernel(f"{i}.up", y, WIDTH)), WIDTH)
        x = tracer.add(Sum(), x, y)
    return tracer.finish(tracer.kernel("head", x, WIDTH))


def chain(**more):
    """Return the trace of fc2(relu(fc1(x))), 64 → 128 → 32."""
    tracer = Tracer()
    hidden = tracer.kernel("fc1", tracer.input(64), 128)
    return tracer.finish(tracer.kernel("fc2", tracer.relu(hidden), 32), **more)


def planned(trace, policy=None, rules=(), model=None):
    return plan_traced(model or Fake(trace), trace, policy=policy or Plain(), rules=rules)


def squares(plan):
    return {p.module: (p.rms**2, p.gradient_rms**2) for p in plan.predicted}


def about(value):
    return pytest.approx(value, rel=1e-9)


# --- a chain ------------------------------------------------------------------------------------


def test_a_chain_is_planned_and_predicted():
    """fc1 Xavier: 64 · 2/(64 + 128) = ⅔; fc2 He: 128 · 2/128 · ⅔/2 = ⅔; back 32 · 2/128 · ½ = ¼.

    Catches fan_in and fan_out swapped, in the plan or in a prediction; E[relu²] or E[relu′²] left
    out; and a prediction from the gain of unit signals rather than from the weights planned.
    """
    plan = planned(chain())
    assert plan["fc1.weight"].scheme == "xavier_uniform"
    assert plan["fc1.weight"].reason.startswith("fed by the model's input")
    assert plan["fc2.weight"].scheme == "he_normal"
    assert plan["fc2.weight"].std == about(math.sqrt(2.0 / 128.0))
    found = squares(plan)
    assert list(found) == ["fc1", "fc2"]
    assert found["fc1"] == (about(2.0 / 3.0), about(0.25))
    assert found["fc2"] == (about(2.0 / 3.0), about(1.0))
    assert plan.findings == ()


def test_a_forward_pass_that_differentiates_has_no_gradient_predicted():
    """Catches a gradient that is claimed where the loss is a function of a derivative."""
    plan = planned(chain(differentiated=True))
    assert [p.gradient_rms for p in plan.predicted] == [None, None]
    assert all(p.rms is not None for p in plan.predicted)


def test_a_kernel_on_which_no_output_depends_is_found():
    """It is drawn all the same. Catches a finding by reachability from the inputs."""
    tracer = Tracer()
    x = tracer.input(WIDTH)
    tracer.kernel("dead", x, WIDTH)
    trace = tracer.finish(tracer.kernel("alive", x, WIDTH))
    plan = planned(trace)
    assert plan.findings == ("no output depends on dead.weight: computed, and thrown away.",)
    assert plan["dead.weight"].scheme == "xavier_uniform"


# --- a residual network -------------------------------------------------------------------------

# With N blocks, each down scaled by 1/√N, all layers d wide:
#   forward   up: d · 1/d · 1 = 1. down: d · 2/(dN) · ½ = 1/N. So the stream has 1 + k/N after block
#             k, 2 at the head, whose variance is 1/(2d): its output has mean square 1.
#   backward  the head takes 1 to ½. Block k takes g to g · (1 + (2/N) · ½ · 1/(1 + (k − 1)/N)),
#             the last factor that of its norm: g · (N + k)/(N + k − 1). So g after block k is
#             N/(N + k), which is down's; up's is 1/N of it.
RESIDUAL = {
    **{f"{k - 1}.up": (1.0, 1.0 / (BLOCKS + k)) for k in range(1, BLOCKS + 1)},
    **{f"{k - 1}.down": (1.0 / BLOCKS, BLOCKS / (BLOCKS + k)) for k in range(1, BLOCKS + 1)},
    "head": (1.0, 1.0),
}


@pytest.mark.parametrize("policy", [GPT2(), Auto()], ids=["gpt2", "auto"])
def test_the_last_kernels_of_branches_are_divided_by_the_root_of_their_number(policy):
    """Catches N counted in kernels; a factor on every kernel; a head planned for a unit stream."""
    plan = planned(residual(), policy)
    he = math.sqrt(2.0 / WIDTH)
    for i in range(BLOCKS):
        assert plan[f"{i}.down.weight"].std == about(he / math.sqrt(BLOCKS))
        assert "1/√3: the last of a branch, one of 3" in plan[f"{i}.down.weight"].reason
        assert plan[f"{i}.up.weight"].std == about(1.0 / math.sqrt(WIDTH))
        assert plan[f"{i}.norm.weight"].scheme == "ones"
        assert plan[f"{i}.norm.bias"].scheme == "zeros"
    assert plan["head.weight"].std == about(math.sqrt(1.0 / (2.0 * WIDTH)))
    assert plan["head.weight"].feeds == "a residual sum"


def test_every_kernel_of_a_residual_network_is_predicted():
    """Catches a prediction with the weights of the first round, before the head was corrected.

    And the mean square of a stream that isn't summed, a norm's gradient that isn't divided by the
    stream it normalizes, and a gradient that takes the branch or the stream alone.
    """
    found = squares(planned(residual(), GPT2()))
    assert found.keys() == RESIDUAL.keys()
    for name, (square, gradient) in RESIDUAL.items():
        assert found[name] == (about(square), about(gradient)), name


def test_without_a_policy_the_stream_grows_by_each_branch():
    """Catches a policy that is applied unasked, and a head that isn't planned for a stream of 4."""
    plan = planned(residual())
    assert plan.policy == "none: each kernel by its own use."
    assert plan["1.down.weight"].std == about(math.sqrt(2.0 / WIDTH))
    assert plan["head.weight"].std == about(math.sqrt(1.0 / ((1 + BLOCKS) * WIDTH)))
    assert squares(plan)["head"][0] == about(1.0)


def test_a_rule_wins_over_the_policy():
    """Catches a policy's factor on what a rule decides, and a prediction that ignores the rule."""
    plan = planned(residual(), GPT2(), [Rule("1.down.weight", Normal(0.01))])
    assert (plan["1.down.weight"].std, plan["1.down.weight"].scheme) == (0.01, "normal(0.01)")
    assert plan["1.down.weight"].reason == "the rule '1.down.weight'"
    assert plan["0.down.weight"].std == about(math.sqrt(2.0 / WIDTH / BLOCKS))
    assert squares(plan)["1.down"][0] == about(WIDTH * 0.01**2 * 0.5)


# --- attention ----------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", [1.0, WIDTH**-0.5], ids=["without √d", "with √d"])
def test_scores_that_the_model_does_not_divide_take_smaller_queries(scale):
    """Catches keys or values that shrink too, a factor 1/d, and one where √d is divided by."""
    tracer, keys = Tracer(), 16
    x = tracer.input(WIDTH)
    q, k, v = (tracer.kernel(name, x, WIDTH) for name in "qkv")
    weights = tracer.add(Softmax(keys), tracer.add(Scores(WIDTH, keys, keys, scale), q, k))
    y = tracer.add(AttentionOutput(keys, keys, WIDTH), weights, v)
    plan = planned(tracer.finish(tracer.kernel("out", y, WIDTH)))
    unit = 1.0 / math.sqrt(WIDTH)
    shrunk = unit * (WIDTH**-0.5 if scale == 1.0 else 1.0)
    assert plan["q.weight"].std == about(shrunk)
    assert (plan["k.weight"].std, plan["v.weight"].std) == (about(unit), about(unit))


# --- what a front end answers -------------------------------------------------------------------


def test_a_frozen_kernel_is_predicted_by_its_present_values():
    """Catches a prediction from the scheme that it would have, and one from nothing."""
    trace = chain()
    unknown = planned(trace, model=Fake(trace, skip=["fc1.weight"]))
    assert unknown["fc1.weight"].scheme == "skipped"
    assert [p.rms for p in unknown.predicted] == [None, None]

    class Frozen(Fake):
        def current_weight(self, name):
            assert name == "fc1.weight"
            return Weight(4.0 / 64)

    known = planned(trace, model=Frozen(trace, skip=["fc1.weight"]))
    assert [p.rms for p in known.predicted] == [about(2.0), about(2.0)]


def test_a_constant_factor_in_the_model_is_undone():
    """Catches corrections that come too late for the rows, and predictions of weights as stored."""

    class Doubled(Fake):
        def effective_weights(self, rows, weights):
            return lambda name, part: weights(name, part).transformed((2.0, 0.0))

    class Corrected(Doubled):
        def scale_corrections(self, rows, changes):
            assert all(row.draws for row in rows)
            return {row.name: Change("× 0.5", 0.5) for row in rows}

    trace = chain()
    plain = planned(trace)
    doubled, corrected = (planned(trace, model=kind(trace)) for kind in (Doubled, Corrected))
    assert [p.rms for p in doubled.predicted] == [
        about(2.0 ** (i + 1) * p.rms) for i, p in enumerate(plain.predicted)
    ]
    assert [p.rms for p in corrected.predicted] == [about(p.rms) for p in plain.predicted]
    assert corrected["fc2.weight"].std == about(0.5 * plain["fc2.weight"].std)


def test_findings_that_need_the_framework():
    """Catches a model without a helper that is judged by one, and groups that aren't told."""

    class Copied(Fake):
        helper = Helper("glorot", lambda shape: (float(shape[0]), float(shape[1])))

        def copied_kernels(self, rows):
            return [("fc1.weight", "fc2.weight")]

    trace = chain()
    copies, fans = planned(trace, model=Copied(trace)).findings
    assert copies.startswith("2 kernels start as copies of one another: fc1.weight, fc2.weight")
    assert fans == (
        "glorot takes fans (128, 64) for fc1.weight (and for 1 more); its use has (64, 128)."
    )


# --- what a trace doesn't show ------------------------------------------------------------------


def test_what_the_inputs_do_not_reach_is_judged_by_its_module():
    """Catches a use of the module that replaces the traced one, and one that counts as traced."""
    trace = chain()
    model = Fake(trace, Parameter("extra.weight", (8, 8)))
    by_module = {
        "extra.weight": Use("dense", (8, 8), "OI"),
        "fc2.weight": Use("embedding", (32, 128), "BO"),
    }
    plan = plan_traced(model, trace, by_module, policy=Plain())
    assert (plan["extra.weight"].seen, plan["fc2.weight"].seen) == ("not reached", "traced")
    assert plan["fc2.weight"].role == "dense"
    assert plan.findings == ("the example inputs don't reach extra.weight.",)


def test_an_operation_that_the_front_end_does_not_know_is_named():
    """Catches an error that doesn't say what used the parameter."""
    trace = chain(unrecognized={"odd": "aten.fft, model.py:7"})
    with pytest.raises(ModelError, match=r"odd \(4,\), in Module \(used by aten.fft, model.py:7\)"):
        planned(trace, model=Fake(trace, Parameter("odd", (4,))))


def test_without_a_trace_there_is_a_note_and_no_word_on_depth():
    """Catches a claim that there are no residual branches, where nobody has looked."""
    trace = chain()
    plan = plan_unseen(Fake(trace), trace.uses, policy=Auto(), note="Not run.")
    assert (plan.note, plan.policy, plan.predicted, plan.findings) == ("Not run.", "", (), ())
    assert plan["fc2.weight"].scheme == "he_normal"

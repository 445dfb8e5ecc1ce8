"""Defects that one figure of a measurement shows, and their healthy counterparts.

A case is weights and an input; the model, a function of both, is written once in each framework, by
the same name: figures_torch, figures_jax, figures_keras. Kernels are stored as (in, out).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from fanwise.signal import Signal


@dataclass(frozen=True)
class Case:
    """One model's weights, its input, and the verdicts on it.

    Attributes:
        function: its name in the three files.
        weights, x: by name; one batch.
        kinds: of the verdicts, in order; empty for a healthy one.
        where: the first one's place.
        loss: its name in the three files; "" for none.
        targets: that it compares the output with.
    """

    function: str
    weights: dict[str, np.ndarray]
    x: np.ndarray
    kinds: tuple[str, ...] = ()
    where: str = ""
    loss: str = ""
    targets: np.ndarray | None = None


CASES: dict[str, Case] = {}


def case(make: Callable[[], Case]) -> Callable[[], Case]:
    """Register what a function returns, under its name."""
    CASES[make.__name__.replace("_", " ")] = make()
    return make


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng((seed, *shape)).standard_normal(shape).astype("float32")


def sines(positions: int, width: int) -> np.ndarray:
    """Return the positions of Vaswani et al. (2017)."""
    rates = 10000.0 ** (-np.arange(0, width, 2) / width)
    angles = np.arange(positions)[:, None] * rates
    return np.concatenate([np.sin(angles), np.cos(angles)], 1).astype("float32")


def kernel(inputs: int, outputs: int, gain: float = 1.0, seed: int = 0) -> np.ndarray:
    """Return a kernel of √(gain/inputs): gain 2 before it where a rectifier feeds it."""
    return np.float32((gain / inputs) ** 0.5) * normal(inputs, outputs, seed=seed)


def figures_of(signal: Signal) -> tuple[object, ...]:
    """Return what a loss compares, in figures, and what the verdicts say of it."""
    output = signal.output
    assert output is not None
    numbers = (output.rms, output.loss, output.chance, output.mean, output.target_mean)
    said = [(v.cause, re.sub(r"fanwise\.\w+\.init_?", "init", v.fix)) for v in signal.verdicts]
    rounded = [float(f"{x:.3g}") for x in numbers]
    return output.kind, output.classes, output.squashed, rounded, said


def said_of(signal: Signal, case: Case) -> tuple[str, ...]:
    """Return the kinds of a signal's verdicts; the first must be where the case has it."""
    found = signal.verdicts
    if found and case.where:
        assert found[0].where == case.where, str(found[0])
    return tuple(str(verdict.kind) for verdict in found)


# — ends: which layers are the model's last —


def headed(first: float, second: float) -> dict[str, np.ndarray]:
    return {
        "a": first * kernel(32, 32),
        "b": second * kernel(32, 32, 2.0, seed=1),
        "c": kernel(32, 32, 2.0, seed=2),
        "head": kernel(32, 4, 2.0) / 50,
    }


@case
def a_small_head_with_an_activation() -> Case:
    return Case("tanh head", headed(1.0, 1.0), normal(64, 32))


@case
def a_small_layer() -> Case:
    small = headed(1.0, 1 / 50) | {"head": kernel(32, 4, 2.0)}
    return Case("tanh head", small, normal(64, 32), ("wrong_scale",), "b")


# — joined: what is laid beside each position —


@case
def a_ray_beside_its_points() -> Case:
    weights = {"a": kernel(32, 32), "b": kernel(64, 32), "head": kernel(32, 3)}
    return Case("beside", weights, normal(8, 8, 32))


# — set size: sums over many elements —


def pooled(function: str, *kinds: str) -> Case:
    weights = {"a": kernel(16, 32), "b": kernel(32, 32, 2.0), "head": kernel(32, 4, 2.0)}
    return Case(function, weights, normal(32, 100, 16), kinds, "b" * bool(kinds))


@case
def a_sum_over_a_set() -> Case:
    return pooled("summed set", "biased")


@case
def a_mean_over_a_set() -> Case:
    return pooled("averaged set")


# — steps, kept and state kernels: recurrences —


def recurrent(forget: float = 1.0, radius: float = 1.0) -> dict[str, np.ndarray]:
    """Return an LSTM's weights, gates in the order of PyTorch's and Keras's, and a head's."""
    state = np.concatenate([np.linalg.qr(normal(32, 32, seed=i))[0] for i in range(4)], 1)
    bias = np.zeros(128, "float32")
    bias[32:64] = forget
    kernel_of_inputs = np.concatenate([kernel(8, 32, seed=i) for i in range(4)], 1)
    return {
        "input": kernel_of_inputs,
        "state": (radius * state).astype("float32"),
        "bias": bias,
        "head": kernel(32, 4),
    }


@case
def a_forget_gate_of_one() -> Case:
    return Case("lstm", recurrent(), normal(16, 40, 8))


@case
def a_gate_that_forgets() -> Case:
    return Case("lstm", recurrent(forget=-8.0), normal(16, 40, 8), ("vanishing",))


@case
def a_state_that_shrinks() -> Case:
    return Case("lstm", recurrent(radius=0.3), normal(16, 40, 8), ("vanishing",))


# — embedding sums —


def embedded(tokens: float, positions: float) -> dict[str, np.ndarray]:
    return {
        "tokens": np.float32(tokens) * normal(50, 32),
        "positions": np.float32(positions) * normal(12, 32, seed=1),
        "a": kernel(32, 32),
        "head": kernel(32, 50, 2.0),
    }


def ids() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 50, (8, 12)).astype("int32")


def under_sines(tokens: float, *kinds: str) -> Case:
    weights = embedded(tokens, 1.0)
    del weights["positions"]
    return Case("under sines", weights, ids(), kinds, "tokens" * bool(kinds))


@case
def two_tables_of_one_size() -> Case:
    return Case("two tables", embedded(0.02, 0.02), ids())


@case
def a_drowned_table() -> Case:
    return Case("two tables", embedded(0.02, 1.0), ids(), ("wrong_scale",), "tokens")


@case
def positions_of_one_size() -> Case:
    return Case("positions", embedded(0.02, 0.02), ids())


@case
def tokens_under_large_positions() -> Case:
    return Case("positions", embedded(0.02, 1.0), ids(), ("wrong_scale",), "tokens")


@case
def tokens_beside_sines() -> Case:
    return under_sines(1.0)


@case
def tokens_under_sines() -> Case:
    return under_sines(0.01, "wrong_scale")


def patches(positions: float) -> dict[str, np.ndarray]:
    return {
        "patch": kernel(16, 32),
        "positions": np.float32(positions) * normal(10, 32),
        "head": kernel(32, 4),
    }


@case
def patches_beside_positions() -> Case:
    return Case("patches", patches(0.02), normal(32, 10, 16))


@case
def patches_under_positions() -> Case:
    return Case("patches", patches(40.0), normal(32, 10, 16), ("wrong_scale",), "patch")


# — norms of one —


def narrow(width: int) -> dict[str, np.ndarray]:
    return {
        "a": kernel(16, 32),
        "b": kernel(32, width, 2.0),
        "scale": np.ones(width, "float32"),
        "shift": np.zeros(width, "float32"),
        "c": kernel(width, 16),
        "bias": 0.1 * normal(16),
        "head": kernel(16, 4, 2.0),
    }


@case
def a_layer_norm_of_four() -> Case:
    return Case("layer norm", narrow(4), normal(64, 16))


@case
def a_layer_norm_of_one() -> Case:
    return Case("layer norm", narrow(1), normal(64, 16), ("collapsed",))


@case
def a_root_mean_square_of_four() -> Case:
    return Case("root mean square", narrow(4), normal(64, 16))


@case
def a_root_mean_square_of_one() -> Case:
    return Case("root mean square", narrow(1), normal(64, 16), ("collapsed",))


# — scores —


def attention(scale: float, *kinds: str) -> Case:
    weights = {name: kernel(32, 32, seed=i) for i, name in enumerate("qkv")}
    weights |= {"scale": np.full(1, scale, "float32"), "head": kernel(32, 4)}
    return Case("attention", weights, normal(8, 12, 32), kinds)


@case
def scores_over_the_root() -> Case:
    return attention(32**-0.5)


@case
def scores_twice_too_large() -> Case:
    return attention(2 * 32**0.5, "saturated")


@case
def masked_scores() -> Case:
    weights = attention(1.0).weights
    del weights["scale"]
    return Case("masked attention", weights, normal(8, 12, 32))


@case
def hot_masked_scores() -> Case:
    weights = attention(1.0).weights
    del weights["scale"]
    weights = {**weights, "q": 8 * weights["q"], "k": 8 * weights["k"]}
    return Case("masked attention", weights, normal(8, 12, 32), ("saturated",))


# — cuts —


def coded(function: str, *kinds: str) -> Case:
    weights = {
        "encoder": kernel(16, 32),
        "side": kernel(16, 32, seed=1),
        "head": kernel(64, 4),
    }
    return Case(function, weights, normal(32, 16), kinds, "encoder" * bool(kinds))


@case
def a_code_that_is_stopped() -> Case:
    return coded("stopped code", "dead_branch")


@case
def a_code_that_is_rounded() -> Case:
    return coded("rounded code", "dead_branch")


@case
def a_code_by_where_its_maximum_lies() -> Case:
    return coded("code by argmax", "dead_branch")


@case
def a_code_of_whole_numbers() -> Case:
    return coded("code of integers", "dead_branch")


@case
def a_code_with_a_straight_gradient() -> Case:
    return coded("straight code")


def gated(gate: float, last: float, *kinds: str) -> Case:
    weights = {
        "first": kernel(16, 32),
        "a": kernel(32, 32),
        "b": last * kernel(32, 32, 2.0, seed=1),
        "gate": np.full(1, gate, "float32"),
        "head": kernel(32, 4),
    }
    return Case("gated branch", weights, normal(32, 16), kinds)


@case
def a_gate_of_zero() -> Case:
    return gated(0.0, 1.0)


@case
def a_gate_of_zero_and_a_kernel_of_zeros() -> Case:
    return gated(0.0, 0.0, "dead_branch")


# — scale free: kernels whose own scale changes nothing —


def second(function: str, *kinds: str) -> Case:
    weights = {
        "a": kernel(32, 64),
        "b": 40 * kernel(64, 64, 2.0, seed=1),
        "c": kernel(64, 64, 2.0, seed=2),
        "head": kernel(64, 4, 2.0),
    }
    return Case(function, weights, normal(64, 32), kinds, "b" * bool(kinds))


@case
def a_normalized_kernel() -> Case:
    return second("normalized kernel")


@case
def a_plain_kernel_of_that_size() -> Case:
    return second("plain kernel", "wrong_scale")


# — what a loss compares: its kind, chance, logits that are squashed twice —


def lost(
    function: str, loss: str, targets: np.ndarray, *kinds: str, bias: float = 0.0, gain: float = 1.0
) -> Case:
    """Return a head of 8 units, or of one for each column of the targets, before a loss."""
    units = 8 if targets.dtype.kind == "i" else targets.shape[1]
    weights = {
        "a": kernel(16, 32),
        "head": gain * kernel(32, units) / 2,
        "bias": np.full(units, bias, "float32"),
    }
    return Case(function, weights, normal(64, 16), kinds, "head" * bool(kinds), loss, targets)


CLASSES = np.arange(64).astype("int32") % 8
LABELS = (np.arange(64) % 2).astype("float32")[:, None]
RARE = (np.arange(64) % 16 == 0).astype("float32")[:, None]
NUMBERS = normal(64, 1, seed=7)
FAR = 1000.0 + 20.0 * NUMBERS


@case
def classes() -> Case:
    return lost("linear head", "cross-entropy", CLASSES)


@case
def classes_by_a_hot_head() -> Case:
    return lost("linear head", "cross-entropy", CLASSES, "hot_head", gain=30.0)


@case
def classes_by_a_hot_head_and_a_sum() -> Case:
    return lost("linear head", "summed cross-entropy", CLASSES, "hot_head", gain=30.0)


@case
def classes_by_a_sum() -> Case:
    return lost("linear head", "summed cross-entropy", CLASSES)


@case
def some_classes_ignored() -> Case:
    return lost("linear head", "masked cross-entropy", CLASSES)


@case
def classes_by_shares() -> Case:
    return lost("softmax head", "cross-entropy of shares", CLASSES)


@case
def classes_by_logarithms_of_shares() -> Case:
    return lost("log-softmax head", "likelihood", CLASSES)


@case
def a_softmax_before_cross_entropy() -> Case:
    return lost("softmax head", "cross-entropy", CLASSES, "saturated")


@case
def a_softmax_in_the_loss_before_cross_entropy() -> Case:
    return lost("linear head", "cross-entropy of a softmax", CLASSES, "saturated")


@case
def a_tanh_before_cross_entropy() -> Case:
    return lost("tanh of head", "cross-entropy", CLASSES, "saturated")


@case
def a_log_softmax_before_cross_entropy() -> Case:
    return lost("log-softmax head", "cross-entropy", CLASSES)


@case
def labels() -> Case:
    return lost("linear head", "binary", LABELS)


@case
def labels_by_hand() -> Case:
    return lost("linear head", "binary by hand", LABELS)


@case
def labels_and_a_large_prior() -> Case:
    return lost("linear head", "binary", LABELS, "hot_head", bias=-6.0)


@case
def labels_by_hand_and_a_large_prior() -> Case:
    return lost("linear head", "binary by hand", LABELS, "hot_head", bias=-6.0)


@case
def rare_labels_and_their_prior() -> Case:
    return lost("linear head", "binary", RARE, bias=-2.7)


@case
def labels_by_shares() -> Case:
    return lost("sigmoid head", "binary of shares", LABELS)


@case
def labels_by_shares_and_a_large_prior() -> Case:
    return lost("sigmoid head", "binary of shares", LABELS, "saturated", bias=-6.0)


@case
def a_sigmoid_before_a_binary_loss() -> Case:
    return lost("sigmoid head", "binary", LABELS, "saturated")


@case
def a_sigmoid_in_a_binary_loss() -> Case:
    return lost("linear head", "binary of a sigmoid", LABELS, "saturated")


@case
def numbers() -> Case:
    return lost("linear head", "squared error", NUMBERS)


@case
def numbers_by_tanh() -> Case:
    return lost("tanh of head", "squared error", NUMBERS)


@case
def numbers_of_a_thousand() -> Case:
    return lost("linear head", "squared error", FAR, "hot_head")


@case
def numbers_of_a_thousand_and_their_mean() -> Case:
    return lost("linear head", "squared error", FAR, bias=1000.0)


@case
def numbers_by_their_distance() -> Case:
    return lost("linear head", "absolute error", NUMBERS)


@case
def numbers_of_a_thousand_by_their_distance() -> Case:
    return lost("linear head", "absolute error", FAR, "hot_head")


@case
def numbers_of_a_thousand_by_hubers() -> Case:
    return lost("linear head", "huber", FAR, "hot_head")


@case
def numbers_beside_labels() -> Case:
    """Two columns, each by a loss of its own: the one far above chance is told."""
    return lost("linear head", "both", np.hstack([FAR, LABELS]), "hot_head")

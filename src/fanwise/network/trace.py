"""Trace: what a front end says of a model, so that everything else can be decided without it."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar

from fanwise.network.context import Following
from fanwise.network.graph import Graph
from fanwise.network.packing import Packing
from fanwise.network.uses import UNSEEN, Use


@dataclass(eq=False)
class Contraction:
    """One contraction of a parameter with data in the forward pass.

    Attributes:
        parameter: the qualified name.
        module: qualified name of the module that was running.
        use: of the parameter in this contraction.
        beside: further parameters, where the weight is a concatenation of several.
    """

    parameter: str
    module: str
    use: Use
    beside: tuple[str, ...] = ()


@dataclass
class Trace:
    """What one forward pass shows of a model: a graph of steps, and the uses of parameters.

    For ``fc2(relu(fc1(x)))`` on 8 samples, all layers 64 wide::

        graph = Graph()
        x = graph.add(Source(), (), size=8 * 64)
        a = graph.add(Kernel("fc1.weight", fan_in=64, fan_out=64, contraction=0), (x,), 8 * 64)
        f = graph.add(Pointwise(Curve("relu", relu, "relu")), (a,), 8 * 64)
        b = graph.add(Kernel("fc2.weight", fan_in=64, fan_out=64, contraction=1), (f,), 8 * 64)
        graph.outputs.append(b)
        first = Contraction("fc1.weight", "fc1", Use("dense", (64, 64), "OI"))
        second = Contraction("fc2.weight", "fc2", Use("dense", (64, 64), "OI"))
        uses = {made.parameter: made.use for made in (first, second)}
        Trace(uses, [first, second], graph, nodes={0: [a], 1: [b]})

    Attributes:
        uses: the use of each parameter that the forward pass reached, by qualified name.
        contractions: in execution order; a `Kernel` step's `contraction` counts them.
        graph: the steps between the model's inputs and its outputs.
        nodes: of each contraction the nodes of its output, its bias added: first the whole, then
            its parts, where it is split.
        unrecognized: for parameters used by an operation that the front end doesn't know: that
            operation and its line.
        differentiated: whether the forward pass takes a derivative. The gradient of a loss on that
            isn't a product of these steps' derivatives, so none is predicted.
        unfollowed: for parameters inside of a module whose call can't be followed: that module.
        sees_all: whether the front end sees every operation, so that a parameter which is neither
            among the uses nor unrecognized is used by none.
        abstract: whether the front end traces shapes alone: no values of the inputs, so that others
            of the same shapes use no other parameters.
    """

    sees_all: ClassVar[bool] = False
    abstract: ClassVar[bool] = False

    uses: Mapping[str, Use]
    contractions: Sequence[Contraction]
    graph: Graph
    nodes: Mapping[int, Sequence[int]]
    unrecognized: Mapping[str, str] = field(default_factory=dict)
    differentiated: bool = False
    unfollowed: Mapping[str, str] = field(default_factory=dict, kw_only=True)


def complete_uses(
    uses: MutableMapping[str, Use],
    contractions: Sequence[Contraction],
    packed: Mapping[int, Packing],
    following: Mapping[int, Following],
) -> None:
    """Add to each kernel's use what the whole graph shows: how many it packs, what follows it.

    Kernels that are stacked in a parameter have one scheme, so that what feeds most of them, and
    what follows most, counts; of a tie, what feeds the later and follows the earlier. The model's
    own input feeds the first alone, and its output follows the last.

    Args:
        uses: of the parameters, by qualified name.
        contractions: in execution order; `packed` and `following` count them.
        packed: the kernels that lie side by side in one parameter.
        following: what follows each contraction.
    """
    for index, made in enumerate(contractions):
        seen = uses[made.parameter]
        if index in packed:
            made.use, seen = (use.split(*packed[index]) for use in (made.use, seen))
        if index in following and made.use.follows is UNSEEN:
            after, logits = following[index]
            made.use = replace(made.use, follows=after, logits=logits)
        if seen.follows is UNSEEN and seen.role == made.use.role:
            seen = replace(seen, follows=made.use.follows, logits=made.use.logits)
        uses[made.parameter] = seen
        for name in made.beside:
            if uses[name].follows is UNSEEN:
                after, logits = made.use.follows, made.use.logits
                uses[name] = replace(uses[name], follows=after, logits=logits)
    for name, kernels in _stacks(uses, contractions).items():
        fed = _of_most(reversed(kernels), lambda use: use.feeds.kind_and_label)
        ends = [use for use in kernels if use.follows is not UNSEEN] or kernels
        end = _of_most(ends, lambda use: (use.follows.kind_and_label, use.logits))
        uses[name] = replace(uses[name], feeds=fed.feeds, follows=end.follows, logits=end.logits)


def _stacks(uses: Mapping[str, Use], contractions: Sequence[Contraction]) -> dict[str, list[Use]]:
    """Return the uses of the kernels that are stacked in a parameter and contracted one by one."""
    found: dict[str, list[Use]] = {}
    for made in contractions:
        for name in (made.parameter, *made.beside):
            if uses[name].stacked and uses[name].role == made.use.role:
                found.setdefault(name, []).append(made.use)
    return {name: kernels for name, kernels in found.items() if len(kernels) > 1}


def _of_most(uses: Iterable[Use], key: Callable[[Use], Hashable]) -> Use:
    """Return the first of the uses whose key is the most common; of a tie, the earlier key's."""
    alike: dict[Hashable, list[Use]] = {}
    for use in uses:
        alike.setdefault(key(use), []).append(use)
    return max(alike.values(), key=len)[0]

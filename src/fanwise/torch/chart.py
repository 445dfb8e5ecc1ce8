"""Chart: from PyTorch's operations to the steps of a `fanwise.graph.Graph`.

An operation that is no pointwise function of one variable makes a node of what it is given.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from itertools import combinations
from math import prod
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import _disable_current_modes
from torch.utils._pytree import tree_flatten

from fanwise.attention import Average, Scores, Softmax
from fanwise.moments import Statistics
from fanwise.recurrences import Read, Recurrence
from fanwise.steps import (
    Centred,
    Kernel,
    Largest,
    Lookup,
    Mean,
    Mix,
    Normalized,
    Pass,
    Pointwise,
    Product,
    Scaled,
    Shifted,
    Source,
    Step,
    Sum,
    Unknown,
)
from fanwise.torch.axes import picks, picks_units, units_after
from fanwise.torch.constants import (
    constant_statistics,
    repeats,
    statistics_of,
    unmasked,
)
from fanwise.torch.derived import Derived
from fanwise.torch.marks import Mark
from fanwise.torch.operations import (
    COMPARISONS,
    CONTRACTIONS,
    FACTORIES,
    INTERPOLATIONS,
    LONGEST,
    NORMS,
    PASSES,
    PRODUCTS,
    REDUCTIONS,
    SAME_PLACE,
    SCATTERS,
    SOFTMAX,
    SPLITS,
    SUMS,
)
from fanwise.torch.outputs import MOST, memory
from fanwise.torch.pointwise import POINTWISE, Call, Z, after, curve_of, inverts
from fanwise.torch.recurrent import ways_of
from fanwise.torch.register import Register, is_integer
from fanwise.torch.resampling import neighbours

AVERAGES = frozenset(
    "avg_pool1d avg_pool2d avg_pool3d adaptive_avg_pool1d _adaptive_avg_pool2d "
    "_adaptive_avg_pool3d".split()
)
MAXIMA = frozenset(
    "max_pool1d max_pool2d_with_indices max_pool3d_with_indices adaptive_max_pool2d "
    "adaptive_max_pool3d amax max".split()
)
MASK = 1e6
"""A constant of more than this is a mask: it picks entries, and scales none."""


def _pairs(n: int, outputs: int, kernel: int, stride: int, padding: int, dilation: int) -> int:
    """Return how many (output, tap) pairs of a convolution's axis lie on its input."""
    if n == 1 and outputs == 1 and kernel == 1:
        return 1
    count = 0
    for t in range(kernel):
        # 0 ≤ o·stride − padding + t·dilation < n
        shift = padding - t * dilation
        low = max(0, -(-shift // stride))
        high = min(outputs - 1, (n - 1 + shift) // stride)
        count += max(0, high - low + 1)
    return count


class Chart(Register):
    """Makes the graph of a run; `see` takes each operation after it has run."""

    # — operations —

    def see(self, func: Any, name: str, args: tuple[Any, ...], kwargs: Any, result: Any) -> None:
        """Note what an operation on data does; contractions with parameters come by `kernel`."""
        tensors = [t for t in tree_flatten((args, kwargs))[0] if isinstance(t, torch.Tensor)]
        if self.constants.weighed:
            self.regions.look(tensors, self._known)
        self._see(func, name, args, kwargs, result, [t for t in tensors if self.mark(t)])
        if self.constants.weighed:
            self._carry(name, args, tensors, result)
        if any(self._is_data(t) for t in tensors):
            for leaf in tree_flatten(result)[0]:
                if isinstance(leaf, torch.Tensor) and not leaf.is_floating_point():
                    self.chosen[leaf] = True
        if self.constants.weighed:
            self.regions.tape.note(func, args, kwargs, result)

    def _see(
        self,
        func: Any,
        name: str,
        args: tuple[Any, ...],
        kwargs: Any,
        result: Any,
        data: Sequence[torch.Tensor],
    ) -> None:
        if name in ("randn_like", "normal") and data:
            self.put(result, self._fresh(self.add(Source(origin="constant"), (), result)))
        elif name in FACTORIES or not data:
            self.constants.fold(func, args, kwargs, result)
            self._repeated(
                [t for t in tree_flatten((args, kwargs))[0] if isinstance(t, torch.Tensor)], result
            )
        elif name in SCATTERS:
            self._gathered(name, args, result)
        elif args and result is args[0] and self._is_part(result, data, name):
            self._write(name, result, data)
        elif self._is_pending(name, data):
            self._later(name, args, data, result, self._call(func, name, args, kwargs))
        elif name in CONTRACTIONS:
            self._products(name, args, kwargs, result)
        elif name in NORMS:
            self._norm(name, args, result)
        elif "attention" in name and len(data) > 2:
            self._attention(args, kwargs, result)
        elif name in SOFTMAX:
            self._softmax(args, result)
        elif name == "glu":
            self._glu(data[0], result)
        elif name in ("_prelu_kernel", "prelu"):
            mark = self._marked(args[0])
            leaky = Call(torch.ops.aten.leaky_relu.default, (mark.since, 0.25))
            self.put(result, replace(mark, since=leaky))
        elif name in REDUCTIONS:
            self._reduce(name, args, kwargs, result)
        elif name in POINTWISE:
            self._pointwise(func, name, args, kwargs, result)
        elif name in PASSES:
            self._pass(name, args, kwargs, data[0], result)
        else:
            self._later(name, args, data, result)

    def _is_part(self, target: torch.Tensor, data: Sequence[torch.Tensor], name: str) -> bool:
        """Return whether data is written into a constant's memory, or into a part of data's."""
        if self.mark(target) is None:
            return True
        whole = target.untyped_storage().nbytes() // max(target.element_size(), 1)
        return target.numel() < whole and (len(data) > 1 or name not in SAME_PLACE)

    def _write(self, name: str, target: torch.Tensor, data: Sequence[torch.Tensor]) -> None:
        """Note that data is written into memory that holds something else."""
        if self.root(target) is not None:
            return
        mark, before = self.mark(data[-1]), self.written.get(memory(target))
        assert mark is not None
        units = None if mark.units is None else mark.units % data[-1].dim() - data[-1].dim()
        if mark.pending or before is not None or self.mark(target) is not None:
            origins = self.regions.origins(mark)
            origins |= 0 if before is None else self.regions.origins(before)
            own = self.marks.get(target)
            origins |= 0 if own is None else self.regions.origins(own)
            now = self._fresh(self._drawn(data[-1]), units, pending=name, origins=origins)
        else:
            now = self._fresh(self.at(data[-1]), units)
        self.written[memory(target)] = now

    # — kernels —

    def kernel(
        self,
        parameter: str,
        data: torch.Tensor,
        result: torch.Tensor,
        fan_in: float,
        bias: str | None,
        units: int = -1,
        part: int | None = None,
        taps: float = 1.0,
        made: str = "",
    ) -> None:
        """Note that the latest contraction, of a parameter with data, plus a bias, gave `result`.

        Args:
            parameter: the kernel's qualified name.
            data: what is contracted with it.
            result: what that gives.
            fan_in: how many products an output sums, a mean over the outputs.
            bias: a parameter that the same operation adds.
            units: the axis of the result along which its units lie.
            part: which of several kernels that are packed in the parameter.
            taps: at how many places it takes each unit.
            made: what the weight is called that is made of it, as `weight` says.
        """
        whole, index = part, len(self.names) - 1
        feed = self.at(data)
        fan_out = fan_in * result.numel() / max(data.numel(), 1)

        def node_of(part: int | None, parts: int, size: int) -> int:
            which = whole if part is None else part
            step = Kernel(parameter, fan_in, fan_out / parts, index, which, taps=taps, made=made)
            node = self.graph.add(step, (feed,), max(size, 1))
            if bias is not None:
                node = self.graph.add(Shifted(bias), (node,), max(size, 1))
            self.nodes.setdefault(index, []).append(node)
            return node

        units %= max(result.dim(), 1)
        node = node_of(None, 1, result.numel())
        self.put(result, self._fresh(node, units))
        self._carry("kernel", (), [data], result)
        if result.dim():
            self.outputs.register(result, units, index, node_of)

    def convolution(self, parameter: str, args: tuple[Any, ...], result: torch.Tensor) -> None:
        """Note a convolution with a parameter; its fans are what its borders leave of them."""
        data, weight, bias, stride, padding, dilation, transposed, _, groups = args[:9]
        axes = weight.dim() - 2
        sizes = [tuple(v) * (axes if len(v) == 1 else 1) for v in (stride, padding, dilation)]
        pairs = 1
        for k in range(axes):
            n, m = int(data.shape[k - axes]), int(result.shape[k - axes])
            if transposed:
                n, m = m, n
            pairs *= _pairs(n, m, int(weight.shape[k + 2]), *(int(v[k]) for v in sizes))
        places = prod(int(n) for n in result.shape[-axes:]) if axes else 1
        inputs = int(data.shape[-axes - 1]) // groups
        root = self.root(bias) if isinstance(bias, torch.Tensor) else None
        taps = pairs / max(places, 1)
        name = root.name if root is not None else None
        sums = [k for k in range(weight.dim()) if k != int(transposed)]
        made = self.weight(weight, sums)
        self.kernel(parameter, data, result, inputs * taps, name, -axes - 1, taps=taps, made=made)

    def lookup(self, name: str, parameter: str, args: tuple[Any, ...], result: Any) -> None:
        """Note rows of an embedding, or bags of them."""
        first = tree_flatten(result)[0][0]
        ids = self.constants.value(args[1])
        if parameter in self.constants.frozen and ids is not None:
            with _disable_current_modes():
                rows = self.constants.frozen[parameter][ids.reshape(-1)]
                node = self.add(Source(statistics_of(rows, 0), "embedding"), (), first)
        else:
            same = 0.0 if ids is None else repeats(ids)
            made = self.weight(args[0])
            node = self.add(Lookup(parameter, same, made=made), (), first)
        if "bag" in name:
            count = args[1].numel() / max(int(first.shape[0]), 1)
            mean = len(args) > 4 and args[4] == 1
            node = self.add(Mean(count, 1.0 if mean else count), (node,), first)
        self.nodes[len(self.names) - 1] = [node]
        self.put(first, self._fresh(node))

    def token(self, derived: Derived, tensor: torch.Tensor) -> None:
        """Mark a tensor made of parameters as data: a token, or rows of them."""
        self.put(tensor, self._fresh(self._token(derived, tensor)))

    def _token(self, derived: Derived, tensor: torch.Tensor) -> int:
        name = derived.names[0]
        same = self._alike(name, tensor)
        return self.add(Lookup(name, same, token=True, made=self.weight(tensor)), (), tensor)

    def _alike(self, name: str, tensor: torch.Tensor) -> float:
        """Return the chance that two places show one row of a parameter: 1 where it has one."""
        rows = self.rows.get(tensor, prod(self.constants.shapes.get(name, ())[:-1]))
        return 1.0 if rows == 1 else 0.0

    def _repeated(self, tensors: Sequence[torch.Tensor], result: Any) -> None:
        """Note how many rows of a parameter a tensor that is made of it can show."""
        for tensor in tensors:
            derived = self.derived(tensor)
            shape = self.constants.shapes.get(derived.names[0], ()) if derived is not None else ()
            for leaf in tree_flatten(result)[0] if len(shape) > 1 and shape[-1] else ():
                rows = self.rows.get(tensor, prod(shape[:-1]))
                if isinstance(leaf, torch.Tensor):
                    self.rows[leaf] = max(min(rows, leaf.numel() // shape[-1]), 1)

    def product(self, data: Sequence[torch.Tensor]) -> torch.Tensor:
        """Return a stand-in for the product of tensors that a bilinear kernel meets."""
        stand_in = data[0].detach()
        self.put(stand_in, self._fresh(self.add(Product(), [self.at(t) for t in data], stand_in)))
        return stand_in

    def recurrent(self, module: nn.Module, prefix: str, inputs: Sequence[Any], result: Any) -> None:
        """Note a recurrent module, whose inside isn't seen: what it puts out, and its last states.

        Args:
            module: the recurrent module.
            prefix: its qualified name.
            inputs: the sequence, and the first states if they are given.
            result: what the module returns.
        """
        if not inputs:
            first = tree_flatten(result)[0][0]
            self.put(result, self._fresh(self.add(Unknown("a recurrence"), (), first)))
            return
        sequence, *given = (t for t in tree_flatten(inputs)[0] if isinstance(t, torch.Tensor))
        first, *last = (t for t in tree_flatten(result)[0] if t.is_floating_point())
        time = int(getattr(module, "batch_first", False)) if sequence.dim() > 2 else 0
        feeds = [self._state(t) for t in (sequence, *given) if t.is_floating_point()]
        kind = str(getattr(module, "nonlinearity", type(module).__name__.removesuffix("Cell")))
        reads: list[tuple[torch.Tensor, str, int | None]] = []
        if isinstance(module, nn.RNNCellBase):
            step = Recurrence(kind, ways_of(module, prefix), 1, cells=True)
            before = self.graph.nodes[feeds[1]] if given else None
            if before is not None and isinstance(before.step, Recurrence):
                steps = before.step.steps
                row = all(self.graph.nodes[i].inputs == before.inputs for i in feeds[1:])
                if row and before.step == replace(step, steps=steps):
                    step = replace(step, steps=steps + 1)
                    feeds = [*before.inputs[:steps], feeds[0], *before.inputs[steps:]]
            reads.extend(
                (t, what, None)
                for t, what in zip((first, *last), ("outputs", "cells"), strict=False)
            )
        else:
            step = Recurrence(kind, ways_of(module, prefix), int(sequence.shape[time]))
            reads.append((first, "outputs", time))
            reads.extend((t, what, 0) for t, what in zip(last, ("states", "cells"), strict=False))
        for tensor, what, axis in reads:
            node = self.add(replace(step, read=Read(what)), feeds, tensor)
            self.put(tensor, self._fresh(node, time=axis))
            if tensor is first:
                self.nodes[len(self.names) - 1] = [node]

    def _state(self, tensor: torch.Tensor) -> int:
        """Return the node of what feeds a recurrence: data, a learned state, or a constant."""
        root = self.root(tensor) if self.mark(tensor) is None else None
        return self.at(tensor) if root is None else self.add(Lookup(root.name, 1.0), (), tensor)

    def _read(
        self, mark: Mark, axis: int, start: int, before: torch.Tensor, part: torch.Tensor
    ) -> int:
        """Return the node of what is read of a recurrence: one time, one way, or all as it was.

        Args:
            mark: of the recurrence's output, or of its last states.
            axis: along which entries are picked.
            start: the first of them.
            before: what they are picked of.
            part: the entries.
        """
        step, inputs = self.graph.nodes[mark.node].step, self.graph.nodes[mark.node].inputs
        if not isinstance(step, Recurrence):
            return mark.node
        read, size = step.read, before.shape[axis]
        taken = size * part.numel() // max(before.numel(), 1)
        if read.what != "outputs" and axis == mark.time and taken == 1:
            read = replace(read, way=start)
        elif axis == mark.time and taken == 1:
            read = replace(read, time=start)
        elif mark.units is not None and axis == mark.units % before.dim():
            ways = len(step.layers[-1])
            if read.what == "outputs" and taken * ways == size and start % taken == 0:
                read = replace(read, way=start // taken)
        if read == step.read:
            return mark.node
        return self.add(replace(step, read=read), inputs, part)

    # — data with data —

    def _products(
        self, name: str, args: tuple[Any, ...], kwargs: Any, result: torch.Tensor
    ) -> None:
        """Two tensors of data multiplied: scores, or attention's average."""
        (first, letters), (second, _) = CONTRACTIONS[name][:2]
        left, right = args[first], args[second]
        terms = int(left.shape[letters.index("I")])
        marks = self.mark(left), self.mark(right)
        if self.root(left) is not None or self.root(right) is not None:
            self._later(name, args, [t for t in (left, right) if self.mark(t) is not None], result)
        elif marks[0] and marks[1] and self.regions.entangled(marks[0], marks[1]):
            self._later(name, args, [left, right], result)
        elif self._is_weights(left):
            step: Step = Average(terms, left.shape[-2], right.shape[-1])
            node = self.add(step, (self.at(left), self.at(right)), result)
            self.put(result, self._fresh(node))
        elif self._is_weights(right):
            step = Average(terms, right.shape[-1], left.shape[-2])
            node = self.add(step, (self.at(right), self.at(left)), result)
            self.put(result, self._fresh(node, -2))
        else:
            queries = int(left.shape[-2]) if left.dim() > 1 else 1
            keys = int(right.shape[-1]) if right.dim() > 1 else 1
            step = Scores(terms, queries, keys, float(kwargs.get("alpha", 1.0)))
            node = self.add(step, (self.at(left), self.at(right)), result)
            self.put(result, self._fresh(node))

    def _softmax(self, args: tuple[Any, ...], result: torch.Tensor) -> None:
        mark, start = self._marked(args[0]), self.at(args[0])
        while True:  # a mask or a bias that is no data leaves scores what they are
            made = self.graph.nodes[start]
            masked = isinstance(made.step, Sum | Product) and len(made.inputs) == 2
            if isinstance(made.step, Pass | Pointwise | Shifted) or (
                masked and isinstance(self.graph.nodes[made.inputs[1]].step, Source | Lookup)
            ):
                start = made.inputs[0]
            else:
                break
        if isinstance(made.step, Mix | Sum | Product):
            self._later("_softmax", args, [args[0]], result)
            return
        step = Softmax(int(args[0].shape[args[1]]) if args[0].dim() else 1, mark.counts)
        node = self.add(step, (self.at(args[0]),), result)
        self.put(result, self._fresh(node))

    def _glu(self, data: torch.Tensor, result: torch.Tensor) -> None:
        """One half of the units times the sigmoid of the other (Dauphin et al. 2017)."""
        mark = self._marked(data)
        gate = Pointwise(curve_of(Call(torch.ops.aten.sigmoid.default, (mark.since,))))
        halves = [
            self.add(step, (self._before(mark, result),), result)
            for step in (Pointwise(curve_of(mark.since)) if mark.since is not Z else Pass(), gate)
        ]
        self.put(result, self._fresh(self.add(Product(), halves, result), mark.units))

    def _attention(self, args: tuple[Any, ...], kwargs: Any, result: Any) -> None:
        query, key, value = args[:3]
        width, queries, keys = int(query.shape[-1]), int(query.shape[-2]), int(key.shape[-2])
        mask = kwargs.get("attn_mask", args[3] if len(args) > 3 else None)
        learned = self.mark(mask), self.derived(mask)
        if (
            isinstance(mask, torch.Tensor)
            and self._is_data(mask)
            and (learned[0] is None or learned[0].pending or mask.dtype is torch.bool)
        ):
            self._later("attention", args, [*args[:3]], result)
            return
        counts: tuple[int, ...] = ()
        if any(a is True for a in (*args, *kwargs.values())):
            counts = tuple(range(1, keys + 1))
        elif learned[0] is not None:
            counts = learned[0].counts
        elif isinstance(mask, torch.Tensor) and learned[1] is None:
            counts = self.constants.counts(mask, queries, keys)
        scale = kwargs.get("scale") or width**-0.5
        size = prod(int(n) for n in query.shape[:-1]) * keys
        nodes = [self.at(t) for t in (query, key, value)]
        scores = self.graph.add(Scores(width, queries, keys, scale), nodes[:2], size)
        if learned[0] is not None:
            scores = self.graph.add(Sum(), (scores, self.at(mask)), size)
        elif learned[1] is not None:
            line = learned[1].line() or (1.0, 0.0)
            scores = self.graph.add(Shifted(learned[1].names[0], line, False), (scores,), size)
        weights = self.graph.add(Softmax(keys, counts), (scores,), size)
        out = tree_flatten(result)[0][0]
        node = self.add(Average(keys, queries, value.shape[-1]), (weights, nodes[2]), out)
        self.put(out, self._fresh(node))

    # — normalizations, reductions —

    def _norm(self, name: str, args: tuple[Any, ...], result: Any) -> None:
        data, label = args[0], NORMS[name]
        eps = next((a for a in reversed(args) if isinstance(a, float)), 1e-6)
        if "group_norm" in name:
            channels, places, groups = int(args[4]), int(args[5]), int(args[6])
            step = Normalized(channels / groups, places, eps=eps, label=label)
            weights = args[1:3]
        elif "batch_norm" in name:
            places = data.numel() / max(int(data.shape[1]), 1)
            step, weights = Normalized(1.0, places, eps=eps, label=label), args[1:3]
        else:
            units = float(prod(args[1]))
            step = Normalized(units, centred="rms" not in name, eps=eps, label=label)
            weights = args[2:4]
        first = tree_flatten(result)[0][0]
        node = self.add(step, (self.at(data),), first)
        for tensor, kind in zip(weights, (Scaled, Shifted), strict=False):
            derived = self.derived(tensor) if isinstance(tensor, torch.Tensor) else None
            line = derived.line() if derived is not None else None
            if derived is not None and line is not None:
                node = self.add(kind(derived.names[0], line), (node,), first)
        self.put(first, self._fresh(node, self._marked(data).units))

    def _reduce(self, name: str, args: tuple[Any, ...], kwargs: Any, result: Any) -> None:
        data = args[0]
        mark = self._marked(data)
        axes = next(
            (a for a in (*args[1:], kwargs.get("dim")) if isinstance(a, list | tuple)), None
        )
        dims = {d % data.dim() for d in axes} if axes else set(range(data.dim()))
        units = mark.units % data.dim() if mark.units is not None and data.dim() else data.dim() - 1
        keeps = tree_flatten(result)[0][0].dim() == data.dim()
        count = data.numel() / max(tree_flatten(result)[0][0].numel(), 1)
        over_units = units in dims
        statistic = name if over_units or (keeps and name not in ("mean", "sum")) else ""
        if name in ("mean", "sum") and (len(dims) < data.dim() or data.dim() == 1):
            total = count if name == "sum" else 1.0
            feed = self.at(data)
            node = self.add(Mean(count, total, over_units), (feed,), result)
            left = None if over_units else units - sum(d < units for d in dims) * (not keeps)
            self.put(
                result, self._fresh(node, left, statistic=statistic, count=count, reduced=True)
            )
        else:
            self._later(name, args, [data], result, statistic=statistic, count=count)

    # — pointwise —

    def _pointwise(
        self, func: Any, name: str, args: tuple[Any, ...], kwargs: Any, result: Any
    ) -> None:
        data = [a for a in args if self.mark(a) is not None]
        if name in COMPARISONS and isinstance(self.made(data[0]), Source):
            self.constants.given[result] = True  # a mask from outside
            return
        call = self._call(func, name, args, kwargs)
        if call is not None and call.size <= LONGEST:
            mark = next(m for m in self._as_one(name, args) if m is not None)
            self.put(result, replace(mark, since=call))
            return
        if name in COMPARISONS:
            return
        signals = data if name != "where" else [a for a in args[1:] if self.mark(a) is not None]
        if call is not None or not signals:
            self._later(name, args, data, result, call)
        elif len(signals) > 1:
            self._together(name, args, kwargs, signals, result)
        else:
            self._with_constant(name, args, kwargs, signals[0], result)

    def _call(self, func: Any, name: str, args: tuple[Any, ...], kwargs: Any) -> Call | None:
        """Return an operation as a function of the one signal that it is given, if it is one."""
        marks = self._as_one(name, args)
        if name not in POINTWISE or not _are_one([m for m in marks if m is not None]):
            return None
        if name == "where" and marks[0] is None:
            return None
        symbols = []
        for a, mark in zip(args, marks, strict=True):
            number = self.constants.number(a) if isinstance(a, torch.Tensor) and not mark else a
            if number is None and a is not None and mark is None:
                return None
            symbols.append(number if mark is None else mark.since)
        return Call(func, tuple(symbols), tuple(sorted(kwargs.items())))

    def _as_one(self, name: str, args: tuple[Any, ...]) -> list[Mark | None]:
        """Return the arguments' marks, a product's without learned factors if they differ by those.

        So is z · sigmoid(βz), β learned, a function of z: as β starts, at one.
        """
        marks = [self.mark(a) for a in args]
        if name != "mul" or _are_one([m for m in marks if m is not None]):
            return marks
        bare = [m if m is None else self._bare(m) for m in marks]
        return bare if _are_one([m for m in bare if m is not None]) else marks

    def _bare(self, mark: Mark) -> Mark:
        """Return a mark as it would be if the learned factors before it were one."""
        while mark.node in self.factors:
            then, before = self.factors[mark.node]
            if mark.place != then.place:
                break
            mark = replace(before, since=after(mark.since, before.since))
        return mark

    def _shifted(self, step: Step, node: int, size: int) -> int:
        """Add a step after the node of a kernel's part."""
        return self.graph.add(step, (node,), size)

    def _with_constant(
        self,
        name: str,
        args: tuple[Any, ...],
        kwargs: Any,
        data: torch.Tensor,
        result: torch.Tensor,
    ) -> None:
        """Data with a parameter or a constant tensor."""
        mark = self._marked(data)
        if mark.pending:
            self._later(name, args, [data], result, statistic=mark.statistic, count=mark.count)
            return
        others = [a for a in args if isinstance(a, torch.Tensor) and a is not data]
        other = others[0 if name == "where" else -1] if others else data
        derived, value = self.derived(other), self.constants.value(other)
        line = derived.line() if derived is not None and value is None else None
        if derived is not None and line is None:
            value = self.constants.as_it_is(derived)
        known = constant_statistics(value) if value is not None and others else None
        if known is None and derived is None and others:
            known = self.constants.statistics(other)
        wide = sum(n > 1 for n in other.shape) > 1
        counts = mark.counts
        nodes = [self.at(data)]
        step: Step | None = Pass()
        if name == "mul" and derived is not None and line is not None:
            step = Scaled(derived.names[0], line)
        elif name in PRODUCTS and known is not None and 0 < known.square < MASK:
            if name == "div" and args[0] is data and value is not None:
                known = constant_statistics(1.0 / value.double())
            step, nodes = Product(), [*nodes, self._constant(known, other)]
        elif name in SUMS:
            if derived is not None and value is None:
                shared = not wide or self._alike(derived.names[0], other) == 1.0
                made = self.weight(other) if line is None else ""
                step = Shifted(derived.names[0], line or (1.0, 0.0), shared, made=made)
            elif (left := unmasked(value) if wide and value is not None else None) is not None:
                counts = self.constants.counts(other, int(data.shape[-2]), int(data.shape[-1]))
                step, nodes = Sum(), [*nodes, self.add(Source(left), (), other)]
            elif known is not None and known.square < MASK:
                step = Sum(_factors(name, kwargs, swapped=args[0] is not data))
                nodes = [*nodes, self._constant(known, other)]
            elif wide:
                counts = self.constants.counts(other, int(data.shape[-2]), int(data.shape[-1]))
        elif name == "where" and wide and isinstance(args[0], torch.Tensor):
            counts = self.constants.counts(args[0], int(data.shape[-2]), int(data.shape[-1]))
        elif not (name == "where" or (name == "mul" and known is not None)):
            step = None
        if step is None:
            self._later(name, args, [data], result)
            return
        if isinstance(step, Shifted) and mark.since is Z:
            self.outputs.copied(data, result, partial(self._shifted, step))
        node = self.add(step, nodes, result)
        then = replace(mark, node=node, since=Z, place=(object(),), counts=counts)
        self.put(result, then)
        if isinstance(step, Scaled):
            self.factors[node] = then, mark

    def _constant(self, known: Statistics | None, tensor: torch.Tensor) -> int:
        return self.add(Source(known, "constant"), (), tensor)

    def _together(
        self,
        name: str,
        args: tuple[Any, ...],
        kwargs: Any,
        data: Sequence[torch.Tensor],
        result: torch.Tensor,
    ) -> None:
        """Several signals entry by entry: a sum, a gate, or a norm written by hand."""
        given = [self._marked(a) for a in data]
        whole = [a for a, m in zip(data, given, strict=True) if not m.statistic]
        units = next((m.units for m in given if not m.statistic), -1)
        statistic = next((m for m in given if m.statistic), None) if len(whole) == 1 else None
        inverse = statistic is not None and (name == "div" or inverts(statistic.since))
        if statistic is not None and inverse and name in PRODUCTS:
            step: Step = Normalized(centred=False)
            node = self.add(step, (self.at(whole[0]),), result)
            if statistic.statistic in ("linalg_vector_norm", "sum"):
                node = self.add(Pass(1.0 / statistic.count), (node,), result)
        elif statistic is not None and statistic.statistic == "mean" and name in ("sub", "rsub"):
            node = self.add(Centred(), (self.at(whole[0]),), result)
        elif any(self.regions.entangled(a, b) for a, b in combinations(given, 2)):
            statistic = given[0] if not whole else None
            more = "" if statistic is None else statistic.statistic
            self._later(name, args, data, result, statistic=more)
            return
        elif name in SUMS:
            node = self.add(Sum(_factors(name, kwargs)), [self.at(a) for a in data], result)
        elif name == "mul":
            node = self.add(Product(), [self.at(a) for a in data], result)
        elif name in ("where", "maximum", "minimum"):
            step = Mix((1.0 / len(data),) * len(data), whole=False)
            node = self.add(step, [self.at(a) for a in data], result)
        elif name == "div" and not whole:
            node = self.add(Source(Statistics(1.0, 1.0, 1.0)), (), result)
            self.put(result, self._fresh(node, units))
            return
        else:
            self._later(name, args, data, result)
            return
        left = given[0].statistic if not whole else ""
        self.put(result, self._fresh(node, units, statistic=left))

    # — views, pools and the like —

    def _pass(
        self,
        name: str,
        args: tuple[Any, ...],
        kwargs: Any,
        first: torch.Tensor,
        result: Any,
    ) -> None:
        mark = self._marked(first)
        out = tree_flatten(result)[0][0]
        if name in AVERAGES:
            count = (
                _window(name, args, out) if name.startswith("avg") else first.numel() / out.numel()
            )
            node = self.add(Mean(count), (self.at(first),), out)
            self.put(result, self._fresh(node, mark.units))
        elif name in MAXIMA:
            share = first.numel() / max(out.numel(), 1)
            count = _window(name, args, out) if name.startswith("max_pool") else share
            step = Largest(max(round(count), 1), curve_of(mark.since))
            node = self.add(step, (self._before(mark, first),), out)
            self.put(out, self._fresh(node, mark.units))
        elif name in INTERPOLATIONS:
            count = neighbours(name, first.shape, out.shape, corners=bool(args[2]))
            node = self.add(Mean(count), (self.at(first),), out)
            self.put(result, self._fresh(node, mark.units))
        elif name in ("cat", "stack"):
            axis = (args[1] if len(args) > 1 else 0) % out.dim()
            units = name == "cat" and axis == (-1 if mark.units is None else mark.units) % out.dim()
            self._side_by_side(args[0], mark, result, units)
        elif name == "constant_pad_nd":
            share = first.numel() / max(out.numel(), 1)
            units = mark.units is not None and out.shape[mark.units] != first.shape[mark.units]
            node = self.add(Mix((share,), units=units), (self.at(first),), out)
            self.put(result, self._fresh(node, mark.units))
        elif name == "cumsum":
            n = (int(first.shape[args[1]]) + 1) / 2
            self.put(result, self._fresh(self.add(Mean(n, n), (self.at(first),), out), mark.units))
        else:
            self._view(name, args, kwargs, first, mark, result)

    def _gathered(self, name: str, args: tuple[Any, ...], result: torch.Tensor) -> None:
        """Rows added up where an index says: messages in a graph, what experts give back."""
        target, source = args[0], args[3]
        if self.mark(source) is None:
            return
        if self.constants.value(args[2]) is not None:
            data = [t for t in (source, target) if self.mark(t) is not None]
            self._later(name, args, data, result)
            return
        count = source.numel() / max(target.numel(), 1)
        feed = self.at(source)
        step: Step = Mean(count, count) if count > 1.0 else Pass(count)
        node = self.add(step, (feed,), result)
        if self.mark(target) is not None:
            node = self.add(Sum(), (self.at(target), node), result)
        self.put(result, self._fresh(node))

    def _before(self, mark: Mark, tensor: torch.Tensor) -> int:
        """Return the node before a mark's pointwise operations, at a tensor's size."""
        if self.graph.nodes[mark.node].size == tensor.numel():
            return mark.node
        return self.add(Pass(), (mark.node,), tensor)

    def _side_by_side(
        self, parts: Sequence[Any], mark: Mark, result: torch.Tensor, units: bool
    ) -> None:
        nodes, shares = [], []
        for part in parts:
            derived = self.derived(part)
            if derived is not None:
                nodes.append(self._token(derived, part))
            elif part.is_floating_point() and part.numel():
                nodes.append(self.at(part))
            else:
                continue
            shares.append(part.numel() / max(result.numel(), 1))
        node = self.add(Mix(tuple(shares), units=units), nodes, result)
        self.put(result, self._fresh(node, mark.units, moved=object()))

    def _view(
        self,
        name: str,
        args: tuple[Any, ...],
        kwargs: Any,
        first: torch.Tensor,
        mark: Mark,
        result: Any,
    ) -> None:
        settings = tree_flatten((args[1:], kwargs))[0]
        indexed = any(isinstance(a, torch.Tensor) for a in settings)
        place = (*mark.place, name, object() if indexed else repr(settings))
        if name == "masked_fill" and first.dim() > 1:
            shape = int(first.shape[-2]), int(first.shape[-1])
            mark = replace(mark, counts=self.constants.counts(args[1], *shape, hides=True))
        parts = result if isinstance(result, list | tuple) else [result]
        for i, part in enumerate(parts):
            if not isinstance(part, torch.Tensor) or is_integer(part):
                continue
            if name in SAME_PLACE:
                self.outputs.copied(first, part)
                self.put(part, mark)
                continue
            units, time = (
                units_after(name, args, axis, first.shape, part.shape)
                for axis in (mark.units, mark.time)
            )
            moved = mark.moved
            if picks_units(name, args, mark.units, first.dim()):
                moved = (moved, name, repr(settings), i)
            packed = None
            if mark.since is Z and part.numel() < first.numel():
                packed = self.outputs.part(part, len(parts) if name in SPLITS else MOST)
            node = mark.node if packed is None else packed
            picked = picks(name, args, i, first)
            if picked is not None:
                node = self._read(mark, *picked, first, part) if packed is None else node
            if name in ("clone", "contiguous", "_to_copy"):
                self.outputs.copied(first, part)
            place_now = (*place, i)
            there = replace(mark, node=node, place=place_now, units=units, time=time, moved=moved)
            self.put(part, there)


def _window(name: str, args: tuple[Any, ...], out: torch.Tensor) -> float:
    """Return how many places a pool's window holds: at borders fewer; a mean over its outputs."""
    data, window = args[0], tuple(args[1])
    stride = tuple(args[2]) if len(args) > 2 and args[2] else window
    padding = tuple(args[3]) if len(args) > 3 else (0,)
    axes = int(next(letter for letter in name if letter.isdigit()))
    sizes = [v * (axes if len(v) == 1 else 1) for v in (window, stride, padding)]
    places = 1.0
    for k, (size, step, edge) in enumerate(zip(*sizes, strict=True)):
        n, m = int(data.shape[k - axes]), int(out.shape[k - axes])
        places *= _pairs(n, m, int(size), int(step), int(edge), 1) / max(m, 1)
    return max(places, 1.0)


def _are_one(marks: Sequence[Mark]) -> bool:
    return all(mark.one_with(marks[0]) for mark in marks)


def _factors(name: str, kwargs: Any, *, swapped: bool = False) -> tuple[float, ...]:
    """Return the factors of a sum's two terms; `swapped` where the second is listed first."""
    alpha = float(kwargs.get("alpha", 1.0))
    factors = {"add": (1.0, alpha), "sub": (1.0, -alpha), "rsub": (-alpha, 1.0)}[name]
    return factors[::-1] if swapped else factors

"""What a loss compares: the entries that it is given, their targets, and the loss of chance."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from fanwise.signal import LossKind, Output, losses
from fanwise.torch.internals import TorchDispatchMode, memory_of, tree_map_only, without_modes
from fanwise.torch.measuring.statistics import moments
from fanwise.torch.tracing.aten.operation import base_name

SQUARED_ERRORS = frozenset({"mse_loss", "huber_loss", "smooth_l1_loss"})
"""Losses of which the squared error is compared with the targets' variance."""
SQUASHES = {
    "SoftmaxBackward": "softmax",
    "SigmoidBackward": "sigmoid",
    "TanhBackward": "tanh",
}
"""By the beginning of autograd's name, what bounds logits."""
MASKED = 1e4
"""How far from the others a logit lies that a mask has taken out."""
FAR_ABOVE = 2.0
"""Nats above chance from which a loss is looked at for a margin."""
MOST_ROWS, BEYOND_CHANCE = 512, 6.0
"""Most rows that are looked at, and standard errors from which a margin is no chance."""
UNCHANGED = tuple(
    "View Reshape UnsafeView Squeeze Unsqueeze Transpose Permute TBackward Alias Select Slice "
    "ToCopyBackward LogSoftmaxBackward".split()
)
"""By the beginning of autograd's name, what leaves logits what they are."""


class LossWatch(TorchDispatchMode):
    """Notes what each loss function compares while a loss runs.

    Attributes:
        found: one output for each of them, with the mean loss whatever the reduction and weights,
            and the tensor that it takes.
        classes: of the last softmax; 0 without one.

    Args:
        own: the places in memory of what the model itself puts out and learns to: detached, it is
            a target that moves along, and says nothing of how large the output should be.
    """

    def __init__(self, own: Collection[object] = ()) -> None:
        super().__init__()
        self.own = own
        self.found: list[tuple[Output, Tensor]] = []
        self.classes, self.logits = 0, torch.empty(0)
        self.differences: dict[int, tuple[Tensor, tuple[Any, ...]]] = {}

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Say that `__torch_dispatch__` is as it stands: PyTorch's wrapper loads its compiler."""
        return False

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Run an operation, and note what a loss function compares."""
        result = func(*args, **(kwargs or {}))
        name = base_name(func)
        if name == "_log_softmax":
            self.classes, self.logits = int(args[0].shape[args[1]]), args[0]
        if name == "sub" and all(isinstance(a, Tensor) for a in args[:2]):
            self.differences[id(result)] = result, args[:2]
        note = NOTES.get(name)
        if name == "mul" and (terms := self._compared(args, 1)):
            self.differences[id(result)] = result, terms  # weighted
        if _is_size(name, args) and id(args[0]) in self.differences:
            args, note = self.differences.pop(id(args[0]))[1], _squared_error
        elif name in ("maximum", "where") and (terms := self._compared(args, 2)):
            # A pinball loss; an operand of the difference's shape keeps its autograd.
            shape = result.shape
            args = tuple(t if t.shape == shape else t.expand(shape) for t in terms)
            note = _squared_error
        if note is not None:
            with without_modes(), torch.no_grad():
                made = note(args, result)
            given, target = args[:2] if args[0].requires_grad else args[1::-1]
            moves = not target.requires_grad and memory_of(target) in self.own
            if made is not None and math.isfinite(made.loss) and not moves:
                taken = self.logits if made.kind == LossKind.CROSS_ENTROPY else given
                self.found.append((made, taken))
        return result

    def _compared(self, args: tuple[Any, ...], times: int) -> tuple[Any, ...] | None:
        """Return the terms of the difference of which so many of the arguments are multiples."""
        found = [self.differences.get(id(a)) for a in args if isinstance(a, Tensor)]
        terms = [known[1] for known in found if known is not None]
        alike = all(a is b for each in terms for a, b in zip(each, terms[0], strict=True))
        return terms[0] if len(terms) == times and alike else None

    @property
    def worst(self) -> tuple[Output, Tensor] | None:
        """What lies farthest above chance, and its tensor; None where no loss function ran."""
        return max(self.found, key=lambda found: losses.excess(found[0]), default=None)


def _is_size(name: str, args: tuple[Any, ...]) -> bool:
    """Return whether an operation makes an error of a difference: |d|, d², d·d."""
    if name == "pow":
        return bool(args[1] == 2) if not isinstance(args[1], Tensor) else False
    return name in ("abs", "square") or (name == "mul" and args[0] is args[1])


def loss_of_nothing(loss: Callable[[Any], Tensor], output: Any) -> float | None:
    """Return the loss of an output of zeros: equal logits; None where it takes no such thing."""

    def zeros(value: Tensor) -> Tensor:
        return torch.zeros_like(value) if value.is_floating_point() else value

    try:
        with torch.no_grad():
            value = float(loss(tree_map_only(Tensor, zeros, output)))
    except Exception:  # a loss of one's own, which need not take anything but the model's output
        return None
    return value if math.isfinite(value) else None


def _squashed(logits: Tensor) -> str:
    """Return "softmax", "sigmoid" or "tanh" where logits are one's output; "" elsewhere."""
    node = logits.grad_fn
    while node is not None and node.name().startswith(UNCHANGED):
        node = node.next_functions[0][0]
    name = node.name() if node is not None else ""
    return next((word for start, word in SQUASHES.items() if name.startswith(start)), "")


def _cross_entropy(args: tuple[Any, ...], result: Any) -> Output | None:
    """Return what `nll_loss` compares: log-probabilities (…, classes, …) and classes."""
    logs, target = args[0], args[1]
    if not logs.requires_grad or logs.dim() < 2:
        return None
    classes, ignored = logs.shape[1], int(args[4]) if len(args) > 4 else -100
    rows = logs.movedim(1, -1).reshape(-1, classes)
    known = target.reshape(-1) != ignored
    if not bool(known.any()):
        return None
    rows, wanted = rows[known], target.reshape(-1)[known]
    loss = 0.0 - float(rows.gather(1, wanted[:, None]).double().mean())
    loss -= _margin(rows.detach(), wanted) if loss > FAR_ABOVE + math.log(classes) else 0.0
    # Logits but for a constant a row, which changes nothing, and for what a mask leaves out.
    apart = rows.detach() - rows.detach().median(1, keepdim=True).values
    apart = apart[apart.abs() < MASKED]
    spread = moments(apart).spread if apart.numel() else 0.0
    return losses.cross_entropy(spread, classes, loss, _squashed(logs))


def _margin(rows: Tensor, wanted: Tensor) -> float:
    """Return by how much a loss lowers each row's right logit, as ArcFace's margin does.

    That is the class's mean logit where it is wrong less that where it is right, beyond chance: of
    logits that don't know the labels both are the same.
    """
    rows, wanted = rows[:MOST_ROWS].float(), wanted[:MOST_ROWS]
    apart = rows - rows.mean(1, keepdim=True)
    right = F.one_hot(wanted, rows.shape[1]).bool()
    elsewhere = apart.masked_fill(right, 0.0).sum(0) / (~right).sum(0).clamp(min=1)
    gaps = elsewhere[wanted] - apart[right]
    sure = gaps.numel() > 1 and gaps.mean() > BEYOND_CHANCE * gaps.std() / gaps.numel() ** 0.5
    return float(gaps.mean()) if sure else 0.0


def _binary(args: tuple[Any, ...], logits: Tensor, squashed: str = "") -> Output | None:
    target = args[1]
    if logits.shape != target.shape or not args[0].requires_grad:
        return None
    target = target.to(logits.dtype)
    loss = float(F.binary_cross_entropy_with_logits(logits, target).double())
    return losses.binary(moments(logits), float(target.double().mean()), loss, squashed)


def _binary_of_logits(args: tuple[Any, ...], result: Any) -> Output | None:
    return _binary(args, args[0].detach(), _squashed(args[0]))


def _binary_of_shares(args: tuple[Any, ...], result: Any) -> Output | None:
    return _binary(args, torch.logit(args[0].detach().float(), eps=1e-7))


def _squared_error(args: tuple[Any, ...], result: Any) -> Output | None:
    given, target = args[0], args[1]
    if not given.requires_grad:
        given, target = target, given
    if not given.requires_grad or target.requires_grad or given.shape != target.shape:
        return None
    target = target.detach().float()
    wanted = moments(target)
    farthest = float((target - wanted.mean).abs().amax()) if target.numel() else 0.0
    loss = moments(given.detach().float() - target).rms ** 2
    return losses.squared_error(moments(given), wanted, loss, target.numel(), farthest)


Note = Callable[[tuple[Any, ...], Any], Output | None]
NOTES: dict[str, Note] = {
    "nll_loss_forward": _cross_entropy,
    "nll_loss2d_forward": _cross_entropy,
    "nll_loss_nd": _cross_entropy,
    "binary_cross_entropy_with_logits": _binary_of_logits,
    "binary_cross_entropy": _binary_of_shares,
    **dict.fromkeys(SQUARED_ERRORS, _squared_error),
}

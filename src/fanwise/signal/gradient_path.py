"""Where gradients end: which operations that parameters' signals passed cut their way back.

A front end follows the signals of parameters that never get a gradient, operation by operation;
what it finds there is judged here.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Iterator, Sequence
from dataclasses import dataclass, field

from fanwise.signal.values import Cut, CutReason, NotFinite

PLACING = frozenset(
    "cat stack copy slice_scatter select_scatter index_put scatter index_copy concatenate pad "
    "dynamic_update_slice slice_update scatter_update".split()
)
"""Operations that put a signal beside others, whose gradient is zero where that place isn't read.

As of the last block of a joint attention, which makes queries of a stream that nothing follows.
"""


def _not_zeros() -> bool:
    return False


@dataclass(eq=False)
class Carried:
    """A tensor that holds the signal of a followed parameter.

    Attributes:
        memory: what it shares with others that show the same entries.
        has_way: whether a way leads back from it: it requires a gradient, in PyTorch's words.
        is_float: whether it holds numbers that can have a gradient.
        is_whole: whether it holds whole numbers.
        zero, finite: of the gradient that has come there; zero where none has.
        are_zeros: tells whether its own entries are all zero.
    """

    memory: Hashable
    has_way: bool
    is_float: bool = True
    is_whole: bool = False
    zero: bool = True
    finite: bool = True
    reached: bool = False
    are_zeros: Callable[[], bool] = _not_zeros


@dataclass
class Passed:
    """One operation that a parameter's signal passed.

    Attributes:
        module, operation: the one that was running, and its name.
        inputs, outputs: tensors that hold the signal.
        parameters: a bit for each followed parameter.
        with_gradients: whether the operation ran with them.
        region: which of the stretches without gradients it is in, where it is in one.
    """

    module: str
    operation: str
    inputs: Sequence[Carried]
    outputs: Sequence[Carried]
    parameters: int
    with_gradients: bool = True
    region: int = 0


@dataclass
class Ways:
    """The operations that the signals of some parameters passed, in order.

    Attributes:
        followed: the parameters' names: bit by bit.
        passed: the operations.
    """

    followed: Sequence[str]
    passed: Sequence[Passed]
    _with_way: set[Hashable] = field(default_factory=set)

    def cuts(self, missing: Collection[str]) -> tuple[Cut, ...]:
        """Return where the way back to the followed parameters ends.

        Args:
            missing: those without a gradient, not even one of zeros: for them there is no path.
        """
        absent = sum(1 << i for i, name in enumerate(self.followed) if name in missing)
        zero = (1 << len(self.followed)) - 1 - absent
        left = absent | zero
        found: dict[object, tuple[Passed, CutReason, int]] = {}
        for each, reason in self._ends():
            mask = each.parameters & left & (absent if reason.structural else zero)
            if mask:
                left &= ~mask
                # One `no_grad` around several modules is one cut.
                place = each.region if reason == CutReason.NO_GRAD else object()
                first, _, before = found.get(place, (each, reason, 0))
                found[place] = first, reason, before | mask
        return tuple(
            Cut(each.module, each.operation, reason, self._names(mask))
            for each, reason, mask in found.values()
        )

    def _names(self, mask: int) -> tuple[str, ...]:
        return tuple(n for i, n in enumerate(self.followed) if mask >> i & 1)

    def _ends(self) -> Iterator[tuple[Passed, CutReason]]:
        """Yield the operations that no gradient passes, the most telling first."""
        # Autograd detaches what it saves, and nothing of the model's reads that.
        read = {t for each in self.passed for t in each.inputs}
        found = [(p, r) for p in self.passed if (r := self._reason(p, read)) is not None]
        structural = [x for x in found if x[1].structural]
        yield from (x for x in structural if not read.isdisjoint(x[0].outputs))
        yield from (x for x in reversed(structural))
        # Of several zeros on one way the one nearest to the output is the cut.
        yield from (x for x in reversed(found) if not x[1].structural)

    def _reason(self, each: Passed, read: Collection[Carried]) -> CutReason | None:
        """Return why no gradient passes an operation; None where one does, or none comes.

        Args:
            each: the operation.
            read: the tensors that a later one reads.
        """
        ways = [t for t in each.inputs if t.has_way]
        if not ways:
            detached = [t for t in each.inputs if t.memory in self._with_way]
            floats = any(t.is_float for t in each.outputs)
            return CutReason.DETACHED if detached and floats else None
        self._with_way |= {t.memory for t in ways}
        if not any(t.has_way for t in each.outputs):
            return CutReason.DETACHED if each.with_gradients else CutReason.NO_GRAD
        came = any(not t.zero for t in each.outputs)
        if not came:  # of a maximum and where it lies, only the latter is used
            whole = any(t.is_whole and t in read for t in each.outputs)
            return CutReason.DETACHED if whole else None
        if any(not t.zero for t in ways):
            return None
        zeros = all(t.are_zeros() for t in ways if t.is_float)
        return CutReason.ZEROS if zeros and len(ways) > 1 else CutReason.FLAT

    def first_not_finite(self) -> NotFinite | None:
        """Return the operation whose gradient turns to NaN or infinity; None for none."""
        for each in reversed(self.passed):
            came = [t for t in each.outputs if t.reached]
            left = [t for t in each.inputs if t.reached]
            if came and all(t.finite for t in came) and any(not t.finite for t in left):
                return NotFinite(each.module, each.operation, backward=True)
        return None

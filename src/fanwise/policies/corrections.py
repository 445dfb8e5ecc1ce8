"""Corrections: what goes with a scale, factors on an optimizer's hyperparameters.

A parametrization says how large a weight starts and how far a step moves it. The second half stands
here, one `Correction` for each kind of optimizer, since Adam's steps don't depend on the size of a
gradient, those of SGD are proportional to it, Muon's have a spectral norm of their own, and
Adafactor's are proportional to the weight itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Self

from fanwise.errors import ArgumentError


class Optimizer(StrEnum):
    """The optimizers for which corrections are known, by their names in lower case."""

    ADAMW = "adamw"
    ADAM = "adam"
    SGD = "sgd"
    MUON = "muon"
    LION = "lion"
    ADAFACTOR = "adafactor"


@dataclass(frozen=True)
class Correction:
    """Factors on one optimizer's hyperparameters.

    Attributes:
        rate: on the learning rate.
        decay: on the weight decay; as in PyTorch a step's decay is learning rate × weight decay.
        epsilon: on what is added to the root of the second moment, Adam's ε.
    """

    rate: float = 1.0
    decay: float = 1.0
    epsilon: float = 1.0

    def times(self, rate: float = 1.0, epsilon: float = 1.0) -> Correction:
        """Return a correction with more on rate and ε; what a step decays stays as it is."""
        return Correction(self.rate * rate, self.decay / rate, self.epsilon * epsilon)


@dataclass(frozen=True)
class Corrections:
    """The corrections of one parameter, by optimizer; None for one that a policy isn't for.

    Attributes:
        adam: for AdamW; for Adam too, but for its weight decay, which isn't decoupled; and for
            Lion, whose steps are signs (Chen et al. 2023, "Symbolic discovery of optimization
            algorithms", Algorithm 2): of one size too, and without an ε.
        sgd: for SGD, with or without momentum.
        muon: for Muon: on the spectral norm of a step, before what the optimizer itself makes of it
            by the weight's shape.
        adafactor: for Adafactor with steps relative to the rms of the weight (Shazeer and Stern
            2018, Algorithm 4), of a weight drawn as the policy says.
    """

    adam: Correction | None = None
    sgd: Correction | None = None
    muon: Correction | None = None
    adafactor: Correction | None = None

    @classmethod
    def from_dict(cls, values: Mapping[str, Mapping[str, float] | None] | None) -> Self | None:
        """Return what `dataclasses.asdict` made of corrections, or of None."""
        if values is None:
            return None
        return cls(**{n: None if c is None else Correction(**c) for n, c in values.items()})

    def of(self, optimizer: Optimizer) -> Correction | None:
        """Return the correction for an optimizer."""
        if optimizer == Optimizer.LION:
            return None if self.adam is None else replace(self.adam, epsilon=1.0)
        adam = optimizer in (Optimizer.ADAM, Optimizer.ADAMW)
        found: Correction | None = getattr(self, "adam" if adam else optimizer)
        return found

    def with_relative_steps(self, size: float) -> Corrections:
        """Return those for Adafactor too, from Adam's.

        A step is rate·rms(W): for one of Adam's size the factor on the rate is Adam's over that of
        rms(W). What a step decays, rate × decay, is Adam's.

        Args:
            size: the rms of the weight at the start, over that of the base's.
        """
        if self.adam is None:
            return self
        relative = Correction(self.adam.rate / size, self.adam.decay * size)
        return replace(self, adafactor=relative)

    def with_factor_moved(self, factor: float) -> Corrections:
        """Return those of W' = c·W, trained without c in the code, from those of W trained with it.

        c·W and W' are equal after every step: ∂L/∂W' = ∂L/∂W / c, so that ΔW' = c·ΔW takes c times
        the rate and 1/c of the ε in Adam, c² times the rate in SGD, and c times in Muon, whose
        steps have one size whatever the gradient's. (The abc symmetry of Yang and Hu 2021, "Tensor
        programs IV".) Adafactor's steps grow with the weight. What a step decays, rate × decay,
        stays.
        """
        return Corrections(
            None if self.adam is None else self.adam.times(factor, 1.0 / factor),
            None if self.sgd is None else self.sgd.times(factor**2),
            None if self.muon is None else self.muon.times(factor),
            self.adafactor,
        )

    @property
    def optimizers(self) -> tuple[Optimizer, ...]:
        """The optimizers that have a correction here."""
        return tuple(o for o in Optimizer if self.of(o) is not None)

    def __str__(self) -> str:
        """Return the factors on the learning rate that aren't 1, in words; empty for none.

        Not those of Adafactor, which are for relative steps.
        """
        known = {"adam": self.adam, "sgd": self.sgd, "muon": self.muon}
        rates = {name: c.rate for name, c in known.items() if c is not None}
        if all(rate == 1.0 for rate in rates.values()):
            return ""
        if len(set(rates.values())) == 1:
            return f"learning rate × {next(iter(rates.values())):.3g}"
        return "learning rate × " + ", ".join(f"{rate:.3g} ({n})" for n, rate in rates.items())


def optimizer_of(given: object) -> Optimizer:
    """Return which optimizer a name or a class is.

    Raises:
        ArgumentError: none for which corrections are known.

    >>> optimizer_of("adamw")
    <Optimizer.ADAMW: 'adamw'>
    """
    name = given if isinstance(given, str) else getattr(given, "__name__", repr(given))
    known = [optimizer.value for optimizer in Optimizer]
    if str(name).lower() not in known:
        raise ArgumentError(f"optimizer {name!r} isn't known here: pass one of {', '.join(known)}.")
    return Optimizer(str(name).lower())

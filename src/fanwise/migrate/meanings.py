"""What an old call asked for, in no framework's words: the step between old code and new.

A `Law` is a distribution whose parameters are source code, for `stddev=0.1 * scale` is known only
at run time. An `Argument` is one argument as it was written. `Refusal` and `Question` say why a
call is left as it stands.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final, Literal, TypeAlias

from fanwise.schemes.distributions import truncated_moments

TRUNCATED_STD: Final = truncated_moments(-2.0, 2.0)[1]
"""Standard deviation that truncation at ±2σ leaves of a standard normal: 0.8796."""

DIGITS: Final = 9
"""Significant digits of a constant that we write into code: beyond float32's."""

UNKNOWN: Final = object()
"""The value of an expression that only a run would tell."""


class Unconverted(Exception):
    """A call that is left as it stands: why, and what to write instead."""

    def __init__(self, reason: str, instead: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.instead = instead


class Refusal(Unconverted):
    """No equal exists, or the code doesn't show what was meant."""


class Question(Unconverted):
    """One answer, usually --tf-version, decides what was meant."""


@dataclass(frozen=True)
class Argument:
    """One argument: its code, its value where that is a literal, and where it was written.

    Args:
        code: the expression, as source text.
        value: the literal's value, or `UNKNOWN`.
        source: position among the call's written arguments; None where we supply it.
        default: whether it only spells out the parameter's default.
        scalar: whether it is provably one number.
        positional: whether it was written without its keyword.
    """

    code: str
    value: object = UNKNOWN
    source: int | None = None
    default: bool = False
    scalar: bool = False
    positional: bool = False

    @property
    def number(self) -> float | None:
        """The value, where it is a number."""
        if isinstance(self.value, (int, float)) and math.isfinite(self.value):
            return float(self.value)
        return None

    def _valued(self, number: float) -> Argument:
        code = _digits(number)
        return replace(self, code=code, value=float(code), default=False)

    def times(self, factor: float) -> Argument:
        """Return this number times `factor`, computed where it is a literal."""
        if self.number is not None:
            return self._valued(factor * self.number)
        return replace(self, code=f"{_digits(factor)} * {_operand(self.code)}", value=UNKNOWN)

    def squared(self) -> Argument:
        """Return this number's square, computed where it is a literal."""
        if self.number is not None:
            return self._valued(self.number**2)
        return replace(self, code=f"{_operand(self.code)} ** 2", value=UNKNOWN)

    def root(self) -> Argument:
        """Return this number's square root, computed where it is a literal."""
        if self.number is not None:
            return self._valued(math.sqrt(self.number))
        return replace(self, code=f"{_operand(self.code)} ** 0.5", value=UNKNOWN)


def _operand(code: str) -> str:
    return code if re.fullmatch(r"[\w.]+", code) else f"({code})"


def _digits(number: float) -> str:
    return repr(float(f"{number:.{DIGITS}g}"))


def literal(value: object, *, default: bool = False) -> Argument:
    """Return a value of our own as an argument."""
    code = f'"{value}"' if isinstance(value, str) else repr(value)
    return Argument(code, value, default=default, scalar=isinstance(value, (int, float)))


@dataclass(frozen=True)
class ScalingLaw:
    """Variance scale/n, n from the fans; the standard deviation is exact after truncation.

    `name` is the usual name, where the old call had it and it still says all.
    """

    scale: Argument
    mode: Argument
    distribution: Argument
    name: str = ""


@dataclass(frozen=True)
class UniformLaw:
    """Uniform on [low, high)."""

    low: Argument
    high: Argument


@dataclass(frozen=True)
class NormalLaw:
    """Normal; `truncated` means redrawn beyond two of its own, uncorrected, standard deviations."""

    mean: Argument
    std: Argument
    truncated: bool = False


@dataclass(frozen=True)
class ConstantLaw:
    """Every entry the same. `kind` keeps the old name: zeros and ones need no value."""

    kind: Literal["constant", "zeros", "ones"]
    value: Argument


@dataclass(frozen=True)
class OrthogonalLaw:
    """Haar orthogonal over (everything but the last axis, last axis), times gain."""

    gain: Argument


@dataclass(frozen=True)
class IdentityLaw:
    """The identity matrix, times gain."""

    gain: Argument


Law: TypeAlias = ScalingLaw | UniformLaw | NormalLaw | ConstantLaw | OrthogonalLaw | IdentityLaw


@dataclass(frozen=True)
class Meaning:
    """What an old call asked for: the law, the seed, and the dtype that went with it."""

    law: Law
    seed: Argument | None = None
    dtype: Argument | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class NewArgument:
    """One argument of a new call."""

    keyword: str
    given: Argument


@dataclass(frozen=True)
class NewCall:
    """A new call: the full dotted name of what is called, and its arguments in its own order."""

    callee: str
    parameters: tuple[NewArgument, ...] = ()
    verbatim: bool = False
    """The arguments stay exactly as they were written."""
    partial: bool = False
    """To be wrapped: functools.partial(callee, **parameters), or callee alone without any."""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class KnownVersion:
    """Which TensorFlow a file was written for, as far as that is known.

    Args:
        version: (major, minor), from --tf-version or from `tf.compat.v1` itself.
        api1: True where the file uses what only TensorFlow 1 had, False where only 2 has it.
        modern: the file names `tf.compat.v1`, so it is from 1.13 or later.
    """

    version: tuple[int, int] | None = None
    api1: bool | None = None
    modern: bool = False

    def corrected(self) -> bool:
        """Whether core's normal variance scaling made up for truncation: since 1.10.

        Raises:
            Question: unknown.
        """
        if self.version is not None:
            return self.version >= (1, 10)
        if self.modern or self.api1 is False:
            return True
        raise Question(
            "before TensorFlow 1.10 this drew with 0.8796 × the standard deviation it draws with "
            "since: which one was the code written for?",
            "--tf-version 1.9 or --tf-version 1.15, whichever it was",
        )

    def wide_defaults(self, what: str, today: str) -> bool:
        """Whether core's random initializers had TensorFlow 1's defaults (stddev 1, [0, 1)).

        Raises:
            Question: unknown.
        """
        if self.version is not None:
            return self.version[0] == 1
        if self.api1 is not None:
            return self.api1
        raise Question(
            f"{what} by default in TensorFlow 1, {today} in TensorFlow 2, and nothing in this "
            "file tells which it is",
            "the arguments in full, or --tf-version 1.15 or --tf-version 2.0",
        )

    def wide_keras_defaults(self, what: str, today: str) -> bool:
        """Whether tf.keras's random initializers had core's defaults: before 1.11.

        Raises:
            Question: unknown.
        """
        if self.version is not None:
            return self.version < (1, 11)
        if self.modern or self.api1 is False:
            return False
        raise Question(
            f"{what} by default in tf.keras before TensorFlow 1.11, {today} since",
            "the arguments in full, or --tf-version",
        )


@dataclass(frozen=True)
class Arguments:
    """The arguments of one old call by parameter name, defaults not filled in."""

    given: Mapping[str, Argument] = field(default_factory=dict)

    def get(self, name: str, default: object) -> Argument:
        """Return the argument, or its default."""
        return self.given.get(name, literal(default, default=True))

    def flag(self, name: str, default: bool, instead: str) -> bool:
        """Return a truth value that the code shows.

        Raises:
            Refusal: it is computed.
        """
        given = self.get(name, default)
        if given.value is UNKNOWN:
            raise Refusal(f"{name}={given.code} decides the distribution at run time", instead)
        return bool(given.value)

    def word(self, name: str, default: str, known: tuple[str, ...]) -> Argument:
        """Return one of some words, in lower case.

        Raises:
            Refusal: it is computed, or none of them.
        """
        given = self.get(name, default)
        if not isinstance(given.value, str):
            raise Refusal(
                f"{name}={given.code} is known only at run time",
                f"one of {', '.join(repr(word) for word in known)}",
            )
        word = given.value.lower()
        if word not in known:
            raise Refusal(
                f"{name}={given.code} was never valid",
                f"one of {', '.join(repr(word) for word in known)}",
            )
        code = given.code if given.value == word else given.code.replace(given.value, word)
        return replace(given, code=code, value=word)

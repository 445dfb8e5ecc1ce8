"""What one old call becomes: read, converted to the target's names, or refused with the reason."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import libcst as cst

from fanwise.migrate.arguments import bind
from fanwise.migrate.consumers import Consumer, Role, consumer
from fanwise.migrate.meanings import Arguments, Era, Meaning, NewCall, Refusal
from fanwise.migrate.names import Names, dotted_text
from fanwise.migrate.sites import Site
from fanwise.migrate.targets import CONVERTERS, Target, to_tf1

BIAS_KEYWORDS: Final = frozenset({"bias_initializer", "biases_initializer"})


IN_BOTH: Final = frozenset({"VarianceScaling", "RandomNormal", "RandomUniform", "TruncatedNormal"})
"""Today's names that tf.keras had before 1.13 too; the classes named after people came later."""


@dataclass(frozen=True)
class Options:
    """What the user asked for.

    Args:
        to: whose names to write.
        tf_version: the TensorFlow the code was written for, where known.
        simplify: give a variance scaling its usual name where it has one.
    """

    to: Target = "keras"
    tf_version: tuple[int, int] | None = None
    simplify: bool = False


@dataclass(frozen=True)
class Decision:
    """What a call becomes, what it meant, who receives it, and which calls take its dtype over."""

    site: Site
    new: NewCall
    meaning: Meaning
    found: Consumer
    dtypes: Mapping[cst.CSTNode, str] = field(default_factory=dict)


class Decider:
    """Decides the calls and names of one module."""

    def __init__(self, names: Names, options: Options, era: Era) -> None:
        self.names = names
        self.options = options
        self.era_of_file = era

    def era(self, site: Site) -> Era:
        """Return what is known of the TensorFlow that a place was written for."""
        if site.compat:
            return Era((1, 15))
        if site.todays and (site.name not in IN_BOTH or self.options.tf_version is None):
            return Era(api1=False)
        if self.options.tf_version is not None:
            return Era(self.options.tf_version)
        return self.era_of_file

    def concerns(self, site: Site) -> bool:
        """Whether a place is old at all for this target; today's Keras names are only mended."""
        return not site.todays or (self.options.to == "keras" and site.called)

    def keeps_name(self, site: Site) -> bool:
        """Whether `fanwise.tf1` has the function under its own name."""
        return self.options.to == "fanwise" and site.old.family == "contrib"

    def call(self, site: Site) -> Decision | None:
        """Return what a call becomes; None where it may stay as it is.

        Raises:
            Unconverted: it is left, for the reason given.
        """
        found = consumer(site.whole, self.names)
        if self.keeps_name(site):
            meaning = site.old.meaning(Arguments({}), Era((1, 15)))
            return Decision(site, to_tf1(site.old.name), meaning, found)
        arguments = bind(site.args, site.old.parameters, self.names)
        meaning = site.old.meaning(arguments, self.era(site))
        new = CONVERTERS[self.options.to](meaning, self.options.simplify)
        self._refuse_misfits(site, new, found)
        decision = Decision(site, new, meaning, found, self._dtypes(meaning, found))
        return decision if self._is_news(decision) else None

    def uncalled(self, site: Site) -> NewCall:
        """Return what a function or class becomes that is named and not called.

        With parameters, the new call has to be made where the name stood.

        Raises:
            Unconverted: it is left, for the reason given.
        """
        found = consumer(site.node, self.names)
        if self.keeps_name(site):
            return to_tf1(site.old.name)
        if self.options.to == "torch":
            raise Refusal(
                "a maker of initializers has no counterpart in PyTorch",
                "a function that fills a weight in place",
            )
        if site.old.factory and found.role is Role.TENSORFLOW:
            raise Refusal(
                f"{site.old.name} has to be called before a layer can use it",
                f"{dotted_text(site.node)}()",
            )
        new = self.default(site)
        if new.parameters and found.role is not Role.TENSORFLOW:
            raise Refusal(
                f"uncalled, today's {new.callee.rsplit('.', 1)[-1]} has other defaults",
                f"functools.partial({new.callee}{spelled(new)})",
            )
        return new

    def default(self, site: Site) -> NewCall:
        """Return what the old name becomes when it is called without arguments.

        Raises:
            Unconverted: the code doesn't show it.
        """
        if self.keeps_name(site):
            return to_tf1(site.old.name)
        meaning = site.old.meaning(Arguments({}), self.era(site))
        return CONVERTERS[self.options.to](meaning, self.options.simplify)

    def _is_news(self, decision: Decision) -> bool:
        """Whether a call under today's name has to change at all."""
        site, new = decision.site, decision.new
        if not site.todays or decision.dtypes:
            return True
        written = sorted("".join(self.names.code(arg.value).split()) for arg in site.args)
        wanted = sorted("".join(parameter.given.code.split()) for parameter in new.parameters)
        return new.callee.rsplit(".", 1)[-1] != site.name or written != wanted

    # What doesn't fit where it would go.

    def _refuse_misfits(self, site: Site, new: NewCall, found: Consumer) -> None:
        if self.options.to == "torch":
            self._refuse_for_torch(site, new, found)
        quoted = any(p.given.source is None and '"' in p.given.code for p in new.parameters)
        if quoted and self.names.in_fstring(site.whole):
            raise Refusal(
                "it stands in an f-string, which a new quote would end before Python 3.12",
                f"a name for {new.callee}({spelled(new).removeprefix(', ')}) on a line before it",
            )
        if site.old.name == "uniform_unit_scaling" and found.keyword in BIAS_KEYWORDS:
            raise Refusal(
                "on one axis TensorFlow 1 took fan_in as 1, Keras takes the axis's length",
                "keras.initializers.RandomUniform(-limit, limit) with limit = √3 · factor",
            )
        for call in self._applications(found):
            if len(call.args) > 2 or any(_keyword(arg) == "partition_info" for arg in call.args):
                raise Refusal("Keras's initializers know no partition_info", "shape and dtype")

    def _refuse_for_torch(self, site: Site, new: NewCall, found: Consumer) -> None:
        """Torch's initializers fill a tensor in place, so who receives one must know that."""
        if site.partial:
            raise Refusal(
                "a maker of initializers has no counterpart in PyTorch",
                "a function that fills a weight in place",
            )
        line = f"{new.callee}(layer.weight{spelled(new)})"
        readers = [consumer(reader, self.names) for reader in found.readers]
        if Role.TENSORFLOW in (found.role, *(reader.role for reader in readers)):
            raise Refusal("TensorFlow receives it, and PyTorch fills a weight in place", line)
        if self._applications(found):
            raise Refusal(
                "it is applied to a shape in TensorFlow's order, (…, in, out); PyTorch fills a "
                "tensor in its own, (out, in, …)",
                line,
            )

    def _applications(self, found: Consumer) -> list[cst.Call]:
        """Return the calls that apply the initializer to a shape."""
        received = [found, *(consumer(reader, self.names) for reader in found.readers)]
        return [c.call for c in received if c.role is Role.APPLIED and c.call is not None]

    def _dtypes(self, meaning: Meaning, found: Consumer) -> dict[cst.CSTNode, str]:
        """Return the calls that take the dtype over: those that apply the initializer.

        A variable gives its own dtype to its initializer, so there nothing is lost.
        """
        if meaning.dtype is None or self.options.to == "torch":
            return {}
        code = meaning.dtype.code
        receivers = [found]
        if found.role is Role.NAMED:
            receivers = [consumer(reader, self.names) for reader in found.readers]
        if not receivers or any(r.role not in (Role.APPLIED, Role.TENSORFLOW) for r in receivers):
            raise Refusal(
                f"dtype={code} belongs to the weight today, and the code doesn't show where that "
                "is made",
                f"dtype={code} where the weight is made",
            )
        return {call: code for call in self._applications(found) if not _has_dtype(call)}


def _keyword(arg: cst.Arg) -> str:
    return "" if arg.keyword is None else arg.keyword.value


def _has_dtype(call: cst.Call) -> bool:
    if any(arg.star for arg in call.args):
        raise Refusal("a dtype may be hidden in * or **", "the arguments in full")
    positional = [arg for arg in call.args if arg.keyword is None]
    return len(positional) > 1 or any(_keyword(arg) == "dtype" for arg in call.args)


def spelled(new: NewCall) -> str:
    """Return a new call's arguments as text, each after a comma.

    >>> spelled(NewCall("keras.initializers.GlorotUniform"))
    ''
    """
    return "".join(f", {p.keyword}={' '.join(p.given.code.split())}" for p in new.parameters)

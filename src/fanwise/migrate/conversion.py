"""What one old call becomes: read, converted to today's names, or refused with the reason."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import libcst as cst

from fanwise.migrate.arguments import bind
from fanwise.migrate.meanings import (
    Arguments,
    ConstantLaw,
    IdentityLaw,
    KnownVersion,
    Meaning,
    NewCall,
    Refusal,
)
from fanwise.migrate.mentions import Mention
from fanwise.migrate.module_names import ModuleNames, dotted_text
from fanwise.migrate.options import Options
from fanwise.migrate.receivers import Receiver, ReceiverKind, is_shared, receiver_of
from fanwise.migrate.todays_calls import TODAYS_CALLS, tf1_call

BIAS_KEYWORDS: Final = frozenset({"bias_initializer", "biases_initializer"})


IN_BOTH: Final = frozenset({"VarianceScaling", "RandomNormal", "RandomUniform", "TruncatedNormal"})
"""Today's names that tf.keras had before 1.13 too; the classes named after people came later."""


@dataclass(frozen=True)
class Conversion:
    """What a call becomes, what it meant, who receives it, and which calls take its dtype over."""

    mention: Mention
    new: NewCall
    meaning: Meaning
    found: Receiver
    dtypes: Mapping[cst.CSTNode, str] = field(default_factory=dict)
    shared: bool = False
    """It may serve several weights, so it went to an initializer that draws anew for each."""


class Converter:
    """Converts the calls and names of one module, one at a time."""

    def __init__(self, names: ModuleNames, options: Options, version: KnownVersion) -> None:
        self.names = names
        self.options = options
        self.file_version = version

    def version(self, mention: Mention) -> KnownVersion:
        """Return what is known of the TensorFlow that a place was written for."""
        if mention.compat:
            return KnownVersion((1, 15))
        if mention.todays and (mention.name not in IN_BOTH or self.options.tf_version is None):
            return KnownVersion(api1=False)
        if self.options.tf_version is not None:
            return KnownVersion(self.options.tf_version)
        if mention.fallback:  # tf.compat.v1 has version 1's interface, and so has what lacks it.
            return KnownVersion(api1=True, modern=True)
        return self.file_version

    def is_old(self, mention: Mention) -> bool:
        """Whether a place is old at all for this target; today's Keras names are only mended."""
        return not mention.todays or (self.options.to == "keras" and mention.called)

    def keeps_name(self, mention: Mention) -> bool:
        """Whether `fanwise.tf1` has the function under its own name."""
        return self.options.to == "fanwise" and mention.old.family == "contrib"

    def call(self, mention: Mention) -> Conversion | None:
        """Return what a call becomes; None where it may stay as it is.

        Raises:
            Unconverted: it is left, for the reason given.
        """
        found = receiver_of(mention.whole, self.names)
        if self.keeps_name(mention):
            meaning = mention.old.meaning(Arguments({}), KnownVersion((1, 15)))
            return Conversion(mention, tf1_call(mention.old.name), meaning, found)
        arguments = bind(mention.args, mention.old.parameters, self.names)
        meaning = mention.old.meaning(arguments, self.version(mention))
        shared = not mention.partial and self._serves_several(meaning, mention.whole)
        new = self._todays(meaning, shared)
        self._refuse_misfits(mention, new, found)
        dtypes = self._dtypes(meaning, found)
        conversion = Conversion(mention, new, meaning, found, dtypes, shared)
        return conversion if self._is_news(conversion) else None

    def uncalled(self, mention: Mention) -> NewCall:
        """Return what a function or class becomes that is named and not called.

        With parameters, the new call has to be made where the name stood.

        Raises:
            Unconverted: it is left, for the reason given.
        """
        found = receiver_of(mention.node, self.names)
        if self.keeps_name(mention):
            return tf1_call(mention.old.name)
        if self.options.to == "torch":
            raise Refusal(
                "a maker of initializers has no counterpart in PyTorch",
                "a function that fills a weight in place",
            )
        if mention.old.factory and found.kind is ReceiverKind.TENSORFLOW:
            raise Refusal(
                f"{mention.old.name} has to be called before a layer can use it",
                f"{dotted_text(mention.node)}()",
            )
        new = self.default(mention)
        if new.parameters and found.kind is not ReceiverKind.TENSORFLOW:
            raise Refusal(
                f"uncalled, today's {new.callee.rsplit('.', 1)[-1]} has other defaults",
                f"functools.partial({new.callee}{spelled(new)})",
            )
        if new.parameters:  # A class made one for each weight; what replaces it is one for all.
            meaning = self._default_meaning(mention)
            return self._todays(meaning, self._serves_several(meaning, mention.node))
        return new

    def default(self, mention: Mention) -> NewCall:
        """Return what the old name becomes when it is called without arguments.

        Raises:
            Unconverted: the code doesn't show it.
        """
        if self.keeps_name(mention):
            return tf1_call(mention.old.name)
        return self._todays(self._default_meaning(mention), shared=False)

    def _default_meaning(self, mention: Mention) -> Meaning:
        return mention.old.meaning(Arguments({}), self.version(mention))

    def _todays(self, meaning: Meaning, shared: bool) -> NewCall:
        return TODAYS_CALLS["fanwise" if shared else self.options.to](
            meaning, self.options.simplify
        )

    def _serves_several(self, meaning: Meaning, node: cst.CSTNode) -> bool:
        """Whether one Keras initializer would give several weights the same values.

        A seeded one gave them the same in TensorFlow 1 too; fanwise's and PyTorch's draw anew.
        """
        random = not isinstance(meaning.law, (ConstantLaw, IdentityLaw)) and meaning.seed is None
        return self.options.to == "keras" and random and is_shared(node, self.names)

    def _is_news(self, conversion: Conversion) -> bool:
        """Whether a call under today's name has to change at all."""
        mention, new = conversion.mention, conversion.new
        if not mention.todays or conversion.dtypes:
            return True
        written = sorted("".join(self.names.code(arg.value).split()) for arg in mention.args)
        wanted = sorted("".join(parameter.given.code.split()) for parameter in new.parameters)
        return new.callee.rsplit(".", 1)[-1] != mention.name or written != wanted

    # What doesn't fit where it would go.

    def _refuse_misfits(self, mention: Mention, new: NewCall, found: Receiver) -> None:
        if self.options.to == "torch":
            self._refuse_for_torch(mention, new, found)
        quoted = any(p.given.source is None and '"' in p.given.code for p in new.parameters)
        if quoted and self.names.in_fstring(mention.whole):
            raise Refusal(
                "it stands in an f-string, which a new quote would end before Python 3.12",
                f"a name for {new.callee}({spelled(new).removeprefix(', ')}) on a line before it",
            )
        if mention.old.name == "uniform_unit_scaling" and found.keyword in BIAS_KEYWORDS:
            raise Refusal(
                "on one axis TensorFlow 1 took fan_in as 1, Keras takes the axis's length",
                "keras.initializers.RandomUniform(-limit, limit) with limit = √3 · factor",
            )
        for call in self._applications(found):
            if len(call.args) > 2 or any(_keyword(arg) == "partition_info" for arg in call.args):
                raise Refusal("Keras's initializers know no partition_info", "shape and dtype")

    def _refuse_for_torch(self, mention: Mention, new: NewCall, found: Receiver) -> None:
        """Torch's initializers fill a tensor in place, so who receives one must know that."""
        if mention.partial:
            raise Refusal(
                "a maker of initializers has no counterpart in PyTorch",
                "a function that fills a weight in place",
            )
        line = f"{new.callee}(layer.weight{spelled(new)})"
        readers = [receiver_of(reader, self.names) for reader in found.readers]
        if ReceiverKind.TENSORFLOW in (found.kind, *(reader.kind for reader in readers)):
            raise Refusal("TensorFlow receives it, and PyTorch fills a weight in place", line)
        if self._applications(found):
            raise Refusal(
                "it is applied to a shape in TensorFlow's order, (…, in, out); PyTorch fills a "
                "tensor in its own, (out, in, …)",
                line,
            )

    def _applications(self, found: Receiver) -> list[cst.Call]:
        """Return the calls that apply the initializer to a shape."""
        received = [found, *(receiver_of(reader, self.names) for reader in found.readers)]
        return [c.call for c in received if c.kind is ReceiverKind.APPLIED and c.call is not None]

    def _dtypes(self, meaning: Meaning, found: Receiver) -> dict[cst.CSTNode, str]:
        """Return the calls that take the dtype over: those that apply the initializer.

        A variable gives its own dtype to its initializer, so there nothing is lost.
        """
        if meaning.dtype is None or self.options.to == "torch":
            return {}
        code = meaning.dtype.code
        receivers = [found]
        if found.kind is ReceiverKind.NAMED:
            receivers = [receiver_of(reader, self.names) for reader in found.readers]
        if not receivers or any(
            r.kind not in (ReceiverKind.APPLIED, ReceiverKind.TENSORFLOW) for r in receivers
        ):
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

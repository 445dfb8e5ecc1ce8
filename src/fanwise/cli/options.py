"""The options that several commands share, and what their texts stand for."""

from __future__ import annotations

import re
from collections.abc import Callable
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fanwise.errors import ArgumentError

if TYPE_CHECKING:
    from fanwise.planning.rules import Rule

POLICY_NAMES = (
    "auto none gpt2 neox small_init deepnorm t_fixup fixup skip_init rezero sub_ln zero "
    "mup critical wang2 mitchell completep depth_mup spectral everett u_mup admin ngpt"
).split()
"""`fanwise.policies.auto.POLICIES`, which costs a tenth of a second to import for a help text."""

TargetArgument = Annotated[
    str,
    typer.Argument(
        metavar="TARGET",
        help="file.py:name or package.module:name; a model, or a function that returns one, "
        "or a function that returns (model, inputs), or for a function of JAX's (function, inputs, "
        "params).",
    ),
]

InputOption = Annotated[
    list[str] | None,
    typer.Option(
        "--input",
        "-i",
        metavar="SHAPE[:DTYPE]",
        help="An example input, such as 8x3x32x32 or 8x128:int64; once for each argument. "
        "name=8x3x32x32 gives a keyword argument.",
    ),
]

PolicyOption = Annotated[
    str,
    typer.Option("--policy", help=f"What depth asks for: {', '.join(POLICY_NAMES)}."),
]

RuleOption = Annotated[
    list[str] | None,
    typer.Option(
        "--rule",
        "-r",
        metavar="WHERE=SCHEME",
        help="Your own choice: WHERE is a glob on the name, role:ROLE or type:MODULE; SCHEME a "
        "name such as zeros or he_normal, or none to leave alone. The first that matches wins.",
    ),
]

KeepOption = Annotated[
    str,
    typer.Option(
        "--keep",
        help="designs: leave what the model's code sets on purpose; nothing: draw all anew.",
    ),
]

FrameworkOption = Annotated[
    str | None,
    typer.Option(
        "--framework", help="torch, keras or jax: whose model it is, where that can't be seen."
    ),
]

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")]

SeedOption = Annotated[int, typer.Option("--seed", help="An integer in [0, 2**64).")]


class NamesOf(StrEnum):
    """Whose names `fanwise migrate` writes."""

    keras = "keras"
    torch = "torch"
    fanwise = "fanwise"


def integers_from(option: str, text: str) -> list[int]:
    """Return the integers of a text such as 64,128,256.

    Raises:
        ArgumentError: a text of something else.
    """
    if not re.fullmatch(r"\d+(,\d+)*", text):
        raise ArgumentError(f"{option}: write integers, commas between, got {text!r}.")
    return [int(number) for number in text.split(",")]


def inputs_from(texts: list[str] | None, framework: str = "torch") -> Any:
    """Return example inputs from SHAPE[:DTYPE] texts: normal floats, small integers.

    Args:
        texts: of --input.
        framework: whose arrays: PyTorch's, or for others NumPy's.

    Returns:
        A tuple of positional arrays, a dict of named ones, or None without texts.

    Raises:
        ArgumentError: a text that can't be read, or some inputs named and others not.
    """
    if not texts:
        return None
    make = _torch_inputs() if framework == "torch" else _numpy_inputs()
    positional, named = [], {}
    for text in texts:
        found = re.fullmatch(r"(?:(\w+)=)?(\d+(?:x\d+)*)(?::(\w+))?", text)
        value = (
            make([int(n) for n in found[2].split("x")], found[3] or "float32") if found else None
        )
        if not found or value is None:
            raise ArgumentError(
                f"--input {text!r} can't be read: write a shape and a dtype, such as 8x3x32x32 or "
                "tokens=8x128:int64."
            )
        if found[1]:
            named[found[1]] = value
        else:
            positional.append(value)
    if named and positional:
        raise ArgumentError("--input: name every input, or none.")
    return named or tuple(positional)


MakeInput = Callable[[list[int], str], Any]
"""From a shape and the name of a dtype to an array; None for a name that stands for none."""


def _torch_inputs() -> MakeInput:
    import torch

    generator = torch.Generator().manual_seed(0)

    def make(shape: list[int], name: str) -> Any:
        dtype = getattr(torch, name, None)
        if not isinstance(dtype, torch.dtype):
            return None
        if dtype.is_floating_point or dtype.is_complex:
            return torch.randn(shape, generator=generator, dtype=dtype)
        return torch.randint(0, 2, shape, generator=generator).to(dtype)

    return make


def _numpy_inputs() -> MakeInput:
    import numpy as np

    generator = np.random.default_rng(0)

    def make(shape: list[int], name: str) -> Any:
        try:
            dtype = np.dtype(name)  # JAX and TensorFlow have registered bfloat16
        except TypeError:
            return None
        if dtype.kind in "iub":
            return generator.integers(0, 2, shape).astype(dtype)
        return generator.standard_normal(shape, np.float32).astype(dtype)

    return make


def rules_from(texts: list[str] | None) -> tuple[Rule, ...]:
    """Return rules from WHERE=SCHEME texts; the scheme `none` leaves a parameter alone.

    Raises:
        ArgumentError: a text that can't be read, or an unknown scheme.
    """
    from fanwise.planning.rules import Rule
    from fanwise.schemes import get

    rules = []
    for text in texts or ():
        where, equals, scheme = text.rpartition("=")
        if not equals or not where or not scheme:
            raise ArgumentError(
                f"--rule {text!r} can't be read: write WHERE=SCHEME, such as '*.head.weight=zeros' "
                "or 'type:Embedding=none'."
            )
        rules.append(Rule(where, None if scheme == "none" else get(scheme)))
    return tuple(rules)

"""What a meaning is called today: in Keras, in PyTorch, in fanwise.

Each function returns the new call, or raises `Refusal` where today's name draws something else.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Literal, TypeAlias

from fanwise.migrate.meanings import (
    Constant,
    Given,
    Identity,
    Meaning,
    NewCall,
    Normal,
    Orthogonal,
    Parameter,
    Refusal,
    Scaling,
    Uniform,
    literal,
)

Target: TypeAlias = Literal["keras", "torch", "fanwise"]

KERAS: Final = "keras.initializers"
FANWISE_KERAS: Final = "fanwise.keras.initializers"
FANWISE_TF1: Final = "fanwise.tf1"
TORCH: Final = "torch.nn.init"

NAMED: Final = {
    (1.0, "fan_avg", "uniform"): "GlorotUniform",
    (1.0, "fan_avg", "truncated_normal"): "GlorotNormal",
    (2.0, "fan_in", "uniform"): "HeUniform",
    (2.0, "fan_in", "truncated_normal"): "HeNormal",
    (1.0, "fan_in", "uniform"): "LecunUniform",
    (1.0, "fan_in", "truncated_normal"): "LecunNormal",
}
"""Variance scalings that have a name of their own: the same distribution, exactly."""


def to_keras(meaning: Meaning, *, simplify: bool = False, module: str = KERAS) -> NewCall:
    """Return the Keras initializer of the same distribution; dtype is placed by the caller."""
    name, values = _keras(meaning, simplify)
    seed = {} if meaning.seed is None else {"seed": meaning.seed}
    parameters = tuple(
        Parameter(keyword, given) for keyword, given in (values | seed).items() if not given.default
    )
    return NewCall(f"{module}.{name}", parameters, notes=meaning.notes)


def _keras(meaning: Meaning, simplify: bool) -> tuple[str, dict[str, Given]]:
    match meaning.law:
        case Scaling(scale, mode, distribution, name):
            name = name or (_simple_name(meaning.law) if simplify else "")
            scaling = {"scale": scale, "mode": mode, "distribution": distribution}
            return (name, {}) if name else ("VarianceScaling", scaling)
        case Uniform(low, high):
            return "RandomUniform", {"minval": low, "maxval": high}
        case Normal(mean, std, truncated):
            name = "TruncatedNormal" if truncated else "RandomNormal"
            return name, {"mean": mean, "stddev": std}
        case Constant(kind, value):
            return kind.capitalize(), {"value": value}
        case Orthogonal(gain):
            return "Orthogonal", {"gain": gain}
        case Identity(gain):
            return "Identity", {"gain": gain}


def _simple_name(law: Scaling) -> str:
    if law.scale.number is None:
        return ""
    return NAMED.get((law.scale.number, str(law.mode.value), str(law.distribution.value)), "")


def to_torch(meaning: Meaning) -> NewCall:
    """Return the in-place function that fills a PyTorch weight with the same distribution.

    Raises:
        Refusal: torch.nn.init has no function that draws it.
    """
    name, values = _torch(meaning)
    if meaning.seed is not None:
        code = f"torch.Generator().manual_seed({meaning.seed.code})"
        values["generator"] = Given(code, source=meaning.seed.source)
    parameters = tuple(Parameter(keyword, given) for keyword, given in values.items())
    return NewCall(f"{TORCH}.{name}", parameters, partial=True, notes=meaning.notes)


def _torch(meaning: Meaning) -> tuple[str, dict[str, Given]]:
    match meaning.law:
        case Scaling():
            return _torch_scaling(meaning.law)
        case Uniform(low, high):
            return "uniform_", {"a": low, "b": high}
        case Normal(mean, std, truncated=False):
            return "normal_", {"mean": mean, "std": std}
        case Normal(mean, std):
            return "trunc_normal_", _torch_truncation(mean, std)
        case Constant("constant", value):
            return "constant_", {"val": value}
        case Constant(kind, _):
            return f"{kind}_", {}
        case Orthogonal(gain):
            return "orthogonal_", {} if gain.default else {"gain": gain}
        case Identity(gain) if gain.number == 1.0:
            return "eye_", {}
        case Identity(gain):
            raise Refusal(
                "torch.nn.init.eye_ has no gain", f"eye_(weight), then weight *= {gain.code}"
            )


def _torch_scaling(law: Scaling) -> tuple[str, dict[str, Given]]:
    mode, shape = str(law.mode.value), str(law.distribution.value)
    if shape == "truncated_normal":
        raise Refusal(
            "torch.nn.init has no variance scaling of a truncated normal",
            f"fanwise.torch.draw(schemes.VarianceScaling({law.scale.code}, {mode!r}, "
            f"'truncated_normal'), …), or {_nearest(mode)}: the same variance, longer tails",
        )
    suffix = "uniform_" if shape == "uniform" else "normal_"
    if mode == "fan_avg":
        gain = law.scale.root()
        return f"xavier_{suffix}", {} if gain.number == 1.0 else {"gain": gain}
    given = {} if mode == "fan_in" else {"mode": literal(mode)}
    return f"kaiming_{suffix}", given | _kaiming_gain(law.scale)


def _nearest(mode: str) -> str:
    return "xavier_normal_" if mode == "fan_avg" else f"kaiming_normal_(mode={mode!r})"


def _kaiming_gain(scale: Given) -> dict[str, Given]:
    """Kaiming's gain is chosen through an activation: gain² = 2/(1 + a²) for a leaky ReLU."""
    if scale.number == 1.0:
        return {"nonlinearity": literal("linear")}
    if scale.number == 2.0:
        return {"nonlinearity": literal("relu")}
    if scale.number is not None and 0 < scale.number < 2.0:
        return {"a": Given("1.0", 1.0).times((2.0 / scale.number - 1.0) ** 0.5)}
    raise Refusal(
        f"torch.nn.init's kaiming functions can't express the scale {scale.code}",
        "fanwise.torch.draw(schemes.VarianceScaling(…), …)",
    )


def _torch_truncation(mean: Given, std: Given) -> dict[str, Given]:
    """trunc_normal_ takes its bounds as values, not as standard deviations."""
    if mean.number is not None and std.number is not None:
        low, high = (literal(mean.number + sign * 2.0 * std.number) for sign in (-1, 1))
    elif std.code.replace(".", "").replace("_", "").isalnum() and mean.number == 0.0:
        low, high = Given(f"-2 * {std.code}"), Given(f"2 * {std.code}")
    else:
        raise Refusal(
            "trunc_normal_ needs its bounds as values, and these would compute "
            f"{mean.code} and {std.code} more than once",
            "trunc_normal_(weight, mean, std, a=mean - 2 * std, b=mean + 2 * std)",
        )
    return {"mean": mean, "std": std, "a": low, "b": high}


def to_fanwise(meaning: Meaning, *, simplify: bool = False) -> NewCall:
    """Return fanwise's Keras initializer of the same distribution.

    The functions of contrib don't come here: `fanwise.tf1` keeps their names and arguments.
    """
    return to_keras(meaning, simplify=simplify, module=FANWISE_KERAS)


def to_tf1(name: str) -> NewCall:
    """Return contrib's function under its own name in `fanwise.tf1`, arguments as they were."""
    return NewCall(f"{FANWISE_TF1}.{name}", verbatim=True)


CONVERTERS: Final[dict[Target, Callable[[Meaning, bool], NewCall]]] = {
    "keras": lambda meaning, simplify: to_keras(meaning, simplify=simplify),
    "torch": lambda meaning, simplify: to_torch(meaning),
    "fanwise": lambda meaning, simplify: to_fanwise(meaning, simplify=simplify),
}

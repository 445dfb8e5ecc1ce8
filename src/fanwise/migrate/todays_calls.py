"""Today's call for the distribution that an old one drew: in Keras, in PyTorch, in fanwise.

Each function returns the new call, or raises `Refusal` where today's name draws something else.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from fanwise.migrate.meanings import (
    Argument,
    ConstantLaw,
    IdentityLaw,
    Meaning,
    NewArgument,
    NewCall,
    NormalLaw,
    OrthogonalLaw,
    Refusal,
    ScalingLaw,
    UniformLaw,
    literal,
)
from fanwise.migrate.options import Destination

KERAS_MODULE: Final = "keras.initializers"
FANWISE_KERAS_MODULE: Final = "fanwise.keras.initializers"
FANWISE_TF1_MODULE: Final = "fanwise.tf1"
TORCH_MODULE: Final = "torch.nn.init"

NAMED_SCALINGS: Final = {
    (1.0, "fan_avg", "uniform"): "GlorotUniform",
    (1.0, "fan_avg", "truncated_normal"): "GlorotNormal",
    (2.0, "fan_in", "uniform"): "HeUniform",
    (2.0, "fan_in", "truncated_normal"): "HeNormal",
    (1.0, "fan_in", "uniform"): "LecunUniform",
    (1.0, "fan_in", "truncated_normal"): "LecunNormal",
}
"""Variance scalings that have a name of their own: the same distribution, exactly."""


def keras_call(meaning: Meaning, *, simplify: bool = False, module: str = KERAS_MODULE) -> NewCall:
    """Return the Keras initializer of the same distribution; dtype is placed by the caller."""
    name, values = _keras(meaning, simplify)
    seed = {} if meaning.seed is None else {"seed": meaning.seed}
    parameters = tuple(
        NewArgument(keyword, given)
        for keyword, given in (values | seed).items()
        if not given.default
    )
    return NewCall(f"{module}.{name}", parameters, notes=meaning.notes)


def _keras(meaning: Meaning, simplify: bool) -> tuple[str, dict[str, Argument]]:
    match meaning.law:
        case ScalingLaw(scale, mode, distribution, name):
            name = name or (_simple_name(meaning.law) if simplify else "")
            scaling = {"scale": scale, "mode": mode, "distribution": distribution}
            return (name, {}) if name else ("VarianceScaling", scaling)
        case UniformLaw(low, high):
            return "RandomUniform", {"minval": low, "maxval": high}
        case NormalLaw(mean, std, truncated):
            name = "TruncatedNormal" if truncated else "RandomNormal"
            return name, {"mean": mean, "stddev": std}
        case ConstantLaw(kind, value):
            return kind.capitalize(), {"value": value}
        case OrthogonalLaw(gain):
            return "Orthogonal", {"gain": gain}
        case IdentityLaw(gain):
            return "Identity", {"gain": gain}


def _simple_name(law: ScalingLaw) -> str:
    if law.scale.number is None:
        return ""
    return NAMED_SCALINGS.get(
        (law.scale.number, str(law.mode.value), str(law.distribution.value)), ""
    )


def torch_call(meaning: Meaning) -> NewCall:
    """Return the in-place function that fills a PyTorch weight with the same distribution.

    Raises:
        Refusal: torch.nn.init has no function that draws it.
    """
    name, values = _torch(meaning)
    if meaning.seed is not None:
        code = f"torch.Generator().manual_seed({meaning.seed.code})"
        values["generator"] = Argument(code, source=meaning.seed.source)
    parameters = tuple(NewArgument(keyword, given) for keyword, given in values.items())
    return NewCall(f"{TORCH_MODULE}.{name}", parameters, partial=True, notes=meaning.notes)


def _torch(meaning: Meaning) -> tuple[str, dict[str, Argument]]:
    match meaning.law:
        case ScalingLaw():
            return _torch_scaling(meaning.law)
        case UniformLaw(low, high):
            return "uniform_", {"a": low, "b": high}
        case NormalLaw(mean, std, truncated=False):
            return "normal_", {"mean": mean, "std": std}
        case NormalLaw(mean, std):
            return "trunc_normal_", _torch_truncation(mean, std)
        case ConstantLaw("constant", value):
            return "constant_", {"val": value}
        case ConstantLaw(kind, _):
            return f"{kind}_", {}
        case OrthogonalLaw(gain):
            return "orthogonal_", {} if gain.default else {"gain": gain}
        case IdentityLaw(gain) if gain.number == 1.0:
            return "eye_", {}
        case IdentityLaw(gain):
            raise Refusal(
                "torch.nn.init.eye_ has no gain", f"eye_(weight), then weight *= {gain.code}"
            )


def _torch_scaling(law: ScalingLaw) -> tuple[str, dict[str, Argument]]:
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


def _kaiming_gain(scale: Argument) -> dict[str, Argument]:
    """Kaiming's gain is chosen through an activation: gain² = 2/(1 + a²) for a leaky ReLU."""
    if scale.number == 1.0:
        return {"nonlinearity": literal("linear")}
    if scale.number == 2.0:
        return {"nonlinearity": literal("relu")}
    if scale.number is not None and 0 < scale.number < 2.0:
        return {"a": Argument("1.0", 1.0).times((2.0 / scale.number - 1.0) ** 0.5)}
    raise Refusal(
        f"torch.nn.init's kaiming functions can't express the scale {scale.code}",
        "fanwise.torch.draw(schemes.VarianceScaling(…), …)",
    )


def _torch_truncation(mean: Argument, std: Argument) -> dict[str, Argument]:
    """trunc_normal_ takes its bounds as values, not as standard deviations."""
    if mean.number is not None and std.number is not None:
        low, high = (literal(mean.number + sign * 2.0 * std.number) for sign in (-1, 1))
    elif std.code.replace(".", "").replace("_", "").isalnum() and mean.number == 0.0:
        low, high = Argument(f"-2 * {std.code}"), Argument(f"2 * {std.code}")
    else:
        raise Refusal(
            "trunc_normal_ needs its bounds as values, and these would compute "
            f"{mean.code} and {std.code} more than once",
            "trunc_normal_(weight, mean, std, a=mean - 2 * std, b=mean + 2 * std)",
        )
    return {"mean": mean, "std": std, "a": low, "b": high}


def fanwise_call(meaning: Meaning, *, simplify: bool = False) -> NewCall:
    """Return fanwise's Keras initializer of the same distribution.

    The functions of contrib don't come here: `fanwise.tf1` keeps their names and arguments.
    """
    return keras_call(meaning, simplify=simplify, module=FANWISE_KERAS_MODULE)


def tf1_call(name: str) -> NewCall:
    """Return contrib's function under its own name in `fanwise.tf1`, arguments as they were."""
    return NewCall(f"{FANWISE_TF1_MODULE}.{name}", verbatim=True)


TODAYS_CALLS: Final[dict[Destination, Callable[[Meaning, bool], NewCall]]] = {
    "keras": lambda meaning, simplify: keras_call(meaning, simplify=simplify),
    "torch": lambda meaning, simplify: torch_call(meaning),
    "fanwise": lambda meaning, simplify: fanwise_call(meaning, simplify=simplify),
}

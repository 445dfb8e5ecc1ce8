"""What third-party models are known to miss, and why: asserted as it stands."""

from __future__ import annotations

REASONS: list[tuple[str, str, dict[str, str]]] = [
    (
        "a mixture's weights and covariances enter by a softmax and a triangular solve, of which "
        "no scale follows: a rule must say what they are",
        "plan",
        {"zuko": "GMM"},
    ),
    (
        "a mask gives each unit another number of inputs, and those with many feed few",
        "factor 2",
        {
            "zuko": "MAF; NSF; SOSPF; NCSF; UNAF; MaskedMLP",
            "nflows": "MaskedAutoregressiveFlow; MaskedAffineAutoregressiveTransform; "
            "MaskedPiecewiseRationalQuadraticAutoregressiveTransform",
        },
    ),
    (
        "weights enter by their absolute values, and what is positive adds up",
        "factor 2",
        {"zuko": "NAF; MonotonicMLP"},
    ),
    (
        "reflections by one set of vectors after another: each depends on those before",
        "factor 2",
        {"nflows": "QRLinear; SVDLinear"},
    ),
    (
        "its kernels run in code that PyTorch compiled, with paths of a few entries each",
        "factor 2",
        {"e3nn": "SimpleNetwork"},
    ),
    (
        "no normalization between its convolutions: what one draw adds is carried along",
        "factor 2",
        {"torchvision": "alexnet; squeezenet1_1; vgg11"},
    ),
    (
        "what squeeze and excitation pool from a few pixels of few channels",
        "factor 2",
        {"torchvision": "MaxVit"},
    ),
    (
        "values meet in an exponential and a logarithm, which samples of independent ones miss",
        "factor 2",
        {"x-transformers": "LASER"},
    ),
    (
        "what one layer leaves in a few frequencies is smooth, which one covariance for all pairs "
        "of positions doesn't say",
        "factor 2",
        {"neuraloperator": "FNO; FNO, 3d"},
    ),
    (
        "attention between functions of one channel, with factors of one entry: narrow",
        "factor 2",
        {"neuraloperator": "CODANO"},
    ),
    (
        "linear attention divides a sum of rectified products by another of the same keys",
        "factor 2",
        {"diffusers": "SanaTransformer2DModel"},
    ),
    (
        "not explained yet",
        "factor 2",
        {"diffusers": "UVit2DModel"},
    ),
    (
        "which code is the nearest isn't followed: its decoder has no prediction",
        "factor 2",
        {"encodec": "EncodecModel"},
    ),
    (
        "several streams are read and written by gates of what is in them",
        "factor 2",
        {"x-transformers": "gated multi-residual"},
    ),
]
"""Why, the check, and the models of each package that miss it, apart by semicolons."""

KNOWN: dict[str, dict[str, str]] = {}
for why, check, packages in REASONS:
    for package, models in packages.items():
        for model in models.split("; "):
            KNOWN.setdefault(f"{package}: {model}", {})[check] = why
"""By model, as ``"package: name"``: the checks it misses, each with the reason."""

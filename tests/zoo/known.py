"""What each model is known to miss, and why: asserted as it stands, so that a mend shows."""

from __future__ import annotations

REASONS: list[tuple[str, dict[str, str]]] = [
    (
        "attention over blocks and global tokens joined by `cat`; its keys are counted wrongly",
        {
            "xlnet": "predicted, factor 2",
        },
    ),
    (
        "positions of one picture are alike, and a class token is smaller than they are",
        {
            "levit": "factor 2",
            "dpt": "factor 2, median",
        },
    ),
    (
        "a scaler divides by statistics over time, which isn't seen as a norm",
        {
            "time-series-transformer": "factor 2",
        },
    ),
    (
        "a division of two signals has no equation yet",
        {
            "nn.LocalResponseNorm": "median",
        },
    ),
    (
        "sums over neighbours are counted with the mean degree, and their division isn't seen",
        {
            "GCNConv": "factor 2, median",
            "GINConv": "median",
        },
    ),
    (
        "channels with few taps and inputs with a mean: the input of the next layer isn't normal",
        {
            "nn.Conv1d, nn.ConvTranspose1d": "median",
        },
    ),
    (
        "a weight met twice, once transposed, is not independent of its input",
        {
            "autoencoder, transposed ties": "median",
        },
    ),
]
"""Why, and the checks that each of these models misses."""

KNOWN: dict[str, dict[str, str]] = {
    model: dict.fromkeys(checks.split(", "), why)
    for why, models in REASONS
    for model, checks in models.items()
}

"""What each model is known to miss, and why: asserted as it stands, so that a mend shows."""

from __future__ import annotations

REASONS: list[tuple[str, dict[str, str]]] = [
    (
        "tied to the output, an embedding of std 1/√d gives logits of rms 1 and a loss half a nat "
        "over chance; it trains faster than the one of std 0.02 that starts at chance",
        dict.fromkeys(
            [
                "gpt2",
                "gpt-neo",
                "gpt-bigcode",
                "falcon",
                "mpt",
                "starcoder2",
                "smollm3",
                "lfm2",
                "mt5",
                "pegasus",
                "blenderbot",
                "whisper",
                "mamba",
                "falcon-mamba",
                "pre-norm, tied",
            ],
            "loss",
        ),
    ),
    (
        "its decoder begins with the sum of a signal and what pooling and small branches made of "
        "it: alike, and predicted as independent",
        {
            "funnel": "factor 2",
        },
    ),
    (
        "its samples lie along the second axis: once flattened, what one's places share is lost",
        {
            "xlnet": "factor 2",
        },
    ),
    (
        "neighbours in a graph share more than distant nodes, which one number for all can't say",
        {
            "GCNConv": "factor 2, median",
            "GATConv": "median",
        },
    ),
    (
        "the norm of few channels differs from place to place, which isn't followed",
        {
            "nn.Conv1d, nn.ConvTranspose1d": "median",
            "nn.Conv2d, nn.ConvTranspose2d": "median",
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

"""What each model is known to miss, and why: asserted as it stands, so that a mend shows."""

from __future__ import annotations

REASONS: list[tuple[str, dict[str, str]]] = [
    (
        "a recurrence is predicted as one average over its steps, its gates as independent",
        {
            "nn.LSTM, bidirectional": "median",
            "nn.RNN": "median",
            "nn.LSTMCell": "median",
            "nn.RNNCell": "median",
            "nn.LSTM": "factor 2, median",
            "nn.LSTM, proj_size": "median",
            "nn.GRU, bidirectional": "median",
            "nn.RNN, relu": "median",
            "nn.GRUCell": "median",
        },
    ),
    (
        "the mask that its attention adds depends on the data",
        {
            "doge": "factor 2",
        },
    ),
    (
        "a learned sink takes part in its attention's softmax",
        {
            "gpt-oss": "factor 2",
        },
    ),
    (
        "attention over blocks and global tokens joined by `cat`; its keys are counted wrongly",
        {
            "longt5": "factor 2",
            "timesformer": "factor 2",
            "funnel": "factor 2",
            "xlnet": "predicted, factor 2",
        },
    ),
    (
        "attention without 1/√d: the concentration of a softmax of wide scores is overestimated",
        {
            "t5": "factor 2",
            "mt5": "factor 2",
            "umt5": "factor 2",
        },
    ),
    (
        "most positions hold one mask token: attention averages what is the same",
        {
            "vit-mae": "factor 2",
            "vjepa2": "factor 2",
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
        "a narrow layer that all samples feed alike: one draw lies far from the expectation",
        {
            "nllb-moe": "factor 2",
            "swinv2": "factor 2",
            "efficientnet": "factor 2",
            "detr": "factor 2",
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
            "GINConv": "loss",
            "GraphConv": "loss",
        },
    ),
    (
        "channels with few taps and inputs with a mean: the input of the next layer isn't normal",
        {
            "nn.Conv1d, nn.ConvTranspose1d": "median",
            "depthwise separable": "median",
            "WaveNet": "median",
        },
    ),
    (
        "a draw's chance grows from layer to layer, in one direction",
        {
            "stacked layers": "median",
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

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
        "a head joined by `cat` with the embedding isn't seen as a kernel",
        {
            "mobilebert": "roles, loss",
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
        "a token that is added to the keys has a source that is unknown, so what follows is",
        {
            "nn.MultiheadAttention, bias_kv": "predicted",
        },
    ),
    (
        "a narrow layer that all samples feed alike: one draw lies far from the expectation",
        {
            "nllb-moe": "factor 2",
            "swinv2": "factor 2",
            "efficientnet": "factor 2",
            "detr": "factor 2, median",
        },
    ),
    (
        "a position table or bias goes through an operation that isn't followed",
        {
            "vilt": "run",
            "levit": "run",
        },
    ),
    (
        "weight standardization: a norm of the weight itself isn't followed",
        {
            "bit": "roles",
        },
    ),
    (
        "four of its own parameters are never used; interpolation is taken as a copy",
        {
            "dpt": "roles, factor 2, median",
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
        "two factors are multiplied before they meet the data",
        {
            "low rank": "predicted",
        },
    ),
    (
        "what the parametrization makes of the weight's second moment isn't taken into account",
        {
            "spectral norm": "factor 2, median",
            "spectral norm, convolutions": "factor 2, median",
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

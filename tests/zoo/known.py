"""What each model is known to miss, and why: asserted as it stands, so that a mend shows."""

from __future__ import annotations

REASONS: list[tuple[str, dict[str, str]]] = [
    (
        "a scan multiplies many factors that depend on the data: no equation for that yet",
        {
            "mamba": "factor 2",
            "falcon-mamba": "factor 2",
            "rwkv": "predicted",
            "jamba": "predicted",
            "recurrent-gemma": "predicted",
        },
    ),
    (
        "a parameter that keeps its value is used as a computed scalar, which has no equation yet",
        {
            "apertus": "predicted, factor 2",
        },
    ),
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
            "pegasus-x": "factor 2",
            "led": "factor 2",
            "longformer": "factor 2",
            "longt5": "factor 2",
            "timesformer": "factor 2",
            "funnel": "predicted",
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
        "the iterated pseudo-inverse multiplies matrices that are not independent",
        {
            "nystromformer": "predicted",
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
        "signals that a sum adds are correlated, and are taken as independent",
        {
            "convnextv2": "factor 2",
            "poolformer": "factor 2",
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
            "patchtst": "predicted",
            "patchtsmixer": "predicted",
            "time-series-transformer": "predicted, factor 2",
        },
    ),
    (
        "a division of two signals has no equation yet",
        {
            "nn.LocalResponseNorm": "predicted",
            "GATConv": "predicted",
            "GATv2Conv": "predicted",
            "TransformerConv": "predicted",
        },
    ),
    (
        "sums over neighbours are counted with the mean degree, and their division isn't seen",
        {
            "GCNConv": "factor 2, median",
            "SAGEConv": "predicted",
            "GINConv": "factor 2, median, loss",
            "GraphConv": "median, loss",
            "ChebConv": "factor 2",
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
            "nn.Conv2d, nn.ConvTranspose2d": "median",
            "nn.Conv3d, nn.ConvTranspose3d": "median",
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
    (
        "inner products of embeddings with themselves: the diagonal is larger",
        {
            "DLRM": "median",
        },
    ),
]
"""Why, and the checks that each of these models misses."""

KNOWN: dict[str, dict[str, str]] = {
    model: dict.fromkeys(checks.split(", "), why)
    for why, models in REASONS
    for model, checks in models.items()
}

"""What each model is known to miss, and why: asserted as it stands, so that a mend shows."""

from __future__ import annotations

REASONS: list[tuple[str, dict[str, str]]] = [
    (
        "a cell that is none of LSTM, GRU and plain ones is followed turn by turn, and each turn "
        "is run on samples",
        {"nn.RNN, MGUCell": "speed", "hk.deep_rnn_with_skip_connections": "speed"},
    ),
    (
        "zeros are laid round small maps: their middle is louder than their border, and the next "
        "convolution reads it more often, which one number for all places can't say",
        {"hk.nets.VectorQuantizer, a VQ-VAE": "median"},
    ),
    (
        "neighbours in a graph share more than distant nodes, which one number for all can't say",
        {"jraph.InteractionNetwork": "median", "jraphx.GIN": "median"},
    ),
    (
        "its logits are what attention over neighbours makes of a kernel's output: the head isn't "
        "known by its softmax",
        {"jraphx.GAT": "loss"},
    ),
    (
        "its heads are cut along positions, so that a token's units are mixed as if they were "
        "several tokens",
        {"nanodl.GPT3": "factor 2"},
    ),
    (
        "kernels within a while loop aren't measured, so there is nothing to compare with",
        {"diffrax, a neural ODE": "run"},
    ),
    (
        "a mask takes part of the weights away, of which the prediction counts all",
        {"flowjax, masked_autoregressive_flow": "median, speed"},
    ),
    (
        "its weights are made of several parameters by functions that no use is seen through",
        {"flowjax, planar_flow": "run"},
    ),
    (
        "its kernels are exponentials of parameters, block by block, divided by their norms, and "
        "are predicted from one draw of them",
        {"flowjax, block_neural_autoregressive_flow": "factor 2, median"},
    ),
    (
        "what its three couplings compute depends on their input twice, and is run on samples",
        {"flowjax, coupling_flow": "speed"},
    ),
]
"""Why, and the checks that each of these models misses."""

KNOWN: dict[str, dict[str, str]] = {
    model: dict.fromkeys(checks.split(", "), why)
    for why, models in REASONS
    for model, checks in models.items()
}

"""One model, written for PyTorch and for JAX's libraries: one default init gives one model.

The same draws, the same bits, outputs within 1e-5 of the largest; no rule says anything.
"""

import pytest
from support.frameworks import require

require("torch", "jax", "flax", "equinox", "haiku")
from across import look_torch  # noqa: E402
from across.look import differences  # noqa: E402
from across.look_jax import LOOKS  # noqa: E402

EVERYWHERE = ("mlp", "deep residual mlp", "gpt")
ALL_BUT_NNX = ("vit", "post-norm encoder", "llama", "lstm", "gru")
CASES = [
    pytest.param(kind, model, marks=[] if model == "mlp" else [pytest.mark.slow])
    for kind in LOOKS
    for model in (*EVERYWHERE, *(() if kind == "nnx" else ALL_BUT_NNX))
]


@pytest.mark.parametrize(("kind", "model"), CASES)
def test_one_seed_gives_one_model(kind, model):
    found = differences(look_torch.look(model), LOOKS[kind](model))
    assert not found, "\n".join(found)


def test_another_seed_would_show(monkeypatch):
    from across import look_jax

    monkeypatch.setattr(look_jax, "SEED", 1)
    assert differences(look_torch.look("mlp"), LOOKS["linen"]("mlp"))


def test_axes_in_another_order_would_show(monkeypatch):
    """Kernels counted as they are stored, not in canonical order."""
    from fanwise.jax import _plan

    real = _plan.draw_array

    def as_stored(*args, layout=None, **kwargs):
        return real(*args, layout=None, **kwargs)

    monkeypatch.setattr(_plan, "draw_array", as_stored)
    assert differences(look_torch.look("mlp"), LOOKS["linen"]("mlp"))

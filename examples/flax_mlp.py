"""A network of Flax: `fanwise check examples/flax_mlp.py:model`. Rectifiers, no norm."""

import jax
from flax import linen as nn

DEPTH, WIDTH = 20, 128


class Net(nn.Module):
    """Dense layers and rectifiers, as deep as they forget what they were given."""

    @nn.compact
    def __call__(self, x):
        """Return ten logits for each sample."""
        for _ in range(DEPTH):
            x = nn.relu(nn.Dense(WIDTH, kernel_init=nn.initializers.normal(0.05))(x))
        return nn.Dense(10)(x)


def model():
    """Return (model, inputs): what `fanwise` needs to see it run."""
    return Net(), jax.random.normal(jax.random.key(0), (64, WIDTH))

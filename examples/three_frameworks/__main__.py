"""The same model in PyTorch, Keras and Flax: one seed, one output.

    KERAS_BACKEND=jax python examples/three_frameworks

Four models, written in each framework as one would, and no rule: each front end sees the same use
of each parameter, so plans the same scale. fanwise draws it from the stream of its canonical name,
so that a layer `fc1` has the same weights everywhere, transposed as each framework stores them; and
one input gives one output, to float32's rounding.
"""

import flax_models
import keras_models
import numpy as np
import torch_models

INPUTS = {"mlp": (8, 784), "cnn": (8, 3, 16, 16), "lstm": (8, 12, 20), "block": (8, 12, 64)}


def outputs(name, seed=0):
    """Return each framework's output on the same random input."""
    x = np.random.default_rng(1).standard_normal(INPUTS[name]).astype("float32")
    frameworks = {"torch": torch_models, "keras": keras_models, "flax": flax_models}
    return {kind: models.run(name, x, seed) for kind, models in frameworks.items()}


def apart(outputs):
    """Return how far the outputs lie apart at most, relative to the largest."""
    first, *others = outputs.values()
    return max(np.abs(first - other).max() for other in others) / np.abs(first).max()


if __name__ == "__main__":
    for name in INPUTS:
        print(f"{name:6s} outputs differ by {apart(outputs(name)):.1e} of the largest")

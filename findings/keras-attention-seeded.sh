#!/usr/bin/env bash
# Keras 3.15.1: MultiHeadAttention draws the same query, key and value kernels from one seeded initializer,
# even from one whose seed is a SeedGenerator, which the documentation of initializers gives as the way to
# different values at each call. The layer copies the initializer for each kernel by its configuration, and
# a copied SeedGenerator starts anew from the same seed. With equal query and key kernels a
# token's score with itself is the square of its query, so that nearly every token attends most to itself
# at the start. Two Dense layers that share the initializer differ, as documented. Backend: JAX; PyTorch's gives
# the same.
#
# Seen: Dense layers equal: False
#       query, key and value kernels equal: True
#       tokens that attend most to themselves: 63 of 64 (default initializer: 0 of 64)
set -euo pipefail
cd "$(dirname "$0")/.."
constraints="$PWD/constraints.txt"
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q -c "$constraints" keras jax
cd "$folder"
KERAS_BACKEND=jax venv/bin/python -I - <<'PYTHON'
import keras
import numpy as np
from keras import layers


def values(variable):
    return np.asarray(keras.ops.convert_to_numpy(variable))


def kernels(initializer):
    x = np.random.default_rng(0).standard_normal((1, 64, 32)).astype("float32")
    attention = layers.MultiHeadAttention(1, 32, kernel_initializer=initializer)
    attention(x, x)
    found = [values(w) for w in attention.weights if "kernel" in w.path][:3]
    query, key = (x[0] @ kernel[:, 0] for kernel in found[:2])
    return found, int(((query @ key.T).argmax(axis=1) == np.arange(64)).sum())


def seeded():
    return keras.initializers.GlorotUniform(seed=keras.random.SeedGenerator(1))


shared = seeded()
first, second = (layers.Dense(32, kernel_initializer=shared) for _ in range(2))
first.build((None, 32)), second.build((None, 32))
dense_equal = np.array_equal(values(first.kernel), values(second.kernel))
(query, key, value), themselves = kernels(seeded())
equal = np.array_equal(query, key) and np.array_equal(key, value)
keras.utils.set_random_seed(0)
usual = kernels("glorot_uniform")[1]
print("Dense layers equal:", dense_equal)
print("query, key and value kernels equal:", equal)
print(f"tokens that attend most to themselves: {themselves} of 64 (default initializer: {usual} of 64)")
assert not dense_equal and equal and themselves > 55 and usual < 10
PYTHON

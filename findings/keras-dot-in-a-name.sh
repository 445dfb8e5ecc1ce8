#!/usr/bin/env bash
# Keras 3.15.1 with torch 2.13.0: a layer's name may have a dot on the JAX backend and not on PyTorch's:
# there a KeyError of torch.nn.Module's, which says nothing of the layer, is raised when the layer is
# built. So a model with names taken over from PyTorch ("encoder.fc1") builds on one backend and can't
# even be made on the other, though Keras checks names when a layer is made: it refuses a slash on both.
#
# Seen: jax: built, its kernel is 'encoder.fc1/kernel'; a slash: ValueError
#       torch: KeyError: 'parameter name can\'t contain "."'; a slash: ValueError
set -euo pipefail
cd "$(dirname "$0")/.."
constraints="$PWD/constraints.txt"
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q -c "$constraints" keras jax torch==2.13.0
cd "$folder"
venv/bin/python -I - <<'PYTHON'
import os
import subprocess
import sys

PROGRAM = """
import keras
layer = keras.layers.Dense(2, name="encoder.fc1")
try:
    layer.build((None, 3))
    said = f"built, its kernel is {layer.kernel.path!r}"
except KeyError as error:
    said = f"KeyError: {error}"
try:
    keras.layers.Dense(2, name="encoder/fc1")
except ValueError:
    said += "; a slash: ValueError"
print(said)
"""
said = {}
for backend in ("jax", "torch"):
    environment = {**os.environ, "KERAS_BACKEND": backend}
    command = [sys.executable, "-I", "-c", PROGRAM]
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    said[backend] = ran.stdout.strip().splitlines()[-1]
    print(f"{backend}: {said[backend]}")
assert said["jax"] == "built, its kernel is 'encoder.fc1/kernel'; a slash: ValueError"
assert said["torch"].startswith("KeyError:") and said["torch"].endswith("; a slash: ValueError")
PYTHON
